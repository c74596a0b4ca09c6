"""Two processes that add up their states have the numbers of one that saw all images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from maps import SHAPES, generated_map
from processes import end_together
from torch import distributed

from panscape import PanopticMap
from panscape.metrics import (
    BoundaryPanopticQuality,
    GpuEvaluator,
    InstanceAP,
    InstanceAPReport,
    InstanceIoU,
    PanopticQuality,
    PanopticQualityDagger,
    ParsingCovering,
    SemanticIoU,
)

PAIRS = [(generated_map(s + 50), generated_map(s, crowd=True)) for s in range(7)]


SCORED = [(replace(p, score=torch.linspace(0.9, 0.2, p.num_segments)), t) for p, t in PAIRS]


class OnDevice(GpuEvaluator):
    """Takes maps, as the others do."""

    def update(self, prediction: PanopticMap, truth: PanopticMap) -> None:  # type: ignore[override]
        super().update(prediction.ids, prediction.category, truth.ids, truth.category, truth.crowd)


ACCUMULATORS: dict[str, Callable[[], Any]] = {
    "panoptic quality": lambda: PanopticQuality(SHAPES),
    "by the rules of deeplab2": lambda: PanopticQuality(SHAPES, "deeplab2"),
    "dagger": lambda: PanopticQualityDagger(SHAPES),
    "covering": lambda: ParsingCovering(SHAPES),
    "semantic": lambda: SemanticIoU(SHAPES),
    "instances": lambda: InstanceIoU(SHAPES, {"disc": 300.0, "box": 500.0}),
    "boundaries": lambda: BoundaryPanopticQuality(SHAPES),
    "on device": lambda: OnDevice(SHAPES, "cpu"),
}


def reports_of(images: list[tuple[PanopticMap, PanopticMap]], reduce: Callable[[torch.Tensor], object]) -> Any:
    found = {}
    for name, make in ACCUMULATORS.items():
        metric = make()
        for pair in images:
            metric.update(*pair)
        reduce(metric.state)
        found[name] = (metric.state, metric.compute().to_dict())
    return found


def as_one_process(rank: int, folder_name: str) -> None:
    """Take every other image, add up the states and keep what is reported then."""
    folder = Path(folder_name)
    from panscape.metrics.as_torchmetrics import as_torchmetric

    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    found = reports_of(PAIRS[rank::2], distributed.all_reduce)
    metric = as_torchmetric(PanopticQuality(SHAPES))
    for pair in PAIRS[rank::2]:
        metric.update(*pair)
    precision, of_one = as_torchmetric(InstanceAP(SHAPES)), as_torchmetric(InstanceAP(SHAPES))
    for pair in SCORED[rank::2]:
        precision.update(*pair)
    for pair in SCORED if rank else ():  # the first process has no image
        of_one.update(*pair)
    gathered = {"precision": precision.compute(), "of one": of_one.compute(), "own": precision.report().to_dict()}
    torch.save({"reports": found, "torchmetrics": metric.compute(), **gathered}, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_two_processes_find_what_one_does(tmp_path: Path) -> None:
    expected = reports_of(PAIRS, lambda state: None)
    end_together(tmp_path, as_one_process, 2, tmp_path)
    for rank in range(2):
        said = torch.load(tmp_path / f"{rank}.pt", weights_only=False)
        for name, (state, report) in expected.items():
            came_state, came_report = said["reports"][name]
            torch.testing.assert_close(came_state, state, rtol=1e-14, atol=0, msg=name)
            assert_equal_numbers(came_report, report)
        quality = expected["panoptic quality"][1]["all"]["pq"]
        assert abs(said["torchmetrics"]["all/pq"].item() - quality) < 1e-14
        assert said["precision"]["ap"] == average_precision([*SCORED[::2], *SCORED[1::2]]).ap
        assert said["of one"]["ap"] == average_precision(SCORED).ap
        assert said["own"] == average_precision(SCORED[rank::2]).to_dict()


def average_precision(pairs: list[tuple[PanopticMap, PanopticMap]]) -> InstanceAPReport:
    metric = InstanceAP(SHAPES)
    for pair in pairs:
        metric.update(*pair)
    return metric.compute()


def assert_equal_numbers(one: Any, other: Any) -> None:
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for name, value in one.items():
            assert_equal_numbers(value, other[name])
    elif isinstance(one, float):
        assert abs(one - other) <= 1e-13 * max(1, abs(other))
    else:
        assert one == other
