"""The network of Panoptic-DeepLab in both published forms.

The forms, and their differences from the paper, are described at the top of ``panoptic_deeplab.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.geometry import round_up
from panscape.labels import LabelSpace
from panscape.models.center_model import CenterModel
from panscape.models.panoptic_deeplab_decoder import DeepLabDecoder, head, initialize
from panscape.models.pisr import second_head, valid_cells
from panscape.nn.aspp import ASPP
from panscape.nn.backbones import Backbone
from panscape.nn.pisr import Relations
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.representations.centers import CenterOutputs, CenterRepresentation

_OUTPUT_STRIDE = 4
_RATES = {16: (6, 12, 18), 32: (3, 6, 9)}  # dilations of the ASPP, by the stride of its features


class PanopticDeepLab(CenterModel):
    """The Panoptic-DeepLab model.

    Args:
        labels: the label space; the semantic head has one channel per category.
        backbone: features at strides 4 to 16 or 32.
        form: the published implementation to follow, "detectron2" or "standalone".
        separable: use separable convolutions; otherwise ordinary ones. In the standalone form, those of the ASPP are
            ordinary either way.
        decoder_width: channels of the semantic decoder and its head.
        instance_width: channels of the decoder of centres and offsets.
        pyramid_width: channels of the ASPP's branches, in both decoders.
        head_width: channels of the heads of centres and offsets.
        projections: channels of the finer features in the semantic decoder, coarse to fine.
        instance_projections: the same in the other decoder.
        context_size: height and width in pixels of the window of image pooling; None for the whole image.
        size_divisibility: images are padded to multiples of this; None for the backbone's last stride.
        dropout: dropout probability after the ASPP.
        representation: targets, losses and post-processing.
        relations: relations between the features of both decoders and the predictions of the heads, which are then a
            first stage; separate heads predict the outputs. None for the published network.
        instance_maps: options of the relations' instance heatmaps; None for the defaults, with the NMS window of
            post-processing.
        longest_side, test_scale: see :class:`~panscape.models.PanopticModel`.

    Raises:
        InvalidArgumentError: the representation's ``loss_stride`` does not divide 4 or, in the standalone form, is not
            1; the backbone's last stride is not 16 or 32; or the number of projections differs from the number of
            features finer than the coarsest.
    """

    def __init__(
        self,
        labels: LabelSpace,
        backbone: Backbone,
        *,
        form: Literal["detectron2", "standalone"],
        separable: bool,
        decoder_width: int,
        instance_width: int,
        pyramid_width: int,
        head_width: int,
        projections: tuple[int, ...],
        instance_projections: tuple[int, ...],
        context_size: tuple[int, int] | None,
        size_divisibility: int | None,
        dropout: float,
        representation: CenterRepresentation,
        relations: Relations | None = None,
        instance_maps: CenterInstanceMaps | None = None,
        longest_side: int | None = None,
        test_scale: float = 1.0,
    ) -> None:
        stride = backbone.strides[-1]
        divisibility = size_divisibility or stride
        super().__init__(labels, divisibility, representation, _OUTPUT_STRIDE, longest_side, test_scale)
        self.form = form
        is_standalone = form == "standalone"
        if is_standalone and representation.loss_stride != 1:
            raise InvalidArgumentError(
                "expected a representation with loss_stride=1 in the standalone form, whose sides are one more than a "
                f"multiple of {stride}, got {representation.loss_stride}"
            )
        if stride not in _RATES:
            raise InvalidArgumentError(f"expected a backbone whose last stride is 16 or 32, got {stride}")
        skips = [stage for stage in (2, 1, 0) if backbone.strides[stage] < stride]
        if not len(projections) == len(instance_projections) == len(skips):
            raise InvalidArgumentError(
                f"expected {len(skips)} projections in each decoder, for features at strides "
                f"{[backbone.strides[stage] for stage in skips]}, got {projections} and {instance_projections}"
            )
        self.backbone = cast(nn.Module, backbone)

        def decoder(width: int, widths: tuple[int, ...]) -> DeepLabDecoder:
            pyramid = _context(backbone, pyramid_width, context_size, dropout, separable, is_standalone)
            return DeepLabDecoder(
                backbone.channels,
                skips,
                widths,
                pyramid,
                pyramid_width=pyramid_width,
                width=width,
                separable=separable,
                skip_first=not is_standalone,
                align_corners=is_standalone,
            )

        def semantic(channels: int) -> nn.Sequential:
            return head(channels, decoder_width, decoder_width, len(labels), separable)

        def center(channels: int) -> nn.Sequential:
            return head(channels, instance_width, head_width, 1, separable and is_standalone)

        def offset(channels: int) -> nn.Sequential:
            return head(channels, instance_width, head_width, 2, separable)

        def initialized(build: Callable[[int], nn.Module]) -> Callable[[int], nn.Module]:
            return lambda channels: initialize(build(channels), form)

        self.semantic_decoder = decoder(decoder_width, projections)
        self.instance_decoder = decoder(instance_width, instance_projections)
        self.semantic = semantic(decoder_width)
        self.center = center(instance_width)
        self.offset = offset(instance_width)
        for module in (self.semantic_decoder, self.instance_decoder, self.semantic, self.center, self.offset):
            initialize(module, form)
        both = decoder_width + instance_width
        self.relations = self.relate(relations, both, instance_maps, semantic_channels=decoder_width)
        if self.relations is not None:
            of_semantic, of_instances = self.relations.semantic_width, self.relations.instance_width
            self.refined_semantic = second_head(self.semantic, decoder_width, of_semantic, initialized(semantic))
            self.refined_center = second_head(self.center, instance_width, of_instances, initialized(center))
            self.refined_offset = second_head(self.offset, instance_width, of_instances, initialized(offset))
        if is_standalone:
            for norm in (m for m in self.modules() if isinstance(m, nn.BatchNorm2d)):
                norm.momentum = 0.01

    def forward(self, images: Tensor) -> CenterOutputs:
        """Map images, float [B, 3, H, W] in 0..1, to outputs at a quarter of the padded size.

        With relations, in training, they include the outputs of the first stage, to which the losses apply as well.
        """
        size = (images.shape[-2], images.shape[-1])
        features = self.backbone(self._padded(self.preprocess(images), size))
        of_semantic, of_instances = self.semantic_decoder(features), self.instance_decoder(features)
        first = self.named(self.semantic(of_semantic), self.center(of_instances), self.offset(of_instances))
        if self.relations is None:
            return first
        both = torch.cat([of_semantic, of_instances], dim=1)
        valid = valid_cells(size, both, _OUTPUT_STRIDE)
        return self.second_stage(first, *self.relations(both, first, valid))

    def padded_size(self, outputs: CenterOutputs) -> tuple[int, int]:
        """Return the height and width of the padded input of these outputs."""
        if self.form == "detectron2":
            return super().padded_size(outputs)
        height, width = outputs.semantic.shape[-2:]
        return (height - 1) * _OUTPUT_STRIDE + 1, (width - 1) * _OUTPUT_STRIDE + 1

    def _padded(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Pad preprocessed images to one pixel more than a multiple of the stride, if the form requires it.

        Cells then lie on the pixels 0, 4, 8 and so on, the first and the last of them in the corners, as aligned
        corners assume.
        """
        if self.form == "detectron2":
            return images
        rows, columns = (round_up(side - 1, self.stride) + 1 for side in size)
        return F.pad(images, (0, columns - images.shape[-1], 0, rows - images.shape[-2]))

    @property
    def backbones(self) -> tuple[str, ...]:
        """The backbone, without the decoders."""
        return ("backbone",)

    def backbone_parameters(self) -> Iterator[nn.Parameter]:
        """Return the parameters of the backbone, for a separate learning rate."""
        return self.backbone.parameters()


def _context(
    backbone: Backbone,
    width: int,
    size: tuple[int, int] | None,
    dropout: float,
    separable: bool,
    is_standalone: bool,
) -> ASPP:
    stride = backbone.strides[-1]
    return ASPP(
        backbone.channels[-1],
        width,
        _RATES[stride],
        separable=separable and not is_standalone,
        window=None if size is None else (-(-size[0] // stride), -(-size[1] // stride)),
        window_bias=not is_standalone,
        align_corners=is_standalone,
        dropout=dropout,
    )
