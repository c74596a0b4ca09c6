"""Read NumPy arrays from pickles, as detectron2 publishes weights, without executing code from the file.

A pickle is a program: it names functions, and reading it calls them. Here every name that arrays and plain containers
need is replaced by a small function of ours, which checks its arguments, and any other name is rejected. Not even
NumPy's own functions are called with the file's arguments, as they do not validate them.
"""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from panscape.errors import shown

_DTYPES = frozenset({"b1", "u1", "i1", "i2", "i4", "i8", "f2", "f4", "f8"})
_NDARRAY = "numpy.ndarray"  # placeholder for the class, which pickles name; it is not called


class UnsafePickleError(pickle.UnpicklingError):
    """A pickle contains something other than arrays of numbers and plain containers."""


class PickledArray:
    """Placeholder for an array while a pickle is read: created empty, then filled with its state.

    Attributes:
        array: its values, in this machine's byte order; None until they are known.
    """

    __slots__ = ("array",)

    def __init__(self) -> None:
        self.array: NDArray[Any] | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        shape, kind, is_fortran, data = state[-4:]  # before them a version of this layout
        self.fill(data, kind, shape, "F" if is_fortran else "C")

    def fill(self, data: Any, kind: Any, shape: Any, order: str) -> None:
        """Set the values if their number matches the shape.

        Raises:
            ValueError: there are more or fewer values.
            AttributeError, TypeError: the arguments are not values, their type and their shape.
        """
        values = data.encode("latin1") if isinstance(data, str) else bytes(memoryview(data))
        dtype: np.dtype[Any] = kind.dtype
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(values):
            raise ValueError(f"expected an array of shape {shown(shape)}, got {len(values)} bytes")
        array = np.frombuffer(values, dtype).reshape(shape, order="F" if order == "F" else "C")
        self.array = array.astype(dtype.newbyteorder("="), order="C")


class _Kind:
    """Placeholder for ``numpy.dtype`` while a pickle is read."""

    __slots__ = ("dtype",)

    def __init__(self, code: str, *_: object) -> None:
        if code not in _DTYPES:
            raise UnsafePickleError(f"an array of type {shown(code)}")
        self.dtype: np.dtype[Any] = np.dtype(code)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] in ("<", ">"):
            self.dtype = self.dtype.newbyteorder(state[1])


class _ArrayUnpickler(pickle.Unpickler):
    # Methods, not functions: a pickle could change the defaults of a function.

    def find_class(self, module: str, name: str, /) -> Any:
        known = {
            "numpy.ndarray": _NDARRAY,
            "numpy.dtype": _Kind,
            "numpy.core.multiarray._reconstruct": self._reconstruct,
            "numpy.core.multiarray.scalar": self._scalar,
            "numpy.core.numeric._frombuffer": self._frombuffer,
            "collections.OrderedDict": dict,
            "builtins.bytes": self._no_bytes,
            "__builtin__.bytes": self._no_bytes,
            "_codecs.encode": self._encode,
        }
        # NumPy 2 renamed its module "core" to "_core".
        found = known.get(f"{module}.{name}".replace("numpy._core.", "numpy.core.", 1))
        if found is None:
            raise UnsafePickleError(shown(f"{module}.{name}"))
        return found

    def _reconstruct(self, kind: object, *_: object) -> PickledArray:
        if kind is not _NDARRAY:
            raise TypeError(f"expected the class of arrays, got {shown(kind)}")
        return PickledArray()

    def _scalar(self, kind: object, data: object) -> PickledArray:
        return self._frombuffer(data, kind, (), "C")

    def _frombuffer(self, data: object, kind: object, shape: object, order: object, axes: Any = None) -> PickledArray:
        made = PickledArray()
        made.fill(data, kind, shape, str(order))
        if axes is not None and made.array is not None:
            made.array = made.array.transpose(axes).copy()
        return made

    # Encodings of bytes that Python 3 uses in pickles for Python 2.
    def _no_bytes(self) -> bytes:
        return b""

    def _encode(self, text: str, encoding: str) -> bytes:
        if encoding != "latin1":
            raise ValueError(f"expected bytes written as latin1, got {shown(encoding)}")
        return text.encode("latin1")


def load_pickled_arrays(path: Path) -> Any:
    """Read a pickle of arrays, numbers, strings, tuples, lists and dicts, also one of Python 2 or of any NumPy.

    Returns:
        The pickled object, with a :class:`PickledArray` for each array or scalar of NumPy.

    Raises:
        UnsafePickleError: it contains something else, which was not executed.
        OSError: the file cannot be opened.
        Exception: it is damaged or not a pickle; one of the list in ``panscape.zoo.published.read``.
    """
    with path.open("rb") as file:
        # latin1 maps the bytes of Python 2 one to one.
        return _ArrayUnpickler(file, encoding="latin1").load()
