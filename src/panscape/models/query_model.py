"""The base of networks that classify masks: a backbone, a pixel decoder and a decoder of queries."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from panscape.constraints import BelowOne, PositiveInt, check_fields
from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.models.mask_classifier import MaskClassifier
from panscape.models.pisr import refined_head, valid_cells
from panscape.models.pisr_panels import relation_panels
from panscape.models.pisr_queries import QueryRelations
from panscape.models.variants import Model, ModelConfig
from panscape.nn.backbones import Backbone
from panscape.nn.pisr import Relations
from panscape.nn.pixel_decoder import PixelDecoder
from panscape.nn.query_decoder import QueryDecoder, mask_embedding
from panscape.representations.queries import QueryDecoding, QueryOutputs, QueryRepresentation
from panscape.representations.queries.representation import STRIDE as OUTPUT_STRIDE

PUBLISHED: Mapping[str, QueryRepresentation] = {
    "ade20k_150": QueryRepresentation(decoding=QueryDecoding(score_threshold=0.7)),
    "coco_panoptic": QueryRepresentation(),
}
"""Settings of MaskFormer's released configurations, by label space."""

STRIDE = 32  # of the coarsest features of the backbone


@dataclass(frozen=True, kw_only=True)
class QueryModelConfig(ModelConfig[Model]):
    """Options of every network that classifies masks; the widths and numbers are MaskFormer's.

    Attributes:
        width: Channels of queries, mask features and pixel decoder.
        num_queries: Number of queries, the maximum number of segments.
        decoder_layers: Layers of the transformer decoder.
        hidden_width: Channels of the hidden layers of transformers.
        num_heads: Heads of attention.
        dropout: Dropout probability of transformers.
        relations: Relations that add the context of categories and objects to the mask features, for example
            ``PISR()``; the predictions of the queries are then a first stage, and separate heads predict the outputs.
            None for the published network.

    Raises:
        InvalidArgumentError: a value is out of range, or the width is not a multiple of 4 and of the heads.
    """

    width: PositiveInt = 256
    num_queries: PositiveInt = 100
    decoder_layers: PositiveInt = 6
    hidden_width: PositiveInt = 2048
    num_heads: PositiveInt = 8
    dropout: BelowOne = 0.1
    relations: Relations | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.width % 4 or self.width % self.num_heads:
            raise InvalidArgumentError(
                f"expected a width that is a multiple of 4 and of num_heads={self.num_heads}, got {self.width}; "
                "change one of them"
            )


class QueryModel(MaskClassifier):
    """A network that classifies masks.

    Args:
        labels: the label space.
        backbone: features at strides 4 to 32.
        pixel_decoder: maps them to features for masks and queries.
        representation: targets, losses and post-processing; None for the published values for the label space.
        config: all other options.
        mask_kernel: side of the kernel of the convolution from fine features to mask features.

    Attributes:
        relations: the relations between the stages, in networks with a second stage, whose heads have the prefix
            ``refined_``; None in others.
    """

    relations: QueryRelations | None

    def __init__(
        self,
        labels: LabelSpace,
        backbone: Backbone,
        pixel_decoder: PixelDecoder,
        representation: QueryRepresentation | None,
        config: QueryModelConfig[Any],
        *,
        mask_kernel: int = 3,
    ) -> None:
        super().__init__(labels, STRIDE, config.longest_side, config.test_scale)
        self.representation = representation or PUBLISHED.get(labels.name, QueryRepresentation())
        self.backbone = cast(nn.Module, backbone)
        self.pixel_decoder = cast(nn.Module, pixel_decoder)
        self.query_decoder = QueryDecoder(
            len(labels),
            pixel_decoder.memory_width,
            pixel_decoder.width,
            config.width,
            num_queries=config.num_queries,
            num_layers=config.decoder_layers,
            hidden=config.hidden_width,
            dropout=config.dropout,
            num_heads=config.num_heads,
            mask_kernel=mask_kernel,
        )
        self.relations = None
        if config.relations is not None:
            width, decoder = config.width, self.query_decoder
            self.relations = QueryRelations(config.relations, width, labels)
            self.refined_category = copy.deepcopy(decoder.category)
            channels = self.relations.related.out_channels
            self.refined_mask = refined_head(decoder.mask, width, channels, lambda n: mask_embedding(width, n))

    def forward(self, images: Tensor) -> QueryOutputs:
        """Map images, float [B, 3, H, W] in 0..1, to outputs at stride 4 of the padded size.

        Outputs of the earlier decoder layers, and with relations those of the first stage, are there in training only
        (decision 0018).
        """
        features = self.pixel_decoder(self.backbone(self.preprocess(images)))
        found = self.query_decoder(features, all_layers=self.training)
        first = QueryOutputs(found.category[-1], found.masks[-1])
        if self.training:
            first = first._replace(
                auxiliary_category_logits=found.category[:-1], auxiliary_mask_logits=found.masks[:-1]
            )
        if self.relations is None:
            return first
        valid = valid_cells((images.shape[2], images.shape[3]), found.mask_features, OUTPUT_STRIDE)
        related = self.relations(found.mask_features, *first.tensors, valid)
        masks = torch.einsum("bqc,bchw->bqhw", self.refined_mask(found.queries), related)
        second = QueryOutputs(self.refined_category(found.queries), masks)
        return second._replace(first_stage=first) if self.training else second

    @property
    def weight_copies(self) -> Mapping[str, str]:
        """Maps heads of a second stage to the first stage's heads of the same shapes."""
        if self.relations is None:
            return {}
        copies = {"refined_category": "query_decoder.category"}
        if self.relations.related.out_channels == self.relations.related.channels:
            copies["refined_mask"] = "query_decoder.mask"
        return copies

    def visualize_features(self, images: Tensor, size: tuple[int, int], categories: Sequence[int]) -> dict[str, Tensor]:
        """Visualise the effect of relations on the mask features, see :mod:`panscape.models.pisr_panels`."""
        return relation_panels(
            self,
            None if self.relations is None else self.relations.related,
            images,
            size,
            categories,
            padded_size=self.representation.padded_size,
        )

    @property
    def backbones(self) -> tuple[str, ...]:
        """The backbone, without the decoders."""
        return ("backbone",)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the backbone, for a separate learning rate."""
        return self.backbone.parameters()
