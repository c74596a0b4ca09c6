"""The CUDA kernel, run by Triton's interpreter on the CPU, equals the reference."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from processes import TORCH, Process, run_code

_COMPARE = """
import torch
from panscape.geometry import ImageGeometry
from panscape.representations.dense_boxes.decode import MaskInputs, dense_masks_reference
from panscape.representations.dense_boxes.masks_triton import dense_masks_triton
from panscape.ops.cropped_masks import CroppedMasks

g = torch.Generator().manual_seed(0)
for num_boxes, size in ((1, (36, 44)), (3, (35, 41)), (2, (1, 1))):
    query = torch.tensor([[0.0, 0, 30, 40], [10, 10, 50, 50], [12, 5, 12, 5]])
    dense = query[torch.randint(0, 3, (num_boxes, 9, 11), generator=g)].permute(0, 3, 1, 2)
    dense = (dense + 2 * torch.rand(4, generator=g)[:, None, None]).contiguous()
    dense[:, :, 3, 4], dense[:, 2:, 5, 5], dense[:, 0, 8, 8] = 0, torch.inf, torch.nan
    prob = torch.rand(2, 9, 11, generator=g) ** 0.1
    category = torch.tensor([1, 0, 1])
    for compat in ("released", "paper"):
        for chosen in ([0, 1, 2], []):
            geometry = ImageGeometry.of(size, padded_size=(36, 44))
            inputs = MaskInputs(query[chosen], category[chosen], dense, prob, geometry)
            expected = dense_masks_reference(inputs, threshold=0.4, compat=compat)
            found = dense_masks_triton(inputs, 0.4, is_released=compat == "released")
            assert torch.equal(found, expected), (num_boxes, size, compat, int((found != expected).sum()))
            print(int(expected.sum()))

            def make(some):
                return dense_masks_triton(inputs.of_objects(some), 0.4, is_released=compat == "released")

            few = CroppedMasks.from_parts(make, len(chosen), size, 2 * size[0] * size[1])
            assert torch.equal(few.to_masks(size), expected)
"""


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_interpreted_kernel_equals_the_reference(tmp_path: Path) -> None:
    out, err = tmp_path / "out", tmp_path / "err"
    process = Process(out, run_code, _COMPARE, err=err, environment={"TRITON_INTERPRET": "1"}, imported=TORCH)
    assert process.end() == 0, err.read_text()
    areas = [int(line) for line in process.text.split()]
    assert len(areas) == 12
    assert sum(area > 0 for area in areas) >= 4
