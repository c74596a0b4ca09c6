"""Load published checkpoints strictly into panscape's models: any unused key or missing tensor is an error."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from panscape.datasets.ade20k import ade20k_labels
from panscape.errors import InvalidArgumentError
from panscape.input_files import to_path
from panscape.labels import Category, LabelSpace
from panscape.models import PanopticModel, create_model
from panscape.models.dense_detections import DenseDetections
from panscape.models.maskformer import MaskFormer
from panscape.models.panoptic_deeplab import PanopticDeepLab
from panscape.models.panoptic_fpn import PanopticFPN
from panscape.models.seamless import Seamless
from panscape.models.swiftnet import PanopticSwiftNet
from panscape.models.upernet_semantic import UPerNetSemantic
from panscape.nn.backbones import ResNetFeatures
from panscape.nn.swin import Swin
from panscape.nn.yolov3 import YoloV3
from panscape.zoo.published.backbones import (
    backbone_state,
    is_backbone,
    load_backbone,
    require_normalization,
)
from panscape.zoo.published.catalogue import find_entry
from panscape.zoo.published.darknet import darknet_state, fill_from_darknet, is_darknet_file
from panscape.zoo.published.dense_detections import dense_detections_key, use_released_normalization
from panscape.zoo.published.detectron2 import without_pixel_statistics
from panscape.zoo.published.fetch import local_file
from panscape.zoo.published.identify import PublishedNetwork, identify, num_things_of
from panscape.zoo.published.maskformer import MASKFORMERS, from_maskformer, has_maskformer_layout, maskformer_key
from panscape.zoo.published.panoptic_deeplab import (
    has_published_layout,
    mismatch_hint,
    panoptic_deeplab_key,
)
from panscape.zoo.published.panoptic_fpn import (
    from_panoptic_fpn,
    panoptic_fpn_key,
    panoptic_fpn_layout,
    use_detectron2_resnet,
)
from panscape.zoo.published.read import read_checkpoint
from panscape.zoo.published.seamless import (
    from_seamseg,
    has_seamless_layout,
    seamless_key,
    use_seamseg_normalization,
)
from panscape.zoo.published.swiftnet import swiftnet_key
from panscape.zoo.published.swin import SWIN_ENDINGS
from panscape.zoo.published.upernet import from_upernet, upernet_key
from panscape.zoo.transfer import load_strict, unique_state_dict, warn_of_normalization

_logger = logging.getLogger(__name__)

ModelT = TypeVar("ModelT", bound=PanopticModel | YoloV3)

_COUNTER = ".num_batches_tracked"

# The datasets that networks were published for, by number of categories, and the size in inference.
_PUBLISHED_FOR: Mapping[int, tuple[str, Mapping[str, Any]]] = {
    19: ("cityscapes", {"longest_side": 2048}),
    133: ("coco_panoptic", {"longest_side": 640}),
    65: ("vistas_v1.2", {"longest_side": 2048}),
    150: ("ade20k_150", {"longest_side": 2560, "test_scale": 1.25}),  # 640 for shorter sides of 512, which most have
}

# Networks with another size in inference. Some upsample the images of COCO, of 480 pixels mostly, to 800.
_UPSAMPLED = ("panoptic_fpn_r50", "panoptic_fpn_r101", *(f"maskformer_{name}" for name in MASKFORMERS.values()))
_AS_THEY_ARE = (
    "maskformer_swin_t",
    "maskformer_swin_s",
    *(f"upernet_semantic_{name}" for name in SWIN_ENDINGS.values()),
)
_OTHER_SIZES: Mapping[tuple[str, int], Mapping[str, Any]] = {
    **{(name, 133): {"longest_side": 1333, "test_scale": 1.667} for name in _UPSAMPLED},
    **{(name, 150): {"longest_side": 2048} for name in _AS_THEY_ARE},
    **{("seamless_r50", num): {"longest_side": 2304} for num in _PUBLISHED_FOR},
}


def load_published(model: ModelT, path: str | os.PathLike[str]) -> ModelT:
    """Load a checkpoint in its authors' layout into a model, strictly, and return the model in eval mode.

    Args:
        model: built with the options that match the checkpoint: ``create_model("swiftnet_r18", "cityscapes")`` for
            Panoptic SwiftNet's three-level Cityscapes weights, ``create_model("dense_detections_r50", "cityscapes")``
            for those of dense detections, ``create_model("panoptic_deeplab_r52", "cityscapes")`` for detectron2's of
            Panoptic-DeepLab (``separable=False`` for those with ordinary convolutions),
            ``create_model("panoptic_deeplab_r50", "cityscapes", compat="standalone")`` for the older repository's,
            ``create_model("seamless_r50", "vistas_v1.2")`` for seamseg's of Seamless Scene Segmentation, and
            ``create_model("panoptic_fpn_r50", "coco_panoptic")`` or ``panoptic_fpn_r101`` for detectron2's and
            mmdetection's of Panoptic FPN, ``maskformer_r50``, ``maskformer_swin_t`` and so on for those of MaskFormer
            in the layout of detectron2, mmdetection or transformers, and ``upernet_semantic_swin_t`` and so on for
            those of UPerNet by Swin's authors, mmsegmentation or transformers. ``YoloV3(80)`` of
            :mod:`panscape.nn.yolov3` for Darknet's of the detector alone. For the weights of a backbone alone, any
            model on such a backbone; heads and decoders stay unchanged.
            Input normalisation, norms of dense detections and strides in the ResNet of Panoptic FPN are set to those
            of the weights, and saved with the model. The model stays unchanged if loading fails.
        path: a ``.pth`` file, seamseg's ``.tar``, or detectron2's ``.pkl``; only tensors or arrays and plain containers
            are unpickled. For networks of two stages and Panoptic-DeepLab, the norms' counters of training steps may
            all be missing; they become 0. Files of backbones alone are those of timm's and torchvision's classification
            networks (``.pth``, ``.safetensors``), and detectron2's ``R-52.pkl`` and ``R-103.pkl``. Darknet's
            ``yolov3.weights`` fills the backbone and the detector of a model for its weights, and
            ``darknet53.conv.74`` the backbone alone; no other files fit a detector alone. They have the names
            "yolov3_coco" and "darknet53_imagenet", under which they are fetched, see
            :func:`~panscape.zoo.published.fetch.fetch_weights`.

    Raises:
        UnreadableFileError: the file is missing, is not a checkpoint, contains more than tensors, or is from a network
            with another input normalisation.
        CheckpointMismatchError: keys or shapes differ; both differences are listed.
        InvalidArgumentError: no published layout is known for this model.
    """
    entry = find_entry(path) if isinstance(path, str) else None
    path = to_path(local_file(path) if entry is not None and entry.is_part else path)
    if is_darknet_file(path):
        fill_from_darknet(model, path)
    elif isinstance(model, YoloV3):
        raise InvalidArgumentError(
            f"expected Darknet's weights for a YoloV3, a file named *.weights, *.backup or *.conv.N, got {path}; "
            "download yolov3.weights, or rename the file"
        )
    else:
        _load(model, read_checkpoint(path), path)
    model.eval()
    return model


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
        key = panoptic_deeplab_key(model)
        found = _with_counters(without_pixel_statistics(found, model.normalization, path), model, key)
        load_strict(model, found, path, remedy=mismatch_hint(found), rename=key)
    elif isinstance(model, Seamless) and has_seamless_layout(model):
        remedy = 'build the model as create_model("seamless_r50", labels) with the checkpoint\'s label space'
        key = seamless_key(model)
        found = _with_counters(from_seamseg(found, model.labels), model, key)
        load_strict(model, found, path, remedy=remedy, rename=key)
        use_seamseg_normalization(model)
    elif isinstance(model, PanopticFPN) and isinstance(model.backbone, ResNetFeatures):
        remedy = 'build the model as create_model("panoptic_fpn_r50" or "panoptic_fpn_r101", labels) with the '
        remedy += "checkpoint's label space"
        key = panoptic_fpn_key(model, found)
        found = _with_counters(from_panoptic_fpn(found, model, path), model, key)
        load_strict(model, found, path, remedy=remedy, rename=key)
        if panoptic_fpn_layout(found) == "detectron2":
            use_detectron2_resnet(model)
    elif isinstance(model, MaskFormer) and has_maskformer_layout(model):
        remedy = "build the model with the backbone, label space, encoder_layers and num_queries of the checkpoint"
        key = maskformer_key(model, found)
        load_strict(
            model, _with_counters(from_maskformer(found, model, path), model, key), path, remedy=remedy, rename=key
        )
    elif isinstance(model, UPerNetSemantic) and isinstance(model.backbone, Swin):
        remedy = "build the model with the backbone and the number of categories of the checkpoint"
        load_strict(model, from_upernet(found), path, remedy=remedy, rename=upernet_key(model.backbone, found))
    else:
        raise InvalidArgumentError(
            f"no published checkpoint layout is known for {type(model).__name__} on this backbone or with these parts; "
            "published weights exist for swiftnet_r18, dense_detections_r50, seamless_r50, panoptic_fpn_r50, "
            "panoptic_fpn_r101, maskformer_r50 and others of MaskFormer, upernet_semantic_swin_t to _l, "
            "panoptic_deeplab_r52, and "
            'panoptic_deeplab_r50 and panoptic_deeplab_mobilenetv2 with compat="standalone"'
        )


def _with_counters(
    found: Mapping[str, Tensor], model: PanopticModel, key: Callable[[str], str]
) -> Mapping[str, Tensor]:
    """Return the tensors of a checkpoint, with zero counters of training steps if it has none.

    PyTorch before 0.4.1 and In-Place ABN did not save ``num_batches_tracked`` of norms, and it is not used here. A file
    with some must have all.
    """
    if any(name.endswith(_COUNTER) for name in found):
        return found
    names = [key(name) for name in unique_state_dict(model) if name.endswith(_COUNTER)]
    return {**found, **dict.fromkeys(names, torch.zeros((), dtype=torch.long))}


def create_published(
    path: str | os.PathLike[str],
    labels: LabelSpace | str | None = None,
    *,
    model: str | None = None,
) -> PanopticModel:
    """Build the network of a published checkpoint and load the checkpoint strictly; the identified network is logged.

    Args:
        path: as for :func:`load_published`; a complete network.
        labels: a label space, or the name or path of one; by default that of Cityscapes, COCO panoptic, Mapillary
            Vistas 1.2 or ADE20K, for which networks were published, by the number of categories; for semantic networks
            of ADE20K without things.
        model: name for :func:`panscape.create_model`; by default identified by the names of the tensors.

    Returns:
        The model, in eval mode. With the default label space, larger images are downscaled to the published size in
        inference, and images are upscaled for Panoptic FPN, as published.

    Raises:
        UnreadableFileError: see :func:`load_published`; or the names are not those of a published network.
        CheckpointMismatchError: keys or shapes differ; both differences are listed.
        InvalidArgumentError: the label space has another number of categories, or must be given.
        UnknownNameError: no model or label space has this name.
    """
    path = to_path(path)
    if is_darknet_file(path):
        raise InvalidArgumentError(
            f"expected a complete panoptic network, got Darknet's weights of a detector or a backbone in {path}; load "
            "them into a model with panscape.load_published, or train with --init-from FILE"
        )
    found = read_checkpoint(path)
    network = identify(found, path)
    space, sizes = _label_space(network, labels, path)
    if model is None or model == network.model:
        name, options = network.model, network.options
    else:
        name, options = model, {}
    options = {**options, **sizes}
    result = create_model(name, space, **options)
    _load(result, found, path)
    given = ", ".join(f"{option}={_in_short(value)}" for option, value in options.items())
    settings = f" ({given})" if given else ""
    _logger.info("%s: %s%s, %d categories of %s", path.name, name, settings, len(space), space.name)
    return result.eval()


def _in_short(value: Any) -> str:
    return type(value).__name__ if is_dataclass(value) else repr(value)


def published_state(path: Path, start_of: PanopticModel) -> dict[str, Tensor]:
    """Return the tensors of a published checkpoint under the names of our models, independently of label spaces.

    Args:
        path: as for :func:`load_published`. The names of a backbone alone get the prefix "backbone.".
        start_of: the model that training will start with these weights; a different input normalisation is logged.

    Raises:
        UnreadableFileError: see :func:`create_published`.
        CheckpointMismatchError: keys or shapes differ from the published ones.
        InvalidArgumentError: a backbone alone needs another input normalisation.
    """
    if is_darknet_file(path):
        return darknet_state(path, start_of)
    found = read_checkpoint(path)
    if is_backbone(found) or _is_caffe2(found):
        require_normalization(start_of, found, path)
        return {f"backbone.{name}": tensor for name, tensor in backbone_state(found, path).items()}
    network = identify(found, path)
    try:
        space, _ = _label_space(network, None, path)
    except InvalidArgumentError:
        space = _placeholder(found, network.num_categories)
    model = create_model(network.model, space, **network.options)
    _load(model, found, path)
    warn_of_normalization(model.normalization, start_of, path)
    return {name: tensor.detach() for name, tensor in unique_state_dict(model).items()}


def _label_space(
    network: PublishedNetwork, labels: LabelSpace | str | None, path: Path
) -> tuple[LabelSpace, Mapping[str, Any]]:
    """Return the label space, and options of the size in inference, which is known only for published datasets."""
    known, sizes = _PUBLISHED_FOR.get(network.num_categories, (None, {}))
    if labels is None and known == "ade20k_150" and network.is_semantic:
        labels = ade20k_labels("semantic")
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
    if space.name not in (known, f"{known}_semantic"):
        return space, {}
    return space, _OTHER_SIZES.get((network.model, network.num_categories), sizes)


def _placeholder(found: Mapping[str, Tensor], num_categories: int) -> LabelSpace:
    num_things = num_things_of(found) or num_categories
    categories = (Category(f"category {i}", i < num_things, i, (0, 0, 0)) for i in range(num_categories))
    return LabelSpace("unknown", tuple(categories))


def _is_caffe2(found: Mapping[str, Tensor]) -> bool:
    return "conv1_w" in found
