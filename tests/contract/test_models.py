"""Contract of all models; they are in tests/tiny_models.py."""

from __future__ import annotations

import copy
import threading
from typing import Any

import numpy as np
import pytest
import torch
from maps import SHAPES, generated_map
from tiny_models import (
    CLASSES,
    MODELS,
    OTHER_BACKBONES,
    STEPS,
    created,
    images,
    in_training,
    of_one,
    one_of_each_class,
    pairs,
    stacked,
    tensors_of,
)
from torch.nn import functional as F

from panscape import PanopticMap, create_model, zoo
from panscape.errors import CheckpointMismatchError, InvalidArgumentError, PanscapeError, UnreadableFileError
from panscape.geometry import ImageGeometry
from panscape.models import PanopticModel, list_models
from panscape.models.base import INPUT_NORMALIZATIONS
from panscape.representations.decoding_options import decoding_options, replace_options
from panscape.representations.queries import QueryOutputs


def test_every_name_in_the_table_is_covered() -> None:
    assert {name for name, _ in MODELS.values()} | OTHER_BACKBONES == set(list_models())


def test_every_class_is_covered() -> None:
    with torch.device("meta"):
        assert {type(created(key)) for key in CLASSES} == {type(created(key)) for key in MODELS}


@pytest.mark.parametrize(("batch", "size"), [(1, (100, 157)), (3, (128, 128))])
def test_outputs_are_finite_and_decode_to_valid_maps(model: PanopticModel, batch: int, size: tuple[int, int]) -> None:
    with torch.inference_mode():
        outputs = model(images(batch, size))
    for output, _ in pairs(outputs, outputs):
        assert output.shape[0] == batch
        assert output.dtype in (torch.float32, torch.int64)
        assert torch.isfinite(output).all()
    assert getattr(outputs, "first_stage", None) is None
    maps = model.decode(outputs, [size] * batch)
    assert [m.size for m in maps] == [size] * batch
    for m in maps:
        assert m.num_segments == 0 or int(m.category.max()) < len(SHAPES)
        assert torch.equal(m.areas() > 0, torch.ones(m.num_segments, dtype=torch.bool))


def test_outputs_that_are_not_finite_decode_to_valid_maps(model: PanopticModel) -> None:
    size, g = (64, 64), torch.Generator().manual_seed(0)
    wild = torch.tensor([torch.nan, torch.inf, -torch.inf, 3e38])
    with torch.inference_mode():
        outputs = model(images(1, size))
    for share in (0.05, 1.0):
        spoilt = [
            None
            if part is None
            else part  # categories are integers
            if not part.is_floating_point()
            else torch.where(
                torch.rand(part.shape, generator=g) < share, wild[torch.randint(0, 4, part.shape, generator=g)], part
            )
            for part in tensors_of(outputs)
        ]
        broken = type(outputs)(*spoilt)
        (scored,) = model.score_instances(broken, model.decode(broken, [size]))
        assert scored.size == size
        assert scored.score is not None
        assert ((scored.score >= 0) & (scored.score <= 1)).all()


@one_of_each_class
def test_maps_have_the_images_size_whatever_the_network_saw(model: PanopticModel) -> None:
    size = (96, 128)
    with torch.inference_mode():
        outputs = model(images(2, size))
    maps = model.postprocess(outputs, [ImageGeometry.of(size), ImageGeometry.of((60, 200), size)])
    assert maps[0].equals(model.decode(outputs, [size] * 2)[0])
    assert [m.size for m in maps] == [size, (60, 200)]
    assert (maps[1].areas() > 0).all()
    with pytest.raises(InvalidArgumentError, match="expected one size"):
        model.postprocess(outputs, [ImageGeometry.of(size)])


@one_of_each_class
def test_semantic_heads_fill_images_of_any_size(model: PanopticModel) -> None:
    size, others = (96, 128), [(96, 128), (60, 200)]
    with torch.inference_mode():
        outputs = model(images(2, size))
    geometries = [ImageGeometry.of(other, size) for other in others]
    found = model.decode_semantic(outputs, geometries)
    assert [tuple(one.shape) for one in found] == others
    for i, one in enumerate(found):
        (alone,) = model.decode_semantic(of_one(outputs, i), geometries[i : i + 1])
        assert torch.equal(alone, one)
        assert 0 <= int(one.min()) <= int(one.max()) < len(SHAPES)
    with pytest.raises(InvalidArgumentError, match="expected one size"):
        model.decode_semantic(outputs, geometries[:1])
    if isinstance(outputs, QueryOutputs):
        return
    # Stuff of the map is the argmax of the head.
    category = model.decode(outputs, [size] * 2)[0].semantic(void=-1)
    is_stuff = torch.isin(category, torch.tensor(SHAPES.stuff_ids))
    assert torch.equal(category[is_stuff], found[0].long()[is_stuff])


@one_of_each_class
def test_objects_before_fusion_have_the_size_of_the_image(model: PanopticModel) -> None:
    size, others = (96, 128), [(96, 128), (60, 200)]
    with torch.inference_mode():
        outputs = model(images(2, size))
    geometries = [ImageGeometry.of(other, size) for other in others]
    if not model.has_detections:
        with pytest.raises(InvalidArgumentError, match="expected a model that detects objects"):
            model.detect(outputs, geometries)
        return
    for (masks, category, score), other in zip(model.detect(outputs, geometries), others, strict=True):
        assert masks.to_masks(other).shape == (len(score), *other)
        assert set(category.tolist()) <= set(SHAPES.thing_ids)
        assert ((score >= 0) & (score <= 1)).all()


@one_of_each_class
def test_scores_for_average_precision_leave_the_maps_as_they_are(model: PanopticModel) -> None:
    size = (100, 157)
    with torch.inference_mode():
        outputs = model(images(2, size))
    maps = model.decode(outputs, [size] * 2)
    scored = model.score_instances(outputs, maps)
    for i, (before, after) in enumerate(zip(maps, scored, strict=True)):
        assert after.score is not None
        assert torch.equal(after.ids, before.ids)
        assert torch.equal(after.category, before.category)
        (alone,) = model.score_instances(of_one(outputs, i), [before])
        assert torch.equal(alone.score, after.score)


TRUTH_SIZE = (64, 64)


def whole(category: int, *, crowd: bool = False) -> PanopticMap:
    """Return a map with a single segment that covers it."""
    return PanopticMap(torch.ones(TRUTH_SIZE, dtype=torch.int32), torch.tensor([category]), None, torch.tensor([crowd]))


def one_pixel() -> PanopticMap:
    ids = torch.zeros(TRUTH_SIZE, dtype=torch.int32)
    ids[36, 44] = 1  # the middle of a square of 8 pixels
    return PanopticMap(ids, torch.tensor([2]))


def many_objects() -> PanopticMap:
    """Return a map of 300 squares of 3 pixels side on stuff."""
    row, column = torch.arange(TRUTH_SIZE[0])[:, None] // 3, torch.arange(TRUTH_SIZE[1]) // 3
    ids = torch.where((row < 15) & (column < 20), row * 20 + column + 1, 301).int()
    return PanopticMap(ids, torch.tensor([2, 3] * 150 + [0]))


# Truths, and what they say something about: the category of pixels, centres or the lack of them, objects. To networks
# of two stages void is background, as in their published code: any truth but a crowd teaches where there is no object.
TRUTHS: dict[str, tuple[PanopticMap, set[str]]] = {
    "empty": (PanopticMap.empty(TRUTH_SIZE), set()),
    "all void": (PanopticMap(torch.zeros(TRUTH_SIZE, dtype=torch.int32), torch.tensor([0, 2])), set()),
    "crowd only": (whole(2, crowd=True), {"pixels"}),
    "one pixel": (one_pixel(), {"pixels", "places", "objects"}),
    "300 objects": (many_objects(), {"pixels", "places", "objects"}),
    "no things": (whole(1), {"pixels", "places"}),
    "no stuff": (whole(2), {"pixels", "places", "objects"}),
    "scene with a crowd": (generated_map(1, TRUTH_SIZE, crowd=True), {"pixels", "places", "objects"}),
}
# What each head learns from.
HEADS = {
    "semantic": "pixels",
    "center": "places",
    "offset": "objects",
    "box_category": "places",
    "levelness": "places",
    "box": "objects",
    "centerness": "objects",
    "objectness": "background",
    "offsets": "objects",
    "masks": "objects",
}


# In half precision, one of each step (see STEPS) and of each loss.
_HALF = {*CLASSES, *STEPS, "dense detections, one tower", "dense detections, fine, half the locations found"}


@pytest.mark.parametrize(
    ("model", "precision"),
    [*((key, "fp32") for key in MODELS), *((key, "bf16") for key in MODELS if key in _HALF)],
    indirect=["model"],
)
def test_every_truth_gives_finite_gradients_and_none_where_nothing_is_learnt(
    model: PanopticModel, precision: str
) -> None:
    trained = copy.deepcopy(model).train()
    outputs = None
    found: dict[str, list[str]] = {}
    # Which parts learn from which truth does not depend on the precision, but sums of nothing and of much may.
    names = TRUTHS if precision == "fp32" else ("empty", "crowd only", "300 objects")
    for truth_name in names:
        truth, known = TRUTHS[truth_name]
        targets = stacked(trained, [truth, truth])
        if outputs is None or model.takes_targets:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
                outputs = in_training(trained, images(2, TRUTH_SIZE), targets)
        if model.takes_targets and truth_name != "crowd only":
            known = known | {"background"}
        losses = trained.loss(outputs, targets)
        assert losses
        wrong = [name for name, loss in losses.items() if loss.ndim or not (torch.isfinite(loss) and loss >= 0)]
        sum(losses.values()).backward(retain_graph=True)
        for name, parameter in trained.named_parameters():
            gradient, parameter.grad = parameter.grad, None
            if not parameter.requires_grad:
                continue
            part = next((part for part in name.split(".") if part.removeprefix("refined_") in HEADS), "")
            # What a first stage finds may guide a second one, whose losses it then learns from as well.
            is_guide = part in HEADS and getattr(model, "relations", None) is not None
            # Queries learn from every image, at least that they are no object.
            is_learnt = (
                isinstance(outputs, QueryOutputs) or bool(known)
                if is_guide or not part
                else HEADS[part.removeprefix("refined_")] in known
            )
            if not torch.isfinite(gradient).all() or (not is_learnt and gradient.any()):
                wrong.append(name)
        if wrong:
            found[truth_name] = wrong
    assert not found


def test_every_parameter_gets_a_gradient(model: PanopticModel) -> None:
    torch.manual_seed(0)
    trained = copy.deepcopy(model).train()
    for module in trained.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # some start at zero and would stop the gradient of a whole branch
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
        if isinstance(module, torch.nn.MultiheadAttention):  # likewise
            torch.nn.init.uniform_(module.in_proj_bias)
    targets = stacked(trained, [generated_map(1), generated_map(2)])
    losses = trained.loss(in_training(trained, images(2, (96, 128)), targets), targets)
    sum(losses.values()).backward()
    for name, parameter in trained.named_parameters():
        if not parameter.requires_grad:  # fixed on purpose, as a part of the backbone is
            assert name.startswith(("detector.", *(f"{backbone}." for backbone in model.backbones))), name
            continue
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        # The first queries of MaskFormer are zeros, so that it does not matter which of them attends to which.
        is_idle = name == "query_decoder.layers.0.self_attn.in_proj_weight"
        assert is_idle or (parameter.grad != 0).any(), name


def test_verbs_do_not_depend_on_the_mode(model: PanopticModel) -> None:
    trained = copy.deepcopy(model).train()
    with torch.no_grad():
        outputs, expected = (one(images(2, (96, 128))) for one in (trained, model))
    assert type(outputs) is type(expected)
    assert all(a.shape == b.shape for a, b in pairs(outputs, expected))


def test_a_batch_of_two_equals_two_of_one(model: PanopticModel) -> None:
    batch = images(2, (96, 128), seed=5)
    with torch.inference_mode():
        both, single = model(batch), [model(p[None]) for p in batch]
    for i, outputs in enumerate(single):
        for a, b in pairs(both, outputs):
            torch.testing.assert_close(a[i], b[0], atol=1e-4, rtol=1e-4)
    sizes = [(96, 128), (90, 100)]
    together = model.decode(both, sizes)
    for i, size in enumerate(sizes):
        alone = model.decode(of_one(both, i), [size])[0]
        assert together[i].equals(alone)


@one_of_each_class
def test_two_threads_do_not_disturb_each_other(model: PanopticModel) -> None:
    batches = [images(1, (128, 128), seed=s) for s in range(2)]
    with torch.inference_mode():
        expected = [model(p) for p in batches]
    wrong: set[int] = set()

    def work(i: int) -> None:
        with torch.inference_mode():
            for _ in range(5):
                if not all(torch.allclose(a, b, atol=1e-5) for a, b in pairs(model(batches[i]), expected[i])):
                    wrong.add(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@one_of_each_class
def test_padding_is_on_the_right_and_at_the_bottom(model: PanopticModel) -> None:
    odd = images(1, (100, 101))
    rows, columns = (-(-s // model.stride) * model.stride for s in (100, 101))
    prepared = model.preprocess(odd)
    assert prepared.shape[-2:] == (rows, columns)
    assert prepared[..., 100:, :].abs().sum() == 0
    assert prepared[..., :, 101:].abs().sum() == 0
    shown = prepared[..., :100, :101]
    if INPUT_NORMALIZATIONS[model.normalization].is_bgr:
        shown = shown.flip(1)
    torch.testing.assert_close(shown * model.std + model.mean, odd, atol=1e-5, rtol=1e-5)


def test_save_and_load_give_the_same_outputs(model: PanopticModel, tmp_path: object) -> None:
    path = tmp_path / "model.safetensors"  # type: ignore[operator]
    own = model.decoding
    try:
        if "stuff_area" in decoding_options(own):
            model.set_decoding(stuff_area=77, stuff_share=0.01)
        elif own is not None:
            model.set_decoding(score_threshold=0.25)
        if "nms_kernel" in decoding_options(own):
            model.set_decoding(nms_kernel=31)  # the default window of relations follows from it when a model is built
        zoo.save(model, path, {"note": "x"})
        again = zoo.load(path)
        assert again.decoding == model.decoding
        assert own is None or own != model.decoding
    finally:
        if own is not None:
            model.replace_decoding(own)
    assert zoo.read_card(path) == {"note": "x"}
    assert again.labels == model.labels
    with torch.inference_mode():
        for a, b in pairs(model(images(1, (96, 128))), again(images(1, (96, 128)))):
            assert torch.equal(a, b)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises((UnreadableFileError, CheckpointMismatchError), match=r"model\.safetensors"):
        zoo.load(path)


@one_of_each_class
def test_predict_gives_one_map_per_image(model: PanopticModel) -> None:
    image = (images(1, (70, 90))[0] * 255).to(torch.uint8)
    one = model.predict(image)
    assert one.labels == model.labels
    assert isinstance(one, PanopticMap)
    assert one.size == (70, 90)
    assert not any(module.training for module in model.modules())
    several = model.predict([image, image[:, :40]])
    assert [m.size for m in several] == [(70, 90), (40, 90)]
    assert several[0].equals(one)


@one_of_each_class
def test_all_maps_have_the_labels_of_the_model(model: PanopticModel) -> None:
    image = images(1, (70, 90))
    geometry = [model.geometry((70, 90))]
    with torch.inference_mode():
        outputs = model(image)
        found = [*model.decode(outputs, [(70, 90)]), *model.postprocess(outputs, geometry, scored=True)]
        found.append(model.decode_with_truth(outputs, found[0], model.oracles))
    assert [one.labels for one in found] == [model.labels] * 3


@one_of_each_class
def test_unknown_oracles_are_refused(model: PanopticModel) -> None:
    expected = (
        "unknown oracle 'depth'; known: .*" + sorted(model.oracles)[0] if model.oracles else "has none, got depth"
    )
    with pytest.raises(PanscapeError, match=expected):
        model.require_oracles(["depth"])


@one_of_each_class
@pytest.mark.parametrize(
    ("wrong", "given"),
    [
        ("photo.jpg", "got str"),
        (np.zeros((64, 64, 3), np.uint8), "got ndarray"),
        (torch.zeros(3, 64, 64), r"got torch.float32 \[3, 64, 64\]"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), r"got torch.uint8 \[1, 3, 64, 64\]"),
    ],
)
def test_calling_a_model_with_an_image_names_predict(model: PanopticModel, wrong: Any, given: str) -> None:
    expected = r"expected the input of a network, float \[B, 3, H, W\] in 0..1"
    with pytest.raises(InvalidArgumentError, match=rf"^{expected}, {given}; model.predict takes paths, PIL images"):
        model(wrong)


# Every network in the precision that has no array type in NumPy; one of each class in another one.
@pytest.mark.parametrize(
    ("model", "precision", "least"),
    [*((key, torch.bfloat16, 0.9) for key in MODELS), *((key, torch.float64, 0.999) for key in CLASSES)],
    indirect=["model"],
)
def test_inputs_follow_the_precision_of_the_weights(model: PanopticModel, precision: torch.dtype, least: float) -> None:
    image = (images(1, (96, 128))[0] * 255).to(torch.uint8)
    other = copy.deepcopy(model).to(precision).predict(image)
    assert (other.semantic(void=-1) == model.predict(image).semantic(void=-1)).double().mean() > least


@one_of_each_class
def test_predict_runs_images_of_one_inference_size_in_batches(model: PanopticModel) -> None:
    limited = copy.deepcopy(model)
    limited.longest_side = 96
    sizes = [(96, 64), (64, 96), (96, 64), (192, 128), (64, 96), (96, 64), (50, 70)]
    sources = [(images(1, size, seed=i)[0] * 255).to(torch.uint8) for i, size in enumerate(sizes)]
    one_by_one = [limited.predict(source) for source in sources]
    seen: list[tuple[int, ...]] = []
    limited.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    together = limited.predict(sources, batch_size=3)
    # The fourth image is larger, but enters the network at the size of the first; the sixth is left over.
    assert seen == [(3, 3, 96, 64), (2, 3, 64, 96), (1, 3, 96, 64), (1, 3, 50, 70)]
    assert [m.size for m in together] == sizes
    for alone, found in zip(one_by_one, together, strict=True):
        # Rounding may move single pixels on the border of two segments.
        assert (alone.semantic(void=-1) == found.semantic(void=-1)).double().mean() > 0.999
    seen.clear()
    for alone, found in zip(one_by_one, limited.predict(sources), strict=True):
        assert found.equals(alone)
    assert {shape[0] for shape in seen} == {1}


@one_of_each_class
def test_predict_leaves_every_module_in_its_mode(model: PanopticModel) -> None:
    mixed = copy.deepcopy(model).train()
    frozen = next(m for m in mixed.modules() if isinstance(m, (torch.nn.BatchNorm2d, torch.nn.GroupNorm)))
    frozen.eval()
    before = [m.training for m in mixed.modules()]
    mixed.predict(torch.zeros(3, 64, 64, dtype=torch.uint8))
    assert [m.training for m in mixed.modules()] == before
    assert True in before
    assert False in before


@one_of_each_class
def test_large_images_are_shrunk_to_the_longest_side(model: PanopticModel) -> None:
    image = (images(1, (70, 140))[0] * 255).to(torch.uint8)
    limited = copy.deepcopy(model)
    limited.longest_side = 128
    assert limited.inference_size((70, 140)) == (64, 128)
    assert limited.inference_size((128, 90)) == (128, 90)
    seen: list[tuple[int, ...]] = []
    limited.register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    assert limited.predict(image).size == (70, 140)
    assert seen == [(1, 3, 64, 128)]


@one_of_each_class
def test_images_are_enlarged_by_the_test_scale(model: PanopticModel) -> None:
    image = (images(1, (40, 64))[0] * 255).to(torch.uint8)
    enlarged = F.interpolate(image[None].float(), size=(60, 96), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        (by_hand,) = model.postprocess(model(enlarged.round() / 255), [ImageGeometry.of((40, 64), (60, 96))])
    scaled = copy.deepcopy(model)
    scaled.test_scale = 1.5
    assert scaled.inference_size((40, 64)) == (60, 96)
    result = scaled.predict(image)
    assert result.size == (40, 64)
    # They differ only by rounding to 256 levels.
    assert (result.semantic(void=-1) == by_hand.semantic(void=-1)).double().mean() > 0.99
    scaled.longest_side = 80
    assert scaled.inference_size((40, 64)) == (50, 80)
    assert scaled.inference_size((400, 640)) == (50, 80)


@pytest.mark.parametrize("scale", [0.0, -1.0, 8.5, float("nan")])
def test_a_test_scale_that_cannot_be_used(scale: float) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a test scale above 0 and of at most 8, got"):
        create_model("swiftnet", SHAPES, backbone="residual_xs", width=8, test_scale=scale)


def test_panels_have_the_size_of_the_image(model: PanopticModel) -> None:
    with torch.inference_mode():
        outputs = model(images(1, (70, 90)))
        panels = model.visualize(outputs, (70, 90))
    assert panels
    for name, panel in panels.items():
        assert panel.shape == (3, 70, 90), name
        assert panel.dtype == torch.uint8, name
    own = model.decoding
    if "stuff_on_uncovered" in decoding_options(own):  # concerns the map, not what the network predicts
        try:
            model.replace_decoding(replace_options(own, {"stuff_on_uncovered": True}))
            with torch.inference_mode():
                assert torch.equal(model.visualize(outputs, (70, 90))["semantic"], panels["semantic"])
        finally:
            model.replace_decoding(own)
