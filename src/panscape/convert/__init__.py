"""Checkpoints that authors published, read into panscape's models: every key used, every tensor filled, or an error."""

from __future__ import annotations

from pathlib import Path

from panscape.convert.dense_detections import dense_detections_key, take_pixels_as_caffe
from panscape.convert.panoptic_deeplab import (
    completed,
    has_published_layout,
    panoptic_deeplab_key,
    panoptic_deeplab_remedy,
)
from panscape.convert.reading import read_state
from panscape.convert.swiftnet import swiftnet_key
from panscape.errors import InvalidArgumentError
from panscape.models import PanopticModel
from panscape.models.dense_detections import DenseDetections
from panscape.models.panoptic_deeplab_network import PanopticDeepLab
from panscape.models.swiftnet import PanopticSwiftNet
from panscape.nn.backbones import ResNetFeatures
from panscape.zoo import fill


def load_published(model: PanopticModel, path: str | Path) -> PanopticModel:
    """Load a checkpoint in its authors' layout into a model, strictly, and return the model in eval mode.

    Args:
        model: built with the options that fit the checkpoint: ``create_model("swiftnet_r18", "cityscapes")`` for
            Panoptic SwiftNet's three-level Cityscapes weights, ``create_model("dense_detections_r50", "cityscapes")``
            for those of dense detections, ``create_model("panoptic_deeplab_r52", "cityscapes")`` for detectron2's of
            Panoptic-DeepLab (``separable=False`` for those of ordinary convolutions),
            ``create_model("panoptic_deeplab_r50", "cityscapes", form="standalone")`` for the older repository's.
            Pixel format and norms of dense detections become what the weights were trained with, also in what is
            saved of it. The model is left as it was when loading fails.
        path: a ``.pth`` file, or detectron2's ``.pkl``; only tensors or arrays and plain containers are unpickled. Of
            Panoptic-DeepLab, the norms' counters of training steps may all be absent; they become 0.

    Raises:
        UnreadableFileError: the file is missing, is not a checkpoint, holds more than tensors, or is of a network that
            takes pixels in other numbers.
        CheckpointMismatchError: keys or shapes differ; both differences are listed.
        InvalidArgumentError: no published layout is known for this model.
    """
    found = read_state(Path(path))
    if isinstance(model, PanopticSwiftNet) and isinstance(model.pyramid.levels[0], ResNetFeatures):
        remedy = "build the model with the label space, levels and context that the checkpoint was trained with"
        fill(model, found, path, remedy=remedy, rename=swiftnet_key(model))
    elif isinstance(model, DenseDetections) and isinstance(model.backbone, ResNetFeatures):
        remedy = 'build the model as create_model("dense_detections_r50", labels) with the checkpoint\'s label space'
        fill(model, found, path, remedy=remedy, rename=dense_detections_key(found))
        take_pixels_as_caffe(model)
    elif isinstance(model, PanopticDeepLab) and has_published_layout(model):
        found = completed(found, model, Path(path))
        fill(model, found, path, remedy=panoptic_deeplab_remedy(found), rename=panoptic_deeplab_key(model))
    else:
        raise InvalidArgumentError(
            f"no published checkpoint layout is known for {type(model).__name__} on this backbone or with these parts; "
            "published weights exist for swiftnet_r18, dense_detections_r50, panoptic_deeplab_r52, and "
            'panoptic_deeplab_r50 and panoptic_deeplab_mobilenetv2 with form="standalone"'
        )
    return model.eval()
