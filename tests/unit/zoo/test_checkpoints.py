from __future__ import annotations

import collections
import errno
import logging
import os
import random

import pytest
import torch
from disk import room_for
from torch import nn

from panscape.errors import DiskFullError, InvalidArgumentError, UnreadableFileError, UnwritableFileError
from panscape.zoo.checkpoints import Checkpoints, saved_steps


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_training_comes_back_as_it_was(tmp_path):
    def trained(model, optimizer):
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.ones(2, 3, 8, 8)).square().sum().backward()
            optimizer.step()
        return [p.detach().clone() for p in model.parameters()]

    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))
    model.append(nn.Conv2d(4, 4, 1))
    model[3].weight = model[2].weight  # shared weights stay shared on the disk, too
    optimizer = torch.optim.AdamW(model.parameters())
    trained(model, optimizer)
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "random": torch.get_rng_state(),
        "notes": {"best": 0.5, "names": ["ü", None, True], "size": (3, 4), "raw": b"\0"},
    }
    path = Checkpoints(tmp_path / "a" / "checkpoints").save(7, state)
    assert path == tmp_path / "a" / "checkpoints" / "step_00000007.ckpt"
    expected = trained(model, optimizer)

    step, loaded = Checkpoints(path.parent).load()
    assert step == 7
    assert loaded["notes"] == state["notes"]
    assert torch.equal(loaded["random"], state["random"])
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1))
    other[3].weight = other[2].weight
    again = torch.optim.AdamW(other.parameters())
    other.load_state_dict(loaded["model"])
    again.load_state_dict(loaded["optimizer"])
    for a, b in zip(trained(other, again), expected, strict=True):
        assert torch.equal(a, b)


def test_none_yet(tmp_path):
    assert Checkpoints(tmp_path / "new").load() is None
    assert saved_steps(tmp_path / "nowhere") == []


def test_the_newest_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (5, 10, 100_000_000, 20):
        checkpoints.save(step, {"n": step})
    assert names(tmp_path) == ["step_00000020.ckpt", "step_100000000.ckpt"]
    assert saved_steps(tmp_path) == [20, 100_000_000]
    assert checkpoints.load() == (100_000_000, {"n": 100_000_000})
    with pytest.raises(InvalidArgumentError, match="expected to keep at least one checkpoint, got 0"):
        Checkpoints(tmp_path, keep=0)


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path):
    kept = [".hidden", ".step_notes", "notes.ckpt", "step_3.txt"]
    for name in [*kept, ".step_00000003.0a1b2c3d.ckpt"]:
        (tmp_path / name).write_text("x")
    Checkpoints(tmp_path)
    assert names(tmp_path) == sorted(kept)


class TestDamage:
    @pytest.fixture
    def checkpoints(self, tmp_path):
        checkpoints = Checkpoints(tmp_path)
        for step in (1, 2, 3):
            checkpoints.save(step, {"weights": torch.full((50,), float(step))})
        return checkpoints

    @pytest.fixture
    def load(self, checkpoints, caplog):
        """Returns the step of the loaded checkpoint and the warnings."""

        def load():
            caplog.clear()
            step, state = checkpoints.load()
            assert torch.equal(state["weights"], torch.full((50,), float(step)))
            assert all(record.levelno == logging.WARNING for record in caplog.records)
            return step, caplog.messages

        return load

    def test_a_file_cut_short(self, checkpoints, load):
        path = checkpoints.path(3)
        whole = path.read_bytes()
        for size in [0, 1, 55, 56, 57, *range(100, len(whole), 97), len(whole) - 1]:
            path.write_bytes(whole[:size])
            expected = f"{len(whole)}" if size >= 56 else "at least 56"
            assert load() == (
                2,
                [
                    f"checkpoint step_00000003.ckpt is damaged (expected {expected} bytes, found {size}); "
                    "using step_00000002.ckpt"
                ],
            )
        path.write_bytes(whole)
        assert load() == (3, [])

    def test_any_bit_that_changed(self, checkpoints, load):
        path = checkpoints.path(3)
        whole = path.read_bytes()
        chance = random.Random(0)
        header = range(56 * 8)
        for bit in [*header, *chance.sample(range(56 * 8, len(whole) * 8), 200)]:
            changed = bytearray(whole)
            changed[bit // 8] ^= 1 << bit % 8
            path.write_bytes(changed)
            step, (line,) = load()
            assert step == 2
            assert line.startswith("checkpoint step_00000003.ckpt is damaged (")

    def test_zeros_after_a_loss_of_power(self, checkpoints, load):
        path = checkpoints.path(3)
        path.write_bytes(bytes(path.stat().st_size))
        assert load() == (
            2,
            [
                "checkpoint step_00000003.ckpt is damaged (expected it to begin with b'panscape state 1', found "
                f"{bytes(16)!r}); using step_00000002.ckpt"
            ],
        )

    def test_another_name(self, checkpoints, load):
        checkpoints.path(2).rename(checkpoints.path(9))
        step, lines = load()
        assert (step, lines) == (
            3,
            ["checkpoint step_00000009.ckpt is damaged (it was written as step 2); using step_00000003.ckpt"],
        )

    def test_all_of_them(self, checkpoints, tmp_path):
        for step in (1, 2, 3):
            checkpoints.path(step).write_bytes(b"")
        with pytest.raises(UnreadableFileError) as caught:
            checkpoints.load()
        one = "is damaged (expected at least 56 bytes, found 0)"
        assert str(caught.value) == (
            f"{tmp_path}: no checkpoint is intact: checkpoint step_00000003.ckpt {one}; "
            f"checkpoint step_00000002.ckpt {one}; checkpoint step_00000001.ckpt {one}; "
            "restore one from a copy, or use another folder"
        )
        assert saved_steps(tmp_path) == [1, 2, 3]

    def test_a_damaged_one_takes_no_whole_ones_place(self, checkpoints, tmp_path):
        checkpoints.path(3).write_bytes(b"")
        again = Checkpoints(tmp_path, keep=2)
        assert again.load()[0] == 2
        again.save(4, {})
        assert saved_steps(tmp_path) == [2, 3, 4]
        again.save(3, {})  # written over, it counts again
        assert saved_steps(tmp_path) == [3, 4]
        again.save(5, {})
        assert saved_steps(tmp_path) == [4, 5]


class TestWriting:
    def test_a_disk_without_room(self, tmp_path):
        checkpoints = Checkpoints(tmp_path)
        first = checkpoints.save(1, {"weights": torch.zeros(250_000)})
        size = first.stat().st_size
        content = first.read_bytes()
        for room in (0, 500_000, size - 1):
            with room_for(room), pytest.raises(DiskFullError) as caught:
                checkpoints.save(2, {"weights": torch.zeros(250_000)})
            assert str(caught.value) == (
                f"cannot write {tmp_path}/step_00000002.ckpt: it needs {size:,} bytes: File too large; earlier "
                f"checkpoints are unchanged; free space in {tmp_path}, then repeat the command with --resume"
            )
            assert names(tmp_path) == ["step_00000001.ckpt"]
            assert first.read_bytes() == content
        assert checkpoints.save(2, {"weights": torch.zeros(250_000)}).stat().st_size == size
        assert saved_steps(tmp_path) == [1, 2]

    @pytest.mark.parametrize(
        ("number", "kind", "text"),
        [
            (errno.ENOSPC, DiskFullError, "No space left on device"),
            (errno.EDQUOT, DiskFullError, "Disk quota exceeded"),
            (errno.EIO, UnwritableFileError, "Input/output error"),
        ],
    )
    def test_errors_that_come_when_the_disk_is_reached(self, tmp_path, monkeypatch, number, kind, text):
        def refuse(descriptor):
            raise OSError(number, os.strerror(number))

        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(1, {})
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            with pytest.raises(UnwritableFileError, match=f"{text}; earlier checkpoints are unchanged") as caught:
                checkpoints.save(2, {})
        assert type(caught.value) is kind
        assert names(tmp_path) == ["step_00000001.ckpt"]

    @pytest.mark.parametrize(
        ("state", "message"),
        [
            ({"a": {"b": [1, {2}]}}, r"got a set as state\.a\.b\.1"),
            ({"a": {(1, object()): 2}}, r"got a object as a key of state\.a\.1"),
            ({"a": collections.defaultdict(int)}, r"got a defaultdict as state\.a"),
        ],
    )
    def test_maps_that_could_not_be_read_again(self, tmp_path, state, message):
        with pytest.raises(InvalidArgumentError, match=message):
            Checkpoints(tmp_path).save(1, state)
        assert names(tmp_path) == []

    def test_a_folder_that_cannot_be(self, tmp_path):
        (tmp_path / "file").write_text("x")
        with pytest.raises(
            UnwritableFileError, match=r"cannot write .*/file/a: Not a directory; give a writable folder"
        ):
            Checkpoints(tmp_path / "file" / "a")
