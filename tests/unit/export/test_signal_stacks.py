"""Graphs that come and go leave the process a stack for its signal handlers."""

from __future__ import annotations

import ctypes
import gc
import sys
from pathlib import Path

import pytest
import torch
from processes import TORCH, Process

from panscape import create_model
from panscape.export import export_model

pytest.importorskip("openvino", reason="needs the extra openvino")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the stack")


class _Stack(ctypes.Structure):
    """``stack_t`` of Linux."""

    _fields_ = (("start", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


def _stack() -> tuple[int, int]:
    """Return the address and size of the stack of signal handlers of this thread."""
    found = _Stack()
    assert ctypes.CDLL(None).sigaltstack(None, ctypes.byref(found)) == 0
    return found.start or 0, found.size


def open_and_close_in_order(path: str) -> None:
    from panscape.zoo.graphs import open_graph

    stacks, graphs = [], []
    for _ in range(2):
        graphs.append(open_graph(Path(path)))
        graphs[-1].compile("fp32")
        graphs[-1].prepare((128, 128))
        stacks.append(_stack())
    while graphs:
        del graphs[0]
        gc.collect()
        stacks.append(_stack())
    assert stacks == stacks[:1] * 4, stacks


def test_graphs_share_one_stack_which_is_never_freed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model("swiftnet", "town", backbone="residual_xs", width=8, levels=1)
    export_model(model, tmp_path / "m.xml")
    process = Process(tmp_path / "log", open_and_close_in_order, tmp_path / "m.xml", imported=TORCH)
    assert process.end() == 0, process.text
