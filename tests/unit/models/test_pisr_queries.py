"""PISR on networks that classify masks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from maps import SHAPES, generated_map
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from panscape import create_model
from panscape.models.pisr_queries import QueryRelations
from panscape.nn.pisr import PISR, Relations
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct
from panscape.representations.queries import QueryOutputs, QueryTargets

N, SIZE, QUERIES = len(SHAPES), (6, 8), 7
ALL = [PISR(4, key_width=6), Concatenation(4), ElementwiseProduct(4), OCR(key_width=6)]
TINY: dict[str, Any] = {
    "backbone": "residual_xs",
    "encoder_layers": 0,
    "width": 16,
    "num_queries": 5,
    "decoder_layers": 2,
    "hidden_width": 8,
    "num_heads": 2,
    "dropout": 0.0,
}


def a_model(relations: Relations | None = ALL[0]) -> Any:
    torch.manual_seed(0)
    return create_model("maskformer", SHAPES, relations=relations, **TINY)


def queries() -> tuple[Tensor, Tensor]:
    """Return category and mask logits of two images."""
    g = torch.Generator().manual_seed(0)
    return 3 * torch.randn(2, QUERIES, N + 1, generator=g), torch.randn(2, QUERIES, *SIZE, generator=g)


def seen_by(part: Relations, *logits: Tensor, valid: Tensor | None = None) -> tuple[Tensor, ...]:
    """Return what the module receives."""
    relations, seen = QueryRelations(part, 10, SHAPES).eval(), []
    relations.related.register_forward_pre_hook(lambda _, args: seen.append(args))
    relations(torch.rand(2, 10, *SIZE), *logits, valid)
    assert "is_thing" not in relations.state_dict()
    return seen[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize("num_instances", [3, QUERIES, QUERIES + 2])
def test_objects_are_the_queries_with_the_most_probable_things(num_instances: int) -> None:
    category, mask = queries()
    _, semantic, instances, valid = seen_by(PISR(num_instances, key_width=6), category, mask)
    assert valid is None
    prob, masks = category.softmax(2), mask.sigmoid()
    assert instances.shape == (2, num_instances, *SIZE)
    for image in range(2):
        scores = [max(float(prob[image, q, c]) for c in SHAPES.thing_ids) for q in range(QUERIES)]
        order = sorted(range(QUERIES), key=lambda q: -scores[q])
        for k in range(num_instances):
            expected = scores[order[k]] * masks[image, order[k]] if k < QUERIES else torch.zeros(SIZE)
            torch.testing.assert_close(instances[image, k], expected, atol=1e-6, rtol=1e-5)
        for y, x in ((0, 0), (3, 5)):
            sums = [float(sum(prob[image, q, c] * masks[image, q, y, x] for q in range(QUERIES))) for c in range(N)]
            expected = torch.tensor(sums) / sum(sums)
            torch.testing.assert_close(semantic[image, :, y, x], expected, atol=1e-6, rtol=1e-5)


def test_places_without_any_mask_have_no_category() -> None:
    category, mask = queries()
    _, semantic, _, _ = seen_by(ALL[0], category, torch.full_like(mask, -90.0))
    assert torch.isfinite(semantic).all()
    assert semantic.max() < 1e-6


@pytest.mark.parametrize("part", ALL, ids=lambda part: type(part).__name__)
def test_both_stages_learn(part: Relations) -> None:
    model = a_model(part).train()
    targets = QueryTargets(*(t[None].expand(2, *t.shape) for t in model.encode(generated_map(1))))
    outputs = model(torch.rand(2, 3, *targets.mask.shape[1:]))
    assert isinstance(outputs.first_stage, QueryOutputs)
    assert outputs.auxiliary_mask_logits is None  # those of the decoder belong to the first stage
    assert len(outputs.first_stage.layers) == 2
    losses = model.loss(outputs, targets)
    names = ["category", "focal", "dice"]
    of_first = [*names, *(f"auxiliary_{name}" for name in names)]
    assert list(losses) == [*names, *(f"first_{name}" for name in of_first)]
    sum(losses[name] for name in names).backward()
    assert all(p.grad is not None for p in model.parameters())  # the first stage guides the second one
    assert model.eval()(torch.rand(1, 3, 64, 64)).first_stage is None


def test_a_network_begins_as_it_is_without_relations() -> None:
    model = a_model().train()
    outputs = model(torch.rand(2, 3, 64, 96))
    for second, first in zip(outputs.tensors, outputs.first_stage.tensors, strict=True):
        torch.testing.assert_close(second, first, atol=1e-5, rtol=1e-5)
    model.refined_mask[4].bias.data.add_(1)
    assert not torch.equal(model(torch.rand(2, 3, 64, 96)).mask_logits, outputs.mask_logits)
    assert a_model(None).weight_copies == {}
    assert a_model(Concatenation(4)).weight_copies == {"refined_category": "query_decoder.category"}


def test_padding_is_known() -> None:
    model, seen = a_model().eval(), list[Any]()
    model.relations.register_forward_pre_hook(lambda _, args: seen.append(args[3]))
    model(torch.rand(1, 3, 64, 96))
    model(torch.rand(1, 3, 50, 96))
    assert seen[0] is None
    assert seen[1][0, 0].sum().item() == 13 * 24


def test_relations_can_be_seen() -> None:
    image, size = torch.rand(1, 3, 64, 96), (64, 96)
    panels = a_model().eval().visualize_features(image, size, [2])
    assert list(panels) == [f"{SHAPES[2].name} before relations", f"{SHAPES[2].name} after relations"]
    assert {tuple(panel.shape) for panel in panels.values()} == {(3, *size)}
    assert a_model(None).visualize_features(image, size, [2]) == {}


@pytest.mark.parametrize(
    ("name", "relations", "parameters", "gmac", "published"),
    [
        ("r50", None, 45_016_407, 116.88, 116.6),
        ("r50", PISR(100, key_width=128), 45_726_855, 137.65, 136.0),
        ("r101", None, 63_956_311, 160.82, 159.3),
    ],
)
def test_the_operations_of_the_paper(
    name: str, relations: Relations | None, parameters: int, gmac: float, published: float
) -> None:
    """Table 4 of PISR, ADE20K. Its numbers are those of 640x928, not of the 375x500 that it names.

    The shorter side is then that of the published evaluation, and the longer one the mean, padded. The authors' network
    predicts masks from all decoder layers, also in inference; ours does so in training.
    """
    with torch.device("meta"):
        model = create_model(f"maskformer_{name}", "ade20k_150", relations=relations).to("meta").train()
    for part in model.modules():
        if isinstance(part, QueryRelations | nn.Dropout):
            part.eval()  # in training they look into tensors, which have no content here
    assert sum(p.numel() for p in model.parameters()) == parameters
    with FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 640, 928, device="meta"))
    counted = counter.get_total_flops() / 2e9
    assert counted == pytest.approx(gmac, abs=0.01)
    assert counted == pytest.approx(published, rel=0.03)
