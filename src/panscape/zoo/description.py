"""The description inside a saved model: taken from a model, and a model built from it.

Anyone may have written the file. Its description can name only our models, their options and our parts. The model is
first built without memory and compared with the tensors of the file, and nothing is downloaded: a small file cannot ask
for much memory, time or network access.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from threading import get_ident
from typing import Any, cast

import torch
from torch.nn.modules.module import register_module_parameter_registration_hook

from panscape.errors import InvalidArgumentError, PanscapeError, UnknownNameError, UnreadableFileError
from panscape.labels import LabelSpace
from panscape.models import ModelSpec, PanopticModel, create_model
from panscape.serialization import to_plain
from panscape.zoo.transfer import require_match, unique_state_dict

# Classes that may appear among the options of a saved model, and their modules.
_PARTS = {
    "Anchors": "representations.regions",
    "CenterDecoding": "representations.centers",
    "CenterInstanceMaps": "nn.pisr_instances",
    "CenterRepresentation": "representations.centers",
    "Concatenation": "nn.pisr_baselines",
    "DenseBoxDecoding": "representations.dense_boxes",
    "DenseBoxRepresentation": "representations.dense_boxes",
    "DetectionSelection": "representations.regions",
    "ElementwiseProduct": "nn.pisr_baselines",
    "FusionConfig": "representations.fusion",
    "MaskSampling": "representations.masked_boxes",
    "MaskedBoxDecoding": "representations.masked_boxes",
    "MaskedBoxRepresentation": "representations.masked_boxes",
    "OCR": "nn.pisr_baselines",
    "PISR": "nn.pisr",
    "ProposalSelection": "representations.regions",
    "QueryDecoding": "representations.queries",
    "QueryLossWeights": "representations.queries",
    "QueryRepresentation": "representations.queries",
    "RegionDecoding": "representations.regions",
    "RegionRepresentation": "representations.regions",
    "SemanticRepresentation": "representations.semantic",
    "StageSampling": "representations.regions",
}
_MOST_PARAMETERS = 20_000  # tensors; the largest network has some 800
# What options that nobody checks raise while a network is built. PanscapeErrors are among them.
_REFUSALS = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


def describe_model(model: PanopticModel) -> dict[str, Any]:
    """Return the description of a model from which it is rebuilt, as plain JSON values.

    Raises:
        InvalidArgumentError: the model was not created by :func:`panscape.create_model`, or is an exported one.
    """
    if model.exported_file is not None:
        raise InvalidArgumentError(
            f"expected a model with weights, got the exported model {model.exported_file}, which has none; use the "
            "model that it was exported from"
        )
    if model.spec is None:
        raise InvalidArgumentError(
            f"expected a model made by panscape.create_model, whose options can be saved with it{model.saving_hint}"
        )
    return {
        "model": model.spec.name,
        "options": to_plain(model.spec.options, "options", lambda part: {"part": type(part).__name__}),
        "labels": model.labels.to_dict(),
        "card": dict(model.card),
    }


def build_described(
    description: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]], path: Path, *, remedy: str
) -> PanopticModel:
    """Build the model of a description, with random weights, if it has exactly the tensors of the file.

    Args:
        description: as of :func:`describe_model`, perhaps changed by somebody.
        shapes: shape of each tensor in the file by name.
        path: path of the file, for messages.
        remedy: what to do if the tensors differ, for messages.

    Raises:
        UnreadableFileError: the description is not one of a model that this version of panscape can build.
        CheckpointMismatchError: names or shapes of tensors differ.
    """
    # A network may register parameters that it drops, but far fewer than these.
    described = build_without_weights(description, path, most_parameters=100 + 4 * len(shapes))
    needed = {name: tuple(tensor.shape) for name, tensor in unique_state_dict(described).items()}
    require_match(needed, shapes, path, remedy=remedy)
    spec = cast(ModelSpec, described.spec)
    model = create_model(spec.name, described.labels, **spec.options)
    model.card = described.card
    return model


def build_without_weights(
    description: Mapping[str, Any], path: Path, *, most_parameters: int = _MOST_PARAMETERS
) -> PanopticModel:
    """Build the model of a description on the meta device, where tensors have no memory.

    Args:
        description: as of :func:`describe_model`, perhaps changed by somebody.
        path: path of the file, for messages.
        most_parameters: larger networks are refused.

    Raises:
        UnreadableFileError: the description is not one of a model that this version of panscape can build.
    """
    try:
        name, labels = description["model"], LabelSpace.from_dict(description["labels"])
        # The file has all weights; others are never fetched.
        options = {k: _from_json(v) for k, v in description["options"].items() if k != "pretrained"}
        card = dict(description.get("card", {}))
        with torch.device("meta"), parameters_at_most(most_parameters):
            model = create_model(name, labels, **options)
    except _REFUSALS as error:
        if isinstance(error, PanscapeError):
            reason = f"{error}; update panscape, or save the model again"
        else:
            detail = f"no {error}" if isinstance(error, KeyError) else str(error).split("\n", 1)[0]
            reason = f"its description of the model is invalid ({detail}); download it again, or save the model again"
        raise UnreadableFileError(path, f"this version of panscape cannot build its model: {reason}") from error
    model.card = card
    return model


def described_normalization(description: Mapping[str, Any], num_tensors: int) -> str | None:
    """Return the input normalisation of a described model with that many tensors; None if it cannot be built."""
    try:
        name, labels = description["model"], LabelSpace.from_dict(description["labels"])
        options = {k: _from_json(v) for k, v in description["options"].items() if k != "pretrained"}
        with torch.device("meta"), parameters_at_most(100 + 4 * num_tensors):
            return create_model(name, labels, **options).normalization
    except _REFUSALS:
        return None


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        name = value["part"]
        options = {k: _from_json(v) for k, v in value.items() if k != "part"}
        if name not in _PARTS:
            raise UnknownNameError("part", str(name)[:80], _PARTS)
        part = getattr(importlib.import_module(f"panscape.{_PARTS[name]}"), name)
        known = [field.name for field in fields(part)]
        for option in options:
            if option not in known:
                raise UnknownNameError(f"option of {name}", option, known, list_all=True)
        return part(**options)
    return tuple(_from_json(v) for v in value) if isinstance(value, list) else value


@contextmanager
def parameters_at_most(limit: int) -> Iterator[None]:
    """Stop this thread from building a network of more parameters, such as one of a billion layers.

    Raises:
        InvalidArgumentError: it registers more of them.
    """
    thread, count = get_ident(), 0

    def register(*_: object) -> None:
        nonlocal count
        count += get_ident() == thread
        if count > limit:
            raise InvalidArgumentError(f"it describes a network of more than {limit} parameters, which the file lacks")

    handle = register_module_parameter_registration_hook(register)
    try:
        yield
    finally:
        handle.remove()
