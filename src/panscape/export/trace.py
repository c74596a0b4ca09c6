"""The forward pass of a model as a program of ``torch.export``, from which all formats are made."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from panscape.errors import InvalidArgumentError, in_one_line
from panscape.geometry import Size
from panscape.models import PanopticModel
from panscape.zoo.graph_model import SideRange

# A graph of any size is traced at this one: odd, so that it pads, and larger than the windows of all networks. Tracing
# computes nothing.
_TRACED = Size(1031, 2053)


class Traced(NamedTuple):
    """A traced forward pass for a batch of one image.

    Attributes:
        program: of ``torch.export``.
        names: of its outputs.
        size: height and width of its images; None for any.
        sides: range of the heights and widths for which it is valid.
        kind: class of the model, for messages.
    """

    program: ExportedProgram
    names: tuple[str, ...]
    size: Size | None
    sides: tuple[SideRange, SideRange]
    kind: str


class _Tensors(nn.Module):
    """A network whose outputs are a tuple of tensors in single precision, without those that it lacks."""

    def __init__(self, model: PanopticModel, layers: Callable[[], Iterable[Tensor]] = tuple) -> None:
        super().__init__()
        self.model = model
        self._layers = layers

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        found = tuple(x for x in self.model(images) if isinstance(x, Tensor))
        outputs = tuple(x.float() if x.is_floating_point() else x for x in found)
        return (*outputs, *(x.float().clone() for x in self._layers()))  # clones, as some are outputs as well


def trace(
    model: PanopticModel, size: Size | None, *, dtype: torch.dtype = torch.float32, with_layers: bool = False
) -> Traced:
    """Trace the forward pass of a model; outputs have the names of the model's fields.

    Args:
        model: in eval mode, on the CPU.
        size: height and width of the images; None for any size.
        dtype: numeric type of weights and features. Input and outputs are in single precision.
        with_layers: add the outputs of :func:`layer_outputs`, by their names.

    Raises:
        InvalidArgumentError: the network cannot be traced, or not for any size.
    """
    model = in_dtype(model, dtype)
    with torch.inference_mode():
        small = model(torch.zeros(1, 3, 64, 64))
    names = [name for name, part in zip(small._fields, small, strict=True) if isinstance(part, Tensor)]
    if not with_layers:
        return trace_module(_Tensors(model), names, size, type(model).__name__)
    with layer_outputs(model) as layers:
        traced = trace_module(_Tensors(model, layers.values), names, size, type(model).__name__)
        return traced._replace(names=(*names, *layers))


def in_dtype(model: PanopticModel, dtype: torch.dtype) -> PanopticModel:
    """Return a model whose weights have a numeric type: itself, if they are in single precision anyway, or a copy."""
    return model if dtype == torch.float32 else copy.deepcopy(model).to(dtype)


def trace_module(module: nn.Module, names: list[str], size: Size | None, kind: str) -> Traced:
    """Trace a module that maps an image, float32 [1, 3, H, W], to a tuple of tensors with these names.

    Raises:
        InvalidArgumentError: as for :func:`trace`.
    """
    shapes = None if size is not None else {"images": {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}}
    image = torch.zeros(1, 3, *(size or _TRACED))
    with torch.no_grad(), quiet():
        try:
            program = torch.export.export(module.eval(), (image,), dynamic_shapes=shapes, strict=False)
        except (torch._dynamo.exc.UserError, ValueError) as error:
            if size is None:
                raise needs_size(kind) from error
            raise InvalidArgumentError(f"{kind} cannot be exported: {in_one_line(error)}") from error
    sides = _sides(program) if size is None else (SideRange(1, size[0]), SideRange(1, size[1]))
    return Traced(program, tuple(names), size, sides, kind)


class NeedsSizeError(InvalidArgumentError):
    """A network cannot be exported for images of any size, but perhaps for one size."""


def needs_size(kind: str) -> NeedsSizeError:
    """Return the error of a network that cannot be exported for images of any size."""
    return NeedsSizeError(
        f"{kind} cannot be exported for images of any size; give their size, for example --size 512x1024"
    )


@contextmanager
def layer_outputs(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Collect the output of every layer with parameters, of its first call, in the order of execution.

    Within this context, a forward pass adds tensors to the yielded dictionary by the names of the modules.
    """
    found: dict[str, Tensor] = {}

    def collect(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                found.setdefault(name, output)

        return hook

    layers = [(n, m) for n, m in model.named_modules() if any(True for _ in m.parameters(recurse=False))]
    handles = [module.register_forward_hook(collect(name)) for name, module in layers]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _sides(program: ExportedProgram) -> tuple[SideRange, SideRange]:
    """Return the ranges of height and width on which the steps of a traced graph do not depend."""
    (name,) = program.graph_signature.user_inputs
    image = next(node for node in program.graph.nodes if node.name == name).meta["val"]
    height, width = (program.range_constraints[image.shape[axis].node.expr] for axis in (2, 3))
    return _side(height), _side(width)


def _side(limits: Any) -> SideRange:
    most = int(limits.upper) if limits.upper.is_Integer else None
    return SideRange(max(1, int(limits.lower)), most)


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress what torch and onnxscript report about their own code."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
