from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from maps import SHAPES, generated_map
from processes import TORCH, Process, run_code

from panscape import LabelSpace, PanopticMap
from panscape.errors import InvalidArgumentError
from panscape.metrics import (
    BoundaryPanopticQuality,
    ErrorBreakdown,
    Evaluator,
    GpuEvaluator,
    InstanceAP,
    InstanceIoU,
    PanopticQuality,
    PanopticQualityDagger,
    ParsingCovering,
)
from panscape.metrics import SemanticIoU as Semantic

PAIRS = [(generated_map(s + 50), generated_map(s, crowd=True)) for s in range(5)]


@pytest.mark.parametrize("kind", [PanopticQuality, PanopticQualityDagger, ParsingCovering, Semantic])
def test_it_does_what_the_accumulator_does(kind: Callable[[LabelSpace], Any]) -> None:
    from panscape.metrics.as_torchmetrics import as_torchmetric

    expected = kind(SHAPES)
    metric = as_torchmetric(kind(SHAPES))
    for i, pair in enumerate(PAIRS):
        expected.update(*pair)
        if i % 2:
            metric.update(*pair)
        else:
            alone = kind(SHAPES)
            alone.update(*pair)
            found = metric(*pair)  # forward: of this image
            plain = alone.compute().to_dict()
            for name, value in found.items():
                group, _, number = name.rpartition("/")
                assert value.isnan() if (want := (plain[group] if group else plain)[number]) is None else value == want
        if i == 2:
            metric = pickle.loads(pickle.dumps(metric)).to("cpu")
    torch.testing.assert_close(metric.state, expected.state, rtol=1e-15, atol=0)
    assert metric.report().per_category.keys() == expected.compute().per_category.keys()
    other = as_torchmetric(kind(SHAPES))
    other.update(*PAIRS[0])
    metric.merge_state(other)
    expected.update(*PAIRS[0])
    torch.testing.assert_close(metric.state, expected.state, rtol=1e-15, atol=0)
    metric.reset()
    assert not metric.state.any()


@pytest.mark.parametrize(
    ("accumulator", "first"),
    [
        (InstanceIoU(LabelSpace.load("cityscapes")), 9),  # with the sizes of the benchmark; disc and box become things
        (BoundaryPanopticQuality(SHAPES), 0),
        (ErrorBreakdown(SHAPES), 0),
    ],
)
def test_the_others_are_wrapped_and_pickled_too(accumulator: Any, first: int) -> None:
    from panscape.metrics.as_torchmetrics import as_torchmetric

    metric = pickle.loads(pickle.dumps(as_torchmetric(accumulator)))
    for pair in PAIRS[:2]:
        maps = [replace(each, category=each.category + first) for each in pair]
        metric.update(*maps)
        accumulator.update(*maps)
    assert accumulator.state.any()
    assert torch.equal(metric.state, accumulator.state)


SCORED = [(replace(p, score=torch.linspace(0.1, 1 - 0.1 * i, p.num_segments)), t) for i, (p, t) in enumerate(PAIRS)]


def test_average_precision_is_that_of_the_plain_metric() -> None:
    from panscape.metrics.as_torchmetrics import as_torchmetric

    plain = InstanceAP(SHAPES, percentiles=(0, 50, 100))
    metric, other = as_torchmetric(plain), as_torchmetric(plain)
    for i, pair in enumerate(SCORED[:4]):
        plain.update(*pair)
        if i % 2:
            metric.update(*pair)
        else:
            alone = InstanceAP(SHAPES, percentiles=(0, 50, 100))
            alone.update(*pair)
            found = metric(*pair)  # forward: of this image
            assert found["ap"] == pytest.approx(alone.compute().ap, nan_ok=True)
        if i == 2:
            metric = pickle.loads(pickle.dumps(metric))
    assert metric.report() == plain.compute()
    found = metric.compute()
    assert found["ap50"] == plain.compute().ap50
    assert found["by_size/50-100%/recall"] == plain.compute().by_size["50-100%"].recall
    assert found["recall/100"] == plain.compute().recall[100]
    other.update(*SCORED[4])
    metric.merge_state(other)  # of torchmetrics: the other's images come first
    expected = InstanceAP(SHAPES, percentiles=(0, 50, 100))
    for pair in (SCORED[4], *SCORED[:4]):
        expected.update(*pair)
    assert metric.report() == expected.compute()
    metric.reset()
    assert metric.report() == InstanceAP(SHAPES).compute()
    assert [p.num_segments for p, _ in SCORED] != [0] * 5


@pytest.mark.parametrize(
    "convert",
    [
        lambda model: model.half(),
        lambda model: model.to(torch.float16),
        lambda model: model.bfloat16().float(),
        lambda model: model.type(torch.float32),
    ],
)
def test_counts_outlive_what_is_done_to_the_numbers_of_a_model(convert: Callable[[Any], Any]) -> None:
    from panscape.metrics.as_torchmetrics import as_torchmetric

    model = torch.nn.Module()
    model.layer = torch.nn.Linear(2, 2)
    model.quality, model.precision = as_torchmetric(PanopticQuality(SHAPES)), as_torchmetric(InstanceAP(SHAPES))
    model.semantic = as_torchmetric(Semantic(SHAPES))
    metrics = (model.quality, model.precision, model.semantic)
    expected = PanopticQuality(SHAPES), InstanceAP(SHAPES), Semantic(SHAPES)
    for i, pair in enumerate(SCORED):
        for one in (*metrics, *expected):
            one.update(*pair)
        if i == 2:
            convert(model)
    assert model.quality.state.dtype == torch.float64
    assert model.semantic.state.dtype == torch.int64
    assert [metric.report() for metric in metrics] == [plain.compute() for plain in expected]
    model.quality.reset()
    assert model.quality.state.dtype == torch.float64


def parts_of(prediction: PanopticMap, truth: PanopticMap) -> tuple[Any, ...]:
    return prediction.ids, prediction.category, truth.ids, truth.category, truth.crowd


def test_an_evaluator_on_a_device_follows_to_another() -> None:
    from panscape.metrics.as_torchmetrics import as_torchmetric

    metric = as_torchmetric(GpuEvaluator(SHAPES, "meta"))  # a device without memory: what is elsewhere is refused
    with pytest.raises(InvalidArgumentError, match="expected all tensors on meta"):
        metric.update(*parts_of(*PAIRS[0]))
    metric = as_torchmetric(GpuEvaluator(SHAPES, "cpu"))
    metric.update(*parts_of(*PAIRS[0]))
    model = torch.nn.ModuleList([metric])
    model.to("meta")
    metric.update(*(part.to("meta") for part in parts_of(*PAIRS[1])))
    assert metric.state.device.type == "meta"
    with pytest.raises(InvalidArgumentError, match="expected all tensors on meta"):
        metric.update(*parts_of(*PAIRS[0]))


def test_an_evaluator_on_a_device_keeps_its_counts_when_it_is_moved() -> None:
    evaluator = GpuEvaluator(SHAPES, "cpu")
    evaluator.update(*parts_of(*PAIRS[0]))
    before = evaluator.state.clone()
    assert evaluator.to("cpu") is evaluator
    assert torch.equal(evaluator.state, before)
    assert evaluator.to("meta").state.dtype == torch.float64


def test_names_and_collections() -> None:
    from torchmetrics import MetricCollection

    from panscape.metrics.as_torchmetrics import as_torchmetric

    both = MetricCollection(  # it names what both have after their keys
        {"pq": as_torchmetric(PanopticQuality(SHAPES)), "pc": as_torchmetric(ParsingCovering(SHAPES))}
    )
    everything, expected = as_torchmetric(GpuEvaluator(SHAPES, "cpu")), Evaluator(SHAPES)
    for pair in PAIRS:
        both.update(*pair)
        expected.update(*pair)
        everything.update(*parts_of(*pair))
    report, found = expected.compute(), everything.compute()
    assert found["panoptic/things/pq"] == pytest.approx(report.panoptic.things.pq, abs=1e-12)
    assert found["semantic/mean_iou"] == report.semantic.mean_iou
    together = both.compute()
    assert together["pq_all/pq"] == report.panoptic.all.pq
    assert together["pc_stuff/covering"] == report.covering.stuff.covering
    with pytest.raises(InvalidArgumentError, match="got Evaluator; pass its parts, or a GpuEvaluator"):
        as_torchmetric(expected)  # type: ignore[arg-type]


def test_it_is_imported_on_request_and_its_absence_is_an_error(tmp_path: Path) -> None:
    script = """
import sys
import panscape.metrics
assert not [name for name in sys.modules if name.startswith("torchmetrics")]
sys.modules["torchmetrics"] = None
try:
    import panscape.metrics.as_torchmetrics
except ImportError as error:
    print(error)
"""
    process = Process(tmp_path / "out", run_code, script, err=tmp_path / "err", imported=TORCH)
    assert process.end() == 0, (tmp_path / "err").read_text()
    assert process.text.strip() == (
        "a metric for torchmetrics needs torchmetrics; install it with: pip install 'panscape[metrics]'"
    )
