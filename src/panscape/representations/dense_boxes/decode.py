"""Decode dense boxes into panoptic maps: select boxes, build their masks, and merge masks and stuff.

Post-processing of Real-Time Panoptic Segmentation from Dense Detections (Hou et al., CVPR 2020, arXiv 1912.01202,
Section 3.2):

1. Select the objects among the predicted boxes (NMS; ``panscape.representations.dense_boxes.select_boxes``).
2. Build each object's mask from the pixels whose boxes agree with its box: for the object's box and each cell of a
   grid, the probability that the cell lies in the same object is

       M = P_loc (the object's box, the cell's box) * P_sem (the object's category at the cell).

   M is upsampled bilinearly to the image and compared with a threshold.
3. Merge the masks with the stuff (``panscape.representations.fusion``).

Paper and released code differ in step 2, and ``compat`` selects one of them:

* "paper": P_loc is the IoU of the boxes, Equation 6; a pixel belongs to the object if M > threshold, Equation 7.
* "released": P_loc is (I + 1) / (U + 1) - (G - U) / G with intersection I, union U, and the area G = 1e-7 + that of
  the smallest box around both; M >= threshold.

Cells may have several boxes, of which the best counts (Table 3, without levelness). If P_loc is NaN, as with infinite
boxes, it counts as minus infinity. For finite boxes it is at most 1, apart from rounding.

:func:`decode_dense_boxes_reference` is the definition. :func:`decode_dense_boxes` gives the same maps: masks come from
compiled kernels on the CPU, which evaluate M only where it can matter, or from one CUDA kernel, which builds a few at a
time without any other tensor of the size of a mask. Masks agree in every pixel with :func:`dense_masks_reference`.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.labels import LabelSpace
from panscape.ops.argmax import argmax_over_planes, upsampled_argmax
from panscape.ops.cropped_masks import CroppedMasks, Detections
from panscape.ops.interpolate import finite_values, upsample
from panscape.ops.interpolate_cpu import upsample_planes
from panscape.ops.source_weights import cell_table
from panscape.panoptic import PanopticMap
from panscape.representations.dense_boxes.decode_config import DenseBoxDecoding, MaskCompat
from panscape.representations.dense_boxes.locations import Pyramid, dense_boxes
from panscape.representations.dense_boxes.masks_cpu import build_masks
from panscape.representations.dense_boxes.select_boxes import select_boxes
from panscape.representations.dense_boxes.types import DenseBoxOutputs
from panscape.representations.fusion import FusionConfig, fuse_instances

_LARGEST_DISTANCE = 1e14  # masks require boxes within 1e15
_MAX_PIXELS = 1 << 25  # pixels of a chunk of masks, of one byte each: 16 masks of 1024x2048


class MaskInputs(NamedTuple):
    """What the masks of one image's objects are built from.

    Attributes:
        query: boxes of the objects, float [P, 4], xyxy in pixels of the input, x1 <= x2 and y1 <= y2, within
            1e15 or infinite.
        category: category of each object, a plane of ``prob``, int64 [P].
        dense: boxes of every cell, as for ``query``, float [D, 4, h, w], D at least 1.
        prob: probability of each category of things at every cell, float [T, h, w].
        geometry: sizes of the image: masks have its inference size, and the cells cover its padded size evenly.
    """

    query: Tensor
    category: Tensor
    dense: Tensor
    prob: Tensor
    geometry: ImageGeometry

    def of_objects(self, chosen: slice | Tensor) -> MaskInputs:
        """Return the inputs for some of the objects."""
        return self._replace(query=self.query[chosen], category=self.category[chosen])


def decode_dense_boxes_reference(
    outputs: DenseBoxOutputs, geometry: ImageGeometry, labels: LabelSpace, pyramid: Pyramid, decoding: DenseBoxDecoding
) -> PanopticMap:
    """Decode the outputs of one image in plain torch, on any device: the definition of this decoding.

    Arguments are those of :func:`decode_dense_boxes`, for a batch of one.
    """
    geometry, size = geometry.padded_to(pyramid.padded_size), geometry.inference_size
    box = finite_values(outputs.box, nan=0).clamp(0, _LARGEST_DISTANCE)
    found = select_boxes(outputs.box_category[0], box[0], outputs.centerness[0], pyramid, size, decoding.selection)
    decoding, geometry = decoding.at_image_size(geometry), geometry.at_image_size()

    (dense,) = dense_boxes(box, decoding.levels(outputs.levelness), pyramid)
    logits = finite_values(outputs.semantic[0])
    things = torch.tensor(labels.thing_ids, dtype=torch.int64, device=box.device)
    prob = upsample(logits, pyramid.dense_size, pyramid.dense_size, align_corners=False).softmax(0)[things]
    inputs = MaskInputs(found.boxes, found.category, dense, prob, geometry)
    masks = dense_masks_reference(inputs, threshold=decoding.mask_threshold, compat=decoding.compat)

    choices = torch.tensor(decoding.fusion.semantic_ids(labels), device=box.device)
    semantic = choices[
        argmax_over_planes(logits[choices], lambda p: upsample(p, geometry.padded_size, geometry.size, False))
    ]
    windows = CroppedMasks.from_masks(masks)
    return fuse_instances(windows, things[found.category], found.score, semantic, labels, decoding.fusion)


def dense_masks_reference(inputs: MaskInputs, *, threshold: float, compat: MaskCompat) -> Tensor:
    """Build full masks, bool [P, H, W], in plain torch: the definition, which other implementations must equal.

    Arguments and errors are those of :func:`dense_masks`. Objects are processed one at a time, as the probabilities of
    all of them would take a gigabyte.
    """
    _check_masks(inputs, compat)
    query, category, dense, prob, geometry = inputs
    size = geometry.inference_size
    masks = torch.zeros(len(query), *size, dtype=torch.bool, device=query.device)
    for mask, box, c in zip(masks, query.detach().float(), category.tolist(), strict=True):
        best = torch.full(dense.shape[2:], -torch.inf, device=query.device)
        for boxes in dense.detach().float():
            value = location_mask_prob(box, boxes, compat)
            best = torch.where(value > best, value, best)
        whole = upsample(best * prob[c].float(), geometry.padded_size, size, align_corners=False)
        torch.ge(whole, threshold, out=mask) if compat == "released" else torch.gt(whole, threshold, out=mask)
    return masks


def location_mask_prob(query: Tensor, boxes: Tensor, compat: MaskCompat) -> Tensor:
    """Return P_loc of one query, float [4], with boxes [4, ...]; float [...]. The order of operations is fixed."""
    x1, y1, x2, y2 = query
    left, top, right, bottom = boxes
    shared = (torch.minimum(x2, right) - torch.maximum(x1, left)).clamp_min(0) * (
        torch.minimum(y2, bottom) - torch.maximum(y1, top)
    ).clamp_min(0)
    union = (x2 - x1) * (y2 - y1) + (right - left) * (bottom - top) - shared
    if compat == "paper":
        overlap: Tensor = shared / union.clamp_min(1e-7)  # the IoU of two empty boxes is 0
        return overlap
    around = (torch.maximum(x2, right) - torch.minimum(x1, left)) * (
        torch.maximum(y2, bottom) - torch.minimum(y1, top)
    ) + 1e-7
    prob: Tensor = (shared + 1) / (union + 1) - (around - union) / around
    return prob


def decode_dense_boxes(
    outputs: DenseBoxOutputs,
    geometries: Sequence[ImageGeometry],
    labels: LabelSpace,
    pyramid: Pyramid,
    decoding: DenseBoxDecoding,
) -> list[PanopticMap]:
    """Decode a batch of outputs into one map per image, at the image's own size.

    Where it is not the inference size, logits and mask probabilities are upsampled to the image's size.

    Args:
        outputs: outputs for the padded images; distances that are negative or NaN count as 0.
        geometries: sizes of each image, which is in the top left corner of the network's input; the padded size is that
            of ``pyramid``.
        labels: label space, which defines things and stuff.
        pyramid: geometry of the locations.
        decoding: decoding options.

    Raises:
        InvalidArgumentError: shapes contradict each other or the sizes.
    """
    images = _mask_inputs(outputs, geometries, labels, pyramid, decoding)
    maps = []
    for logits, geometry, (inputs, score) in zip(outputs.semantic, geometries, images, strict=True):
        semantic = semantic_argmax(logits, inputs.geometry, labels, decoding.fusion)
        maps.append(boxes_to_map(inputs, score, semantic, labels, decoding.at_image_size(geometry)))
    return maps


def detect_dense_boxes(
    outputs: DenseBoxOutputs,
    geometries: Sequence[ImageGeometry],
    labels: LabelSpace,
    pyramid: Pyramid,
    decoding: DenseBoxDecoding,
) -> list[Detections]:
    """Return the detected objects of each image of a batch before they are merged into a map, whatever their score.

    The arguments are those of :func:`decode_dense_boxes`.
    """
    images = _mask_inputs(outputs, geometries, labels, pyramid, decoding)
    return [_detections(inputs, score, labels, decoding) for inputs, score in images]


def _mask_inputs(
    outputs: DenseBoxOutputs,
    geometries: Sequence[ImageGeometry],
    labels: LabelSpace,
    pyramid: Pyramid,
    decoding: DenseBoxDecoding,
) -> Iterator[tuple[MaskInputs, Tensor]]:
    """Select the objects of each image of a batch; yield the inputs of their masks, and their scores, float [P]."""
    _check_outputs(outputs, geometries, labels, pyramid)
    box = finite_values(outputs.box, nan=0).clamp(0, _LARGEST_DISTANCE)
    dense = dense_boxes(box, decoding.levels(outputs.levelness), pyramid)
    for i, geometry in enumerate(geometries):
        geometry, size = geometry.padded_to(pyramid.padded_size), geometry.inference_size
        found = select_boxes(outputs.box_category[i], box[i], outputs.centerness[i], pyramid, size, decoding.selection)
        prob = upsampled_thing_prob(outputs.semantic[i], pyramid.dense_size, labels.thing_ids)
        yield MaskInputs(found.boxes, found.category, dense[i], prob, geometry.at_image_size()), found.score


def boxes_to_map(
    inputs: MaskInputs, score: Tensor, semantic: Tensor, labels: LabelSpace, decoding: DenseBoxDecoding
) -> PanopticMap:
    """Build the masks of one image's objects and merge them into a map.

    Args:
        inputs: the objects and their cells.
        score: score of each object, float [P].
        semantic: argmax category of every pixel, integers of the image's size.
        labels: label space, which defines things and stuff.
        decoding: decoding options.
    """
    kept = score >= decoding.fusion.min_score  # objects that fusion would drop need no mask
    masks, category, score = _detections(inputs.of_objects(kept), score[kept], labels, decoding)
    return fuse_instances(masks, category, score, semantic, labels, decoding.fusion)


def _detections(inputs: MaskInputs, score: Tensor, labels: LabelSpace, decoding: DenseBoxDecoding) -> Detections:
    masks = dense_masks(inputs, threshold=decoding.mask_threshold, compat=decoding.compat)
    category = torch.tensor(labels.thing_ids, dtype=torch.int64, device=inputs.category.device)[inputs.category]
    return Detections(masks, category, score)


def dense_masks(inputs: MaskInputs, *, threshold: float, compat: MaskCompat) -> CroppedMasks:
    """Build the masks of one image with the fastest implementation for their device.

    Args:
        inputs: the objects and their cells.
        threshold: minimum probability of a pixel of an object.
        compat: "paper" or "released", see above.

    Returns:
        P masks, whose windows are inside the image.

    Raises:
        InvalidArgumentError: shapes contradict each other, or a category is not a plane of ``prob``.
    """
    _check_masks(inputs, compat)
    query, dense, prob = (part.detach().float().contiguous() for part in (inputs.query, inputs.dense, inputs.prob))
    if query.device.type != "cpu":
        inputs = inputs._replace(query=query, dense=dense, prob=prob)
        return dense_masks_chunked(inputs, threshold=threshold, compat=compat, max_pixels=_MAX_PIXELS)
    size, padded_size = inputs.geometry.inference_size, inputs.geometry.padded_size
    rows = cell_table(dense.shape[2], padded_size[0], False, size[0])
    columns = cell_table(dense.shape[3], padded_size[1], False, size[1])
    arrays = (query.numpy(), inputs.category.numpy(), dense.numpy(), prob.numpy())
    windows, crops = build_masks(*arrays, rows, columns, threshold, is_released=compat == "released")
    return CroppedMasks.from_crops([torch.from_numpy(crop) for crop in crops], torch.from_numpy(windows))


def dense_masks_chunked(inputs: MaskInputs, *, threshold: float, compat: MaskCompat, max_pixels: int) -> CroppedMasks:
    """Build masks as :func:`dense_masks` does, on any device, at full size in chunks.

    Floats are float32 and contiguous; ``max_pixels`` is as for :meth:`CroppedMasks.from_parts`.
    """
    is_fused = inputs.query.is_cuda and _has_triton()

    def make(some: slice) -> Tensor:
        if not is_fused:
            return dense_masks_reference(inputs.of_objects(some), threshold=threshold, compat=compat)
        from panscape.representations.dense_boxes.masks_triton import dense_masks_triton

        return dense_masks_triton(inputs.of_objects(some), threshold, is_released=compat == "released")

    return CroppedMasks.from_parts(make, len(inputs.query), inputs.geometry.inference_size, max_pixels)


def upsampled_thing_prob(semantic_logits: Tensor, grid: tuple[int, int], thing_ids: tuple[int, ...]) -> Tensor:
    """Return the probability of each thing at every cell of a finer grid: softmax of the upsampled logits.

    Args:
        semantic_logits: float [K, h, w], all categories; NaN counts as the lowest value.
        grid: height and width of the finer grid.
        thing_ids: categories of the result's planes.

    Returns:
        float32 [T, *grid].
    """
    logits = finite_values(semantic_logits).contiguous()
    if logits.device.type == "cpu":
        rows = cell_table(logits.shape[1], grid[0], False, grid[0])
        columns = cell_table(logits.shape[2], grid[1], False, grid[1])
        fine = logits.new_empty(len(logits), *grid)
        upsample_planes(logits.numpy(), rows, columns, fine.numpy())
    else:
        fine = upsample(logits, grid, grid, align_corners=False)
    prob: Tensor = fine.softmax(dim=0)[list(thing_ids)]
    return prob


def semantic_argmax(logits: Tensor, geometry: ImageGeometry, labels: LabelSpace, fusion: FusionConfig) -> Tensor:
    """Return the argmax over the categories that pixels without an object may have, integers [H, W].

    Args:
        logits: float [K, h, w], which are upsampled bilinearly to the padded size.
        geometry: sizes of the image; the result has its inference size.
        labels: label space, which defines things and stuff.
        fusion: fusion rules, which define those categories.
    """
    ids, sizes = fusion.semantic_ids(labels), (geometry.padded_size, geometry.inference_size)
    if len(ids) == len(labels):
        return upsampled_argmax(logits, *sizes)
    position = upsampled_argmax(logits[list(ids)], *sizes)
    return torch.tensor(ids, device=logits.device)[position.long()]


@functools.cache
def _has_triton() -> bool:
    """Return whether CUDA kernels can be compiled: most torch builds include Triton, which requires a compiler."""
    has_compiler = "CC" in os.environ or any(shutil.which(name) for name in ("gcc", "clang"))
    return importlib.util.find_spec("triton") is not None and has_compiler


def _check_masks(inputs: MaskInputs, compat: str) -> None:
    """Check that the inputs of masks match each other."""
    query, category, dense, prob, _ = inputs
    if query.ndim != 2 or query.shape[1] != 4 or list(category.shape) != [len(query)]:
        raise InvalidArgumentError(
            f"expected query as [P, 4] and a category for each, got {list(query.shape)} and {list(category.shape)}"
        )
    if dense.ndim != 4 or dense.shape[1] != 4 or 0 in dense.shape or dense.shape[2:] != prob.shape[1:]:
        raise InvalidArgumentError(
            f"expected dense as [D, 4, h, w] and prob as [T, h, w], got {list(dense.shape)} and {list(prob.shape)}"
        )
    if len(category) and not (int(category.min()) >= 0 and int(category.max()) < len(prob)):
        raise InvalidArgumentError(f"expected categories in 0..{len(prob) - 1}, got {sorted(set(category.tolist()))}")
    if compat not in ("released", "paper"):
        raise InvalidArgumentError(f'expected compat "released" or "paper", got {compat!r}')


def _check_outputs(
    outputs: DenseBoxOutputs, geometries: Sequence[ImageGeometry], labels: LabelSpace, pyramid: Pyramid
) -> None:
    """Check that outputs match each other, the sizes and the label space."""
    semantic, box_category, box, _, levelness = outputs
    if semantic.ndim != 4 or semantic.shape[1] != len(labels) or 0 in semantic.shape:
        raise InvalidArgumentError(
            f"expected semantic as [B, {len(labels)}, h, w], one plane for each category of {labels.name}, "
            f"got {list(semantic.shape)}"
        )
    batch, _, height, width = semantic.shape
    if list(box_category.shape[:2]) != [batch, len(labels.thing_ids)] or len(box) != batch:
        raise InvalidArgumentError(
            f"expected box_category as [{batch}, {len(labels.thing_ids)}, L] and box as [{batch}, 4, L], "
            f"got {list(box_category.shape)} and {list(box.shape)}"
        )
    expected = [batch, 1 + pyramid.num_levels, 2 * height, 2 * width]
    if levelness is not None and list(levelness.shape) != expected:
        raise InvalidArgumentError(f"expected levelness as {expected}, got {list(levelness.shape)}")
    if len(geometries) != batch:
        raise InvalidArgumentError(f"expected one size for each of the {batch} images, got {len(geometries)}")
