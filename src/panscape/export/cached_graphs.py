"""Converted networks in the user's cache: how they are found, chosen and opened, with and without torch."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from panscape.atomic_io import write_json
from panscape.errors import InvalidArgumentError, PanscapeError
from panscape.export.floors import floor_on_scenes
from panscape.geometry import Size
from panscape.user_cache import user_cache
from panscape.version import VERSION
from panscape.zoo.graph_model import GraphModel, SideRange
from panscape.zoo.graphs import open_graph, openvino_computes_in_bf16
from panscape.zoo.published.catalogue import find_entry
from panscape.zoo.saved_files import saved_file

Runtime = Literal["auto", "torch", "onnx", "openvino"]
RuntimePrecision = Literal["auto", "fp32", "bf16"]
RUNTIME_VARIABLE = "PANSCAPE_RUNTIME"
"""Environment variable with the runtime that "auto" stands for."""
_PACKAGES = {"openvino": "openvino", "onnx": "onnxruntime"}  # the fastest first
RUNTIME_NAMES = {"openvino": "OpenVINO", "onnx": "ONNX Runtime"}
_logger = logging.getLogger(__name__)


class CachedNetwork:
    """A network in the cache: its graph, and a JSON file with what is known of it.

    Args:
        folder: of the cache.
        stem: name of its files, which stands for the network and this version of panscape.

    Attributes:
        path: the ONNX file, which may be missing.
        facts: what is known: ``sides`` and ``parity``, or the ``reason`` why it cannot be converted; empty if nothing.
    """

    def __init__(self, folder: Path, stem: str) -> None:
        self.path = folder / f"{stem}.onnx"
        self._facts_path = self.path.with_suffix(".json")
        self.facts = _read(self._facts_path)
        if not _is_whole(self.facts):
            self.facts = {}

    def remember(self, facts: dict[str, Any]) -> None:
        """Keep what is known."""
        self.facts = facts
        write_json(self._facts_path, facts)

    @property
    def sides(self) -> tuple[SideRange, SideRange]:
        """Heights and widths of the images that the graph takes."""
        height, width = (SideRange(*side) for side in self.facts["sides"])
        return height, width

    def parity(self, runtime: str) -> tuple[float, float] | None:
        """Return share of equal pixels and PQ against torch of a runtime with its precision; None if unknown."""
        known = self.facts.get("parity", {}).get(runtime)
        return None if known is None else (known[0], known[1])


def cache_folder() -> Path:
    """Return the folder of converted networks in the user's cache."""
    return user_cache() / "graphs"


def stem_of(network: str, digest: str) -> str:
    """Return the name of the files of a network with this digest in the cache."""
    return f"{network}-{digest}-{VERSION.replace('+', '-')}"


def require_known(runtime: str, precision: str) -> None:
    """Check the names of a runtime and a precision.

    Raises:
        InvalidArgumentError: one is unknown, or the runtime has not the precision.
    """
    for what, given, known in (
        ("runtime", runtime, ("auto", "torch", *_PACKAGES)),
        ("precision", precision, ("auto", "fp32", "bf16")),
    ):
        if given not in known:
            raise InvalidArgumentError(f"expected {' or '.join(known)} as the {what}, got {given!r}")
    if runtime == "onnx" and precision == "bf16":
        raise InvalidArgumentError(
            "expected fp32 for ONNX Runtime, got bf16, in which it does not compute on CPUs; use openvino"
        )


def usual_runtime(runtime: Runtime) -> Runtime:
    """Return what "auto" stands for according to the environment variable, else the given runtime."""
    given = os.environ.get(RUNTIME_VARIABLE)
    return given if runtime == "auto" and given else runtime  # type: ignore[return-value]


def installed_runtimes() -> list[str]:
    """Return the runtimes that are installed with what conversion needs, the fastest first."""
    needed = ("onnx", "onnxscript")
    return [r for r, package in _PACKAGES.items() if all(find_spec(name) is not None for name in (package, *needed))]


def precisions(runtime: str, precision: RuntimePrecision) -> tuple[Literal["fp32", "bf16"], ...]:
    """Return the precisions to try in a runtime."""
    if precision != "auto":
        return (precision,)
    return ("bf16", "fp32") if runtime == "openvino" and openvino_computes_in_bf16() else ("fp32",)


def announce(runtime: str, equal_pixels: float, size: Size | None = None) -> None:
    """Log what runs the network; ``size`` is that of the images, if the graph takes one size only."""
    what = "" if size is None else f"images of {size.height}x{size.width} "
    _logger.info(
        "running %sin %s (as torch in %.2f %% of the pixels of synthetic scenes)", what, runtime, 100 * equal_pixels
    )


def keep_for_start(name: str, stem: str, digest: str, description: Mapping[str, Any]) -> None:
    """Keep what :func:`open_cached` needs to open the converted network of saved weights without torch.

    Args:
        name: name of a bundled model or path of its file; for others nothing is kept.
        stem: name of the files of its network in the cache.
        digest: of the network.
        description: as for :meth:`GraphModel.of`.
    """
    index = _index_of(name)
    if index is not None:
        write_json(index, {"network": stem, "digest": digest, **description})


def open_cached(name: str, runtime: Runtime) -> GraphModel | None:
    """Return a saved model whose network was converted earlier, on a runtime, without torch.

    Args:
        name: name of a bundled model, or path of a ``.safetensors`` file.
        runtime: as for :func:`panscape.export.on_runtime`, whose choice it is.

    Returns:
        None if that function has to decide: nothing is known yet, or another runtime or torch is to be used.
    """
    try:
        index = _index_of(name)
        kept = {} if index is None else _read(index)
        runtime = usual_runtime(runtime)
        available = installed_runtimes()
        if not kept or runtime == "torch" or not available or runtime not in ("auto", *available):
            return None
        network = CachedNetwork(cache_folder(), kept["network"])
        one = available[0] if runtime == "auto" else runtime
        for precision in precisions(one, "auto"):
            graph = open_graph(network.path, one)
            known = network.parity(f"{graph.runtime}, {precision}")
            if known is None:
                return None
            if floor_on_scenes(precision, kept["card"]).is_met(*known):
                graph.compile(precision)
                model = GraphModel.of(graph, precision, kept, network.sides, kept["digest"], name)
                return replace(model, agreement=known[0])
    except (AttributeError, LookupError, TypeError, ValueError, RuntimeError, PanscapeError):
        pass  # what is damaged is made again with torch
    return None


def _index_of(name: str) -> Path | None:
    """Return the file in the cache about weights, by their digest; None for models that are not saved by panscape."""
    entry = find_entry(name)
    path = saved_file(name) if entry is None or entry.access == "bundled" else None
    if path is None or not path.is_file():
        return None
    return cache_folder() / f"{stem_of('weights', hashlib.sha256(path.read_bytes()).hexdigest()[:16])}.json"


def _is_whole(facts: Mapping[str, Any]) -> bool:
    """Return whether facts of a network have all parts in the form in which they are written."""
    if "reason" in facts:
        return isinstance(facts["reason"], str)
    try:
        height, width = facts["sides"]
        lengths = [(int, least) for least, _ in (height, width)] + [(int | None, most) for _, most in (height, width)]
        shares = [(float | int, share) for equal_pixels, pq in facts["parity"].values() for share in (equal_pixels, pq)]
    except (AttributeError, KeyError, TypeError, ValueError):
        return False
    return all(isinstance(value, kind) for kind, value in lengths + shares)


def _read(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):  # a damaged file is one that is not there
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict):
            return found
    return {}
