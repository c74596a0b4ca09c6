"""Save and load models: one safetensors file with the weights and the description from which the model is rebuilt."""

from __future__ import annotations

import importlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from panscape.atomic_io import atomic_write
from panscape.errors import InvalidArgumentError, InvalidLabelSpaceError, UnknownNameError, UnreadableFileError
from panscape.hub import hub_file
from panscape.labels import LabelSpace
from panscape.models import PanopticModel, create_model
from panscape.serialization import to_plain
from panscape.zoo.transfer import LoadReport, load_matching, load_strict, unique_state_dict

_logger = logging.getLogger(__name__)

_BUNDLED = Path(__file__).parents[1] / "weights"
WEIGHTS_IN_FOLDER = "model.safetensors"
"""Name of the weights in run directories and in repositories on the hub."""
_KEY = "panscape"
# "owner/name" as the hub allows it; a name with the ending of a weights file is a mistyped path.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_FILE_ENDINGS = (".bin", ".ckpt", ".json", ".onnx", ".pkl", ".pt", ".tar", ".zip")
_PUBLISHED_ENDINGS = (".pkl", ".pt", ".pth")  # file endings of published checkpoints
# Classes that may appear among the options of a saved model, and their modules.
_PARTS = {
    "CenterDecoding": "representations.centers",
    "CenterInstanceMaps": "nn.pisr_instances",
    "CenterRepresentation": "representations.centers",
    "Concatenation": "nn.pisr_baselines",
    "DenseBoxDecoding": "representations.dense_boxes",
    "DenseBoxRepresentation": "representations.dense_boxes",
    "ElementwiseProduct": "nn.pisr_baselines",
    "FusionConfig": "representations.fusion",
    "OCR": "nn.pisr_baselines",
    "PISR": "nn.pisr",
}


@dataclass(frozen=True, slots=True)
class WeightsInfo:
    """A saved model.

    Attributes:
        name: name for :func:`load`.
        path: path of its file.
        card: metadata: data, licence, measured results.
    """

    name: str
    path: Path
    card: Mapping[str, Any]


def load(name_or_path: str | Path, labels: LabelSpace | str | None = None) -> PanopticModel:
    """Load a model in eval mode, ready for inference.

    Args:
        name_or_path: a bundled model (:func:`list_weights`; ``-`` and ``_`` are equivalent), the path of a
            ``.safetensors`` file or of a folder with ``model.safetensors``, or the id of a repository with that file on
            the Hugging Face hub ("owner/name"); or the path of a checkpoint in its authors' layout (``.pth``, ``.pt``,
            ``.pkl``), see :func:`panscape.zoo.published.load.create_published`.
        labels: label space of a published checkpoint, which does not contain it, if it is not that of the dataset that
            it was published for; models saved by panscape contain theirs.

    Raises:
        UnknownNameError: no bundled model has this name; the closest names are suggested.
        UnreadableFileError: the file is missing or damaged, was not saved by panscape or by a newer version of it, or
            cannot be downloaded from the hub.
        CheckpointMismatchError: the weights do not match the model described in the file.
        InvalidArgumentError: a published checkpoint has another number of categories than the label space.
    """
    if Path(name_or_path).suffix in _PUBLISHED_ENDINGS:
        from panscape.zoo.published.load import create_published

        return create_published(name_or_path, labels)
    path = _locate(name_or_path)
    _logger.debug("model %s from %s", name_or_path, path)
    description = _describe(path)
    try:
        options = {k: _from_json(v) for k, v in description["options"].items()}
        model = create_model(description["model"], LabelSpace.from_dict(description["labels"]), **options)
    except (InvalidArgumentError, InvalidLabelSpaceError, UnknownNameError) as error:
        raise UnreadableFileError(
            path, f"this version of panscape cannot build its model: {error}; update panscape, or save the model again"
        ) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise UnreadableFileError(path, f"its description of the model is incomplete: {error}") from error
    from safetensors.torch import load_file

    load_strict(model, load_file(path), path, remedy="the file is damaged or from another version of panscape")
    model.card = dict(description.get("card", {}))
    return model.eval()


def save(model: PanopticModel, path: str | Path, card: Mapping[str, Any] | None = None) -> None:
    """Save a model for :func:`load`; the file is written atomically.

    Args:
        model: created by :func:`panscape.create_model`.
        path: path of the file, with the ending ``.safetensors``.
        card: metadata to store with the weights, as plain JSON values; None for those of ``model.card``.

    Raises:
        InvalidArgumentError: the model was not created by ``create_model``, or the path has another ending.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InvalidArgumentError(f"expected a path that ends in .safetensors, got {path}")
    description = describe_model(model)
    if card is not None:
        description["card"] = dict(card)
    from safetensors.torch import save as to_bytes

    with atomic_write(path) as temporary:
        tensors = {name: tensor.detach().contiguous() for name, tensor in unique_state_dict(model).items()}
        temporary.write_bytes(to_bytes(tensors, metadata={_KEY: json.dumps(description)}))


def describe_model(model: PanopticModel) -> dict[str, Any]:
    """Return the description of a model from which it is rebuilt, as plain JSON values.

    Raises:
        InvalidArgumentError: the model was not created by :func:`panscape.create_model`.
    """
    if model.spec is None:
        raise InvalidArgumentError("expected a model made by panscape.create_model, whose options can be saved with it")
    return {
        "model": model.spec.name,
        "options": to_plain(model.spec.options, "options", lambda part: {"part": type(part).__name__}),
        "labels": model.labels.to_dict(),
        "card": dict(model.card),
    }


def load_partial(model: PanopticModel, name_or_path: str | Path) -> LoadReport:
    """Copy the matching weights of a saved model into another model, and leave all others unchanged.

    Args:
        model: the model to initialise for training; it may have other categories or parts.
        name_or_path: as for :func:`load`; or a file of a backbone alone, as for :func:`panscape.load_published`.

    Returns:
        The copied tensors.

    Raises:
        UnknownNameError: no bundled model has this name.
        UnreadableFileError: the file is missing or damaged.
        CheckpointMismatchError: no tensor matches.
    """
    if Path(name_or_path).suffix in _PUBLISHED_ENDINGS:
        from panscape.zoo.published.load import published_state

        return load_matching(model, published_state(Path(name_or_path)), Path(name_or_path))
    path = _locate(name_or_path)
    _describe(path)
    from safetensors.torch import load_file

    return load_matching(model, load_file(path), path)


def read_card(name_or_path: str | Path) -> dict[str, Any]:
    """Return the metadata stored with a saved model.

    Args:
        name_or_path: as for :func:`load`.

    Raises:
        UnknownNameError: no bundled model has this name.
        UnreadableFileError: the file is missing or damaged.
    """
    if Path(name_or_path).suffix in _PUBLISHED_ENDINGS:
        return {}  # a published checkpoint has none
    return dict(_describe(_locate(name_or_path)).get("card", {}))


def list_weights() -> list[WeightsInfo]:
    """Return the bundled models."""
    return [WeightsInfo(p.stem, p, _describe(p).get("card", {})) for p in sorted(_BUNDLED.glob("*.safetensors"))]


def _locate(name_or_path: str | Path) -> Path:
    name, path = str(name_or_path), Path(name_or_path)
    if path.suffix == ".safetensors":
        return path
    bundled = _BUNDLED / f"{name.replace('-', '_')}.safetensors"
    if path.name == name and bundled.is_file():
        return bundled
    if (path / WEIGHTS_IN_FOLDER).is_file():
        return path / WEIGHTS_IN_FOLDER
    if path.exists():
        raise UnreadableFileError(path, "expected a file that ends in .safetensors, saved by panscape; give its path")
    if path.name == name:
        raise UnknownNameError("model", name, [w.name for w in list_weights()])
    # If the first folder exists, it is a path; a request to the hub would only cost the time of its retries.
    if _HUB_ID.fullmatch(name) and path.suffix not in _FILE_ENDINGS and not path.parent.is_dir():
        return _download(name)
    raise UnreadableFileError(
        path, "no such file; expected a bundled model, the path of a .safetensors file, or a hub id like owner/name"
    )


def _download(hub_id: str) -> Path:
    return hub_file(
        hub_id,
        WEIGHTS_IN_FOLDER,
        remedy="check the id and the network, or give the path of a .safetensors file",
    )


def _describe(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        description = json.loads(metadata[_KEY])
    except FileNotFoundError as error:
        raise UnreadableFileError(path, "no such file") from error
    except KeyError as error:
        raise UnreadableFileError(
            path,
            "these weights were not saved by panscape; pass the weights of a backbone alone to --backbone-weights of "
            "panscape train, or to panscape.load_published",
        ) from error
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UnreadableFileError(path, f"expected a complete safetensors file, but {error}") from error
    if not isinstance(description, dict):
        raise UnreadableFileError(path, "its description of the model is not a JSON object")
    return description


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        options = {k: _from_json(v) for k, v in value.items() if k != "part"}
        if value["part"] not in _PARTS:
            raise UnknownNameError("part", str(value["part"]), _PARTS)
        part = getattr(importlib.import_module(f"panscape.{_PARTS[value['part']]}"), value["part"])
        known = [field.name for field in fields(part)]
        for name in options:
            if name not in known:
                raise UnknownNameError(f"option of {value['part']}", name, known, list_all=True)
        return part(**options)
    return tuple(_from_json(v) for v in value) if isinstance(value, list) else value
