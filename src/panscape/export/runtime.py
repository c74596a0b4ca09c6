"""Models whose forward pass runs in another runtime than torch, converted once into the user's cache."""

from __future__ import annotations

import copy
import logging
from contextlib import suppress
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

import torch
from torch import Tensor

from panscape.atomic_io import atomic_write, unwritable
from panscape.errors import InvalidArgumentError, UnreadableFileError, UnwritableFileError, in_one_line
from panscape.export.cached_graphs import (
    RUNTIME_NAMES,
    CachedNetwork,
    Runtime,
    RuntimePrecision,
    announce,
    cache_folder,
    installed_runtimes,
    keep_for_start,
    precisions,
    require_known,
    stem_of,
    usual_runtime,
)
from panscape.export.floors import floor_on_scenes
from panscape.export.onnx import to_onnx
from panscape.export.parity import compare, synthetic_scenes
from panscape.export.trace import NeedsSizeError, trace
from panscape.geometry import Size
from panscape.models import PanopticModel
from panscape.models.digest import network_digest
from panscape.models.prediction import require_network_input
from panscape.zoo.exported import outputs_type, run_graph
from panscape.zoo.graph_model import SideRange, inference_facts
from panscape.zoo.graphs import Graph, open_graph, require_runtime

# A graph of one size is worth its conversion once images of this size have taken as long in torch: however many follow,
# that is at most twice what the better choice would have taken. The conversions in docs/export.md took 10 to 58 s; the
# comparison comes on top and was not measured apart, so that this is the round number above them.
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
            installed and whose maps agree with those of torch, see :func:`floor_on_scenes`; or what the environment
            variable PANSCAPE_RUNTIME says.
        precision: numeric precision; "auto" is "bf16" in OpenVINO on processors that compute in it if the maps agree,
            else "fp32".
        cache: folder of converted networks; None for the user's.

    Raises:
        InvalidArgumentError: a name is unknown; or a runtime other than "auto" cannot run the network, has not the
            precision, or its maps differ by more than the floor allows.
        MissingExtraError: the runtime is not installed.
        UnwritableFileError: the cache cannot be written, and the runtime is not "auto".
    """
    require_known(runtime, precision)
    runtime = usual_runtime(runtime)
    require_known(runtime, precision)
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
        converted = _Converted(model, cache)
        try:
            return converted.model_on(runtime, precision)
        except NeedsSizeError:
            return _ForwardBySize(converted, runtime, precision, is_chosen=True).model
    for installed in installed_runtimes():
        try:
            converted = _Converted(model, cache)
            return converted.model_on(installed, precision)
        except NeedsSizeError:
            # ONNX Runtime gains too little; in bf16, torch can run all images.
            if installed == "openvino" and precision != "bf16":
                return _ForwardBySize(converted, installed, precision).model
        except (InvalidArgumentError, UnwritableFileError) as error:
            _logger.info("not running in %s: %s", installed, error)
    return model


class _Converted:
    """A model whose network is in the cache, or is converted into it.

    Args:
        model: the model in torch.
        folder: of the cache; None for the user's.
        size: height and width of the images of the graph; None for any.

    Raises:
        UnwritableFileError: the system knows no cache of the user.
    """

    def __init__(self, model: PanopticModel, folder: Path | None, size: Size | None = None) -> None:
        self.model = model
        self._size = size
        name = "network" if model.spec is None else model.spec.name
        self._stem = stem_of(name, network_digest(model))
        of_size = "" if size is None else f"-{size.height}x{size.width}"
        self.network = CachedNetwork(folder or cache_folder(), self._stem + of_size)

    @property
    def is_known(self) -> bool:
        """Whether it was converted before."""
        return bool(self.network.facts)

    def for_size(self, size: Size) -> _Converted:
        """Return the network of the same model for images of one size."""
        return _Converted(self.model, self.network.path.parent, size)

    def refuse(self, reason: str) -> None:
        """Keep the network in torch from now on."""
        self.network.remember({"reason": reason})

    def make_room(self) -> None:
        """Delete the oldest graphs for one size of this network, so that the cache keeps a few."""
        kept = sorted(self.network.path.parent.glob(f"{self._stem}-*x*.onnx"), key=lambda path: path.stat().st_mtime)
        for path in kept[: max(0, len(kept) - _MOST_SIZES + 1)]:
            path.unlink(missing_ok=True)
            path.with_suffix(".json").unlink(missing_ok=True)

    def model_on(self, runtime: str, precision: RuntimePrecision) -> PanopticModel:
        """Return the model on a runtime.

        Raises:
            NeedsSizeError: its network cannot be converted for images of any size.
            InvalidArgumentError: it cannot be converted, or the maps differ by more than the floor allows.
        """
        for one in precisions(runtime, precision):
            try:
                model = self._with_graph(runtime, one)
                equal_pixels, pq = self._parity(model, one)
            except RuntimeError as error:
                raise InvalidArgumentError(f"{runtime} cannot run this network: {in_one_line(error)}") from error
            floor = floor_on_scenes(one, self.model.card)
            if floor.is_met(equal_pixels, pq):
                announce(model.runtime, equal_pixels, self._size)
                return model
        raise InvalidArgumentError(
            f"{100 * equal_pixels:.2f} % of the pixels and PQ {100 * pq:.1f} of {model.runtime} agree with torch, and "
            f"{100 * floor.equal_pixels:g} % and {100 * floor.pq:g} are needed"
        )

    def _open(self, runtime: str) -> Graph:
        """Return the graph; it is converted first if the cache has none, or a damaged one."""
        if "reason" not in self.network.facts:
            if self.network.facts:
                with suppress(UnreadableFileError):
                    return open_graph(self.network.path, runtime)
            self._convert()
        if "reason" in self.network.facts:
            kind = NeedsSizeError if self.network.facts.get("needs_size") else InvalidArgumentError
            raise kind(self.network.facts["reason"])
        try:
            return open_graph(self.network.path, runtime)
        except UnreadableFileError as error:
            reason = in_one_line(error.__cause__ or error)
            raise InvalidArgumentError(
                f"{RUNTIME_NAMES[runtime]} cannot read the graph of this network: {reason}"
            ) from error

    def _convert(self) -> None:
        try:
            self.network.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.network.path, error) from error
        _logger.info("converting the network for faster runtimes, once; it is kept in %s", self.network.path.parent)
        try:
            graph = to_onnx(trace(self.model.eval(), self._size))
        except InvalidArgumentError as error:
            self.network.remember({"reason": str(error), "needs_size": isinstance(error, NeedsSizeError)})
            return
        with atomic_write(self.network.path) as temporary:
            graph.program.save(temporary, external_data=False)
        self.network.remember({"sides": graph.sides, "parity": {}})

    def _with_graph(self, runtime: str, precision: str) -> PanopticModel:
        graph = self._open(runtime)
        graph.compile(precision)
        model = copy.copy(self.model).eval()
        height, width = self.network.sides
        # An attribute of this object hides the method of its class.
        model.forward = _Forward(self.model, graph, height, width)  # type: ignore[method-assign]
        model.runtime = f"{graph.runtime}, {precision}"
        return model

    def _parity(self, model: PanopticModel, precision: str) -> tuple[float, float]:
        """Return the share of equal pixels in synthetic scenes and the PQ, as found now or in an earlier run."""
        known = self.network.parity(model.runtime)
        if known is None:
            scenes = synthetic_scenes(self.network.sides, self._size)
            try:
                found = compare(
                    model,
                    self.model,
                    scenes,
                    floor=floor_on_scenes(precision, self.model.card),
                    source="synthetic scenes",
                )
                known = found.equal_pixels, found.pq
            except InvalidArgumentError as error:
                _logger.info("%s has outputs that make no maps: %s", model.runtime, error)
                known = 0.0, 0.0
            facts = self.network.facts
            self.network.remember(facts | {"parity": facts["parity"] | {model.runtime: list(known)}})
        return known


def keep_start(name: str, model: PanopticModel) -> None:
    """Keep what starts a converted model without torch the next time; see :func:`keep_for_start`.

    Args:
        name: name or path by which it was loaded.
        model: the result of :func:`on_runtime` for the model as it was loaded; nothing is kept for other models.
    """
    forward, facts = vars(model).get("forward"), inference_facts(model)
    if not isinstance(forward, _Forward) or facts is None or model.spec is None:
        return
    digest = network_digest(model)
    description = {"inference": facts, "labels": model.labels.to_dict(), "model": model.spec.name, "card": model.card}
    with suppress(UnwritableFileError):
        keep_for_start(name, stem_of(model.spec.name, digest), digest, description)


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
        fits = all(side.has(length) for side, length in zip(self._sides, images.shape[-2:], strict=True))
        if not fits or images.device.type != "cpu" or images.requires_grad:
            return self._model(images)
        return run_graph(self._graph, images.float().contiguous(), self._outputs)

    def __deepcopy__(self, memo: object) -> _Forward:
        return self  # it never changes, and sessions cannot be copied


class _ForwardBySize:
    """The forward pass of a model whose graphs are for one size each; for sizes without a graph, that of its class.

    A size that is in the cache has its graph at once. Others are converted when images of this size have taken
    :data:`_SECONDS_BEFORE_CONVERSION` in torch, so that a single image never waits; or at once if the user has chosen
    the runtime, who then gets its errors, too.

    Args:
        converted: the network, which cannot be converted for any size.
        runtime: as for :func:`on_runtime`, but not "auto".
        precision: as there.
        is_chosen: whether the user has chosen the runtime.
    """

    def __init__(
        self, converted: _Converted, runtime: str, precision: RuntimePrecision, *, is_chosen: bool = False
    ) -> None:
        self._converted = converted
        self._runtime = runtime
        self._precision = precision
        self._is_chosen = is_chosen
        self._patience = 0.0 if is_chosen else _SECONDS_BEFORE_CONVERSION
        self._seconds: dict[Size, float] = {}
        self._forwards: dict[Size, Any] = {}
        self._is_refused = False
        self._lock = Lock()
        self.model = copy.copy(converted.model).eval()
        self.model.forward = self  # type: ignore[method-assign]
        if is_chosen:
            self.model.runtime = f"{RUNTIME_NAMES[runtime]}, a graph for each size"
            return
        self.model.runtime = f"torch, {RUNTIME_NAMES[runtime]} for repeated sizes"
        _logger.info("running in torch; sizes of images that repeat are converted for %s", RUNTIME_NAMES[runtime])

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
        if self._is_refused or 0 < seconds < self._patience:
            return None
        of_size = self._converted.for_size(size)
        if not of_size.is_known:
            if seconds < self._patience:
                return None
            of_size.make_room()
        try:
            with torch.inference_mode(False):  # tensors of inference cannot be traced
                forward = of_size.model_on(self._runtime, self._precision).forward
        except (InvalidArgumentError, UnwritableFileError) as error:
            if self._is_chosen:
                raise
            _logger.info("not running in %s: %s", self._runtime, error)
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
