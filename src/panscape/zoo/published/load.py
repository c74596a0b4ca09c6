"""Load published checkpoints strictly into panscape's models: any unused key or missing tensor is an error."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from panscape.errors import InvalidArgumentError
from panscape.input_files import to_path
from panscape.labels import Category, LabelSpace
from panscape.models import PanopticModel, create_model
from panscape.models.dense_detections import DenseDetections
from panscape.models.panoptic_deeplab import PanopticDeepLab
from panscape.models.swiftnet import PanopticSwiftNet
from panscape.nn.backbones import ResNetFeatures
from panscape.zoo.published.backbones import backbone_state, is_backbone, load_backbone
from panscape.zoo.published.dense_detections import dense_detections_key, use_released_normalization
from panscape.zoo.published.identify import PublishedNetwork, identify
from panscape.zoo.published.panoptic_deeplab import (
    fill_missing_counters,
    has_published_layout,
    mismatch_hint,
    panoptic_deeplab_key,
)
from panscape.zoo.published.read import read_checkpoint
from panscape.zoo.published.swiftnet import swiftnet_key
from panscape.zoo.transfer import load_strict, unique_state_dict

_logger = logging.getLogger(__name__)

# The datasets that networks were published for, by number of categories, and the maximum side in inference.
_PUBLISHED_FOR = {19: ("cityscapes", 2048), 133: ("coco_panoptic", 640), 65: ("vistas_v1.2", 2048)}


def load_published(model: PanopticModel, path: str | os.PathLike[str]) -> PanopticModel:
    """Load a checkpoint in its authors' layout into a model, strictly, and return the model in eval mode.

    Args:
        model: built with the options that match the checkpoint: ``create_model("swiftnet_r18", "cityscapes")`` for
            Panoptic SwiftNet's three-level Cityscapes weights, ``create_model("dense_detections_r50", "cityscapes")``
            for those of dense detections, ``create_model("panoptic_deeplab_r52", "cityscapes")`` for detectron2's of
            Panoptic-DeepLab (``separable=False`` for those with ordinary convolutions),
            ``create_model("panoptic_deeplab_r50", "cityscapes", compat="standalone")`` for the older repository's.
            For the weights of a backbone alone, any model on such a backbone; heads and decoders stay unchanged.
            Input normalisation and norms of dense detections are set to those of the weights, and saved with the
            model. The model stays unchanged if loading fails.
        path: a ``.pth`` file, or detectron2's ``.pkl``; only tensors or arrays and plain containers are unpickled. For
            Panoptic-DeepLab, the norms' counters of training steps may all be missing; they become 0. Files of
            backbones alone are those of timm's and torchvision's classification networks (``.pth``, ``.safetensors``),
            and detectron2's ``R-52.pkl`` and ``R-103.pkl``.

    Raises:
        UnreadableFileError: the file is missing, is not a checkpoint, contains more than tensors, or is from a network
            with another input normalisation.
        CheckpointMismatchError: keys or shapes differ; both differences are listed.
        InvalidArgumentError: no published layout is known for this model.
    """
    path = to_path(path)
    _load(model, read_checkpoint(path), path)
    return model.eval()


def _load(model: PanopticModel, found: Mapping[str, Tensor], path: Path) -> None:
    if is_backbone(found) or _is_caffe2(found):
        load_backbone(model, found, path)
    elif isinstance(model, PanopticSwiftNet) and isinstance(model.pyramid.levels[0], ResNetFeatures):
        remedy = "build the model with the label space, levels and context that the checkpoint was trained with"
        load_strict(model, found, path, remedy=remedy, rename=swiftnet_key(model))
    elif isinstance(model, DenseDetections) and isinstance(model.backbone, ResNetFeatures):
        remedy = 'build the model as create_model("dense_detections_r50", labels) with the checkpoint\'s label space'
        load_strict(model, found, path, remedy=remedy, rename=dense_detections_key(found))
        use_released_normalization(model)
    elif isinstance(model, PanopticDeepLab) and has_published_layout(model):
        found = fill_missing_counters(found, model, path)
        load_strict(model, found, path, remedy=mismatch_hint(found), rename=panoptic_deeplab_key(model))
    else:
        raise InvalidArgumentError(
            f"no published checkpoint layout is known for {type(model).__name__} on this backbone or with these parts; "
            "published weights exist for swiftnet_r18, dense_detections_r50, panoptic_deeplab_r52, and "
            'panoptic_deeplab_r50 and panoptic_deeplab_mobilenetv2 with compat="standalone"'
        )


def create_published(
    path: str | os.PathLike[str],
    labels: LabelSpace | str | None = None,
    *,
    model: str | None = None,
) -> PanopticModel:
    """Build the network of a published checkpoint and load the checkpoint strictly; the identified network is logged.

    Args:
        path: as for :func:`load_published`; a complete network.
        labels: a label space, or the name or path of one; by default that of Cityscapes, COCO panoptic or Mapillary
            Vistas 1.2, for which networks were published, by the number of categories.
        model: name for :func:`panscape.create_model`; by default identified by the names of the tensors.

    Returns:
        The model, in eval mode. With the default label space, larger images are downscaled to the published size in
        inference.

    Raises:
        UnreadableFileError: see :func:`load_published`; or the names are not those of a published network.
        CheckpointMismatchError: keys or shapes differ; both differences are listed.
        InvalidArgumentError: the label space has another number of categories, or must be given.
        UnknownNameError: no model or label space has this name.
    """
    path = to_path(path)
    found = read_checkpoint(path)
    network = identify(found, path)
    space, longest_side = _label_space(network, labels, path)
    if model is None or model == network.model:
        name, options = network.model, network.options
    else:
        name, options = model, {}
    if longest_side is not None:
        options = options | {"longest_side": longest_side}
    result = create_model(name, space, **options)
    _load(result, found, path)
    given = ", ".join(f"{option}={value!r}" for option, value in options.items())
    settings = f" ({given})" if given else ""
    _logger.info("%s: %s%s, %d categories of %s", path.name, name, settings, len(space), space.name)
    return result.eval()


def published_state(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a published checkpoint under the names of our models, independently of label spaces.

    Args:
        path: as for :func:`load_published`. The names of a backbone alone get the prefix "backbone.".

    Raises:
        UnreadableFileError: see :func:`create_published`.
        CheckpointMismatchError: keys or shapes differ from the published ones.
    """
    found = read_checkpoint(path)
    if is_backbone(found) or _is_caffe2(found):
        return {f"backbone.{name}": tensor for name, tensor in backbone_state(found, path).items()}
    network = identify(found, path)
    try:
        space, _ = _label_space(network, None, path)
    except InvalidArgumentError:
        space = _placeholder(found, network.num_categories)
    model = create_model(network.model, space, **network.options)
    _load(model, found, path)
    return {name: tensor.detach() for name, tensor in unique_state_dict(model).items()}


def _label_space(
    network: PublishedNetwork, labels: LabelSpace | str | None, path: Path
) -> tuple[LabelSpace, int | None]:
    """Return the label space, and the maximum side in inference, which is known only for published datasets."""
    known, longest_side = _PUBLISHED_FOR.get(network.num_categories, (None, None))
    if labels is None and known is None:
        raise InvalidArgumentError(
            f"{path} has {network.num_categories} categories without names; pass their label space: panscape "
            'weights convert --labels NAME or FILE.json, labels="..." in Python'
        )
    given = labels if labels is not None else str(known)
    space = given if isinstance(given, LabelSpace) else LabelSpace.load(given)
    if len(space) != network.num_categories:
        raise InvalidArgumentError(
            f"expected a label space of {network.num_categories} categories, as in {path}, got {space.name!r} with "
            f"{len(space)}; use the data or the label space that the checkpoint was trained for"
        )
    return space, longest_side if space.name == known else None


def _placeholder(found: Mapping[str, Tensor], num_categories: int) -> LabelSpace:
    # In dense detections, the number of things defines the number of box categories; elsewhere it affects no shape.
    things = found.get("panoptic_head.box_cls_logits.weight")
    num_things = num_categories if things is None else int(things.shape[0])
    categories = (Category(f"category {i}", i < num_things, i, (0, 0, 0)) for i in range(num_categories))
    return LabelSpace("unknown", tuple(categories))


def _is_caffe2(found: Mapping[str, Tensor]) -> bool:
    return "conv1_w" in found
