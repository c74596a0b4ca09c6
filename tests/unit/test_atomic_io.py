from __future__ import annotations

import errno
import json
import os

import pytest

from panscape.atomic_io import atomic_write, write_json
from panscape.errors import DiskFullError, InvalidArgumentError, UnwritableFileError


@pytest.mark.parametrize("durable", [False, True])
def test_the_file_appears_when_the_block_ends(tmp_path, durable):
    path = tmp_path / "a.txt"
    with atomic_write(path, durable=durable) as temporary:
        assert temporary.parent == path.parent
        assert temporary.suffix == ".txt"
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def fail_halfway(path):
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stopped")


def test_an_error_keeps_the_old_file_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stopped"):
        fail_halfway(path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "kind", "message"),
    [
        (errno.ENOSPC, DiskFullError, "the disk is full; free space, or write to another folder"),
        (errno.EROFS, UnwritableFileError, "the disk is read-only; write to another folder"),
        (errno.EIO, UnwritableFileError, "Input/output error; check the disk, or write to another folder"),
    ],
)
def test_errors_of_the_disk_say_what_to_do(tmp_path, number, kind, message):
    path = tmp_path / "a.txt"
    with pytest.raises(kind) as caught, atomic_write(path):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == f"cannot write {path}: {message}"
    assert (caught.value.errno, caught.value.strerror) == (number, os.strerror(number))


def test_names_that_the_system_refuses_say_what_to_do(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(UnwritableFileError, match="folder: a folder has this name; move it"):
        write_json(tmp_path / "folder", {})
    with pytest.raises(UnwritableFileError, match="the name is too long; shorten the name of the input"):
        write_json(tmp_path / ("a" * 250), {})
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_errors_of_other_files_in_the_block_remain(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.txt"):
        (tmp_path / "missing").read_bytes()


def test_json(tmp_path):
    write_json(tmp_path / "a.json", {"a": [1, "ü"]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": [1, "ü"]}
    with pytest.raises(
        InvalidArgumentError, match=r"cannot write .*a\.json: the folder .*no does not exist; create it"
    ):
        write_json(tmp_path / "no" / "a.json", {})
