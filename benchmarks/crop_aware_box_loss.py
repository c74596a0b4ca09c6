"""Time the crop-aware box loss of a batch beside a training step of torchvision's Faster R-CNN.

The losses are those of one batch of two crops with the largest number of positive boxes: 2 x 128 of each stage, half of
whose objects are cut off at a side. "Whole step" is forward and backward pass of fasterrcnn_resnet50_fpn with the
ordinary loss, and with the crop-aware one of ``examples/crop_aware_faster_rcnn.py``. Times are CPU time of the process
with one thread, the minimum over several rounds in which the implementations alternate.

Run ``python benchmarks/crop_aware_box_loss.py``; it prints a Markdown table.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from reporting import cpu_milliseconds, machine, table
from torch import Tensor
from torchvision.models.detection import FasterRCNN, fasterrcnn_resnet50_fpn

from panscape.representations.regions.losses import SECOND_STAGE_WEIGHTS, BoxLoss, sum_of_box_loss

sys.path.append(str(Path(__file__).parents[1] / "examples"))

from crop_aware_faster_rcnn import make_crop_aware

NUM_IMAGES, NUM_POSITIVE = 2, 128


def box_losses(size: tuple[int, int], kind: BoxLoss) -> Callable[[], object]:
    """Return forward and backward pass of the box losses of both stages."""
    g = torch.Generator().manual_seed(0)
    num = NUM_IMAGES * NUM_POSITIVE
    boxes, cut_off = random_boxes(size, num, g)
    anchors = boxes + 0.2 * (boxes[:, 2:] - boxes[:, :2]).repeat(1, 2) * torch.randn(num, 4, generator=g).clamp(-2, 2)
    stages = []
    for weights, beta in (((1.0, 1.0, 1.0, 1.0), 1 / 9), (SECOND_STAGE_WEIGHTS, 1.0)):
        offsets = (0.2 * torch.tensor(weights) * torch.randn(num, 4, generator=g)).requires_grad_()
        stages.append((offsets, anchors, boxes, cut_off, kind, beta, weights))

    def run() -> None:
        for stage in stages:
            sum_of_box_loss(*stage).backward()

    return run


def random_boxes(size: tuple[int, int], num: int, g: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return boxes in an image and the sides at which they are cut off; half of them are, at one or more sides."""
    limit = torch.tensor([size[1], size[0]] * 2)
    low = torch.rand(num, 2, generator=g) * (limit[:2] - 40)
    high = torch.minimum(low + 32 + 200 * torch.rand(num, 2, generator=g), limit[2:])
    cut_off = (torch.rand(num, 4, generator=g) < 0.3) & (torch.arange(num) % 2 == 0)[:, None]
    boxes = torch.cat([low, high], dim=1)
    boxes[:, :2] = torch.where(cut_off[:, :2], 0.0, boxes[:, :2])
    boxes[:, 2:] = torch.where(cut_off[:, 2:], limit[2:].float(), boxes[:, 2:])
    return boxes, cut_off


def step(size: tuple[int, int], *, crop_aware: bool) -> Callable[[], object]:
    """Return forward and backward pass of a Faster R-CNN on a batch with 20 objects in each image."""
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    model: FasterRCNN = fasterrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=9, min_size=min(size), max_size=max(size)
    )
    if crop_aware:
        make_crop_aware(model)
    images = [torch.rand(3, *size, generator=g) for _ in range(NUM_IMAGES)]
    targets = []
    for _ in images:
        boxes, cut_off = random_boxes(size, 20, g)
        targets.append({"boxes": boxes, "labels": torch.randint(1, 9, (20,), generator=g), "cut_off": cut_off})

    def run() -> None:
        losses = model(images, targets)
        torch.stack(list(losses.values())).sum().backward()

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="512x1024", help="HEIGHTxWIDTH of the crops in pixels")
    parser.add_argument(
        "--repeats", type=int, default=3, help="rounds of whole steps; there are ten times as many of losses"
    )
    args = parser.parse_args()
    torch.set_num_threads(1)
    height, width = (int(side) for side in args.size.split("x"))
    size = (height, width)
    losses = {
        "box losses, ordinary": box_losses(size, "ordinary"),
        "box losses, crop-aware": box_losses(size, "crop_aware"),
    }
    steps = {
        "whole step, ordinary": step(size, crop_aware=False),
        "whole step, crop-aware": step(size, crop_aware=True),
    }
    best = cpu_milliseconds(losses, 10 * args.repeats) | cpu_milliseconds(steps, args.repeats)
    whole = best["whole step, ordinary"]
    print(machine(), "\n")
    print(
        table(["part", "CPU ms", "share of the step"], [[n, f"{t:.1f}", f"{t / whole:.2%}"] for n, t in best.items()])
    )


if __name__ == "__main__":
    main()
