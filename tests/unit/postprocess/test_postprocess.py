"""Maps from plain tensors are those of the representations, whatever holds the tensors; wrong inputs are refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from maps import SHAPES, generated_map
from plain_outputs import (
    GEOMETRY,
    KINDS,
    PADDED,
    QUERY_OPTIONS,
    SEEN,
    SIX,
    SIZE,
    SIZES,
    centers,
    dense_boxes,
    detections,
    of_centers,
    of_detections,
    of_queries,
    queries,
)
from torch import Tensor

from panscape import PanopticMap
from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.geometry import ImageGeometry
from panscape.postprocess import map_from_centers, map_from_dense_boxes, map_from_detections, map_from_queries
from panscape.representations.centers import CenterDecoding, CenterOutputs, CenterRepresentation
from panscape.representations.decoding_options import replace_options
from panscape.representations.dense_boxes import DenseBoxDecoding, DenseBoxOutputs, DenseBoxRepresentation
from panscape.representations.fusion import FusionConfig
from panscape.representations.queries import QueryDecoding, QueryOutputs, QueryRepresentation
from panscape.representations.regions import RegionDecoding, RegionOutputs, RegionRepresentation


def by_representation(name: str, resize: str) -> PanopticMap:
    """Return what panscape's own models decode."""
    fusion = FusionConfig(min_score=0.2, stuff_area=30)
    representation: Any
    outputs: Any
    if name == "queries":
        category_logits, masks = queries()
        outputs = QueryOutputs(category_logits[None], masks[None])
        representation = QueryRepresentation(decoding=replace_options(QueryDecoding("eomt"), QUERY_OPTIONS))
    elif name == "centers":
        outputs = CenterOutputs(*(part[None] for part in centers()))
        representation = CenterRepresentation(decoding=CenterDecoding(stuff_area=30, resize=resize))  # type: ignore[arg-type]
        if resize == "outputs":
            return representation.decode_resized(outputs, [GEOMETRY], SIX)[0]
    elif name == "detections":
        masks, category, score, semantic, boxes = detections()
        thing = torch.searchsorted(torch.tensor(SIX.thing_ids), category)
        nothing = (torch.zeros(()),) * 5
        outputs = RegionOutputs(semantic[None], *nothing, boxes[None], thing[None], score[None], masks[None])
        representation = RegionRepresentation(decoding=RegionDecoding(fusion=fusion))
    else:
        outputs = DenseBoxOutputs(*(part[None] for part in dense_boxes()))
        representation = DenseBoxRepresentation(
            level_ends=(16.0,), finest_stride=8, decoding=DenseBoxDecoding(fusion=replace(fusion, min_score=0.1))
        )
    if resize == "outputs":
        return representation.decode(outputs, [GEOMETRY], SIX)[0]
    return representation.decode(outputs, [ImageGeometry.of(SEEN, None, PADDED)], SIX)[0].resize(*SIZE).compact()


@pytest.mark.parametrize("resize", ["outputs", "map"])
@pytest.mark.parametrize("name", KINDS)
def test_maps_are_those_of_panscapes_own_models(name: str, resize: str) -> None:
    call, make = KINDS[name]
    options = {} if name == "queries" else {"resize": resize}
    resize = resize if options else "outputs"
    result, expected = call(make(), labels=SIX, **options), by_representation(name, resize)
    assert result == expected
    assert result.ids.equal(expected.ids)
    assert result.labels == SIX
    assert result.size == SIZE
    assert len(result) >= 3
    unnamed = call(make(), things=np.array([5, 3, 2]), **options)
    assert unnamed.ids.equal(expected.ids)
    assert unnamed.category.equal(expected.category)
    assert unnamed.labels is None


def _strided(part: Tensor) -> Tensor:
    return part.repeat_interleave(2, -1)[..., ::2]


def _reversed(part: Tensor) -> np.ndarray:
    return np.ascontiguousarray(part.numpy()[::-1])[::-1]


def _read_only(part: Tensor) -> np.ndarray:
    array = part.numpy().astype(part.numpy().dtype.newbyteorder(">"))
    array.flags.writeable = False
    return array


FORMS: dict[str, Callable[[Tensor], Any]] = {
    "numpy": lambda part: part.numpy(),
    "of double precision": lambda part: part.double() if part.is_floating_point() else part.int().numpy(),
    "strided": _strided,
    "reversed": _reversed,
    "read-only, of other byte order": _read_only,
    "with gradient": lambda part: part.clone().requires_grad_() if part.is_floating_point() else part,
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", KINDS)
def test_any_container_and_layout(name: str, form: str) -> None:
    call, make = KINDS[name]
    expected = call(make(), labels=SIX)
    result = call(tuple(FORMS[form](part) for part in make()), labels=SIX)
    assert result.ids.equal(expected.ids)
    assert result == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", KINDS)
def test_half_precision_is_that_of_its_values(name: str, dtype: torch.dtype) -> None:
    call, make = KINDS[name]
    parts = [part.to(dtype) if part.is_floating_point() else part for part in make()]
    expected = call([part.float() if part.is_floating_point() else part for part in parts], labels=SIX)
    assert call(parts, labels=SIX) == expected
    if dtype == torch.float16:
        assert call([part.numpy() for part in parts], labels=SIX) == expected


def test_detr_numbers_categories_as_the_files() -> None:
    category_logits, masks = queries()
    wide = torch.full((9, 61), -30.0)  # source ids 0, 10, ..., 50, others, and no object
    wide[:, [*range(0, 60, 10), 60]] = category_logits
    result = of_queries((wide, masks), labels=SIX, use_source_ids=True)
    assert result == of_queries((category_logits, masks), labels=SIX)
    wide[:, 33] = 30  # a category that the label space lacks is no object
    assert len(of_queries((wide, masks), labels=SIX, use_source_ids=True)) == 0
    with pytest.raises(InvalidArgumentError, match="all source ids of six, up to 50, and of no object, got"):
        of_queries((category_logits, masks), labels=SIX, use_source_ids=True)
    with pytest.raises(InvalidArgumentError, match="labels, which define the source ids"):
        of_queries((wide, masks), things=[1], use_source_ids=True)


def test_one_channel_for_all_things() -> None:
    masks, category, score, semantic, boxes = detections()
    stuff = semantic[list(SIX.stuff_ids)]
    merged = torch.cat([torch.full_like(stuff[:1], -50), stuff])
    semantic[list(SIX.thing_ids)] = -50
    expected = of_detections((masks, category, score, semantic, boxes), labels=SIX)
    assert of_detections((masks, category, score, merged, boxes), labels=SIX) == expected


def test_full_masks_and_categories_of_pixels() -> None:
    truth = generated_map(3, void=False)
    is_thing = torch.isin(truth.category, torch.tensor(SHAPES.thing_ids))
    parts = (truth.masks()[is_thing], truth.category[is_thing], torch.full((int(is_thing.sum()),), 0.9))
    result = map_from_detections(*parts, truth.semantic(void=0).byte().numpy(), truth.size, labels=SHAPES, stuff_area=1)
    assert result.equals(truth)
    none = (parts[0][:0], parts[1][:0], parts[2][:0])
    assert map_from_detections(*none, truth.semantic(void=0), truth.size, labels=SHAPES).category.tolist() == [0, 1]


def changed(name: str, place: int, change: Callable[[Tensor], Any]) -> Callable[[], PanopticMap]:
    call, make = KINDS[name]

    def run() -> PanopticMap:
        parts: list[Any] = list(make())
        parts[place] = change(parts[place])
        return call(parts, labels=SIX)

    return run


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (
            changed("queries", 0, lambda p: p[None]),
            r"float \[Q, C \+ 1\], got .* \[1, 9, 7\]; of a batch, give one",
        ),
        (
            changed("queries", 1, lambda p: p.tolist()),
            r"mask_logits as a torch tensor or NumPy array, .* got list",
        ),
        (changed("queries", 1, lambda p: p.sigmoid()), r"mask_logits before the sigmoid, got only values in 0\.\.1"),
        (changed("queries", 0, lambda p: p.softmax(1)), "category_logits before the softmax"),
        (changed("queries", 0, lambda p: p[:4]), r"of the same queries, got \[4, 7\] and \[9, 24, 36\]"),
        (changed("queries", 0, lambda p: p[:, 1:]), "of the 6 categories of six, got 5; give the label space"),
        (changed("queries", 1, lambda p: p[:, :20]), "aspect ratio of the network's input, 96x144, got 20x36"),
        (changed("queries", 1, lambda p: p.bool()), "mask_logits as float .*, got torch.bool"),
        (changed("queries", 1, lambda p: p.numpy().astype("O")), "got an array of object"),
        (
            changed("centers", 0, lambda p: p.argmax(0, keepdim=True)),
            "got torch.int64 .*; pass logits, not",
        ),
        (changed("centers", 1, lambda p: p[0]), r"center as float \[1, h, w\], got torch.float32 \[24, 36\]"),
        (changed("centers", 2, lambda p: p.movedim(0, 2)), r"offset as float \[2, h, w\], got .* \[24, 36, 2\]"),
        (changed("detections", 0, lambda p: p.sigmoid()), "masks before the sigmoid"),
        (changed("detections", 1, lambda p: p.float()), r"category as integers \[P\], got torch.float32"),
        (changed("detections", 1, lambda p: p * 0), "objects of thing categories of six"),
        (changed("detections", 2, lambda p: p * 100), r"scores in 0\.\.1"),
        (changed("detections", 2, lambda p: p[1:]), "one for each mask"),
        (changed("detections", 2, lambda p: p * torch.nan), "score of finite values, got . of . that are nan"),
        (changed("detections", 4, lambda p: p / 0), "boxes of finite values, got"),
        (changed("detections", 4, lambda p: p[1:]), r"masks \[P, M, M\] and boxes \[P, 4\]"),
        (
            changed("dense boxes", 1, lambda p: p[:, 1:]),
            "same number of locations .* got box_category 269",
        ),
        (changed("dense boxes", 0, lambda p: p[:, :11]), "aspect ratio|stride of the padded size"),
        (changed("dense boxes", 4, lambda p: p[:2]), r"levelness as \[1, 3, 24, 36\]"),
        (lambda: of_centers(centers()), "either labels or things, the categories that are objects, got none"),
        (lambda: of_centers(centers(), labels=SIX, things=[2]), "got both"),
        (lambda: of_centers(centers(), things=[6]), r"things in 0\.\.5, the categories of the logits, got 6"),
        (lambda: of_centers(centers(), things=["car"]), "things as category ids"),
        (lambda: of_centers(centers(), things=[False, True]), "got flags, .*; give the positions that are True"),
        (lambda: of_centers(centers(), things=torch.tensor([False, True])), "got flags"),
        (lambda: map_from_centers(*centers(), 96, labels=SIX), r"size as \(height, width\) in pixels, got 96"),
        (lambda: map_from_centers(*centers(), (96, 144.5), labels=SIX), r"size as \(height, width\)"),
        (lambda: of_centers(centers(), labels=SIX, threshold="high"), "expected threshold as a number"),
        (lambda: map_from_queries(*queries(), PADDED, rule="segformer", things=[]), "rule as .*, got 'segformer'"),
        (
            lambda: map_from_dense_boxes(*(p[..., :100] for p in dense_boxes()[:4]), (64, 64), things=[2, 3, 5]),
            "aspect ratio",
        ),
        (
            lambda: of_detections((*detections()[:3], torch.zeros(SIZE).long(), detections()[4]), things=[2]),
            "expected semantic as logits for things",
        ),
        (
            lambda: of_detections((*detections()[:3], torch.zeros(SEEN).long(), detections()[4]), labels=SIX),
            r"semantic of the size 120x190, got \[90, 141\]",
        ),
        (
            lambda: map_from_detections(*detections()[:4], SIZE, labels=SIX, **SIZES),
            r"masks as bool \[P, H, W\], got torch.float32; .* masks > 0 for 0 and 1 and for logits",
        ),
    ],
)
def test_wrong_inputs_are_refused(run: Callable[[], PanopticMap], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        run()


def test_options_are_checked_by_name() -> None:
    with pytest.raises(UnknownNameError, match="did you mean stuff_area"):
        of_detections(detections(), labels=SIX, stuf_area=3)
    with pytest.raises(UnknownNameError, match="did you mean score_threshold"):
        map_from_queries(*queries(), PADDED, rule="eomt", things=[], threshold=0.5)
    with pytest.raises(InvalidArgumentError, match="threshold as a number, got True"):
        of_centers(centers(), things=[], threshold=True)
    assert of_centers(centers(), things=[2], threshold=np.float32(0.5)).equals(
        of_centers(centers(), things=[2], threshold=0.5)
    )
