"""PISR: attention that adds the context of all categories and objects of an image to features.

The panoptic relational attention of *Panoptic, Instance, and Semantic Relations: A Relational Context Encoder to
Enhance Panoptic Segmentation* (Borse, Park, Cai, Das, Garrepalli, Porikli, CVPR 2022), written from the paper; its
authors have published no code. Where the paper is silent or contradicts itself, :class:`PISR` has an argument, and its
docstring gives the reason.

This file does not depend on the representation of objects: each object is a heatmap.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, Literal, cast

import torch
from torch import Tensor, nn

from panscape.constraints import PositiveInt, check_fields
from panscape.errors import InvalidArgumentError
from panscape.nn.blocks import conv_norm_relu


@dataclass(frozen=True, slots=True)
class Relations(ABC):
    """Options of a relation module, which a model's constructor takes and saves; base class.

    Attributes:
        num_instances: K, the number of most confident objects that are used; 1 or more. The paper shows only that its
            gain flattens out as K grows (Figure 9); 50 is one interpretation, as any of 10 to 100 would be.
        detach_guidance: stop gradients from the relations into the first stage's predictions. The paper trains "end to
            end", so they flow by default.

    Raises:
        InvalidArgumentError: a value is out of its range.
    """

    num_instances: PositiveInt = 50
    detach_guidance: bool = False

    def __post_init__(self) -> None:
        check_fields(self)

    @abstractmethod
    def build(self, channels: int, num_categories: int) -> RelationModule:
        """Return the module for features of ``channels`` channels and ``num_categories`` categories."""


class RelationModule(nn.Module, ABC):
    """Base of the modules that relate features to categories and objects.

    Args:
        part: the options of the module.
        channels: C, channels of the features.
        num_categories: N.
        num_added: additional channels of the result, after those of the features.

    Attributes:
        channels: C.
        out_channels: channels of the result: first the C channels of the features, then the additional ones.
        uses_instances: whether the result depends on objects; if not, zero heatmaps may be passed.
        is_semantic_only: whether the result is for the semantic branch alone, and the instance branch is unchanged.
    """

    uses_instances: ClassVar[bool] = True
    is_semantic_only: ClassVar[bool] = False

    def __init__(self, part: Relations, channels: int, num_categories: int, num_added: int = 0) -> None:
        super().__init__()
        if channels < 1 or num_categories < 1:
            raise InvalidArgumentError(
                f"expected at least one channel and one category, got {channels} and {num_categories}"
            )
        self.channels = channels
        self.out_channels = channels + num_added
        self.num_categories = num_categories
        self.num_instances = part.num_instances
        self.detach_guidance = part.detach_guidance

    @property
    def num_heatmaps(self) -> int | None:
        """How many heatmaps it takes; None for any number."""
        return self.num_instances if self.uses_instances else None

    def forward(
        self, features: Tensor, semantic_prob: Tensor, instances: Tensor, valid: Tensor | None = None
    ) -> Tensor:
        """Relate features to categories and objects.

        Args:
            features: [B, C, h, w].
            semantic_prob: probabilities of the categories at each place, [B, N, h, w].
            instances: heatmaps of the objects in 0..1, the most confident first, [B, K, h, w]; all zero where there are
                fewer.
            valid: which places belong to the image, bool [B or 1, 1, h, w]; the rest is padding and is ignored. None
                if there is no padding.

        Returns:
            Features [B, ``out_channels``, h, w]; arbitrary on padding.

        Raises:
            InvalidArgumentError: the shapes contradict each other.
        """
        self._check(features, semantic_prob, instances, valid)
        if self.detach_guidance:
            semantic_prob, instances = semantic_prob.detach(), instances.detach()
        if valid is not None:
            semantic_prob, instances = (x.masked_fill(~valid, 0) for x in (semantic_prob, instances))
        return self.relate(features, semantic_prob, instances, valid)

    @abstractmethod
    def relate(self, features: Tensor, semantic_prob: Tensor, instances: Tensor, valid: Tensor | None) -> Tensor:
        """Implement :meth:`forward`, given probabilities and heatmaps that are zero on padding."""

    def _check(self, features: Tensor, semantic_prob: Tensor, instances: Tensor, valid: Tensor | None) -> None:
        if features.ndim != 4:
            raise InvalidArgumentError(f"expected features as [B, {self.channels}, h, w], got {list(features.shape)}")
        batch, _, height, width = features.shape
        num_heatmaps = self.num_heatmaps
        for name, part, planes in (
            ("features", features, self.channels),
            ("semantic_prob", semantic_prob, self.num_categories),
            ("instances", instances, instances.shape[1] if num_heatmaps is None else num_heatmaps),
        ):
            if tuple(part.shape) != (batch, planes, height, width):
                raise InvalidArgumentError(
                    f"expected {name} as {[batch, planes, height, width]} to go with features {list(features.shape)}, "
                    f"got {list(part.shape)}"
                )
        if valid is None:
            return
        shapes = (1, 1, height, width), (batch, 1, height, width)
        if valid.dtype != torch.bool or tuple(valid.shape) not in shapes:
            raise InvalidArgumentError(
                f"expected valid as bool {[batch, 1, height, width]}, or the first 1, got {valid.dtype} "
                f"{list(valid.shape)}"
            )


@dataclass(frozen=True, slots=True)
class PISR(Relations):
    """Panoptic relational attention over encodings of categories and objects (Sections 3.2 to 3.4).

    Every category and every object is represented by one vector, its encoding: the mean of the features under its map.
    Encodings are weighted by their importance; then each place attends to them by its similarity to each of them.

    Attributes:
        num_instances: number of most confident objects that are used.
        detach_guidance: stop gradients from the relations into the first stage's predictions.
        key_width: C', number of channels of the attention's keys and queries. The paper varies it (Figure 8) without
            naming a value; 256 with K of 10 to 50 matches the operations it reports for Panoptic-DeepLab.
        reweighting: multiply each encoding by its predicted importance (Section 3.3); False is the row "without
            reweighting" of Table 5.
        reweighting_width: hidden channels of the "small 2-layer fully-connected network" that predicts the importance;
            the paper gives no size. None is a quarter of the features' channels.
        normalization: divisor of sums over places. The formula ``S F^T`` has no divisor ("none"), so that encodings
            grow with the image; "mass" divides by the map's sum plus one place, which damps categories that are hardly
            present; "pixels" divides by the number of places.
        residual: add the result to the features, through a last norm initialised to zero, so that training starts from
            the network without relations. False follows the formula literally: the result replaces the features.
        scaled: divide similarities by the square root of ``key_width``. The formula does not, but values grow large
            then.
        softmax: apply a softmax over encodings at each place. The formula has none.
        depthwise: replace g_p by scales. Read literally, g_p is a 1x1 convolution over categories and objects, which
            mixes them and ties the weights to K, though an object's index is only its rank. True scales each category
            by a parameter of its own and all objects by a common one; K can then be changed without training.
        encoding_norm: norms of the convolutions on encodings, which the paper does not specify: "batch" over batch,
            categories and objects, which also works for a batch of one; or "layer", over the channels of each encoding.

    Raises:
        InvalidArgumentError: a value is out of its range.
    """

    key_width: PositiveInt = 256
    reweighting: bool = True
    reweighting_width: PositiveInt | None = None
    normalization: Literal["mass", "none", "pixels"] = "mass"
    residual: bool = True
    scaled: bool = True
    softmax: bool = False
    depthwise: bool = False
    encoding_norm: Literal["batch", "layer"] = "batch"

    def build(self, channels: int, num_categories: int) -> PISRModule:
        """See :meth:`Relations.build`."""
        return PISRModule(self, channels, num_categories)


class PISRModule(RelationModule):
    """The module of :class:`PISR`; P = N + K categories and objects.

    Args:
        part: its options.
        channels: C, channels of the features and of the result.
        num_categories: N.
    """

    def __init__(self, part: PISR, channels: int, num_categories: int) -> None:
        super().__init__(part, channels, num_categories)
        self.part = part
        hidden = part.reweighting_width or max(1, channels // 4)
        self.importance = (
            nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, 1)) if part.reweighting else None
        )
        norm = ChannelNorm if part.encoding_norm == "layer" else nn.BatchNorm2d
        self.place_key = conv_norm_relu(channels, part.key_width, 3)  # h
        self.encoding_key = conv_norm_relu(channels, part.key_width, 1, norm=norm)  # g_s
        self.encoding_value = conv_norm_relu(channels, channels, 1, norm=norm)  # g_q
        num_rows = num_categories + part.num_instances
        self.mix = SimilarityNorm(num_categories) if part.depthwise else conv_norm_relu(num_rows, num_rows, 1)  # g_p
        self.norm = nn.BatchNorm2d(channels)
        if part.residual:
            nn.init.zeros_(self.norm.weight)

    @property
    def num_heatmaps(self) -> int | None:
        """How many heatmaps it takes; None for any number."""
        return None if self.part.depthwise else self.num_instances

    def encodings(self, features: Tensor, maps: Tensor, valid: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Pool the features under each map (Section 3.2).

        Args:
            features: [B, C, h, w], zero on padding.
            maps: maps of categories and objects, zero on padding, [B, P, h, w].
            valid: which places belong to the image, as in :meth:`forward`.

        Returns:
            Encodings [B, P, C] of at least float32; and which maps are not zero everywhere, bool [B, P].
        """
        sums, mass = mask_pool(maps, features)
        if self.part.normalization == "mass":
            sums = sums / (mass + 1)
        elif self.part.normalization == "pixels":
            num_places = maps.shape[2] * maps.shape[3] if valid is None else valid.sum((1, 2, 3))[:, None, None]
            sums = sums / num_places
        return sums, mass[..., 0] > 0

    def weights(self, encodings: Tensor) -> Tensor:
        """Return the importance of each encoding [B, P, C] in 0..1 (Section 3.3), [B, P, 1]; 1 without reweighting."""
        if self.importance is None:
            return torch.ones_like(encodings[..., :1])
        return torch.sigmoid(cast(Tensor, self.importance(encodings)))

    def relate(self, features: Tensor, semantic_prob: Tensor, instances: Tensor, valid: Tensor | None) -> Tensor:
        """See :meth:`RelationModule.forward`."""
        batch, _, height, width = features.shape
        shown = features if valid is None else features.masked_fill(~valid, 0)
        encodings, is_present = self.encodings(shown, torch.cat([semantic_prob, instances], dim=1), valid)
        with _without_autocast(features.device.type):  # sums without a divisor exceed the range of half precision
            encodings = encodings.to(self.norm.weight.dtype)
            if self.importance is not None:
                encodings = encodings * self.weights(encodings)
            keys, values = (  # [B, C', P], [B, C, P]
                apply_to_present(layers, encodings[..., None], is_present)[..., 0].transpose(
                    1, 2
                )  # [B, C', P], [B, C, P]
                for layers in (self.encoding_key, self.encoding_value)
            )
        keys, values = keys.to(features.dtype), values.to(features.dtype)
        if self.part.scaled:
            keys = keys * self.part.key_width**-0.5
        similarity = keys.transpose(1, 2) @ self.place_key(shown).flatten(2)  # F_sp, [B, P, h w]
        if self.part.softmax:
            similarity = similarity.masked_fill(~is_present[..., None], -torch.inf).softmax(1)
        similarity = similarity.unflatten(2, (height, width))
        mixed = self.mix(similarity, is_present) if isinstance(self.mix, SimilarityNorm) else self.mix(similarity)
        related = self.norm((values @ mixed.flatten(2)).view(batch, -1, height, width))  # F_pan
        return cast(Tensor, features + related if self.part.residual else related)


class SimilarityNorm(nn.Module):
    """BatchNorm and ReLU of maps, with one scale for each category and one for all objects.

    A scale before a norm would have no effect, so the norm's own scale is used.

    Args:
        num_categories: N.
    """

    def __init__(self, num_categories: int) -> None:
        super().__init__()
        self.num_categories = num_categories
        self.categories = nn.BatchNorm2d(num_categories)
        self.objects = nn.BatchNorm2d(1)

    def forward(self, x: Tensor, is_present: Tensor) -> Tensor:
        """Map [B, N + K, h, w] to the same shape, for any K; ``is_present``, bool [B, N + K], marks non-zero maps."""
        of_categories, of_objects = x[:, : self.num_categories], x[:, self.num_categories :]
        objects = of_objects.flatten(2)[:, :, None]  # one channel, as all objects have one scale
        scaled = apply_to_present(self.objects, objects, is_present[:, self.num_categories :]).view_as(of_objects)
        return torch.cat([self.categories(of_categories), scaled], dim=1).relu()


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of each place of a map [B, C, h, w]."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name that LayerNorm gives it
        """Map [B, C, h, w] to the same shape."""
        return super().forward(input.movedim(1, -1)).movedim(-1, 1)


def apply_to_present(layers: nn.Module, rows: Tensor, is_present: Tensor) -> Tensor:
    """Apply layers to the present rows only; other rows are zero and do not enter the statistics of norms.

    Args:
        layers: layers on maps [B, C, h, w] that treat each place independently.
        rows: P rows of L places for each image, [B, P, C, L].
        is_present: bool [B, P].

    Returns:
        [B, P, C', L].
    """
    # A norm over a single place would have no variance, and over none no mean.
    if layers.training and int(is_present.sum()) * rows.shape[-1] > 1:
        made: Tensor = layers(rows[is_present].transpose(0, 1)[None])[0].transpose(0, 1)
        result = made.new_zeros(*is_present.shape, *made.shape[1:])
        result[is_present] = made
        return result
    made = layers(rows.transpose(1, 2)).transpose(1, 2)
    return made.masked_fill(~is_present[..., None, None], 0)  # norms map zero rows to non-zero values


def mask_pool(maps: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
    """Return the sums of features times maps over all places, and the sums of the maps.

    Both are of at least float32, also under autocast: half precision ends at 65504, and an image can have more places.

    Args:
        maps: [B, P, h, w].
        features: [B, C, h, w].

    Returns:
        Tensors [B, P, C] and [B, P, 1].
    """
    dtype = torch.promote_types(torch.promote_types(maps.dtype, features.dtype), torch.float32)
    with _without_autocast(features.device.type):
        weights = maps.to(dtype).flatten(2)
        return weights @ features.to(dtype).flatten(2).transpose(1, 2), weights.sum(2, keepdim=True)


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Return a context without autocast; a null context where it is off, as exported graphs would keep it."""
    if device_type != "meta" and torch.is_autocast_enabled(device_type):  # meta tensors do not support autocast
        return torch.autocast(device_type, enabled=False)
    return nullcontext()
