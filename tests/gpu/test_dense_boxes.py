"""Recovery from dense boxes on the device equals that on the processor."""

from __future__ import annotations

import pytest
import torch
from maps import SHAPES, generated_map
from torch.nn import functional as F

from panscape.geometry import ImageGeometry
from panscape.representations.dense_boxes import DenseBoxDecoding, DenseBoxOutputs, DenseBoxRepresentation
from panscape.representations.dense_boxes.decode import (
    MaskInputs,
    decode_dense_boxes,
    dense_masks,
    dense_masks_reference,
)
from panscape.representations.dense_boxes.locations import Pyramid
from panscape.representations.fusion import FusionConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]


@pytest.mark.parametrize("compat", ["released", "paper"])
@pytest.mark.parametrize("num_boxes", [1, 5])
@pytest.mark.parametrize("size", [(256, 384), (249, 371)])
def test_masks(compat, num_boxes, size):
    g = torch.Generator().manual_seed(num_boxes)
    corners = torch.rand(40, 2, 2, generator=g) * torch.tensor([384, 256])
    query = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    owner = torch.randint(0, 40, (num_boxes, 8, 12), generator=g).repeat_interleave(8, 1).repeat_interleave(8, 2)
    dense = query[owner].permute(0, 3, 1, 2)
    dense = dense + 2 * torch.randn(dense[:, :2].shape, generator=g).repeat(1, 2, 1, 1)  # shifted as a whole
    prob = torch.rand(8, 64, 96, generator=g) ** 0.2
    category = torch.randint(0, 8, (40,), generator=g)
    arguments = (query, category, dense.contiguous(), prob)
    geometry = ImageGeometry.of(size, padded_size=(256, 384))
    expected = dense_masks_reference(MaskInputs(*arguments, geometry), threshold=0.4, compat=compat)
    on_device = MaskInputs(*(part.cuda() for part in arguments), geometry)
    found = dense_masks(on_device, threshold=0.4, compat=compat)
    assert found.pixels.is_cuda
    assert int(expected.sum()) > 10000
    assert torch.equal(found.to_masks(size).cpu(), expected)


def test_a_hundred_large_masks_are_never_there_at_once():
    size, g = (1024, 2048), torch.Generator(device="cuda").manual_seed(0)
    corner = torch.rand(100, 2, generator=g, device="cuda") * torch.tensor([1900.0, 900.0], device="cuda")
    query = torch.cat([corner, corner + 100], dim=1)
    dense = query[0][None, :, None, None].repeat(1, 1, 256, 512)
    prob, category = torch.ones(1, 256, 512, device="cuda"), torch.zeros(100, dtype=torch.int64, device="cuda")
    prob[:, :, 128:] = 0
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    inputs = MaskInputs(query, category, dense, prob, ImageGeometry.of(size))
    found = dense_masks(inputs, threshold=0.4, compat="released")
    assert len(found) == 100
    assert torch.cuda.max_memory_allocated() - before < 100e6  # the stack of all would be 210 MB


def test_nothing_to_find():
    empty = torch.zeros(0, 4, device="cuda"), torch.zeros(0, dtype=torch.int64, device="cuda")
    maps = torch.zeros(1, 4, 8, 8, device="cuda"), torch.zeros(2, 8, 8, device="cuda")
    inputs = MaskInputs(*empty, *maps, ImageGeometry.of((30, 31), padded_size=(32, 32)))
    found = dense_masks(inputs, threshold=0.4, compat="released")
    assert len(found) == 0


@pytest.mark.parametrize("compat", ["released", "paper"])
@pytest.mark.parametrize("with_levelness", [True, False])
def test_maps(compat, with_levelness):
    g = torch.Generator().manual_seed(0)
    size = (96, 128)
    truth = generated_map(1, size, void=False)
    targets = DenseBoxRepresentation(level_ends=(16.0, 40.0)).encode(truth, SHAPES, size)
    is_object = targets.box_category > 0
    box = torch.where(is_object, targets.box, 30.0)
    category = torch.randn(len(SHAPES.thing_ids), box.shape[1], generator=g) - 5
    category[targets.box_category[is_object] - 1, is_object.nonzero()[:, 0]] += 6
    levelness = 9 * F.one_hot(targets.levelness.clamp_min(0), 4).permute(2, 0, 1).float()
    semantic = 4 * F.one_hot(targets.semantic[4::8, 4::8] - 1, len(SHAPES)).permute(2, 0, 1).float()
    semantic += torch.randn(semantic.shape, generator=g)
    centerness = torch.randn(box.shape[1], generator=g)
    outputs = [semantic[None], category[None], box[None], centerness[None], levelness[None] if with_levelness else None]
    decoding = DenseBoxDecoding(compat=compat, fusion=FusionConfig(min_score=0.1, stuff_area=20))
    device = [None if part is None else part.cuda() for part in outputs]
    expected, found = (
        decode_dense_boxes(
            DenseBoxOutputs(*parts), [ImageGeometry.of((91, 117))], SHAPES, Pyramid(size, 8, 3), decoding
        )[0]
        for parts in (outputs, device)
    )
    assert found.ids.is_cuda
    assert torch.equal(found.category.cpu(), expected.category)
    assert bool((expected.category >= 2).any())
    # Exponentials differ in the last bits, and with them a pixel at the threshold may.
    assert float((found.ids.cpu() == expected.ids).float().mean()) > 0.999
    torch.testing.assert_close(found.score.cpu(), expected.score, rtol=1e-5, atol=1e-6)
