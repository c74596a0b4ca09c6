"""Leave out optional parts of packages that take long to import."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def left_out(*names: str) -> Iterator[None]:
    """Let imports of modules fail within a context, unless they are imported already.

    A package that is imported there and does without them lacks these parts from then on, in the whole process.

    Args:
        names: full names of the modules.
    """
    missing = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(missing))  # type: ignore[arg-type]  # None: importing it fails
    try:
        yield
    finally:
        for name in missing:
            del sys.modules[name]
