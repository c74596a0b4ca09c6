"""Models whose forward pass runs in another runtime than torch, converted once into the user's cache."""

from __future__ import annotations

import copy
import json
import logging
import os
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any, Literal

import torch
from torch import Tensor

from panscape.atomic_io import atomic_write, unwritable, write_json
from panscape.errors import InvalidArgumentError, UnreadableFileError, UnwritableFileError, in_one_line
from panscape.export.onnx import to_onnx
from panscape.export.parity import FLOORS, compare, synthetic_scenes
from panscape.export.trace import NeedsSizeError, trace
from panscape.geometry import Size
from panscape.models import PanopticModel
from panscape.models.digest import network_digest
from panscape.models.prediction import require_network_input
from panscape.user_cache import user_cache
from panscape.zoo.exported import SideRange, outputs_type, run_graph
from panscape.zoo.graphs import Graph, open_graph, require_runtime

Runtime = Literal["auto", "torch", "onnx", "openvino"]
RuntimePrecision = Literal["auto", "fp32", "bf16"]
RUNTIME_VARIABLE = "PANSCAPE_RUNTIME"
"""Environment variable with the runtime that "auto" stands for."""
_PACKAGES = {"openvino": "openvino", "onnx": "onnxruntime"}  # the fastest first
# A graph of one size is worth its conversion once images of this size have taken as long in torch: however many follow,
# that is at most twice what the better choice would have taken. Measured, with the comparison; see docs/export.md.
_SECONDS_BEFORE_CONVERSION = 60.0
_MOST_SIZES = 4  # of a network in the cache, which weights make large
_logger = logging.getLogger(__name__)


def on_runtime(
    model: PanopticModel,
    runtime: Runtime = "auto",
    *,
    precision: RuntimePrecision = "auto",
    cache: Path | None = None,
) -> PanopticModel:
    """Return a model that runs its network in a runtime that is faster than torch on CPUs.

    The network is converted to ONNX once, which takes several times as long as loading, and kept in the user's cache
    with the comparison of its maps with those of torch. Everything else is the code and the weights of the given model.
    Images that the graph does not take and visualisations of features run in torch. It is for inference: the graph does
    not follow when weights change, which the two models share.

    Args:
        model: on the CPU; it is not changed. An exported model is returned as it is.
        runtime: "openvino", "onnx" (ONNX Runtime), "torch" (the given model), or "auto": the first of them that is
            installed and whose maps agree with those of torch, see :data:`FLOORS`; or what the environment variable
            PANSCAPE_RUNTIME says.
        precision: numeric precision; "auto" is "bf16" in OpenVINO on processors that compute in it if the maps agree,
            else "fp32".
        cache: folder of converted networks; None for the user's.

    Raises:
        InvalidArgumentError: a name is unknown; or a runtime other than "auto" cannot run the network, has not the
            precision, or its maps differ by more than the floor allows.
        MissingExtraError: the runtime is not installed.
        UnwritableFileError: the cache cannot be written, and the runtime is not "auto".
    """
    _require_known(runtime, precision)
    if runtime == "auto" and os.environ.get(RUNTIME_VARIABLE):
        runtime = os.environ[RUNTIME_VARIABLE]  # type: ignore[assignment]
        _require_known(runtime, precision)
    if runtime == "torch" or (model.exported_file is not None and runtime == "auto"):
        return model
    if model.exported_file is not None:
        raise InvalidArgumentError(
            f"expected the runtime auto for the exported model {model.exported_file}, whose format decides it, got "
            f"{runtime}; export again for another one"
        )
    if model.mean.device.type != "cpu":
        raise InvalidArgumentError(f"expected a model on the CPU for {runtime}, got it on {model.mean.device}")
    if runtime != "auto":
        require_runtime(runtime)
        return _Converted(model, cache).model_on(runtime, precision)
    for installed in _installed():
        try:
            converted = _Converted(model, cache)
            return converted.model_on(installed, precision)
        except NeedsSizeError:
            # ONNX Runtime gains too little; in bf16, torch can run all images.
            if installed == "openvino" and precision != "bf16":
                return _ForwardBySize(converted, precision).model
        except (InvalidArgumentError, UnwritableFileError) as error:
            _logger.info("not running in %s: %s", installed, error)
    return model


def _require_known(runtime: str, precision: str) -> None:
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


def _installed() -> list[str]:
    """Return the runtimes that are installed with what conversion needs, the fastest first."""
    needed = ("onnx", "onnxscript")
    return [r for r, package in _PACKAGES.items() if all(find_spec(name) is not None for name in (package, *needed))]


class _Converted:
    """A network in the cache: its graph, and a JSON file with what is known of it.

    Args:
        model: the model, which may be on disk already.
        folder: of the cache; None for the user's.
        size: height and width of the images of the graph; None for any.

    Raises:
        UnwritableFileError: the system knows no cache of the user.
    """

    def __init__(self, model: PanopticModel, folder: Path | None, size: Size | None = None) -> None:
        self.model = model
        self._size = size
        folder = user_cache() / "graphs" if folder is None else folder
        name = "network" if model.spec is None else model.spec.name
        made_by = version("panscape").replace("+", "-")
        self._stem = f"{name}-{network_digest(model)}-{made_by}"
        self._path = folder / f"{self._stem}{'' if size is None else f'-{size.height}x{size.width}'}.onnx"
        self._facts_path = self._path.with_suffix(".json")
        self._facts: dict[str, Any] = {}
        with suppress(OSError, ValueError):  # a damaged file is one that is not there
            found = json.loads(self._facts_path.read_text(encoding="utf-8"))
            if isinstance(found, dict) and ("reason" in found or {"sides", "parity"} <= found.keys()):
                self._facts = found

    @property
    def is_known(self) -> bool:
        """Whether it was converted before."""
        return bool(self._facts)

    def for_size(self, size: Size) -> _Converted:
        """Return the network of the same model for images of one size."""
        return _Converted(self.model, self._path.parent, size)

    def refuse(self, reason: str) -> None:
        """Keep the network in torch from now on."""
        self._remember({"reason": reason})

    def make_room(self) -> None:
        """Delete the oldest graphs for one size of this network, so that the cache keeps a few."""
        kept = sorted(self._path.parent.glob(f"{self._stem}-*x*.onnx"), key=lambda path: path.stat().st_mtime)
        for path in kept[: max(0, len(kept) - _MOST_SIZES + 1)]:
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)

    def model_on(self, runtime: str, precision: RuntimePrecision) -> PanopticModel:
        """Return the model on a runtime.

        Raises:
            InvalidArgumentError: its network cannot be converted, or the maps differ by more than the floor allows.
        """
        for one in self._precisions(runtime, precision):
            try:
                model = self._with_graph(runtime, one)
                equal_pixels, pq = self._parity(model, one)
            except RuntimeError as error:
                raise InvalidArgumentError(f"{runtime} cannot run this network: {in_one_line(error)}") from error
            if equal_pixels >= FLOORS[one].equal_pixels and pq >= FLOORS[one].pq:
                what = "" if self._size is None else "images of {}x{} ".format(*self._size)
                share = 100 * equal_pixels
                _logger.info("running %sin %s (%.2f %% of pixels as in torch)", what, model.runtime, share)
                return model
        raise InvalidArgumentError(
            f"{100 * equal_pixels:.2f} % of the pixels and PQ {100 * pq:.1f} of {model.runtime} agree with torch, and "
            f"{100 * FLOORS[one].equal_pixels:g} % and {100 * FLOORS[one].pq:g} are needed"
        )

    def _open(self, runtime: str) -> Graph:
        """Return the graph; it is converted first if the cache has none, or a damaged one."""
        if "reason" not in self._facts:
            if self._facts:
                with suppress(UnreadableFileError):
                    return open_graph(self._path, runtime)
            self._convert()
        if "reason" in self._facts:
            kind = NeedsSizeError if self._facts.get("needs_size") else InvalidArgumentError
            raise kind(self._facts["reason"])
        return open_graph(self._path, runtime)

    def _precisions(self, runtime: str, precision: RuntimePrecision) -> tuple[Literal["fp32", "bf16"], ...]:
        if precision != "auto":
            return (precision,)
        return ("bf16", "fp32") if runtime == "openvino" and _computes_in_bf16() else ("fp32",)

    def _convert(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self._path, error) from error
        _logger.info("converting the network for faster runtimes, once; it is kept in %s", self._path.parent)
        try:
            graph = to_onnx(trace(self.model.eval(), self._size))
        except InvalidArgumentError as error:
            self._remember({"reason": str(error), "needs_size": isinstance(error, NeedsSizeError)})
            return
        with atomic_write(self._path) as temporary:
            graph.program.save(temporary, external_data=False)
        self._remember({"sides": graph.sides, "parity": {}})

    def _remember(self, facts: dict[str, Any]) -> None:
        self._facts = facts
        write_json(self._facts_path, facts)

    def _with_graph(self, runtime: str, precision: str) -> PanopticModel:
        graph = self._open(runtime)
        graph.compile(precision)
        model = copy.copy(self.model).eval()
        height, width = (SideRange(*side) for side in self._facts["sides"])
        # An attribute of this object hides the method of its class.
        model.forward = _Forward(self.model, graph, height, width)  # type: ignore[method-assign]
        model.runtime = f"{graph.runtime}, {precision}"
        return model

    def _parity(self, model: PanopticModel, precision: str) -> tuple[float, float]:
        """Return the share of equal pixels in synthetic scenes and the PQ, as found now or in an earlier run."""
        known: dict[str, list[float]] = self._facts["parity"]
        if model.runtime not in known:
            height, width = (SideRange(*side) for side in self._facts["sides"])
            scenes = synthetic_scenes((height, width), self._size)
            found = compare(model, self.model, scenes, floor=FLOORS[precision], source="synthetic scenes")
            self._remember(self._facts | {"parity": known | {model.runtime: [found.equal_pixels, found.pq]}})
        equal_pixels, pq = self._facts["parity"][model.runtime]
        return equal_pixels, pq


class _Forward:
    """The forward pass of a model as a graph; where that cannot be, the forward pass of its class.

    Args:
        model: the model in torch.
        graph: its network, compiled.
        height: heights of the images that the graph takes.
        width: widths of them.
    """

    def __init__(self, model: PanopticModel, graph: Graph, height: SideRange, width: SideRange) -> None:
        self._model = model
        self._graph = graph
        self._sides = (height, width)
        self._outputs = outputs_type(type(model))

    def __call__(self, images: Tensor, targets: object = None) -> Any:
        """See :meth:`PanopticModel.forward`."""
        require_network_input(images)
        fits = all(
            least <= length and (most is None or length <= most)
            for length, (least, most) in zip(images.shape[-2:], self._sides, strict=True)
        )
        if not fits or images.device.type != "cpu" or images.requires_grad:
            return self._model(images)
        return run_graph(self._graph, images.float().contiguous(), self._outputs)

    def __deepcopy__(self, memo: object) -> _Forward:
        return self  # it never changes, and sessions cannot be copied


class _ForwardBySize:
    """The forward pass of a model whose graphs are for one size each; for sizes without a graph, that of its class.

    A size that is in the cache has its graph at once. Others are converted when images of this size have taken
    :data:`_SECONDS_BEFORE_CONVERSION` in torch, so that a single image never waits.

    Args:
        converted: the network, which cannot be converted for any size.
        precision: as for :func:`on_runtime`.
    """

    def __init__(self, converted: _Converted, precision: RuntimePrecision) -> None:
        self._converted = converted
        self._precision = precision
        self._seconds: dict[Size, float] = {}
        self._forwards: dict[Size, Any] = {}
        self._is_refused = False
        self._lock = Lock()
        self.model = copy.copy(converted.model).eval()
        self.model.forward = self  # type: ignore[method-assign]
        self.model.runtime = "torch, OpenVINO for repeated sizes"
        _logger.info("running in torch; sizes of images that repeat are converted for OpenVINO")

    def __call__(self, images: Tensor, targets: object = None) -> Any:
        """See :meth:`PanopticModel.forward`."""
        require_network_input(images)
        if images.device.type != "cpu" or images.requires_grad:
            return self._converted.model(images)
        size = Size(*images.shape[-2:])
        with self._lock:
            forward = self._forwards.get(size) or self._new_forward(size)
        started = perf_counter()
        outputs = (forward or self._converted.model)(images)
        self._seconds[size] = self._seconds.get(size, 0.0) + perf_counter() - started
        return outputs

    def _new_forward(self, size: Size) -> Any:
        """Return the forward pass for a size; None while its conversion does not pay."""
        seconds = self._seconds.setdefault(size, 0.0)
        if self._is_refused or 0 < seconds < _SECONDS_BEFORE_CONVERSION:
            return None
        of_size = self._converted.for_size(size)
        if not of_size.is_known:
            if seconds < _SECONDS_BEFORE_CONVERSION:
                return None
            of_size.make_room()
        try:
            with torch.inference_mode(False):  # tensors of inference cannot be traced
                forward = of_size.model_on("openvino", self._precision).forward
        except (InvalidArgumentError, UnreadableFileError, UnwritableFileError) as error:
            _logger.info("not running in openvino: %s", error)
            self._is_refused = True
            with suppress(UnwritableFileError):
                self._converted.refuse(str(error))
            return None
        while len(self._forwards) >= _MOST_SIZES:
            del self._forwards[next(iter(self._forwards))]
        self._forwards[size] = forward
        return forward

    def __deepcopy__(self, memo: object) -> _ForwardBySize:
        return self  # as of graphs


def _computes_in_bf16() -> bool:
    import openvino

    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
