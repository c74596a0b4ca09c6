"""Average precision of what a model predicts, on one process and on several."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from color_model import ColorModel, painted
from maps import SHAPES, generated_map
from processes import end_together
from torch import distributed

from panscape import LabelSpace, PanopticMap, create_model
from panscape.datasets.base import Sample
from panscape.errors import InvalidArgumentError
from panscape.evaluation.evaluate_model import evaluate
from panscape.evaluation.options import EvaluationOptions
from panscape.metrics import COCO_SIZES, InstanceAP, size_percentiles

AP = EvaluationOptions(ap=True)


class Shifted:
    """Images painted aside of their truth, by other amounts; the model gives all segments the same score."""

    labels = SHAPES

    def __init__(self, length: int, size: tuple[int, int] = (24, 40)) -> None:
        self.length, self.size = length, size

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        truth = generated_map(index, size=self.size, smallest=6, crowd=index % 3 == 0)
        return Sample(painted(truth).roll(index % 4, dims=2), truth, f"p{index}")


def by_hand(numbers: list[int]) -> InstanceAP:
    metric, model = InstanceAP(SHAPES), ColorModel()
    for number in numbers:
        sample = Shifted(number + 1)[number]
        metric.update(model.predict(sample.image), sample.truth)
    return metric


def test_it_is_measured_on_request() -> None:
    plain, report = (
        evaluate(ColorModel(), Shifted(6), workers=0, options=EvaluationOptions(ap=ap)) for ap in (False, True)
    )
    assert plain.instances is None
    assert "instances" not in plain.to_dict()
    assert report.instances == by_hand([*range(6)]).compute()
    assert 0 < report.instances.ap < 1
    assert report.to_dict()["instances"] == report.instances.to_dict()
    assert str(report) == f"{plain}\n\n{report.instances}"
    assert report.panoptic == plain.panoptic


def test_percentiles_of_sizes_are_measured_on_request() -> None:
    plain, report = (
        evaluate(ColorModel(), Shifted(6), workers=0, options=EvaluationOptions(ap=True, ap_sizes=sizes))
        for sizes in (False, True)
    )
    metric = by_hand([*range(6)])
    sizes = size_percentiles(metric.object_areas())
    assert report.instances == metric.compute({**COCO_SIZES, **sizes})
    assert [*report.instances.by_size] == ["small", "medium", "large", *sizes]
    assert (report.instances.ap, report.panoptic) == (plain.instances.ap, plain.panoptic)
    assert evaluate(ColorModel(), Shifted(6), workers=0, options=EvaluationOptions(ap_sizes=True)) == report
    assert f"\n{[*sizes][-1]} " in str(report)


def test_scores_are_those_of_the_system_and_not_of_decoding() -> None:
    torch.manual_seed(0)
    model = create_model("swiftnet", SHAPES, backbone="test_resnet", width=8, levels=1)
    model.eval()
    seen: list[PanopticMap] = []
    update = InstanceAP.update

    def noted(metric: InstanceAP, prediction: PanopticMap, *others: object) -> None:
        seen.append(prediction)
        update(metric, prediction, *others)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(InstanceAP, "update", noted)
        evaluate(model, Shifted(2, (64, 96)), workers=0, options=AP)
    for index, prediction in enumerate(seen):
        with torch.inference_mode():
            outputs = model(Shifted(2, (64, 96))[index].image[None].float() / 255)
        maps = model.decode(outputs, [(64, 96)])
        (expected,) = model.score_instances(outputs, maps)
        assert torch.equal(prediction.score, expected.score)
        assert not torch.equal(prediction.score, maps[0].score)


def test_the_rules_are_those_of_the_label_space() -> None:
    cityscapes = LabelSpace("cityscapes", SHAPES.categories)

    class Streets(Shifted):
        labels = cityscapes

    assert evaluate(ColorModel(cityscapes), Streets(1), workers=0, options=AP).instances.protocol == "cityscapes"
    assert evaluate(ColorModel(), Shifted(1), workers=0, options=AP).instances.protocol == "coco"


def test_a_model_without_scores_raises_an_error() -> None:
    class Unsure(ColorModel):
        def decode(self, outputs, sizes):
            return [PanopticMap(m.ids, m.category) for m in super().decode(outputs, sizes)]

    with pytest.raises(InvalidArgumentError, match="expected a prediction with a score for each of its"):
        evaluate(Unsure(), Shifted(1), workers=0, options=AP)


def as_one_process(rank: int, world_size: int, folder_name: str) -> None:
    """Evaluate together with the others and write what was reported as JSON, in which floats are exact."""
    folder = Path(folder_name)
    meeting = f"file://{folder / 'meeting'}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world_size)
    said = evaluate(ColorModel(), Shifted(13), workers=0, options=AP).to_dict()
    (folder / f"{rank}.json").write_text(json.dumps(said))
    distributed.destroy_process_group()


def test_two_processes_report_what_one_does(tmp_path: Path) -> None:
    expected = evaluate(ColorModel(), Shifted(13), workers=0, options=AP)
    shares = [*range(0, 13, 2), *range(1, 13, 2)]
    assert expected.instances != by_hand(shares).compute()  # with equal scores, the order of images decides
    end_together(tmp_path, as_one_process, 2, 2, tmp_path)
    said = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2)]
    assert said == [json.loads(json.dumps(expected.to_dict()))] * 2
