from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from color_model import ColorModel, ColorOutputs, painted
from maps import SHAPES, generated_map

from panscape import LabelSpace, PanopticMap
from panscape.datasets.base import Sample
from panscape.datasets.load import SkippedSample
from panscape.errors import BadSampleError, InvalidArgumentError, UnknownNameError, UnreadableFileError
from panscape.evaluation.evaluate_model import evaluate
from panscape.evaluation.options import EvaluationOptions, InferenceOptions
from panscape.evaluation.tune import default_grid, tune
from panscape.representations.centers import CenterDecoding
from panscape.representations.decoding_options import replace_options
from panscape.representations.dense_boxes import DenseBoxDecoding
from panscape.representations.regions import RegionDecoding


@dataclass(frozen=True, slots=True)
class ColorDecoding:
    """How colours become categories.

    Attributes:
        distance: pixels farther than this from each colour are void.
        smallest: segments of fewer pixels become void.
        flip: turn the map upside down.
    """

    distance: float = 0.05
    smallest: int = 40
    flip: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.distance <= 1:
            raise InvalidArgumentError(f"expected a distance in 0..1, got {self.distance}")


@dataclass(frozen=True)
class ColorRepresentation:
    decoding: ColorDecoding


class Tunable(ColorModel):
    """A model without a network whose decoding has options."""

    def __init__(self, decoding: ColorDecoding | None = None) -> None:
        super().__init__()
        self.representation = ColorRepresentation(decoding or ColorDecoding())
        self.forwards = 0

    def forward(self, images: torch.Tensor) -> ColorOutputs:
        self.forwards += 1
        return super().forward(images)

    def decode(self, outputs: ColorOutputs, sizes: Sequence[tuple[int, int]]) -> list[PanopticMap]:
        # The base model's limit is a distance of 0.2.
        maps = super().decode(ColorOutputs(outputs.distance * (0.2 / max(self.decoding.distance, 1e-9))), sizes)
        maps = [m.select(m.areas() >= self.decoding.smallest).compact() for m in maps]
        return [replace(m, ids=m.ids.flip(0)) if self.decoding.flip else m for m in maps]


class Noisy:
    """Images painted in the colours of their ground truth, with noise, a few pixels beside it."""

    labels = SHAPES

    def __init__(self, length: int, bad: tuple[int, ...] = ()) -> None:
        self.length, self.bad = length, bad

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        if index in self.bad:
            raise UnreadableFileError(f"/data/{index}.png", "expected a whole image")
        truth = generated_map(index, size=(24 + index % 3, 40), smallest=6, crowd=index % 3 == 0)
        noise = torch.randint(-40, 40, (3, *truth.size), generator=torch.Generator().manual_seed(index))
        image = (painted(truth).roll(1, dims=2).int() + noise).clamp(0, 255).to(torch.uint8)
        return Sample(image, truth, f"p{index}")


GRID = {"flip": [False], "distance": [0.1, 0.3, 0.2], "smallest": [5, 40, 100]}


def test_scores_are_those_of_an_evaluation_and_the_best_of_each_option_is_taken() -> None:
    model = Tunable()
    report = tune(model, Noisy(5), grid=GRID, rounds=2)
    assert model.forwards == 5  # once for each image
    assert model.decoding == ColorDecoding()

    def score(decoding: Any) -> float:
        return evaluate(Tunable(decoding), Noisy(5), workers=0).panoptic.all.pq

    now, sweeps = report.start, list(report.sweeps)
    assert now == ColorDecoding()
    assert report.before == score(now)
    for sweep in sweeps:  # coordinate descent by hand
        tried = [replace(now, **{sweep.option: value}) for value in sweep.values]
        expected = [score(decoding) for decoding in tried]
        assert list(sweep.scores) == expected
        assert sweep.before == getattr(now, sweep.option)
        assert max(expected) == expected[sweep.values.index(sweep.chosen)]
        now = replace(now, **{sweep.option: sweep.chosen})
    assert report.decoding == now
    assert report.after == score(now) > report.before
    assert [sweep.option for sweep in sweeps] == list(GRID) * 2
    assert sweeps[1].values == (0.05, 0.1, 0.2, 0.3)  # ascending, with the model's own
    assert report.changes["flip"] == (True, False)
    assert report.gains["flip"] == report.after - score(replace(now, flip=True))


def test_a_value_at_the_edge_is_reported_where_there_are_others_beyond_it() -> None:
    start = ColorDecoding(flip=False, distance=0.2)
    (sweep,) = tune(Tunable(start), Noisy(3), grid={"smallest": [400, 200]}, rounds=1).sweeps
    assert (sweep.values, sweep.chosen, sweep.is_at_edge) == ((40, 200, 400), 40, True)
    (sweep,) = tune(Tunable(start), Noisy(3), grid={"distance": [1.0]}, rounds=1).sweeps
    assert sweep.values == (0.2, 1.0)
    assert sweep.is_at_edge == (sweep.chosen == 0.2)
    (sweep,) = tune(Tunable(start), Noisy(3), grid={"flip": [True]}, rounds=1).sweeps
    assert (sweep.chosen, sweep.is_at_edge) == (False, False)


def test_no_value_is_at_the_edge_where_all_score_the_same() -> None:
    (sweep,) = tune(Tunable(ColorDecoding(smallest=3)), Noisy(3), grid={"smallest": [4, 5]}, rounds=1).sweeps
    assert len(set(sweep.scores)) == 1
    assert (sweep.chosen, sweep.is_at_edge) == (3, False)


def test_of_equal_values_the_present_one_stays() -> None:
    model = Tunable(ColorDecoding(smallest=3))
    report = tune(model, Noisy(2), grid={"smallest": [0, 1, 2, 4]}, rounds=3)
    assert len(set(report.sweeps[0].scores)) == 1
    assert report.changes == {}
    assert len(report.sweeps) == 1  # a round that changes nothing is the last


@pytest.mark.parametrize(("metric", "protocol"), [("things-pq", "coco"), ("stuff-pq", "deeplab2"), ("miou", "coco")])
def test_other_metrics_and_rules(metric: Any, protocol: str) -> None:
    start = ColorDecoding(distance=0.2, flip=False)
    report = tune(
        Tunable(start),
        Noisy(4),
        grid={"smallest": [10]},
        metric=metric,
        protocol=protocol,
        inference=InferenceOptions(2),
    )
    found = evaluate(
        Tunable(start), Noisy(4), options=EvaluationOptions(protocol), inference=InferenceOptions(2), workers=0
    )
    groups = {"things-pq": found.panoptic.things.pq, "stuff-pq": found.panoptic.stuff.pq}
    assert report.before == groups.get(metric, found.semantic.mean_iou)
    assert report.num_images == 2


def test_bad_images_are_left_out_or_stop_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    left_out: list[SkippedSample] = []
    counts: list[tuple[int, int]] = []
    report = tune(
        Tunable(),
        Noisy(4, bad=(2,)),
        grid={"flip": [False]},
        inference=InferenceOptions(on_error="skip"),
        skipped=left_out.append,
        progress=lambda *count: counts.append(count),
    )
    assert report.num_images == 3
    assert [sample.image for sample in left_out] == ["/data/2.png"]
    assert [done for done, _ in counts] == list(range(1, len(counts) + 1))
    assert all(done <= total for done, total in counts)
    with pytest.raises(BadSampleError, match=r"/data/2\.png"):
        tune(Tunable(), Noisy(4, bad=(2,)))
    with pytest.raises(BadSampleError, match=r"/data/0\.png.*first of 2, none of which can be used"):
        tune(Tunable(), Noisy(2, bad=(0, 1)), grid={"flip": [False]}, inference=InferenceOptions(on_error="skip"))
    assert list(tmp_path.iterdir()) == []  # nothing is left behind


class _Disk(NamedTuple):
    total: int = 10**9
    used: int = 10**9
    free: int = 10_000


def test_invalid_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidArgumentError, match="expected a model with decoding options, but ColorModel has none"):
        tune(ColorModel(), Noisy(1))
    with pytest.raises(InvalidArgumentError, match=r"expected a distance in 0\.\.1, got 2\.0"):
        tune(Tunable(), Noisy(1), grid={"distance": [0.5, 2]})
    with pytest.raises(UnknownNameError, match=r"unknown decoding option 'distanc'; did you mean distance\?"):
        tune(Tunable(), Noisy(1), grid={"distanc": [0.5]})
    with pytest.raises(InvalidArgumentError, match="expected at least one value to try for distance, got none"):
        tune(Tunable(), Noisy(1), grid={"distance": []})
    with pytest.raises(UnknownNameError, match="unknown metric 'thing-pq'; did you mean things-pq"):
        tune(Tunable(), Noisy(1), metric="thing-pq")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="expected rounds of 1 or more"):
        tune(Tunable(), Noisy(1), rounds=0)
    with pytest.raises(InvalidArgumentError, match="expected at least one image"):
        tune(Tunable(), Noisy(0))
    model = Tunable()
    model.labels = LabelSpace("other", SHAPES.categories)
    with pytest.raises(InvalidArgumentError, match="expected a model and data of one label space"):
        tune(model, Noisy(1))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: _Disk())
    with pytest.raises(InvalidArgumentError, match=r"outputs for 50 images take .* GB, but .* use fewer images with"):
        tune(Tunable(), Noisy(50))


def test_default_values_are_possible_ascending_and_around_the_present_ones() -> None:
    decodings = (
        CenterDecoding(nms_kernel=41, stuff_area=4096),
        CenterDecoding(1 / 3, 1, stuff_area=0),
        DenseBoxDecoding(),
        RegionDecoding(),
    )
    for decoding in decodings:
        grid = default_grid(decoding)
        for name, values in grid.items():
            for value in values:
                replace_options(decoding, {name: value})
            assert list(values) == sorted(set(values))
            present = getattr(decoding, name, None)
            present = getattr(getattr(decoding, "fusion", None), name) if present is None else present
            assert present in values
            assert len(values) >= 2
    assert default_grid(decodings[0])["nms_kernel"] == (17, 29, 41, 57, 103)
    assert default_grid(decodings[0])["stuff_area"] == (1024, 2048, 4096, 8192, 16384)
    assert default_grid(decodings[0])["thing_area"] == (0, 16, 32, 128, 256)
    assert default_grid(decodings[0])["leftover_area"] == (0, 32, 128, 256)
    assert default_grid(DenseBoxDecoding())["largest_part"] == (False, True)
    assert next(iter(default_grid(DenseBoxDecoding()))) == "min_score"
    assert default_grid(RegionDecoding())["mask_threshold"] == (0.5, 0.6, 0.7)
    assert default_grid(None) == {}
    assert not math.isnan(sum(default_grid(DenseBoxDecoding())["min_score"]))
