"""What is counted in dense tables equals what the accumulators count; tests/gpu has the same on a device."""

from __future__ import annotations

import pickle

import pytest
import torch
from maps import SHAPES, generated_map

from panscape import Category, LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.metrics import PROTOCOLS, Evaluator, GpuEvaluator

LABELS = LabelSpace("shapes and water", (*SHAPES.categories, Category("water", False, 40, (0, 0, 255))))


def parts(prediction: PanopticMap, truth: PanopticMap) -> tuple[torch.Tensor | None, ...]:
    return prediction.ids, prediction.category, truth.ids, truth.category, truth.crowd


@pytest.fixture(scope="module")
def pairs() -> list[tuple[PanopticMap, PanopticMap]]:
    found = []
    g = torch.Generator().manual_seed(3)
    for seed in range(60):
        truth = generated_map(seed, (32, 40), objects=9, void=seed % 4 > 0, crowd=seed % 3 > 0)
        ids = truth.ids.roll((seed % 7 - 3, seed % 5 - 2), (0, 1))
        if seed % 2 == 0:
            ids = torch.where(generated_map(500 + seed, (32, 40)).ids == 0, 0, ids)
        is_wrong = torch.rand(truth.num_segments, generator=g) < 0.2
        category = torch.where(is_wrong, torch.randint(0, 5, is_wrong.shape, generator=g), truth.category)
        found.append((PanopticMap(ids, category), truth))
    empty, nothing = PanopticMap.empty((32, 40)), PanopticMap.empty((0, 0))
    return [*found, (empty, empty), (empty, found[1][1]), (found[1][0], empty), (nothing, nothing)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_it_finds_what_an_evaluator_finds(pairs: list[tuple[PanopticMap, PanopticMap]], protocol: str) -> None:
    evaluator = GpuEvaluator(LABELS, "cpu", protocol)
    every = Evaluator(LABELS, protocol)
    for pair in pairs:
        alone, expected = GpuEvaluator(LABELS, "cpu", protocol), Evaluator(LABELS, protocol)
        alone.update(*parts(*pair))
        evaluator.update(*parts(*pair))
        expected.update(*pair)
        every.update(*pair)
        for name, state in alone.to_evaluator().states.items():
            torch.testing.assert_close(state, expected.states[name], rtol=0, atol=1e-12, msg=name)
    found = evaluator.to_evaluator()
    assert torch.equal(found.panoptic.state[:, :3], every.panoptic.state[:, :3])
    assert torch.equal(found.semantic.state, every.semantic.state)
    assert found.panoptic.state[2:4, :3].min() > 5
    assert found.panoptic.state[:2].min() > 5 or protocol == "yolo_panoptic"  # by which some overlap is enough
    assert evaluator.compute().panoptic.all.pq == pytest.approx(every.compute().panoptic.all.pq, abs=1e-12)


def test_it_merges_pickles_and_forgets(pairs: list[tuple[PanopticMap, PanopticMap]]) -> None:
    whole, halves = GpuEvaluator(LABELS, "cpu"), [GpuEvaluator(LABELS, "cpu") for _ in range(2)]
    for i, pair in enumerate(pairs[:6]):
        whole.update(*parts(*pair))
        halves[i % 2].update(*parts(*pair))
    halves[0].merge(pickle.loads(pickle.dumps(halves[1])))
    torch.testing.assert_close(halves[0].state, whole.state, rtol=0, atol=1e-10)
    whole.reset()
    assert whole.compute().panoptic.all.num_categories == 0
    with pytest.raises(InvalidArgumentError, match=r"protocol=.*merge metrics with equal options"):
        whole.merge(GpuEvaluator(LABELS, "cpu", "seamseg"))


def test_all_mismatched_parts_are_reported_together() -> None:
    ids, category = torch.tensor([[1, 2, 0]], dtype=torch.int32), torch.tensor([0, 2])
    evaluator = GpuEvaluator(LABELS, "cpu")
    with pytest.raises(InvalidArgumentError, match=r"true_crowd as bool \[2\], one for each .* got torch.int64 \[2\]"):
        evaluator.update(ids, category, ids, category, torch.tensor([0, 1]))
    with pytest.raises(InvalidArgumentError, match=r"got torch.bool \[3\]"):
        evaluator.update(ids, category, ids, category, torch.zeros(3, dtype=torch.bool))
    with pytest.raises(InvalidArgumentError, match="all tensors on cpu, the device of this evaluator, got meta; move"):
        evaluator.update(ids.to("meta"), category, ids, category)
    assert not evaluator.state.any()


def test_values_out_of_range_are_reported_at_the_end() -> None:
    ids = torch.tensor([[1, 2, 0]], dtype=torch.int32)
    category = torch.tensor([0, 2])
    for wrong in (
        (ids + 1, category, ids, category),
        (ids, category, ids - 1, category),
        (ids, category + 3, ids, category),
        (ids, category, ids, category - 1),
    ):
        evaluator = GpuEvaluator(LABELS, "cpu")
        evaluator.update(*wrong)
        with pytest.raises(InvalidArgumentError, match=r"0..4 \(label space 'shapes and water'\), got 1 pixels"):
            evaluator.compute()
    with pytest.raises(InvalidArgumentError, match=r"a truth of \[1, 2\] and a prediction of \[1, 3\]; decode"):
        evaluator.update(ids, category, ids[:, :2], category)
