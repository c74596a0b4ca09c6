"""Just-in-time compilation of the CPU kernels with numba, at their first call.

Importing numba takes about a second and compiling a kernel about as long, so neither happens before a kernel is
called. Compiled code is cached on disk, beside the package or in the user's cache (``NUMBA_CACHE_DIR`` sets another
folder). The cache key consists of the processor, the source of the file and the types of the arguments. Later
processes only load the code. If several processes need the same kernel at the same time, one compiles it and the
others wait.

Kernels may call kernels of the same file and of other files. Numba invalidates the cache when a kernel's own file
changes; a digest of the files of the kernels it calls is part of the key, so a change there invalidates it as well.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import os
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

_logger = logging.getLogger(__name__)


class JitKernel(Generic[P, R]):
    """A function on numpy arrays and numbers that is compiled at its first call.

    Arithmetic keeps Python's order and rounds after each operation, so results are bit-identical everywhere. The GIL
    is released during a call.
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
        """Numba's dispatcher of the function."""
        return _dispatcher(self.function)


def jit(function: Callable[P, R]) -> JitKernel[P, R]:
    """Turn ``function`` into a :class:`JitKernel`; a decorator."""
    return JitKernel(function)


def _dispatcher(function: Callable[..., Any]) -> Any:
    import numba

    _announce_compilation()
    called = _called(function)
    if called:
        # Numba must see its own dispatchers in place of the kernels that this one calls.
        names = {**function.__globals__, **{name: kernel.dispatcher for name, kernel in called.items()}}
        # Closure contents are part of numba's cache key, which otherwise covers only a kernel's own file.
        code = function.__code__.replace(co_freevars=("digest_of_other_files",))
        closure = (types.CellType(_digest_of_other_files(function)),)
        linked = types.FunctionType(code, names, function.__name__, function.__defaults__, closure)
        linked.__qualname__, linked.__module__ = function.__qualname__, function.__module__
        function = linked
    try:
        dispatcher: Any = numba.njit(cache=True, nogil=True)(function)
    except RuntimeError:  # no cache folder is writable: compile in each process
        return numba.njit(nogil=True)(function)
    compile_or_load = dispatcher.compile
    lock = Path(dispatcher.stats.cache_path) / f".{function.__module__}.{function.__qualname__}.lock"

    def compile_alone(signature: Any) -> Any:
        # Take numba's own lock first: a thread that holds it may wait for this kernel's lock, held by another thread.
        with numba.core.compiler_lock.global_compiler_lock, _held(lock):
            try:
                return compile_or_load(signature)
            except (AttributeError, ImportError):  # an earlier version's cache names a class that has moved since
                dispatcher._cache.flush()
                return compile_or_load(signature)

    # Numba replaces the index of a kernel without synchronising with other processes. The index could then refer to a
    # file with the code for other types.
    dispatcher.compile = compile_alone
    return dispatcher


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold an inter-process file lock, where the system supports it."""
    if os.name == "nt":
        yield
        return
    import fcntl

    with path.open("w") as file:
        with contextlib.suppress(OSError):  # some network drives have no locks
            fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)  # a process forked meanwhile would otherwise hold it until it exits


def _called(function: Callable[..., Any]) -> dict[str, JitKernel[..., Any]]:
    """Return the kernels that a function calls, by their global names."""
    names: dict[str, Any] = function.__globals__
    return {name: names[name] for name in function.__code__.co_names if isinstance(names.get(name), JitKernel)}


def _kernels_below(function: Callable[..., Any], known: set[JitKernel[..., Any]]) -> set[JitKernel[..., Any]]:
    """Add all kernels that a function calls, directly or indirectly, to the ``known`` ones and return them."""
    for kernel in _called(function).values():
        if kernel not in known:
            known.add(kernel)
            _kernels_below(kernel.function, known)
    return known


def _digest_of_other_files(function: Callable[..., Any]) -> str:
    files = {kernel.function.__code__.co_filename for kernel in _kernels_below(function, set())}
    digest = hashlib.sha256()
    for file in sorted(files - {function.__code__.co_filename}):
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()


@functools.cache
def _announce_compilation() -> None:
    """Log one notice when a kernel of this package is compiled rather than loaded from the cache."""
    from numba.core import event

    class Announcer(event.Listener):
        announced = False

        def on_start(self, event: Any) -> None:
            if not self.announced and event.data["dispatcher"].py_func.__module__.startswith("panscape."):
                self.announced = True
                _logger.info("compiling kernels for this processor, once (a few seconds) ...")

        def on_end(self, event: Any) -> None:
            pass

    register: Any = event.register
    register("numba:compile", Announcer())
