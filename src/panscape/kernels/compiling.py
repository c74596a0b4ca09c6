"""Compilation of the kernels for the processor at hand, when they are first called.

Importing numba takes about a second and compiling a kernel about as long, so neither happens before a kernel is
called. What was compiled is kept on disk, beside the package or in the user's cache (``NUMBA_CACHE_DIR`` chooses
another place), with the processor, the source of the file and the types of the arguments as its key. Later processes
only load it. Of processes that need the same kernel at the same time, one compiles and the others wait.

Kernels may call kernels of the same file. Not of others: what is kept on disk is renewed when a kernel's own file
changes, and only then.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_NOTICE = "panscape: compiling kernels for this processor, once (a few seconds) ..."


class CompiledKernel(Generic[P, R]):
    """A function on numpy arrays and numbers that is compiled when first called.

    Arithmetic keeps Python's order and rounds after each operation, so results are the same bits everywhere. Other
    Python threads run meanwhile.
    """

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the compiled function."""
        result: R = self.dispatcher(*args, **kwargs)
        return result

    @functools.cached_property
    def dispatcher(self) -> Any:
        """What numba makes of the function."""
        return _dispatcher(self.function)


def compiled(function: Callable[P, R]) -> CompiledKernel[P, R]:
    """Make ``function`` a :class:`CompiledKernel`; for use as a decorator."""
    return CompiledKernel(function)


def _dispatcher(function: Callable[..., Any]) -> Any:
    import numba

    _announce_compilation()
    # Numba must see the kernels that this one calls as its own objects.
    names: dict[str, Any] = function.__globals__
    called = {name: names[name] for name in function.__code__.co_names if isinstance(names.get(name), CompiledKernel)}
    if called:
        names = {**names, **{name: kernel.dispatcher for name, kernel in called.items()}}
        linked = types.FunctionType(function.__code__, names, function.__name__, function.__defaults__)
        linked.__qualname__, linked.__module__ = function.__qualname__, function.__module__
        function = linked
    try:
        dispatcher: Any = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # there is no folder that can be written to: compile anew in each process
        return numba.njit(nogil=True)(function)
    compile_or_load = dispatcher.compile
    lock = Path(dispatcher.stats.cache_path) / f".{function.__module__}.{function.__qualname__}.lock"

    def compile_alone(signature: Any) -> Any:
        # Numba's own lock first: a thread that holds it may wait for this kernel, which another thread would hold.
        with numba.core.compiler_lock.global_compiler_lock, _held(lock):
            return compile_or_load(signature)

    # Numba replaces the index of a kernel without regard to what others write at that time. It could then name a file
    # with the code for other types.
    dispatcher.compile = compile_alone
    return dispatcher


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold a lock between processes, where the system has such locks."""
    if os.name == "nt":
        yield
        return
    import fcntl

    with path.open("w") as file:
        with contextlib.suppress(OSError):  # some network drives have none
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)  # a process forked meanwhile would hold it as long as it lives


@functools.cache
def _announce_compilation() -> None:
    """Say once what the wait is for, when a kernel of this package is compiled and not merely loaded."""
    from numba.core import event

    class Announcer(event.Listener):
        told = False

        def on_start(self, event: Any) -> None:
            if not self.told and event.data["dispatcher"].py_func.__module__.startswith("panscape."):
                self.told = True
                print(_NOTICE, file=sys.stderr, flush=True)

        def on_end(self, event: Any) -> None:
            pass

    register: Any = event.register
    register("numba:compile", Announcer())
