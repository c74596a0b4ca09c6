"""Networks of Hugging Face's transformers that classify masks, with the preprocessing of their authors and our maps.

Only the network is theirs. Images have the size that the authors use for the dataset, padding is removed, and queries
are merged by the rule of the authors, see docs/models/transformers.md. This module does not import transformers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.geometry import Size
from panscape.labels import LabelSpace
from panscape.models.base import InputNormalization
from panscape.models.mask_classifier import MaskClassifier
from panscape.models.prediction import require_network_input
from panscape.representations.queries import MergeRule, QueryDecoding, QueryOutputs, QueryRepresentation
from panscape.representations.queries.representation import STRIDE as OUTPUT_STRIDE
from panscape.transforms.resize import scaled

STRIDE = 32  # of the coarsest features of the backbones


@dataclass(frozen=True, slots=True)
class Family:
    """What distinguishes the networks of a paper.

    Attributes:
        name: of the system.
        rule: whose rule merges its queries.
        score_threshold: of the published configurations.
        other_thresholds: that of some datasets, by label space.
        category: name of its output of category logits.
        masks: name of its output of mask logits.
        is_square: its input is always a square of the size that it was trained with, padded with black.
        has_padding_mask: it receives which pixels are no padding.
        has_task: it receives the task as text.
        uses_source_ids: published weights have a category for each id in the dataset's files.
    """

    name: str
    rule: MergeRule
    score_threshold: float = 0.8
    other_thresholds: Mapping[str, float] | None = None
    category: str = "class_queries_logits"
    masks: str = "masks_queries_logits"
    is_square: bool = False
    has_padding_mask: bool = False
    has_task: bool = False
    uses_source_ids: bool = False

    def decoding(self, labels: LabelSpace) -> QueryDecoding:
        """Return the options of the published configuration for a label space."""
        threshold = (self.other_thresholds or {}).get(labels.name, self.score_threshold)
        return QueryDecoding(rule=self.rule, score_threshold=threshold)


FAMILIES: Mapping[str, Family] = {
    "DetrForSegmentation": Family(
        "DETR",
        "detr",
        score_threshold=0.85,
        category="logits",
        masks="pred_masks",
        has_padding_mask=True,
        uses_source_ids=True,
    ),
    "EomtDinov3ForUniversalSegmentation": Family("EoMT on DINOv3", "eomt", is_square=True),
    "EomtForUniversalSegmentation": Family("EoMT", "eomt", is_square=True),
    "Mask2FormerForUniversalSegmentation": Family("Mask2Former", "mask2former", other_thresholds={"vistas_v1.2": 0.0}),
    "MaskFormerForInstanceSegmentation": Family("MaskFormer", "maskformer", other_thresholds={"ade20k_150": 0.7}),
    "OneFormerForUniversalSegmentation": Family("OneFormer", "oneformer", has_task=True),
}
"""The families by the class of transformers."""

# Sides in inference of the published configurations, shortest and at most longest, by label space.
_SIDES: Mapping[str, tuple[int, int]] = {
    "ade20k_150": (640, 2560),
    "cityscapes": (1024, 2048),
    "coco_panoptic": (800, 1333),
    "vistas_v1.2": (2048, 2048),
}


@dataclass(frozen=True, slots=True)
class InputSize:
    """The size of images in inference.

    Attributes:
        shortest: shorter side in pixels, if the longer one allows it.
        longest: maximum of the longer side.
        exact: height and width of every image, whatever its aspect ratio; None to keep the aspect ratio.
    """

    shortest: int
    longest: int
    exact: tuple[int, int] | None = None

    @classmethod
    def published(cls, labels: LabelSpace) -> InputSize | None:
        """Return the authors' size for a dataset; None if none was published."""
        sides = _SIDES.get(labels.name)
        return None if sides is None else cls(*sides)


class TransformersModel(MaskClassifier):
    """A network of transformers as a model of panscape; :func:`panscape.load` creates it.

    :func:`panscape.save` does not save it: ``model.network.save_pretrained(folder)`` does.

    Args:
        network: of transformers, of a class of :data:`FAMILIES`.
        labels: the label space of its maps.
        size: size of images in inference.
        source: index of each category among the network's, int64 [C]; all others are "no object".
        normalization: mean and standard deviation of its input.
        task: tokens of the task for families that have one, int64 [77].

    Attributes:
        network: the network of transformers, with its configuration and weights.
        family: the paper's system.
        shortest_side: shorter side of images in inference, unless ``longest_side`` limits it.
        exact_size: height and width of every image in inference; None to keep the aspect ratio.
    """

    saving_hint: ClassVar[str] = (
        ", got a network of transformers; save it with model.network.save_pretrained(FOLDER), which panscape "
        "loads; post-processing options are not saved with it"
    )
    source: Tensor
    others: Tensor
    task: Tensor

    def __init__(
        self,
        network: nn.Module,
        labels: LabelSpace,
        size: InputSize,
        *,
        source: Sequence[int],
        normalization: InputNormalization,
        task: Sequence[int] = (),
    ) -> None:
        family = FAMILIES[type(network).__name__]
        config: Any = network.config
        super().__init__(labels, size.longest if family.is_square else STRIDE, size.longest)
        self.network = network
        self.family = family
        self.shortest_side, self.exact_size = size.shortest, size.exact
        self.representation = replace(QueryRepresentation(), decoding=family.decoding(labels))
        for values, statistic in ((self.mean, normalization.mean), (self.std, normalization.std)):
            values.copy_(torch.tensor(statistic)[:, None, None])
        rest = sorted({*range(config.num_labels + 1)} - {*source})
        self.register_buffer("source", torch.tensor(source), persistent=False)
        self.register_buffer("others", torch.tensor(rest), persistent=False)
        self.register_buffer("task", torch.tensor(task, dtype=torch.int64), persistent=False)

    def inference_size(self, size: tuple[int, int]) -> Size:
        """Return the size at which an image of ``size`` enters the network: that of its authors."""
        if self.exact_size is not None:
            return Size(*self.exact_size)
        scale = self.test_scale * self.shortest_side / min(size)
        if self.longest_side is not None:
            scale = min(scale, self.longest_side / max(size))
        return scaled(Size(*size), scale)

    def preprocess(self, images: Tensor) -> Tensor:
        """Normalise images and pad them at the right and bottom; see :meth:`PanopticModel.preprocess`.

        Families with a fixed input are padded to it with black, before the normalisation, as by their authors.

        Raises:
            InvalidArgumentError: they are not the input of a network, or larger than the fixed input.
        """
        if not self.family.is_square:
            pixels = super().preprocess(images)
            # Group normalisation refuses a single cell of the coarsest features.
            return F.pad(pixels, (0, max(0, 2 * STRIDE - pixels.shape[3])))
        require_network_input(images)
        (height, width), side = images.shape[-2:], self.stride
        if max(height, width) > side:
            raise InvalidArgumentError(
                f"expected images of at most {side}x{side} pixels, the input of this {self.family.name}, got "
                f"{height}x{width}; omit the maximum size (--max-size, longest_side), or give at most {side}"
            )
        images = F.pad(images, (0, side - width, 0, side - height))
        return ((images - self.mean) / self.std).to(self.mean.dtype)

    def forward(self, images: Tensor) -> QueryOutputs:
        """Map images, float [B, 3, H, W] in 0..1, to the outputs of the last decoder layer.

        Raises:
            InvalidArgumentError: the network's masks are not at a quarter of the padded size.
        """
        pixels = self.preprocess(images)
        inputs: dict[str, Tensor] = {}
        if self.family.has_padding_mask:
            (height, width), (rows, columns) = images.shape[-2:], pixels.shape[-2:]
            is_image = torch.ones(len(images), height, width, dtype=torch.int64, device=images.device)
            inputs["pixel_mask"] = F.pad(is_image, (0, columns - width, 0, rows - height))
        if self.family.has_task:
            inputs["task_inputs"] = self.task.expand(len(images), -1)
        found = self.network(pixel_values=pixels, **inputs)
        category, masks = getattr(found, self.family.category), getattr(found, self.family.masks)
        expected = tuple(side // OUTPUT_STRIDE for side in pixels.shape[-2:])
        if tuple(masks.shape[-2:]) != expected:
            raise InvalidArgumentError(
                f"expected masks of {expected[0]}x{expected[1]} from an input of {pixels.shape[2]}x{pixels.shape[3]}, "
                f"got {masks.shape[2]}x{masks.shape[3]}; only networks with masks at stride {OUTPUT_STRIDE} are read"
            )
        return QueryOutputs(self._in_label_order(category), masks)

    def _in_label_order(self, logits: Tensor) -> Tensor:
        """Return category logits in the order of the label space; others are added to "no object"."""
        return torch.cat([logits[..., self.source], logits[..., self.others].logsumexp(2, keepdim=True)], 2)

    def extra_repr(self) -> str:
        """Return family, label space and size, for ``print``."""
        size = f"{self.shortest_side} to {self.longest_side}" if self.exact_size is None else f"{self.exact_size}"
        return f"{self.family.name}, {self.labels.name}, {size} pixels"
