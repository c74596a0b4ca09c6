"""The files of a training, read back with json and with TensorBoard's own reader."""

from __future__ import annotations

import errno
import io
import json
import math

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from panscape.images import to_image_tensor
from panscape.training.logging.event_log import EventLog


def opened(folder, first_step=1):
    journal = EventLog(folder, first_step)
    journal.open()
    return journal


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def curves(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0, "images": 0})
    return events.Reload()


def points(folder, tag):
    return [(event.step, event.value) for event in curves(folder).Scalars(tag)]


def test_records_are_on_disk_before_the_journal_is_closed(tmp_path):
    journal = opened(tmp_path)
    journal.line({"step": 1, "losses": {"a": 0.5}})
    journal.scalars(1, {"loss/a": 0.5, "loss/b c": 2.0})
    journal.scalars(2, {"loss/a": 0.25})
    assert lines(tmp_path) == [{"step": 1, "losses": {"a": 0.5}}]
    assert points(tmp_path, "loss/a") == [(1, 0.5), (2, 0.25)]
    assert points(tmp_path, "loss/b c") == [(1, 2.0)]
    journal.close()


def test_numbers_that_are_not_finite_are_null_and_no_points(tmp_path):
    with opened(tmp_path) as journal:
        journal.line({"step": 1, "losses": {"a": math.nan, "b": -math.inf}})
        journal.scalars(1, {"a": math.nan, "b": math.inf, "c": None, "d": 0.0})
    assert lines(tmp_path) == [{"step": 1, "losses": {"a": None, "b": None}}]
    assert curves(tmp_path).Tags()["scalars"] == ["d"]


def test_an_image_comes_back_from_tensorboard(tmp_path):
    image = torch.randint(0, 256, (3, 20, 30), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with opened(tmp_path) as journal:
        journal.image(7, "val", image)
    (event,) = curves(tmp_path).Images("val")
    assert (event.step, event.height, event.width) == (7, 20, 30)
    assert torch.equal(to_image_tensor(Image.open(io.BytesIO(event.encoded_image_string))), image)


def test_a_resumed_run_replaces_what_was_written_of_its_steps(tmp_path):
    with opened(tmp_path) as journal:
        for step in (10, 20, 30):
            journal.line({"step": step, "time": step / 2, "total": 1.0})
            journal.scalars(step, {"loss": 1.0})
        journal.line({"step": 30, "note": "lost"})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 15, "tot')  # the process was killed
    with opened(tmp_path, first_step=21) as journal:
        assert journal.time_before == 10.0
        journal.line({"step": 30, "total": 0.5})
        journal.scalars(30, {"loss": 0.5})
        journal.scalars(40, {"loss": 0.25})
    assert [(line["step"], line["total"]) for line in lines(tmp_path)] == [(10, 1.0), (20, 1.0), (30, 0.5)]
    assert points(tmp_path, "loss") == [(10, 1.0), (20, 1.0), (30, 0.5), (40, 0.25)]


def test_curves_go_on_after_a_record_cut_short(tmp_path):
    with opened(tmp_path) as journal:
        journal.scalars(1, {"loss": 1.0})
    (events,) = (tmp_path / "tensorboard").iterdir()
    with events.open("ab") as file:
        file.write(b"\x20\x00\x00\x00\x00\x00\x00\x00half")
    with opened(tmp_path, first_step=2) as journal:
        journal.scalars(2, {"loss": 0.5})
    assert points(tmp_path, "loss") == [(1, 1.0), (2, 0.5)]


@pytest.mark.parametrize("line", ["[1]", "7", '"text"', "{}", '{"step": null}', '{"step": 3}', "\xff"])
def test_lines_that_no_training_wrote_are_dropped(tmp_path, line):
    (tmp_path / "metrics.jsonl").write_bytes(b'{"step": 1, "time": 2}\n' + line.encode("latin-1") + b"\n")
    with opened(tmp_path, first_step=3) as journal:
        assert journal.time_before == 2.0
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1, "time": 2}\n'


class SmallDisk:
    """A file on a disk with limited space, which writes as much as fits."""

    def __init__(self, file, space):
        self._file, self.space = file, space

    def write(self, data):
        if not self.space:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._file.write(bytes(data)[: self.space])
        self.space -= written
        return written

    def truncate(self, length):
        before = self._file.seek(0, 2)
        self.space += before - self._file.truncate(length)

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_a_record_that_does_not_fit_leaves_no_trace(tmp_path):
    with opened(tmp_path) as journal:
        journal.line({"step": 1})
        disk = journal._lines._file = SmallDisk(journal._lines._file, 40)
        with pytest.raises(OSError, match="No space left"):
            journal.line({"step": 2, "note": "x" * 100})
        assert disk.space == 40
        journal.line({"step": 3})
        disk = journal._events._file = SmallDisk(journal._events._file, 100)
        with pytest.raises(OSError, match="No space left"):
            journal.scalars(2, {"a": 1.0, "b" * 100: 1.0})
        assert disk.space == 100
        journal.scalars(3, {"a": 3.0})
    assert lines(tmp_path) == [{"step": 1}, {"step": 3}]
    assert points(tmp_path, "a") == [(3, 3.0)]
