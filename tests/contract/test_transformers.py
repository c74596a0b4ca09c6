"""Contract of networks of transformers, with tiny random ones: they are models like ours, with their own outputs."""

from __future__ import annotations

import copy
import functools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_transformers import BUILDERS, NAMES, SIDE, save_network
from torch import nn

import panscape
from panscape import LabelSpace
from panscape.datasets.base import Sample
from panscape.errors import InvalidArgumentError
from panscape.evaluation.tune import tune
from panscape.geometry import ImageGeometry
from panscape.inference.predictor import Predictor
from panscape.labels import Category
from panscape.models.base import INPUT_NORMALIZATIONS
from panscape.models.transformers_model import FAMILIES as ARCHITECTURES
from panscape.models.transformers_model import InputSize, TransformersModel

THINGS = ("car", "person")
LABELS = LabelSpace.from_names("five", things=THINGS, stuff=[name for name in NAMES if name not in THINGS])
"""The categories of the networks in another order."""
NUM_IDS = 8  # of the network of DETR, whose categories are the ids of files

FAMILIES = tuple(BUILDERS)
EOMT = ("EoMT", "EoMT on DINOv3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the folder of a family's network."""

    @functools.cache
    def of(family: str) -> Path:
        return save_network(family, tmp_path_factory.mktemp("networks") / family)

    return of


@pytest.fixture(scope="module")
def load(folder: Any) -> Any:
    """Return the model of a family, all of whose queries become segments if they have pixels."""

    @functools.cache
    def of(family: str) -> TransformersModel:
        model = panscape.load(folder(family), LABELS)
        assert isinstance(model, TransformersModel)
        model.set_decoding(score_threshold=0.0, overlap_threshold=0.0)
        if family not in EOMT:
            model.shortest_side, model.longest_side = 64, 128
        # The queries of networks without training are alike.
        torch.manual_seed(0)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if parameter.ndim == 2 and (("quer" in name and "embed" in name) or name == "network.query.weight"):
                    parameter.normal_(std=3)
                if parameter.ndim == 2 and ("class_predictor" in name or "class_labels_classifier" in name):
                    parameter.normal_()
        return model

    return of


@pytest.fixture(params=FAMILIES)
def model(request: pytest.FixtureRequest, load: Any) -> TransformersModel:
    return load(request.param)


def image(size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def pixels(size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return image(size, seed)[None].float() / 255


def test_outputs_are_those_of_the_network_in_the_order_of_the_labels(model: TransformersModel) -> None:
    given = pixels((64, 64))
    family = model.family
    inputs = {"task_inputs": model.task[None]} if family.has_task else {}
    with torch.inference_mode():
        theirs = model.network(pixel_values=(given - model.mean) / model.std, **inputs)
        ours = model(given)
    category = getattr(theirs, family.category)
    for i, name in enumerate(LABELS.names):
        assert torch.equal(ours.category_logits[..., i], category[..., NAMES.index(name)])
    torch.testing.assert_close(ours.category_logits[..., -1], category[..., -1], rtol=0, atol=1e-6)
    assert torch.equal(ours.mask_logits, getattr(theirs, family.masks))


def test_a_list_of_mixed_sizes_has_the_maps_of_single_images(model: TransformersModel) -> None:
    sources = [image(size, i) for i, size in enumerate([(50, 60), (40, 96), (90, 128), (50, 60)])]
    alone = [model.predict(source) for source in sources]
    assert [one.size for one in alone] == [(50, 60), (40, 96), (90, 128), (50, 60)]
    assert any(one.num_segments for one in alone)
    assert all(found.equals(one) for found, one in zip(model.predict(sources), alone, strict=True))
    for found, one in zip(model.predict(sources, batch_size=2), alone, strict=True):
        assert (found.semantic(void=-1) == one.semantic(void=-1)).double().mean() > 0.999


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float64])
def test_inputs_follow_the_precision_of_the_weights(model: TransformersModel, precision: torch.dtype) -> None:
    other = copy.deepcopy(model).to(precision)
    with torch.inference_mode():
        outputs, expected = other(pixels((50, 60))), model(pixels((50, 60)))
    assert {part.dtype for part in outputs.tensors} == {precision}
    tolerance = 0.1 if precision == torch.bfloat16 else 1e-4
    for part, full in zip(outputs.tensors, expected.tensors, strict=True):
        assert (part - full).abs().mean() < tolerance * full.abs().max()
    assert other.predict(image((50, 60))).size == (50, 60)


# Tracing the others takes seconds each: OneFormer has the steps of Mask2Former, MaskFormer and DETR fewer ones.
@pytest.mark.parametrize("model", [*EOMT, "Mask2Former"], indirect=True)
def test_the_graph_agrees_with_the_network(model: TransformersModel) -> None:
    given = pixels((30, 40))
    graph = torch.export.export(model, (given,)).module()
    with torch.inference_mode():
        for ours, exported in zip(model(given).tensors, graph(given).tensors, strict=True):
            torch.testing.assert_close(ours, exported, atol=1e-4, rtol=1e-4)


def test_all_methods_of_a_model_work(model: TransformersModel) -> None:
    size = (50, 60)
    with torch.inference_mode():
        outputs = model(pixels(size))
        panels = model.visualize(outputs, size)
        (truth,) = model.decode(outputs, [size])
        oracle = model.decode_with_truth(outputs, truth, model.oracles)
        (semantic,) = model.decode_semantic(outputs, [ImageGeometry.of((70, 90), size)])
    assert {panel.shape for panel in panels.values()} == {(3, *size)}
    assert oracle.category.tolist() == truth.category.tolist()
    assert semantic.shape == (70, 90)
    trained = copy.deepcopy(model).train()
    targets = trained.encode(truth)
    losses = trained.loss(trained(pixels(size)), type(targets)(*(part[None] for part in targets)))
    sum(losses.values()).backward()
    with_gradient = [name for name, p in trained.named_parameters() if p.grad is not None and p.grad.any()]
    assert len(with_gradient) > 0.8 * len(list(trained.parameters()))


def test_it_is_evaluated_and_tuned_like_other_models(model: TransformersModel) -> None:
    class OwnPredictions:
        """Images whose ground truth is what the network predicts."""

        labels = LABELS

        def __len__(self) -> int:
            return 2

        def __getitem__(self, index: int) -> Sample:
            photo = image((50, 60), 3 * index)
            return Sample(photo, model.predict(photo), f"{index}")

    assert any(len(OwnPredictions()[index].truth) for index in range(2))
    report = panscape.evaluate(model, OwnPredictions(), ap=True)
    assert report.panoptic.all.pq == 1
    tuned = tune(model, OwnPredictions(), grid={"score_threshold": [0.0, 1.0]}, rounds=1)
    assert (tuned.before, tuned.decoding) == (1, model.decoding)


def test_options_of_inference_apply(model: TransformersModel) -> None:
    photo = image((50, 60))
    expected = Predictor(copy.deepcopy(model), device="cpu").predict(photo)
    found = Predictor(copy.deepcopy(model), device="cpu", precision="bf16", channels_last=True).predict(photo)
    assert found.map.size == (50, 60)
    for part, full in zip(found.outputs.tensors, expected.outputs.tensors, strict=True):
        assert (part - full).abs().mean() < 0.1 * full.abs().max()
    smaller = Predictor(copy.deepcopy(model), device="cpu", longest_side=32).predict(photo)
    assert (smaller.images.shape[2:], smaller.map.size) == ((27, 32), (50, 60))


def test_it_cannot_be_saved_but_its_network_can(load: Any, tmp_path: Path) -> None:
    model = load("EoMT")
    with pytest.raises(InvalidArgumentError, match=r"model\.network\.save_pretrained\(FOLDER\)"):
        model.save(tmp_path / "model.safetensors")
    model.network.save_pretrained(tmp_path / "again")
    again = panscape.load(tmp_path / "again", LABELS)
    with torch.inference_mode():
        for one, other in zip(model(pixels((50, 60))).tensors, again(pixels((50, 60))).tensors, strict=True):
            assert torch.equal(one, other)


class TestPreprocessing:
    """Sizes of the authors, and pixels as of the processors of transformers."""

    @pytest.mark.parametrize(
        ("labels", "size", "expected"),
        [
            ("coco_panoptic", (480, 640), (800, 1067)),
            ("coco_panoptic", (375, 1242), (402, 1333)),
            ("cityscapes", (1024, 2048), (1024, 2048)),
            ("cityscapes", (720, 1280), (1024, 1820)),
            ("ade20k_150", (512, 683), (640, 854)),
            ("vistas_v1.2", (3000, 4000), (1536, 2048)),
        ],
    )
    def test_images_have_the_size_of_the_authors(
        self, tmp_path: Path, labels: str, size: tuple[int, int], expected: tuple[int, int]
    ) -> None:
        folder = save_network("Mask2Former", tmp_path, LabelSpace.load(labels).names)
        # What the hub's repositories have.
        (folder / "preprocessor_config.json").write_text('{"size": {"height": 384, "width": 384}}')
        model = panscape.load(folder)
        assert model.labels.name == labels
        assert model.inference_size(size) == expected
        assert model.geometry(size, 640).inference_size[size[1] > size[0]] == 640  # --max-size

    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            ('{"height": 96, "width": 64}', (96, 64)),
            ('{"shortest_edge": 100, "longest_edge": 150}', (75, 150)),
            ("null", (667, 1333)),
        ],
    )
    def test_networks_of_other_data_have_the_size_of_their_processor(
        self, tmp_path: Path, size: str, expected: tuple[int, int]
    ) -> None:
        folder = save_network("Mask2Former", tmp_path)
        (folder / "preprocessor_config.json").write_text(f'{{"size": {size}}}')
        model = panscape.load(folder, LABELS)
        assert model.inference_size((200, 400)) == expected
        if size.startswith('{"h'):
            assert model.predict(image((20, 50))).size == (20, 50)

    def test_the_statistics_of_the_processor_are_used(self, tmp_path: Path) -> None:
        folder = save_network("Mask2Former", tmp_path)
        (folder / "preprocessor_config.json").write_text(
            '{"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}'
        )
        prepared = panscape.load(folder, LABELS).preprocess(torch.ones(1, 3, 64, 64))
        assert prepared.unique().tolist() == [1.0]

    @pytest.mark.parametrize("family", EOMT)
    def test_eomt_is_padded_with_black_before_it_is_normalised(self, load: Any, family: str) -> None:
        from transformers import EomtImageProcessor

        processor = EomtImageProcessor(size={"shortest_edge": SIDE, "longest_edge": SIDE}, do_pad=True)
        expected = processor(image((40, SIDE)), return_tensors="pt")["pixel_values"]
        found = load(family).preprocess(pixels((40, SIDE)))
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert found[0, :, -1, -1].tolist() == pytest.approx([-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])

    def test_other_families_are_padded_with_the_mean_after_it(self, load: Any) -> None:
        from transformers import Mask2FormerImageProcessor

        processor = Mask2FormerImageProcessor(do_resize=False)
        theirs = processor([image((64, 64)), image((64, 96), 1)], return_tensors="pt")["pixel_values"]
        model = load("Mask2Former")
        torch.testing.assert_close(model.preprocess(pixels((64, 96), 1)), theirs[1:], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(model.preprocess(pixels((64, 64)))[0], theirs[0, :, :, :64], atol=1e-5, rtol=1e-5)
        assert not model.preprocess(pixels((64, 40)))[..., 40:].any()
        assert not theirs[0, :, :, 64:].any()

    def test_detr_receives_which_pixels_are_padding(self, load: Any) -> None:
        model, seen = load("DETR"), {}
        handle = model.network.register_forward_pre_hook(lambda *given: seen.update(given[2]), with_kwargs=True)
        with torch.inference_mode():
            model(pixels((40, 50)))
        handle.remove()
        expected = torch.zeros(1, 64, 64, dtype=torch.int64)
        expected[:, :40, :50] = 1
        assert torch.equal(seen["pixel_mask"], expected)

    @pytest.mark.parametrize("family", EOMT)
    def test_the_fixed_input_refuses_larger_images(self, load: Any, family: str) -> None:
        model = load(family)
        assert model.inference_size((10, 20)) == (32, 64)
        with pytest.raises(
            InvalidArgumentError, match=rf"at most 64x64 pixels, the input of this {family}, got 64x65; omi"
        ):
            model(pixels((64, 65)))


class Brightness(nn.Module):
    """A network that sees only brightness: its first query is where the input is bright, the second where it is not."""

    config = SimpleNamespace(num_labels=2)

    def forward(self, pixel_values: torch.Tensor, **_: Any) -> Any:
        bright = nn.functional.avg_pool2d(pixel_values, 4).mean(1, keepdim=True)
        masks = 20 * torch.cat([bright, -bright], 1)
        category = torch.tensor([[9.0, 0, 0], [0, 9, 0]]).expand(len(masks), -1, -1)
        return SimpleNamespace(
            class_queries_logits=category, masks_queries_logits=masks, logits=category, pred_masks=masks
        )


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("exact", [None, (96, 160)])
@pytest.mark.parametrize("size", [(75, 100), (200, 60), (41, 43)])
def test_maps_lie_on_the_image_whatever_the_network_sees(
    architecture: str, exact: tuple[int, int] | None, size: tuple[int, int]
) -> None:
    network = type(architecture, (Brightness,), {})()
    side = 160 if ARCHITECTURES[architecture].is_square else 96
    labels = LabelSpace.from_names("two", things=["box"], stuff=["ground"])
    model = TransformersModel(
        network, labels, InputSize(side, 160, exact), source=[0, 1], normalization=INPUT_NORMALIZATIONS["imagenet"]
    ).eval()
    photo = torch.zeros(3, *size, dtype=torch.uint8)
    photo[:, : size[0] // 2, size[1] // 3 :] = 255
    expected = torch.ones(size, dtype=torch.bool)
    expected[: size[0] // 2, size[1] // 3 :] = False
    found = model.predict(photo)
    assert found.category.tolist() == [0, 1]
    # Borders are at a cell of 4 pixels of what the network sees, or 8 of a reduced image.
    outside = nn.functional.max_pool2d(expected[None].float(), 9, 1, 4)[0] > 0
    inside = nn.functional.max_pool2d((~expected)[None].float(), 9, 1, 4)[0] > 0
    sure = ~(outside & inside)
    assert torch.equal((found.ids == 2)[sure], expected[sure])
    assert int(sure.sum()) > 0.6 * sure.numel()


@pytest.mark.parametrize("family", EOMT)
@pytest.mark.parametrize("size", [(64, 64), (40, 64), (96, 57)])
def test_maps_are_those_of_the_processor_of_eomt(load: Any, family: str, size: tuple[int, int]) -> None:
    from transformers import EomtImageProcessor

    model = load(family)
    processor = EomtImageProcessor(size={"shortest_edge": SIDE, "longest_edge": SIDE}, do_pad=True)
    seen = model.inference_size(size)
    with torch.inference_mode():
        outputs = model(pixels(seen))
    (ours,) = model.postprocess(outputs, [ImageGeometry.of(size, seen)])
    theirs = processor.post_process_panoptic_segmentation(
        SimpleNamespace(class_queries_logits=outputs.category_logits, masks_queries_logits=outputs.mask_logits),
        [size],
        threshold=0.0,
        overlap_mask_area_threshold=0.0,
        stuff_classes=list(LABELS.stuff_ids),
    )[0]
    assert len(ours) > 1
    assert [one["label_id"] for one in theirs["segments_info"]] == ours.category.tolist()
    assert int((theirs["segmentation"] + 1 != ours.ids).sum()) <= 2


class TestAttentionMasks:
    """EoMT masks the attention of its last blocks with a probability that training reduces to 0."""

    @pytest.mark.parametrize("family", EOMT)
    def test_a_probability_between_is_rounded_with_a_note(
        self, tmp_path: Path, family: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        from safetensors.torch import load_file, save_file

        path = save_network(family, tmp_path) / "model.safetensors"
        tensors = load_file(path)
        tensors["attn_mask_probs"].fill_(0.7)
        save_file(tensors, path, {"format": "pt"})
        model = panscape.load(tmp_path, LABELS)
        assert "masked attention in a part of the queries, [0.7]; it is on" in caplog.text
        assert model.network.state_dict()["attn_mask_probs"].tolist() == [1.0]
        with torch.inference_mode():
            first, second = (model(pixels((50, 60))).mask_logits for _ in range(2))
            model.network.__dict__["attn_mask_probs"] = [0.0]
            unmasked = model(pixels((50, 60))).mask_logits
        assert torch.equal(first, second)
        assert not torch.equal(first, unmasked)
        model.network.__dict__["attn_mask_probs"] = [1.0]
        torch.export.export(model, (pixels((50, 60)),))


def test_detr_has_the_ids_of_files_as_categories(tmp_path: Path) -> None:
    ids = {"car": 6, "road": 2, "person": 1}
    categories = (Category(name, name in THINGS, i, (0, 0, 0)) for name, i in ids.items())
    space = LabelSpace("sparse", tuple(categories))
    folder = save_network("DETR", tmp_path, [f"LABEL_{i}" for i in range(250)])
    coco = panscape.load(folder)
    assert (coco.labels.name, coco.source[[0, 132]].tolist()) == ("coco_panoptic", [1, 200])
    logits = torch.randn(1, 7, 251, generator=torch.Generator().manual_seed(0))
    found = coco._in_label_order(logits).softmax(2)
    expected = logits.softmax(2)
    torch.testing.assert_close(found[..., :-1], expected[..., coco.source], atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(found.sum(2), torch.ones(1, 7))
    assert space.id_of_source[6] == 0
