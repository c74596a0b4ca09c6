"""Panoptic-DeepLab against the sizes of its two published implementations, as counted on their own modules."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from panscape import create_model
from panscape.models.panoptic_deeplab import PUBLISHED, PanopticDeepLab
from panscape.nn.pisr import PISR


def without_memory(name: str, labels: str = "cityscapes", **options: Any) -> Any:
    with torch.device("meta"):
        return create_model(f"panoptic_deeplab_{name}", labels, **options).to("meta").eval()


def num_parameters(*modules: torch.nn.Module) -> int:
    return sum(p.numel() for module in modules for p in module.parameters())


def billions_of_products(model: Any, size: tuple[int, int]) -> float:
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, *size, device="meta"))
    return float(counter.get_total_flops() / 2e9)


@pytest.mark.parametrize(
    ("name", "options", "parameters", "entries", "size", "gmac"),
    [
        ("r52", {}, 30_271_350, 544, (1024, 2048), 416.8),
        ("r52", {"separable": False}, 59_770_166, 508, (1024, 2048), 1040.2),
        ("r101", {}, None, None, (1024, 2048), 571.9),
        ("r50", {}, None, None, (1024, 2048), 360.2),
        # 267.7 at 1024x2048 as counted, where the network adds no pixel to the sides
        ("r50", {"compat": "standalone"}, 55_308_870, 530, (1025, 2049), 274.4),
        ("mobilenetv2", {}, 7_719_814, 518, None, 53.3),
        ("r50", {"compat": "standalone"}, None, None, None, 267.7),
    ],
)
def test_sizes_of_the_published_networks(
    name: str,
    options: dict[str, Any],
    parameters: int | None,
    entries: int | None,
    size: tuple[int, int] | None,
    gmac: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = without_memory(name, **options)
    if parameters is not None:
        assert num_parameters(model) == parameters
        assert len(model.state_dict()) == entries
    if size is None:
        monkeypatch.setattr(model, "_padded", lambda images, _: images)
    assert billions_of_products(model, size or (1024, 2048)) == pytest.approx(gmac, abs=0.06)


def test_parts_of_the_network_of_detectron2() -> None:
    model = without_memory("r52")
    assert num_parameters(model.backbone) == 23_631_808
    assert num_parameters(model.semantic_decoder, model.semantic) == 3_311_603
    assert num_parameters(model.instance_decoder, model.center, model.offset) == 3_327_939


def test_sizes_with_coco_categories() -> None:
    model = without_memory("r52", "coco_panoptic")
    assert num_parameters(model) == 30_300_648
    assert billions_of_products(model, (640, 640)) == pytest.approx(81.7, abs=0.05)


def test_hrnet_has_three_projections_of_its_branches() -> None:
    model = without_memory("hrnet48")
    assert model.backbone.channels == (48, 96, 192, 384)
    for decoder in (model.semantic_decoder, model.instance_decoder):
        shapes = [tuple(projection[0].weight.shape[:2]) for projection in decoder.projections]
        assert shapes == [(128, 192), (64, 96), (32, 48)]


@pytest.mark.parametrize(
    ("num_instances", "gmac", "extra"),
    [(10, 571.96, 1.441), (20, 573.39, None), (50, 577.85, None), (100, 585.81, 1.455)],
)
def test_relations_add_what_the_paper_counts(num_instances: int, gmac: float, extra: float | None) -> None:
    """575.0 in Table 5 of "Panoptic, Instance, and Semantic Relations", which names no number of objects."""
    model = without_memory("r52", relations=PISR(num_instances))
    counted = billions_of_products(model, (1024, 2048))
    assert counted == pytest.approx(gmac, abs=0.01)
    assert counted == pytest.approx(575.0, rel=0.02)
    if extra is not None:
        assert (num_parameters(model) - 30_271_350) / 1e6 == pytest.approx(extra, abs=0.001)


@pytest.mark.parametrize(
    ("labels", "sigma", "fraction", "nms_kernel", "stuff_area"),
    [("cityscapes", 10, 0.2, 7, 2048), ("coco_panoptic", 8, 1.0, 41, 4096)],
)
def test_released_configurations(labels: str, sigma: float, fraction: float, nms_kernel: int, stuff_area: int) -> None:
    released = PUBLISHED[labels]
    assert (released.sigma, released.hard_pixel_fraction, released.boundary_alphas) == (sigma, fraction, ())
    assert (released.center_loss_weight, released.offset_loss_weight) == (200, None)  # None is 0.01 without regions
    decoding = released.decoding
    assert (decoding.nms_kernel, decoding.stuff_area, decoding.top_k, decoding.threshold) == (
        nms_kernel,
        stuff_area,
        200,
        0.1,
    )
    assert (decoding.align_corners, decoding.resize, decoding.compat) == (False, "outputs", "panoptic_deeplab")


def test_the_window_of_the_context_is_the_training_crop_of_the_configuration() -> None:
    for labels, window in (("cityscapes", (32, 64)), ("coco_panoptic", (40, 40)), ("camvid", None)):
        assert without_memory("r52", labels).semantic_decoder.pyramid.window == window
    strides = [without_memory("r52", labels).stride for labels in ("cityscapes", "coco_panoptic", "camvid")]
    assert strides == [16, 640, 16]  # SIZE_DIVISIBILITY of the configurations, or none
    assert without_memory("r50", "coco_panoptic", compat="standalone").stride == 32
    assert without_memory("r52", "camvid", context_size=(512, 520)).instance_decoder.pyramid.window == (32, 33)
    assert without_memory("r50", compat="standalone").semantic_decoder.pyramid.window is None


def test_the_standalone_form_has_its_own_momentum_dropout_and_losses() -> None:
    model: PanopticDeepLab = without_memory("mobilenetv2")
    norms = [m.momentum for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms == [0.01] * len(norms)
    assert model.semantic_decoder.pyramid.dropout.p == 0.5
    representation = model.representation
    assert representation.offset_loss_weight == 0.005
    assert representation.compat == "standalone"
    assert representation.decoding.align_corners
