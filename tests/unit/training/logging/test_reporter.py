"""Reports of a training: exact lines, JSON and curves, with a simulated clock."""

from __future__ import annotations

import errno
import io
import json
import logging
import math
import sys

import pytest
import torch
from maps import SHAPES, a_map
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from panscape.cli.messages import on_stderr
from panscape.images import load_image
from panscape.metrics import Evaluator, SemanticIoU
from panscape.training.logging import reporter as reporting
from panscape.training.logging.reporter import NullReporter, Reporter


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture(autouse=True)
def log(caplog):
    caplog.set_level(logging.INFO, "panscape")
    return caplog


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def points(folder):
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def train(reporter, clock, steps, seconds=0.5, semantic=0.5, first=1):
    """Steps of 8 images; the first takes a minute longer."""
    for step in steps:
        clock.now += seconds + (60 if step == first else 0)
        losses = {"semantic": torch.tensor(semantic * step), "center": torch.tensor(0.25), "offset": 0.0625}
        reporter.step(step, losses, 1.8e-3, 8, torch.tensor(2.0 * step))


def an_evaluation():
    evaluator = Evaluator(SHAPES)
    truth = a_map("AAAA\nBBBB\nCCDD", {"A": 0, "B": 1, "C": 2, "D": 2})
    evaluator.update(a_map("AAAA\nBBBB\nCC..", {"A": 0, "B": 1, "C": 2}), truth)
    return evaluator.compute()


def test_a_line_every_few_steps_and_one_at_the_end(clock, log):
    with Reporter(None, 10, log_every=4, clock=clock) as reporter:
        train(reporter, clock, range(1, 11))
    assert log.messages == [
        # Steps 1 to 4: 3 of 8 images in 1.5 s; 6 more steps of 0.5 s.
        "step 4/10: semantic 1.250, center 0.250, offset 0.062, total 1.562; rate 1.8e-3; 16.0 images/s; 3 s left",
        "step 8/10: semantic 3.250, center 0.250, offset 0.062, total 3.562; rate 1.8e-3; 16.0 images/s; 1 s left",
        "step 10/10: semantic 4.750, center 0.250, offset 0.062, total 5.062; rate 1.8e-3; 16.0 images/s",
    ]


def test_json_lines_and_curves_hold_the_same(tmp_path, clock, log):
    with Reporter(tmp_path, 4, log_every=2, clock=clock) as reporter:
        train(reporter, clock, [1, 2])
        train(reporter, clock, [3, 4], seconds=1.0)
    assert lines(tmp_path) == [
        {
            "step": 2,
            "time": 61.0,
            "losses": {"semantic": 0.75, "center": 0.25, "offset": 0.0625},
            "total": 1.0625,
            "rate": 0.0018,
            "grad_norm": 3.0,
            "images_per_second": 16.0,
        },
        {
            "step": 4,
            "time": 63.0,
            "losses": {"semantic": 1.75, "center": 0.25, "offset": 0.0625},
            "total": 2.0625,
            "rate": 0.0018,
            "grad_norm": 7.0,
            "images_per_second": 8.0,
        },
    ]
    rate = float(torch.tensor(1.8e-3))
    assert points(tmp_path) == {
        "loss/semantic": [(2, 0.75), (4, 1.75)],
        "loss/center": [(2, 0.25), (4, 0.25)],
        "loss/offset": [(2, 0.0625), (4, 0.0625)],
        "loss/total": [(2, 1.0625), (4, 2.0625)],
        "training/learning rate": [(2, rate), (4, rate)],
        "training/gradient norm": [(2, 3.0), (4, 7.0)],
        "training/images per second": [(2, 16.0), (4, 8.0)],
    }


def test_the_share_of_clamped_scales_is_a_mean_over_objects_since_the_last_report(tmp_path, clock, log):
    with Reporter(tmp_path, 6, log_every=2, clock=clock) as reporter:
        for step, is_clamped in enumerate([[True], [True, False, False], [], [], [], [False]], start=1):
            reporter.step(step, {"semantic": 1.0}, 0.1, 4, 1.0, is_clamped)
    assert [line.get("clamp_rate") for line in lines(tmp_path)] == [0.5, None, 0.0]
    assert points(tmp_path)["training/clamp rate"] == [(2, 0.5), (6, 0.0)]
    assert "semantic 1.000, total 1.000, clamped scales 50.0 %; rate" in log.text


def test_the_first_step_reports_no_speed(tmp_path, clock, log):
    with Reporter(tmp_path, 100, log_every=1, clock=clock) as reporter:
        train(reporter, clock, [1, 2])
        reporter.step(3, {"only": math.nan}, 1e-5, 8)
    first, second, third = log.messages
    assert first.endswith("total 0.812; rate 1.8e-3")
    assert second.endswith("; 16.0 images/s; 49 s left")
    assert third.startswith("step 3/100: only nan, total nan; rate 1.0e-5; ")
    speeds = [line["images_per_second"] for line in lines(tmp_path)]
    assert speeds[:2] == [None, 16.0]
    assert lines(tmp_path)[2]["losses"] == {"only": None}
    assert lines(tmp_path)[2]["grad_norm"] is None


def test_the_time_of_a_long_training_is_estimated_after_a_few_steps(clock, log):
    with Reporter(None, 1000, log_every=50, clock=clock) as reporter:
        train(reporter, clock, range(1, 50))
    assert log.messages == ["about 8 min for the other 994 steps, without evaluations"]  # 497 s
    with Reporter(None, 100, log_every=50, clock=clock) as reporter:
        train(reporter, clock, range(1, 50))
    assert len(log.messages) == 1  # 47 s are not worth it


def test_pauses_are_excluded_from_throughput_but_not_from_the_time_left(clock, log):
    with Reporter(None, 100, log_every=2, clock=clock) as reporter:
        train(reporter, clock, [1, 2])
        with reporter.paused("evaluating"):
            clock.now += 30
        train(reporter, clock, [3, 4])
    assert log.messages[1].endswith("; 16.0 images/s; 17 min left")  # 31.5 s / 3 steps * 96


def test_the_device_is_waited_for_only_when_a_report_is_due(clock, log, monkeypatch):
    waits = []
    to_list, item = torch.Tensor.tolist, torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "tolist", lambda t: waits.append(1) or to_list(t))
    monkeypatch.setattr(torch.Tensor, "item", lambda t: waits.append(1) or item(t))
    monkeypatch.setattr(torch.Tensor, "__float__", lambda t: waits.append(1) or item(t))
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda t: waits.append(1) or bool(item(t)))
    with Reporter(None, 100, log_every=10, clock=clock) as reporter:
        train(reporter, clock, range(1, 10))
        assert not waits
        train(reporter, clock, [10])
        assert len(waits) == 2  # losses, gradient norm


def test_losses_are_taken_without_their_graph(clock, log):
    weight = torch.ones(3, requires_grad=True)
    loss = (weight * weight).sum()
    with Reporter(None, 2, log_every=2, clock=clock) as reporter:
        reporter.step(1, {"a": loss}, 0.1, 8)
        assert not any(t.requires_grad for t in reporter._losses._sums.values())
        with torch.no_grad():
            loss.mul_(0)  # a graph that is replayed writes the next loss into the same memory
            loss.add_(5)
        reporter.step(2, {"a": loss}, 0.1, 8)
    assert "a 4.000, total 4.000" in log.text


def test_bf16_losses_are_summed_in_full_precision(clock, log):
    with Reporter(None, 1000, log_every=1000, clock=clock) as reporter:
        for step in range(1, 1001):
            reporter.step(step, {"a": torch.tensor(1.0, dtype=torch.bfloat16)}, 0.1, 8)
    assert "a 1.000" in log.text  # bfloat16 would stop at a sum of 256


def test_small_numbers_keep_their_digits(clock, log):
    with Reporter(None, 1, log_every=1, clock=clock) as reporter:
        reporter.step(1, {"a": 0.000123, "b": 0.0}, 0.0, 8)
    assert log.messages == ["step 1/1: a 1.2e-4, b 0.000, total 1.2e-4; rate 0.0e0"]


def test_an_evaluation_is_one_line_and_everything_in_the_files(tmp_path, clock, log):
    report = an_evaluation()
    with Reporter(tmp_path, 10, log_every=5, clock=clock) as reporter:
        clock.now += 7
        reporter.evaluation(5, report)
        reporter.evaluation(5, Evaluator(SHAPES).compute(), name="train")
    # sky 1, ground 1, disc: one match of IoU 1 and one miss, 1 / 1.5; IoU of disc 2 / 4.
    assert log.messages == [
        "step 5: val PQ 88.9, things 66.7, stuff 100.0, mIoU 83.3",
        "step 5: train PQ -, things -, stuff -, mIoU -",
    ]
    first, second = lines(tmp_path)
    assert first == {"step": 5, "time": 7.0, "val": report.to_dict()}
    assert second["train"]["panoptic"]["all"]["pq"] is None
    curves = {tag: [(step, pytest.approx(value)) for step, value in found] for tag, found in points(tmp_path).items()}
    assert curves == {
        "val/PQ": [(5, 8 / 9)],
        "val/PQ things": [(5, 2 / 3)],
        "val/PQ stuff": [(5, 1.0)],
        "val/mIoU": [(5, 2.5 / 3)],
        "val PQ/sky": [(5, 1.0)],
        "val PQ/ground": [(5, 1.0)],
        "val PQ/disc": [(5, 2 / 3)],
    }


def test_the_semantic_head_has_a_number_and_a_curve_of_its_own(tmp_path, clock, log):
    evaluator = Evaluator(SHAPES, semantic_head=SemanticIoU(SHAPES))
    truth = a_map("AABB\nAABB")
    evaluator.update(truth, truth, semantic=torch.tensor([[0, 0, 1, 1], [0, 0, 0, 1]]))
    report = evaluator.compute()
    with Reporter(tmp_path, 10, log_every=5, clock=clock) as reporter:
        reporter.evaluation(5, report)
    # sky 4 / 5, ground 3 / 4
    assert log.messages[0].endswith(", mIoU 100.0, mIoU of the semantic head 77.5")
    assert lines(tmp_path)[0]["val"]["semantic_head"]["mean_iou"] == pytest.approx(0.775)
    assert points(tmp_path)["val/mIoU of the semantic head"] == [(5, pytest.approx(0.775))]
    assert points(tmp_path)["val/mIoU"] == [(5, pytest.approx(1))]


def test_notes_are_logged_and_kept_with_their_step(tmp_path, clock, log):
    with Reporter(tmp_path, 30, first_step=11, log_every=5, clock=clock) as reporter:
        reporter.note("resumed")
        train(reporter, clock, [11], first=11)
        reporter.note("skipped [bold]a.png[/bold]")
    assert log.messages == ["resumed", "skipped [bold]a.png[/bold]"]
    assert lines(tmp_path) == [{"step": 10, "note": "resumed"}, {"step": 11, "note": "skipped [bold]a.png[/bold]"}]


def test_a_resumed_run_goes_on_where_the_checkpoint_was(tmp_path, clock, log):
    with Reporter(tmp_path, 8, log_every=2, clock=clock) as reporter:
        train(reporter, clock, range(1, 7))
    with Reporter(tmp_path, 8, first_step=5, log_every=2, clock=clock) as reporter:
        train(reporter, clock, range(5, 9), semantic=1.0, first=5)
    assert [(line["step"], line["losses"]["semantic"]) for line in lines(tmp_path)] == [
        (2, 0.75),
        (4, 1.75),
        (6, 5.5),
        (8, 7.5),
    ]
    assert [line["time"] for line in lines(tmp_path)] == [61.0, 62.0, 123.0, 124.0]
    assert points(tmp_path)["loss/semantic"] == [(2, 0.75), (4, 1.75), (6, 5.5), (8, 7.5)]


def test_an_image_is_a_file_and_in_tensorboard(tmp_path, clock, log):
    image = torch.full((3, 12, 18), 77, dtype=torch.uint8)
    with Reporter(tmp_path, 10, log_every=5, clock=clock) as reporter:
        reporter.image(5, "val", image)
    assert torch.equal(load_image(tmp_path / "images" / "step_00000005_val.png"), image)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(e.step, e.height, e.width) for e in events.Images("val")] == [(5, 12, 18)]


def test_quiet_shows_nothing_and_writes_all_the_same(tmp_path, clock, monkeypatch, log):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with on_stderr(logging.WARNING), Reporter(tmp_path, 2, log_every=1, clock=clock) as reporter:
        train(reporter, clock, [1, 2])
        reporter.note("hello")
    assert stream.getvalue() == ""
    assert [line["step"] for line in lines(tmp_path)] == [1, 2, 2]


def test_without_a_folder_no_file_is_written(tmp_path, monkeypatch, clock, log):
    monkeypatch.chdir(tmp_path)
    with Reporter(None, 1, log_every=1, clock=clock) as reporter:
        train(reporter, clock, [1])
        reporter.evaluation(1, an_evaluation())
        reporter.image(1, "val", torch.zeros(3, 4, 4, dtype=torch.uint8))
    assert not list(tmp_path.iterdir())


def test_the_null_reporter_prints_nothing(monkeypatch, log):
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with NullReporter() as reporter:
        reporter.step(1, {"a": torch.tensor(1.0)}, 0.1, 8, torch.tensor(1.0))
        reporter.evaluation(1, an_evaluation())
        reporter.note("text")
        reporter.image(1, "val", torch.zeros(3, 4, 4, dtype=torch.uint8))
        with reporter.paused("evaluating"):
            pass
    assert (stream.getvalue(), log.messages) == ("", [])


def test_a_terminal_has_a_bar_with_everything_on_it(clock, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    with on_stderr(logging.INFO), Reporter(None, 400, log_every=4, clock=clock) as reporter:
        train(reporter, clock, range(1, 5))
        reporter.note("a note [of] some kind")
        with reporter.paused("evaluating"):
            reporter._bar._live.refresh()
        train(reporter, clock, [5])
        reporter._bar._live.refresh()
    shown = stream.getvalue()
    assert "16.0 images/s; rate 1.8e-3; semantic 1.250, center 0.250, offset 0.062, total 1.562" in shown
    assert "3 min left" in shown
    assert "4/400" in shown
    assert "5/400" in shown
    assert " 1 %" in shown
    assert "evaluating" in shown
    assert "a note [of] some kind\n" in shown
    assert "step 4/400" not in shown  # no lines beside the bar


class TestFullDisk:
    @pytest.fixture
    def full(self, monkeypatch):
        """Makes every append fail with an error number while it is set."""
        append, number = reporting.EventLog.line.__globals__["_GrowingFile"].append, []

        def refuse(file, record):
            if number:
                raise OSError(number[0], "refused")
            append(file, record)

        monkeypatch.setattr("panscape.training.logging.event_log._GrowingFile.append", refuse)
        return number

    def test_training_goes_on_with_one_warning_and_reports_return(self, tmp_path, clock, log, full):
        with Reporter(tmp_path, 8, log_every=2, clock=clock) as reporter:
            train(reporter, clock, [1, 2])
            full.append(errno.ENOSPC)
            train(reporter, clock, [3, 4, 5, 6])
            reporter.evaluation(6, an_evaluation())
            full.clear()
            train(reporter, clock, [7, 8])
        warnings = [record.message for record in log.records if record.levelno == logging.WARNING]
        assert warnings == [
            f"no space left for the logs in {tmp_path} at step 4; training continues, but some entries "
            "will be missing, and checkpoints need space: free some"
        ]
        assert [line["step"] for line in lines(tmp_path)] == [2, 8]
        assert [step for step, _ in points(tmp_path)["loss/total"]] == [2, 8]

    def test_other_errors_are_raised(self, tmp_path, clock, log, full):
        with Reporter(tmp_path, 8, log_every=2, clock=clock) as reporter:
            full.append(errno.EIO)
            with pytest.raises(OSError, match="refused"):
                train(reporter, clock, [1, 2])

    def test_lines_may_go_to_a_file_on_the_same_disk(self, tmp_path, clock, full, monkeypatch):
        class FullFile(io.StringIO):
            def flush(self):
                raise OSError(errno.ENOSPC, "No space left on device")

        full.append(errno.ENOSPC)
        monkeypatch.setattr(sys, "stderr", FullFile())
        with on_stderr(logging.INFO), Reporter(tmp_path, 2, log_every=1, clock=clock) as reporter:
            train(reporter, clock, [1, 2])

    def test_an_image_that_does_not_fit_leaves_nothing(self, tmp_path, clock, log, monkeypatch):
        def refuse(*args, **kwargs):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr("PIL.Image.Image.save", refuse)
        with Reporter(tmp_path, 2, log_every=1, clock=clock) as reporter:
            reporter.image(1, "val", torch.zeros(3, 4, 4, dtype=torch.uint8))
        assert log.messages[0].startswith("no space left for the logs")
        assert not list((tmp_path / "images").iterdir())
