from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from color_model import ColorModel, painted
from lightning_fabric import Fabric
from maps import SHAPES, generated_map
from processes import end_together
from torch import Tensor, distributed

from panscape import LabelSpace, PanopticModel, create_model
from panscape.datasets.base import Sample
from panscape.errors import BadSampleError, InvalidArgumentError, UnknownNameError, UnreadableFileError
from panscape.evaluation import evaluate_model as evaluation
from panscape.evaluation.evaluate_model import Predicted, evaluate, predict_sample
from panscape.evaluation.options import EvaluationOptions, InferenceOptions
from panscape.geometry import ImageGeometry
from panscape.labels import Category
from panscape.metrics import (
    BoundaryPanopticQuality,
    EvaluationReport,
    Evaluator,
    InstanceIoU,
    PanopticQuality,
    SemanticIoU,
)
from panscape.metrics.tables import format_percent
from panscape.models.base import in_eval_mode


class Shifted:
    """Images painted a little aside of their truth, so that predictions are nearly right."""

    labels = SHAPES

    def __init__(self, length: int, bad: tuple[int, ...] = ()) -> None:
        self.length, self.bad = length, bad

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise UnreadableFileError(f"/data/{index}.png", "expected a whole image")
        truth = generated_map(index, size=(24 + index % 5, 40), smallest=6, crowd=index % 3 == 0)
        return Sample(painted(truth).roll(1 + index % 2, dims=2), truth, f"p{index}")


def head_of(model: PanopticModel, image: Tensor) -> Tensor:
    """Return what the semantic head alone predicts of an image that the network sees at its own size."""
    geometry = ImageGeometry.of((image.shape[1], image.shape[2]))
    with in_eval_mode(model), torch.inference_mode():
        return model.decode_semantic(model(image[None].float() / 255), [geometry])[0]


def by_hand(
    dataset: Shifted, numbers: list[int], protocol: str = "coco", *, boundary: bool = False
) -> EvaluationReport:
    metric = BoundaryPanopticQuality(SHAPES, protocol=protocol) if boundary else None
    standard = PanopticQuality(SHAPES) if protocol != "coco" else None
    evaluator = Evaluator(SHAPES, protocol, standard=standard, boundary=metric, semantic_head=SemanticIoU(SHAPES))
    model = ColorModel()
    for number in numbers:
        sample = dataset[number]
        semantic = head_of(model, sample.image)
        evaluator.update(model.predict(sample.image), sample.truth, semantic=semantic)
    return evaluator.compute()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_report_is_that_of_predicting_one_by_one(workers: int) -> None:
    done: list[tuple[int, int]] = []
    report = evaluate(ColorModel(), Shifted(5), workers=workers, progress=lambda *counts: done.append(counts))
    assert report == by_hand(Shifted(5), list(range(5)))
    assert 0.3 < report.panoptic.all.pq < 1
    assert done == [(i, 5) for i in range(1, 6)]


def test_other_protocols_and_boundaries_are_measured_on_request() -> None:
    plain = evaluate(ColorModel(), Shifted(6), workers=0)
    for protocol in ("deeplab2", "torchmetrics"):
        report = evaluate(
            ColorModel(), Shifted(6), workers=0, options=EvaluationOptions(protocol=protocol, boundary=True)
        )
        assert report == by_hand(Shifted(6), [*range(6)], protocol, boundary=True)
        assert report.panoptic != plain.panoptic
        assert 0 < report.boundary.all.pq <= report.panoptic.all.pq
    assert plain.boundary is None


def test_each_image_is_handed_on_with_what_was_predicted() -> None:
    found: list[tuple[int, str]] = []
    evaluator = Evaluator(SHAPES, semantic_head=SemanticIoU(SHAPES))
    model, dataset = ColorModel(), Shifted(7, bad=(2,))

    def remember(number: int, sample: Sample, prediction: Predicted) -> None:
        found.append((number, sample.name))
        evaluator.update(prediction.map, sample.truth, semantic=prediction.semantic)
        assert torch.equal(predict_sample(model, dataset[number]).ids, prediction.map.ids)
        assert prediction.detections is None

    report = evaluate(model, dataset, inference=InferenceOptions(3, on_error="skip"), workers=0, each=remember)
    assert found == [(0, "p0"), (4, "p4")]
    assert evaluator.compute() == report


@pytest.mark.parametrize(("limit", "numbers"), [(0, [*range(7)]), (3, [0, 2, 4]), (7, [*range(7)]), (99, [*range(7)])])
def test_a_limit_spreads_over_the_dataset(limit: int, numbers: list[int]) -> None:
    assert evaluate(ColorModel(), Shifted(7), inference=InferenceOptions(limit), workers=0) == by_hand(
        Shifted(7), numbers
    )


class Small(Shifted):
    """Of a label space with many categories, few of which an image has."""

    labels = LabelSpace(
        "many", (*SHAPES.categories, *(Category(f"c{i}", True, 100 + i, (i, 0, 255)) for i in range(129)))
    )

    def __getitem__(self, index: int) -> Sample:
        return super().__getitem__(index % 7)


def kept_after(length: int, world_size: int, monkeypatch: pytest.MonkeyPatch) -> int:
    """How many bytes the first of some processes has to remember of its images."""
    sizes: list[int] = []

    def gathered(mine: evaluation._Findings, world_size: int) -> list[evaluation._Findings]:
        sizes.append(len(pickle.dumps(mine)))
        return [mine]

    monkeypatch.setattr(evaluation, "_process", lambda: (0, world_size))
    monkeypatch.setattr(evaluation, "_all_gather", gathered)
    evaluate(ColorModel(Small.labels), Small(length), workers=0, options=EvaluationOptions(iiou=True))
    return sizes[0]


def test_memory_does_not_grow_with_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    assert kept_after(5, 1, monkeypatch) == kept_after(30, 1, monkeypatch)


def test_several_processes_remember_only_the_categories_of_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    fewer, more = (kept_after(2 * count, 2, monkeypatch) for count in (5, 15))
    states = 133 * (4 + 2 + 4 + 4) * 8  # of PQ, PQ-dagger, covering and iIoU, in bytes
    assert 0 < (more - fewer) / 10 < states / 3


def test_large_images_are_shrunk_as_for_prediction() -> None:
    model = ColorModel()
    model.longest_side = 24
    evaluator = Evaluator(SHAPES)
    for index in range(3):
        evaluator.update(model.predict(Shifted(3)[index].image), Shifted(3)[index].truth)
    assert replace(evaluate(model, Shifted(3), workers=0), semantic_head=None) == evaluator.compute()
    assert {shape[-1] for _, shape, _ in model.seen} == {24}


def test_precision_reaches_the_network() -> None:
    for options in (
        {"inference": InferenceOptions(precision="bf16")},
        {"fabric": Fabric(accelerator="cpu", devices=1, precision="bf16-mixed")},
    ):
        model = ColorModel()
        evaluate(model, Shifted(1), workers=0, **options)
        assert [is_autocast for *_, is_autocast in model.seen] == [True]


def test_a_precision_that_the_device_lacks_is_refused_before_an_image_is_read() -> None:
    with pytest.raises(InvalidArgumentError, match=r"fp16 needs an accelerator .* use bf16 or fp32 on the CPU"):
        evaluate(ColorModel(), Shifted(1, bad=(0,)), inference=InferenceOptions(precision="fp16"))


def test_the_chance_and_the_modes_of_a_training_stay_as_they_are() -> None:
    model = ColorModel().train()
    torch.manual_seed(3)
    before = torch.get_rng_state()
    evaluate(model, Shifted(3), workers=2)
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training


def test_bad_images_stop_or_are_left_out_and_listed() -> None:
    dataset = Shifted(6, bad=(2, 5))
    with pytest.raises(BadSampleError, match=r"/data/2\.png: expected a whole image; repair or remove it"):
        evaluate(ColorModel(), dataset)
    listed: list[tuple[str, str]] = []
    report = evaluate(ColorModel(), dataset, inference=InferenceOptions(on_error="skip"), skipped=listed.append)
    assert report == by_hand(dataset, [0, 1, 3, 4])
    assert [image for image, _ in listed] == ["/data/2.png", "/data/5.png"]
    with pytest.raises(BadSampleError, match=r"/data/0\.png.* this is the first of 2, none of which can be used"):
        evaluate(ColorModel(), Shifted(2, bad=(0, 1)), inference=InferenceOptions(on_error="skip"))


def test_invalid_evaluations() -> None:
    other = ColorModel(LabelSpace("other", SHAPES.categories[:3]))
    with pytest.raises(InvalidArgumentError, match=r"a model for 'other' \(3 cat.*data of 'shapes' \(4 categories\)"):
        evaluate(other, Shifted(1))
    with pytest.raises(InvalidArgumentError, match="their categories differ"):
        evaluate(ColorModel(LabelSpace("shapes", SHAPES.categories[::-1])), Shifted(1))
    with pytest.raises(InvalidArgumentError, match="expected at least one image to evaluate on"):
        evaluate(ColorModel(), Shifted(0))
    with pytest.raises(InvalidArgumentError, match="expected limit and workers of 0 or more, got limit=-1, workers=1"):
        evaluate(ColorModel(), Shifted(1), inference=InferenceOptions(-1))
    with pytest.raises(UnknownNameError, match="unknown protocol 'cocoo'; did you mean coco"):
        evaluate(ColorModel(), Shifted(1), options=EvaluationOptions(protocol="cocoo"))
    with pytest.raises(InvalidArgumentError, match="expected no oracles, as ColorModel has none, got semantic"):
        evaluate(ColorModel(), Shifted(1), oracle=("semantic",))


class TestOracles:
    def test_only_what_is_void_or_too_small_is_missing_with_all_of_the_truth(self) -> None:
        torch.manual_seed(0)
        model = create_model("swiftnet", SHAPES, backbone="test_resnet", width=8, levels=1)

        class Scenes(Shifted):
            def __getitem__(self, index: int) -> Sample:
                truth = generated_map(index, size=(200, 300), void=False, objects=2, smallest=30)
                return Sample(painted(truth), truth, str(index))

        plain, perfect = (evaluate(model, Scenes(2), workers=0, oracle=oracle) for oracle in ((), model.oracles))
        assert perfect.panoptic.all.pq == 1
        assert plain.panoptic.all.pq < 0.5
        evaluator = Evaluator(SHAPES, semantic_head=SemanticIoU(SHAPES))
        for index in range(2):
            sample = Scenes(2)[index]
            semantic = head_of(model, sample.image)
            evaluator.update(model.predict(sample.image), sample.truth, semantic=semantic)
        assert plain == evaluator.compute()
        model.longest_side = 150  # the truth loses half of its resolution
        assert 0.9 < evaluate(model, Scenes(2), workers=0, oracle=model.oracles).panoptic.all.pq < 1

    @pytest.mark.parametrize("longest_side", [None, 48])
    @pytest.mark.parametrize("name", ["swiftnet", "dense_detections"])
    def test_the_semantic_head_is_that_of_table_7(self, name: str, longest_side: int | None) -> None:
        """mIoU is 100.0 with true categories, and the network's own under all other oracles."""
        torch.manual_seed(0)
        options = {"levels": 1} if name == "swiftnet" else {"fpn_width": 8, "box_width": 8, "semantic_width": 8}
        width = {"width": 8} if name == "swiftnet" else {}
        model = create_model(name, SHAPES, backbone="test_resnet", longest_side=longest_side, **width, **options)
        scenes, iiou = Shifted(2), EvaluationOptions(iiou=True)
        plain = evaluate(model, scenes, workers=0, options=iiou)
        assert 0 < plain.semantic_head.mean_iou < 0.9
        for part in model.oracles:
            report = evaluate(model, scenes, workers=0, options=iiou, oracle=(part,))
            if part == "semantic":
                assert report.semantic_head.mean_iou == report.instance_iou_head.mean_iou == 1
                assert report.semantic.mean_iou < 1  # void where no object was found
            else:
                assert report.semantic_head == plain.semantic_head
                assert report.instance_iou_head == plain.instance_iou_head
        others = [part for part in model.oracles if part != "semantic"]
        assert evaluate(model, scenes, workers=0, oracle=others).semantic_head == plain.semantic_head


def test_the_head_and_the_map_are_distinguished() -> None:
    report = evaluate(ColorModel(), Shifted(5), workers=0, options=EvaluationOptions(iiou=True))
    head = report.semantic_head
    assert head.mean_iou != report.semantic.mean_iou  # the head has no void
    assert sum(c.fn + c.tp for c in head.per_category.values()) == sum(
        c.fn + c.tp for c in report.semantic.per_category.values()
    )
    said = report.to_dict()
    assert said["semantic"] == report.semantic.to_dict()
    assert said["semantic_head"] == head.to_dict()
    assert said["instance_iou_head"] == report.instance_iou_head.to_dict()
    lines = str(report).splitlines()
    assert lines[0].split()[-4:] == ["map", "mIoU", "head", "mIoU"]
    assert lines[1].split()[-2:] == [format_percent(report.semantic.mean_iou), format_percent(head.mean_iou)]
    assert "iIoU of the map" in lines
    assert "iIoU of the semantic head" in lines


def as_one_process(rank: int, world_size: int, folder_name: str) -> None:
    """Evaluate together with the others and write what was reported as JSON, in which floats are exact."""
    folder = Path(folder_name)
    meeting = f"file://{folder / 'meeting'}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size)
    said: dict[str, object] = {}
    for name, length, limit in (("all", 23, 0), ("one", 1, 0), ("limit", 23, 4)):
        said[name] = evaluate(ColorModel(), Shifted(length), workers=0, inference=InferenceOptions(limit)).to_dict()
    bad = Shifted(8, bad=(3, 4))
    listed: list[tuple[str, str]] = []
    said["skip"] = evaluate(
        ColorModel(), bad, workers=0, inference=InferenceOptions(on_error="skip"), skipped=listed.append
    ).to_dict()
    said["skipped"] = [image for image, _ in listed]
    said["protocol"] = evaluate(
        ColorModel(), Shifted(7), workers=0, options=EvaluationOptions(protocol="deeplab2", boundary=True)
    ).to_dict()
    said["iiou"] = evaluate(ColorModel(), Shifted(23), workers=0, options=EvaluationOptions(iiou=True)).to_dict()[
        "instance_iou"
    ]
    try:
        evaluate(ColorModel(), bad, workers=0)
    except BadSampleError as error:
        said["stop"] = error.image
    (folder / f"{rank}.json").write_text(json.dumps(said))
    distributed.destroy_process_group()


def instance_iou_by_hand(dataset: Shifted) -> dict[str, object]:
    metric, model = InstanceIoU(SHAPES), ColorModel()
    for number in range(len(dataset)):
        metric.update(model.predict(dataset[number].image), dataset[number].truth)
    return metric.compute().to_dict()


def test_several_processes_report_what_one_does_bit_for_bit(tmp_path: Path) -> None:
    world_size = 2
    expected = {
        "all": by_hand(Shifted(23), [*range(23)]).to_dict(),
        "one": by_hand(Shifted(1), [0]).to_dict(),
        "limit": by_hand(Shifted(23), [0, 5, 11, 17]).to_dict(),
        "skip": by_hand(Shifted(8), [0, 1, 2, 5, 6, 7]).to_dict(),
        "skipped": ["/data/3.png", "/data/4.png"],
        "protocol": by_hand(Shifted(7), [*range(7)], "deeplab2", boundary=True).to_dict(),
        "iiou": instance_iou_by_hand(Shifted(23)),
        "stop": "/data/3.png",
    }
    # Added up process by process, the sums of IoU would differ.
    shares = [number for rank in range(world_size) for number in range(rank, 23, world_size)]
    assert by_hand(Shifted(23), shares).to_dict() != expected["all"]
    end_together(tmp_path, as_one_process, world_size, world_size, tmp_path)
    said = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(world_size)]
    assert said == [expected] * world_size
