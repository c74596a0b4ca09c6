"""Processes of their own for tests, forked from a server that has imported torch and started no thread.

Importing torch takes seconds, a fork milliseconds. A process of pytest itself cannot be forked: once gradients were
computed in it, its children wait forever for threads that only it has.
"""

from __future__ import annotations

import atexit
import functools
import importlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What the servers have imported: all that trainings need, or little, for tests of what is imported and when.
EVERYTHING = (
    "training_runs",
    "numba",
    "panscape.metrics.as_torchmetrics",
    "panscape.models.dense_detections",
    "panscape.models.swiftnet",
    "tensorboard.summary.writer.record_writer",
    "torch.utils.tensorboard.summary",
    "tyro",
)
TORCH = ("torch",)
NOTHING: tuple[str, ...] = ()

# Other than that of the tests, so that results which depend on the order of sets are found.
_OWN_ENVIRONMENT = {"PYTHONPATH": str(Path(__file__).parent), "PYTHONHASHSEED": "77"}


def _load(file: str, name: str) -> Callable[..., object]:
    """Return a function of a file; files of tests cannot be imported by name."""
    module_name = Path(file).stem
    module = sys.modules.get(module_name)
    if module is None:
        spec = importlib.util.spec_from_file_location(module_name, file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[module_name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    function: Callable[..., object] = getattr(module, name)
    return function


def _run(
    function: tuple[str, str], arguments: list[Any], out: str, err: str, folder: str, environment: dict[str, str]
) -> int:
    os.setsid()  # a signal for all of its processes reaches no other
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if constants := sys.modules.get("huggingface_hub.constants"):  # Fabric imports torchmetrics, and that transformers
        importlib.reload(constants)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for descriptor, path in ((1, out), (2, err)):
        opened = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(opened, descriptor)
        os.close(opened)
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    try:
        code = _load(*function)(*arguments)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does at its top
        traceback.print_exc()
        code = 1
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # as in an interpreter whose output has no reader
            code = code or 120
    return code if isinstance(code, int) else 0


def serve(modules: tuple[str, ...]) -> None:
    """Fork a process for each line of stdin that asks for one, and answer those that ask how it is."""
    for name in modules:
        importlib.import_module(name)
    if "numba" in modules:  # what it prepares when the first kernel is called takes as long as importing it
        sys.modules["numba"].njit(lambda number: number)(1)
    answers = os.fdopen(os.dup(1), "w")
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        if isinstance(request, int):
            pid, status = os.waitpid(request, os.WNOHANG)
            print(os.waitstatus_to_exitcode(status) if pid else None, file=answers, flush=True)
            continue
        pid = os.fork()
        if pid == 0:
            os._exit(_run(**request))
        print(pid, file=answers, flush=True)


@functools.cache
def _server(modules: tuple[str, ...]) -> subprocess.Popen[str]:
    server = subprocess.Popen(
        [sys.executable, "-c", f"import processes; processes.serve({modules!r})"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | _OWN_ENVIRONMENT,
    )
    atexit.register(server.communicate)  # which ends it
    return server


def run_code(code: str) -> None:
    """Run lines of Python that import what they need, where it matters what is imported."""
    exec(compile(code, "code of a test", "exec"), {"__name__": "__main__"})


class Process:
    """A function in a process of its own; its exit code is what the function returns, or 0.

    Attributes:
        pid: of the process.
        log: the file of what it prints.
    """

    def __init__(
        self,
        log: Path,
        function: Callable[..., object],
        *arguments: object,
        err: Path | None = None,
        folder: Path | None = None,
        environment: dict[str, str] | None = None,
        imported: tuple[str, ...] = EVERYTHING,
    ) -> None:
        """Start the process.

        Args:
            log: a file to which it prints, or a pipe with a name.
            function: of the top of a file.
            *arguments: that JSON can hold; others, such as paths, become strings.
            err: a file of its own for stderr.
            folder: in which it runs; that of the test if not given.
            environment: variables that differ from those of the test, as they are now.
            imported: what is imported already.
        """
        self.log = log
        self._start = log.stat().st_size if log.exists() else 0
        self._code: int | None = None
        self._server = _server(imported)
        request = {"function": (function.__code__.co_filename, function.__name__), "arguments": arguments}
        variables = os.environ | _OWN_ENVIRONMENT | (environment or {})
        request |= {"out": log, "err": err or log, "folder": folder or Path.cwd(), "environment": variables}
        self.pid = int(self._ask(request))

    def _ask(self, request: object) -> str:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request, default=str) + "\n")
        self._server.stdin.flush()
        return self._server.stdout.readline().strip()

    def is_alive(self) -> bool:
        """Return whether the process runs."""
        if self._code is None:
            answer = self._ask(self.pid)
            self._code = None if answer == "None" else int(answer)
        return self._code is None

    def wait_until(self, condition: Callable[[], object]) -> bool:
        """Wait for something or for the end of the process; tell whether it came."""
        deadline = time.monotonic() + 120
        while not condition():
            if not self.is_alive():
                return bool(condition())
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                raise AssertionError(self.text)
            time.sleep(0.001)
        return True

    def end(self) -> int:
        """Wait for the end; return the exit code, that of a signal negative."""
        self.wait_until(lambda: not self.is_alive())
        assert self._code is not None
        return self._code

    def signal_all(self, number: int) -> None:
        """Send a signal to the process and those that it has started."""
        os.killpg(self.pid, number)

    @property
    def text(self) -> str:
        """What it has printed."""
        return self.log.read_bytes()[self._start :].decode() if self.log.exists() else ""

    def children(self) -> list[int]:
        """Return the processes that it has started."""
        task = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in task.read_text().split()]


def end_together(folder: Path, function: Callable[..., object], count: int, *arguments: object) -> None:
    """Run ``function(RANK, *arguments)`` in processes that work together; all have to succeed."""
    started = [Process(folder / f"log.{rank}", function, rank, *arguments) for rank in range(count)]
    codes = [one.end() for one in started]
    assert codes == [0] * count, "\n".join(one.text for one in started)


def are_gone(pids: list[int], seconds: float = 60) -> bool:
    """Wait for processes that are not ours to end."""
    deadline = time.monotonic() + seconds
    while any(_is_running(pid) for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
