"""A tiny version of every model, for the contract of all models. A new model adds its line to MODELS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from maps import SHAPES

from panscape import PanopticMap, create_model
from panscape.models import PanopticModel
from panscape.nn.pisr import PISR
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.representations.centers import CenterRepresentation
from panscape.representations.dense_boxes import DenseBoxRepresentation
from panscape.representations.masked_boxes import MaskedBoxRepresentation, MaskSampling
from panscape.representations.queries import QueryDecoding, QueryRepresentation
from panscape.representations.regions import (
    Anchors,
    DetectionSelection,
    ProposalSelection,
    RegionRepresentation,
    StageSampling,
)


def boxes(level_ends: tuple[float, ...], **options: Any) -> DenseBoxRepresentation:
    """Return dense boxes whose levels all have objects in scenes of 96x128 pixels."""
    return DenseBoxRepresentation(level_ends=level_ends, **options)


def regions(**options: Any) -> RegionRepresentation:
    """Return regions whose anchors fit the objects in scenes of 96x128 pixels, and few of them."""
    return RegionRepresentation(
        anchors=Anchors(strides=(4, 8, 16, 32), scale=2),
        first_stage=StageSampling(10_000),  # all anchors: few of the last level lie inside of the scenes
        proposals=ProposalSelection(100, 100, 20, 30),
        detections=DetectionSelection(max_detections=5),
        **options,
    )


def masked(**options: Any) -> MaskedBoxRepresentation:
    """Return masked boxes whose anchors fit the objects in scenes of 96x128 pixels, and few of them."""
    defaults: dict[str, Any] = {"anchors": (((8, 8), (12, 20)), ((24, 16), (24, 40)), ((48, 32), (64, 64)))}
    return MaskedBoxRepresentation(
        mask_sampling=MaskSampling(8),
        detections=DetectionSelection(min_score=0.0, max_overlap=0.3, max_detections=5),
        **(defaults | options),
    )


SMALL_DECODERS = {"decoder_width": 16, "instance_width": 8, "pyramid_width": 8}
SMALL_YOLO = {"backbone": "darknet_xs", "pyramid_width": 8, "mask_width": 8}
SMALL_QUERIES = {
    "width": 16,
    "num_queries": 6,
    "decoder_layers": 2,
    "hidden_width": 16,
    "num_heads": 4,
    "dropout": 0.0,
    "representation": QueryRepresentation(decoding=QueryDecoding(score_threshold=0.0, overlap_threshold=0.0)),
}
SMALL_HEAD = {"box_width": 16, "semantic_width": 8, "fpn_width": 16, "tower_depth": 1}

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "swiftnet, three levels": ("swiftnet", {"backbone": "test_resnet", "width": 16}),
    "swiftnet, one level": ("swiftnet", {"backbone": "test_resnet", "width": 16, "levels": 1}),
    "swiftnet, spp": ("swiftnet", {"backbone": "test_resnet", "width": 16, "levels": 1, "context": "spp"}),
    "swiftnet, residual": ("swiftnet", {"backbone": "residual_xs", "width": 16, "levels": 2}),
    "swiftnet, mobilenet": ("swiftnet", {"backbone": "mobilenetv3_small_050", "width": 16, "levels": 2}),
    "swiftnet, relations": (
        "swiftnet",
        {"backbone": "test_resnet", "width": 16, "levels": 1, "relations": PISR(8, key_width=8)},
    ),
    "swiftnet, other relations": (
        "swiftnet",
        {
            "backbone": "test_resnet",
            "width": 16,
            "levels": 1,
            "relations": PISR(
                8,
                key_width=8,
                normalization="pixels",
                residual=False,
                softmax=True,
                depthwise=True,
                encoding_norm="layer",
            ),
            "instance_maps": CenterInstanceMaps(soft_things=True),
        },
    ),
    "swiftnet, concatenation": (
        "swiftnet",
        {"backbone": "test_resnet", "width": 16, "levels": 1, "relations": Concatenation(8)},
    ),
    "swiftnet, product": (
        "swiftnet",
        {"backbone": "test_resnet", "width": 16, "levels": 1, "relations": ElementwiseProduct(8)},
    ),
    "swiftnet, object context": (
        "swiftnet",
        {"backbone": "test_resnet", "width": 16, "levels": 1, "relations": OCR(key_width=8)},
    ),
    "panoptic deeplab": ("panoptic_deeplab", SMALL_DECODERS | {"backbone": "residual_xs", "head_width": 8}),
    "panoptic deeplab, ordinary convolutions, stride 32": (
        "panoptic_deeplab",
        SMALL_DECODERS | {"backbone": "test_resnet", "separable": False, "output_stride": 32, "context_size": (64, 64)},
    ),
    "panoptic deeplab, standalone": (
        "panoptic_deeplab",
        SMALL_DECODERS | {"backbone": "residual_xs", "compat": "standalone", "projections": (16, 8, 8)},
    ),
    "panoptic deeplab, relations": (
        "panoptic_deeplab",
        SMALL_DECODERS | {"backbone": "residual_xs", "relations": PISR(8, key_width=8)},
    ),
    "panoptic deeplab, standalone, relations": (
        "panoptic_deeplab",
        SMALL_DECODERS | {"backbone": "residual_xs", "compat": "standalone", "relations": PISR(8, key_width=8)},
    ),
    "panoptic deeplab, concatenation": (
        "panoptic_deeplab",
        SMALL_DECODERS | {"backbone": "residual_xs", "relations": Concatenation(8)},
    ),
    "panoptic deeplab, object context": (
        "panoptic_deeplab",
        SMALL_DECODERS | {"backbone": "residual_xs", "relations": OCR(key_width=8)},
    ),
    "dense detections": (
        "dense_detections",
        SMALL_HEAD | {"backbone": "test_resnet", "representation": boxes((16, 35)), "initial_distance": 16.0},
    ),
    "dense detections, one tower": (
        "dense_detections",
        SMALL_HEAD | {"backbone": "residual_xs", "towers": 1, "levelness": False, "representation": boxes((16, 35))},
    ),
    "dense detections, fine, half the locations found": (
        "dense_detections",
        SMALL_HEAD
        | {
            "backbone": "mobilenetv3_small_050",
            "representation": boxes((16, 24, 35), finest_stride=4, category_normalization="locations"),
        },
    ),
    "dense detections, released": (
        "dense_detections",
        SMALL_HEAD
        | {"backbone": "test_resnet", "frozen_norm": True, "representation": boxes((16, 35)), "compat": "released"},
    ),
    "dense_detections_light": (
        "dense_detections_light",
        {
            "backbone": "residual_xs",
            "box_width": 8,
            "fpn_width": 8,
            "tower_depth": 1,
            "representation": boxes((16, 35)),
        },
    ),
    "seamless": ("seamless", {"backbone": "residual_xs", "width": 16, "representation": regions()}),
    "seamless, head on the backbone": (
        "seamless",
        {
            "backbone": "residual_xs",
            "width": 16,
            "semantic": "deeplabv3plus",
            "window": (64, 64),
            "representation": regions(box_loss="crop_aware"),
        },
    ),
    "panoptic fpn": (
        "panoptic_fpn",
        {"backbone": "test_resnet", "width": 16, "semantic_width": 8, "representation": regions()},
    ),
    "maskformer": ("maskformer", SMALL_QUERIES | {"backbone": "test_resnet", "encoder_layers": 1}),
    "maskformer, swin": ("maskformer", SMALL_QUERIES | {"backbone": "swin_xs", "encoder_layers": 0}),
    "upernet": ("upernet", SMALL_QUERIES | {"backbone": "residual_xs", "decoder_width": 16}),
    "maskformer, relations": (
        "maskformer",
        SMALL_QUERIES | {"backbone": "test_resnet", "encoder_layers": 0, "relations": PISR(4, key_width=8)},
    ),
    "upernet, concatenation": (
        "upernet",
        SMALL_QUERIES | {"backbone": "residual_xs", "decoder_width": 16, "relations": Concatenation(8)},
    ),
    "panoptic fpn, relations": (
        "panoptic_fpn",
        {
            "backbone": "test_resnet",
            "width": 16,
            "semantic_width": 8,
            "representation": regions(merge_things=True),
            "relations": PISR(4, key_width=8),
        },
    ),
    "panoptic fpn, object context": (
        "panoptic_fpn",
        {
            "backbone": "test_resnet",
            "width": 16,
            "semantic_width": 8,
            "representation": regions(),
            "relations": OCR(key_width=8, dropout=0.0),
        },
    ),
    "upernet, centers": (
        "upernet",
        {"backbone": "residual_xs", "decoder_width": 16, "representation": CenterRepresentation()},
    ),
    "upernet, centers, relations": (
        "upernet",
        {
            "backbone": "residual_xs",
            "decoder_width": 16,
            "representation": CenterRepresentation(),
            "relations": PISR(4, key_width=8),
        },
    ),
    "upernet, semantic": ("upernet_semantic", {"backbone": "residual_xs", "decoder_width": 16, "auxiliary_width": 8}),
    "yolo panoptic": ("yolo_panoptic", SMALL_YOLO | {"representation": masked()}),
    "yolo panoptic, light": (
        "yolo_panoptic_light",
        {
            "backbone": "residual_xs",
            "width": 16,
            "fine_width": 8,
            "num_prototypes": 4,
            "mask_cells": 14,
            "representation": masked(anchors=(((16, 16),), ((32, 32),), ((64, 64),)), assignment="aligned"),
        },
    ),
    "yolo panoptic, literal, as written": (
        "yolo_panoptic",
        SMALL_YOLO
        | {
            "masks": "shallow",
            "literal": True,
            "split": False,
            "pyramid_stride": 16,
            "layers": (6, 13, 38),
            "representation": masked(),
        },
    ),
    "yolo panoptic, stride 8, frozen": (
        "yolo_panoptic",
        SMALL_YOLO
        | {
            "weights": "darknet",
            "semantic": "stride_8",
            "masks": "category",
            "representation": masked(train_detector=False),
        },
    ),
    "yolo panoptic, segnet": (
        "yolo_panoptic",
        SMALL_YOLO | {"semantic": "segnet", "masks": "category", "representation": masked()},
    ),
    "yolo panoptic, top-down": (
        "yolo_panoptic",
        SMALL_YOLO | {"semantic": "top_down", "masks": "category", "representation": masked()},
    ),
}

# These differ from one of the above by nothing but the backbone; tests/parity counts them without memory.
OTHER_BACKBONES = {
    "dense_detections_r50",
    "panoptic_deeplab_r50",
    "panoptic_deeplab_r52",
    "panoptic_deeplab_r101",
    "panoptic_deeplab_hrnet48",
    "maskformer_r50",
    "maskformer_r101",
    "maskformer_swin_b",
    "maskformer_swin_l",
    "maskformer_swin_s",
    "maskformer_swin_t",
    "panoptic_deeplab_mobilenetv2",
    "panoptic_fpn_r50",
    "panoptic_fpn_r101",
    "seamless_hrnet48",
    "seamless_r50",
    "upernet_semantic_swin_b",
    "upernet_semantic_swin_l",
    "upernet_semantic_swin_s",
    "upernet_semantic_swin_t",
    "upernet_swin_b",
    "upernet_swin_l",
    "upernet_swin_s",
    "upernet_swin_t",
    "swiftnet_r18",
    "yolo_panoptic_d53",
}

# What a model inherits from its class is tested with one model of each.
CLASSES = (
    "swiftnet, three levels",
    "panoptic deeplab",
    "dense detections",
    "seamless",
    "panoptic fpn",
    "maskformer",
    "upernet",
    "upernet, centers",
    "upernet, semantic",
    "yolo panoptic",
    "yolo panoptic, light",
)
one_of_each_class = pytest.mark.parametrize("model", CLASSES, indirect=True)

# Beside one of each class, those whose graphs have steps of their own: the whole network, or the part with these steps.
# The others consist of the same steps, as a test checks; tracing takes seconds.
STEPS = {
    "swiftnet, spp": "start",
    "swiftnet, mobilenet": "",
    "swiftnet, other relations": "",
    "swiftnet, product": "",
    "swiftnet, object context": "",
    "panoptic deeplab, ordinary convolutions, stride 32": "",
    "panoptic deeplab, object context": "",
    "maskformer, swin": "",
    "upernet, concatenation": "",
    "dense detections, released": "",
    "seamless, head on the backbone": "",
    "panoptic fpn, relations": "",
    "yolo panoptic, literal, as written": "",
    "yolo panoptic, stride 8, frozen": "",
    "yolo panoptic, segnet": "semantic",
    "yolo panoptic, top-down": "semantic",
}


def created(key: str) -> PanopticModel:
    torch.manual_seed(0)
    name, options = MODELS[key]
    return create_model(name, SHAPES, **options).eval()


def images(batch: int, size: tuple[int, int], seed: int = 0) -> torch.Tensor:
    return torch.rand(batch, 3, *size, generator=torch.Generator().manual_seed(seed))


def tensors_of(outputs: Any) -> tuple[torch.Tensor | None, ...]:
    """Return the parts of outputs, without the training outputs of a first stage."""
    return getattr(outputs, "tensors", None) or tuple(outputs)


def pairs(a: Any, b: Any) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Return the pairs of parts of two outputs, without parts that a network lacks."""
    for one, other in zip(tensors_of(a), tensors_of(b), strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            yield one, other


def of_one(outputs: Any, i: int) -> Any:
    """Return the outputs for image ``i`` of a batch, as a batch of one."""
    return type(outputs)(*(None if part is None else part[i : i + 1] for part in tensors_of(outputs)))


def stacked(model: PanopticModel, truths: list[PanopticMap]) -> object:
    targets = [model.encode(t) for t in truths]
    return type(targets[0])(*(torch.stack(parts) for parts in zip(*targets, strict=True)))


def in_training(model: PanopticModel, images: torch.Tensor, targets: Any) -> Any:
    """Return the outputs as a training computes them."""
    return model(images, targets) if model.takes_targets else model(images)
