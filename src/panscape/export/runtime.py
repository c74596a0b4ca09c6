"""Models whose forward pass runs in another runtime than torch, converted once into the user's cache."""

from __future__ import annotations

import copy
import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import Tensor

from panscape.atomic_io import atomic_write, unwritable
from panscape.errors import InvalidArgumentError, UnreadableFileError, UnwritableFileError, in_one_line
from panscape.export.cached_graphs import (
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
from panscape.export.floors import FLOORS
from panscape.export.onnx import to_onnx
from panscape.export.parity import compare, synthetic_scenes
from panscape.export.trace import trace
from panscape.models import PanopticModel
from panscape.models.digest import network_digest
from panscape.models.prediction import require_network_input
from panscape.zoo.exported import outputs_type, run_graph
from panscape.zoo.graph_model import SideRange, inference_facts
from panscape.zoo.graphs import Graph, open_graph, require_runtime

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
        return _Converted(model, cache).model_on(runtime, precision)
    for installed in installed_runtimes():
        try:
            return _Converted(model, cache).model_on(installed, precision)
        except (InvalidArgumentError, UnwritableFileError) as error:
            _logger.info("not running in %s: %s", installed, error)
    return model


class _Converted:
    """A model whose network is in the cache, or is converted into it.

    Args:
        model: the model in torch.
        folder: of the cache; None for the user's.

    Raises:
        UnwritableFileError: the system knows no cache of the user.
    """

    def __init__(self, model: PanopticModel, folder: Path | None) -> None:
        self._model = model
        name = "network" if model.spec is None else model.spec.name
        self.network = CachedNetwork(folder or cache_folder(), stem_of(name, network_digest(model)))

    def model_on(self, runtime: str, precision: RuntimePrecision) -> PanopticModel:
        """Return the model on a runtime.

        Raises:
            InvalidArgumentError: its network cannot be converted, or the maps differ by more than the floor allows.
        """
        for one in precisions(runtime, precision):
            try:
                model = self._with_graph(runtime, one)
                equal_pixels, pq = self._parity(model, one)
            except RuntimeError as error:
                raise InvalidArgumentError(f"{runtime} cannot run this network: {in_one_line(error)}") from error
            if FLOORS[one].is_met(equal_pixels, pq):
                announce(model.runtime, equal_pixels)
                return model
        raise InvalidArgumentError(
            f"{100 * equal_pixels:.2f} % of the pixels and PQ {100 * pq:.1f} of {model.runtime} agree with torch, and "
            f"{100 * FLOORS[one].equal_pixels:g} % and {100 * FLOORS[one].pq:g} are needed"
        )

    def _open(self, runtime: str) -> Graph:
        """Return the graph; it is converted first if the cache has none, or a damaged one."""
        if "reason" not in self.network.facts:
            if self.network.facts:
                with suppress(UnreadableFileError):
                    return open_graph(self.network.path, runtime)
            self._convert()
        if "reason" in self.network.facts:
            raise InvalidArgumentError(self.network.facts["reason"])
        return open_graph(self.network.path, runtime)

    def _convert(self) -> None:
        try:
            self.network.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise unwritable(self.network.path, error) from error
        _logger.info("converting the network for faster runtimes, once; it is kept in %s", self.network.path.parent)
        try:
            graph = to_onnx(trace(self._model.eval(), None))
        except InvalidArgumentError as error:
            self.network.remember({"reason": str(error)})
            return
        with atomic_write(self.network.path) as temporary:
            graph.program.save(temporary, external_data=False)
        self.network.remember({"sides": graph.sides, "parity": {}})

    def _with_graph(self, runtime: str, precision: str) -> PanopticModel:
        graph = self._open(runtime)
        graph.compile(precision)
        model = copy.copy(self._model).eval()
        height, width = self.network.sides
        # An attribute of this object hides the method of its class.
        model.forward = _Forward(self._model, graph, height, width)  # type: ignore[method-assign]
        model.runtime = f"{graph.runtime}, {precision}"
        return model

    def _parity(self, model: PanopticModel, precision: str) -> tuple[float, float]:
        """Return the share of equal pixels in synthetic scenes and the PQ, as found now or in an earlier run."""
        known = self.network.parity(model.runtime)
        if known is None:
            scenes = synthetic_scenes(self.network.sides)
            found = compare(model, self._model, scenes, floor=FLOORS[precision], source="synthetic scenes")
            known = found.equal_pixels, found.pq
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
        fits = all(
            least <= length and (most is None or length <= most)
            for length, (least, most) in zip(images.shape[-2:], self._sides, strict=True)
        )
        if not fits or images.device.type != "cpu" or images.requires_grad:
            return self._model(images)
        return run_graph(self._graph, images.float().contiguous(), self._outputs)

    def __deepcopy__(self, memo: object) -> _Forward:
        return self  # it never changes, and sessions cannot be copied
