"""Semantic segmentation as a representation: its map, its losses, and the sizes at which it is decoded."""

from __future__ import annotations

import pytest
import torch
from maps import SHAPES, a_map, generated_map
from torch.nn import functional as F

from panscape.errors import InvalidArgumentError
from panscape.geometry import ImageGeometry
from panscape.representations.semantic import SemanticOutputs, SemanticRepresentation, SemanticTargets


def logits_of(targets: SemanticTargets, size: tuple[int, int]) -> torch.Tensor:
    """Return perfect logits; void has no channel and becomes the first category."""
    known = F.one_hot((targets.semantic - 1).clamp_min(0), len(SHAPES)).permute(2, 0, 1)
    return known[None, :, : size[0], : size[1]].float()


@pytest.mark.parametrize("seed", range(3))
def test_decoding_an_encoded_truth_gives_its_categories_with_one_segment_each(seed: int) -> None:
    truth = generated_map(seed, void=False, smallest=6, objects=5)
    representation = SemanticRepresentation()
    targets = representation.encode(truth, SHAPES, (truth.size.height + 3, truth.size.width))
    assert targets.semantic.shape == (truth.size.height + 3, truth.size.width)
    assert (targets.semantic[truth.size.height :] == 0).all()
    outputs = SemanticOutputs(logits_of(targets, truth.size))
    (found,) = representation.decode(outputs, [ImageGeometry.of(truth.size)], SHAPES)
    assert torch.equal(found.semantic(void=-1), truth.semantic(void=-1))
    assert found.category.tolist() == sorted(set(truth.category.tolist()))
    assert found.score is not None
    assert found.score.tolist() == [1.0] * len(found)


def test_losses_by_hand() -> None:
    truth = a_map("AAB\nA.B", {"A": 0, "B": 3})
    targets = SemanticTargets(SemanticRepresentation().encode(truth, SHAPES, (2, 3)).semantic[None])
    assert targets.semantic.tolist() == [[[1, 1, 4], [1, 0, 4]]]
    g = torch.Generator().manual_seed(0)
    semantic, auxiliary = torch.randn(1, len(SHAPES), 2, 3, generator=g), torch.randn(1, len(SHAPES), 1, 1, generator=g)
    losses = SemanticRepresentation(auxiliary_loss_weight=0.5).loss(SemanticOutputs(semantic, auxiliary), targets)
    rows, columns, category = [0, 0, 0, 1, 1], [0, 1, 2, 0, 2], [0, 0, 3, 0, 3]
    expected = -semantic.log_softmax(1)[0, category, rows, columns].sum() / 6  # void counts as a pixel without loss
    torch.testing.assert_close(losses["semantic"], expected)
    torch.testing.assert_close(losses["auxiliary"], -0.5 * auxiliary.log_softmax(1)[0, category, 0, 0].sum() / 6)
    assert SemanticRepresentation().loss(SemanticOutputs(semantic), targets).keys() == {"semantic"}


def test_outputs_must_be_of_the_label_space() -> None:
    outputs = SemanticOutputs(torch.zeros(1, len(SHAPES) + 1, 2, 2))
    with pytest.raises(InvalidArgumentError, match=f"expected logits of the {len(SHAPES)} categories of .*, got "):
        SemanticRepresentation().decode(outputs, [ImageGeometry.of((2, 2))], SHAPES)
