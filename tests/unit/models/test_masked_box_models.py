"""Networks of masked boxes learn two scenes by heart."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from maps import SHAPES, generated_map

from panscape import create_model
from panscape.metrics import PanopticQuality
from panscape.representations.masked_boxes import MaskedBoxRepresentation

NETWORKS: dict[str, tuple[int, dict[str, Any]]] = {
    "yolo_panoptic": (
        80,
        {
            "backbone": "darknet_xs",
            "pyramid_width": 32,
            "mask_width": 16,
            "representation": MaskedBoxRepresentation(
                (((16, 16),), ((24, 24),), ((48, 40),)), mask_loss_weight=1.0, semantic_loss_weight=5.0
            ),
        },
    ),
    "yolo_panoptic_light": (50, {"backbone": "residual_xs", "width": 32, "fine_width": 16}),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_two_scenes_are_learnt_by_heart(name: str) -> None:
    steps, options = NETWORKS[name]
    torch.manual_seed(0)
    truths = [generated_map(seed, (64, 96), objects=3, smallest=16, void=False) for seed in (1, 4)]
    colors = torch.tensor([category.color for category in SHAPES]) / 255
    of_objects = torch.rand(20, 3)
    images = torch.stack(
        [(0.7 * colors[t.semantic(void=0)] + 0.3 * of_objects[t.ids.long()]).permute(2, 0, 1) for t in truths]
    )
    model = create_model(name, SHAPES, **options)
    encoded: list[Any] = [model.encode(truth) for truth in truths]
    targets = type(encoded[0])(*(torch.stack(parts) for parts in zip(*encoded, strict=True)))
    optimizer = torch.optim.AdamW(model.parameters(), 5e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, steps, pct_start=0.2)
    for _ in range(steps):
        optimizer.zero_grad()
        losses = model.train().loss(model(images, targets), targets)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
        schedule.step()
    metric = PanopticQuality(SHAPES)
    with torch.inference_mode():
        maps = model.eval().decode(model(images), [truth.size for truth in truths])
    for found, truth in zip(maps, truths, strict=True):
        metric.update(found, truth)
    assert metric.compute().all.pq > 0.9
