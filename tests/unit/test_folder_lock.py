"""One process at a time in a folder; a killed process leaves no lock."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import NOTHING, Process

from panscape.errors import InvalidArgumentError, UnwritableFileError
from panscape.folder_lock import FolderLock


def lock_of(folder: Path) -> FolderLock:
    return FolderLock(folder / "run.lock", "training")


def hold(folder: str) -> None:
    """Hold the lock in this process, and have a child that outlives it, as loader processes do for a while."""
    lock_of(Path(folder)).acquire()
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    (Path(folder) / "is held").touch()
    signal.pause()


def test_another_process_is_refused_until_the_holder_is_killed(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    holder = Process(tmp_path / "log", hold, out, imported=NOTHING)
    assert holder.wait_until((out / "is held").exists), holder.text
    children = holder.children()
    with pytest.raises(InvalidArgumentError) as caught:
        lock_of(out).acquire()
    record = json.loads((out / "run.lock").read_text())
    assert str(caught.value) == (
        f"{out} is in use by another training, process {holder.pid} on {os.uname().nodename} since {record['since']}; "
        "wait for it or stop it, or give another --out"
    )
    os.kill(holder.pid, signal.SIGKILL)
    holder.end()
    lock = lock_of(out)
    lock.acquire()  # although the file and a child of the holder are still there
    os.kill(children[0], signal.SIGKILL)
    assert json.loads((out / "run.lock").read_text())["pid"] == os.getpid()
    lock.close()
    assert [path.name for path in out.iterdir()] == ["is held"]
    lock.close()


def test_the_end_of_the_holder_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    holder = Process(tmp_path / "log", hold, tmp_path / "out", imported=NOTHING)
    assert holder.wait_until((tmp_path / "out" / "is held").exists), holder.text
    waits = 0

    def wait(_: float) -> None:
        nonlocal waits
        waits += 1
        if waits == 3:
            holder.signal_all(signal.SIGKILL)
            holder.end()

    monkeypatch.setattr("panscape.folder_lock.time", SimpleNamespace(sleep=wait))
    caplog.set_level("INFO", "panscape")
    lock = lock_of(tmp_path / "out")
    lock.acquire(wait=True)
    lock.close()
    assert waits >= 3
    assert len(caplog.messages) == 1
    assert caplog.messages[0].endswith("; waiting for it")


def test_a_folder_that_cannot_be_locked(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(InvalidArgumentError, match=r"expected a folder, but .*/file is a file; give another"):
        lock_of(path).acquire()
    with pytest.raises(UnwritableFileError, match=r"cannot write .*/file/run: Not a directory; free space or give"):
        lock_of(path / "run").acquire()
    assert path.read_text() == "x"


def test_a_file_system_without_locks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(descriptor: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("panscape.folder_lock._lock", fails)
    lock = lock_of(tmp_path)
    lock.acquire()
    assert caplog.messages == [f"{tmp_path} cannot be locked (No locks available): start no second training in it"]
    lock.close()
    assert list(tmp_path.iterdir()) == []
