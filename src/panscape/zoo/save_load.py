"""Save and load models: one safetensors file with the weights and the description from which the model is rebuilt."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from panscape.atomic_io import atomic_write
from panscape.errors import InvalidArgumentError, UnknownNameError, UnreadableFileError
from panscape.hub import HUB_PREFIX, hub_file, is_hub_id
from panscape.input_files import parse_json, to_path
from panscape.labels import LabelSpace
from panscape.models import PanopticModel
from panscape.weights_file import read_header, read_tensors
from panscape.zoo.checkpoints import CHECKPOINTS_IN_RUN, load_newest, saved_steps
from panscape.zoo.description import build_described, describe_model, described_normalization
from panscape.zoo.exported import is_exported, load_exported, read_description
from panscape.zoo.published.cache import WeightsCache
from panscape.zoo.published.catalogue import catalogue, find_entry
from panscape.zoo.published.darknet import is_darknet_file
from panscape.zoo.published.fetch import local_file
from panscape.zoo.saved_files import BUNDLED, provenance_of, saved_file
from panscape.zoo.transfer import (
    LoadReport,
    load_matching,
    load_strict,
    shapes_of,
    unique_state_dict,
    unique_tensors,
    warn_of_normalization,
)
from panscape.zoo.transformers.files import network_files

_logger = logging.getLogger(__name__)

WEIGHTS_IN_FOLDER = "model.safetensors"
"""Name of the weights in run directories and in repositories on the hub."""
_KEY = "panscape"
# "owner/name" as the hub allows it; a name with the ending of a weights file is a mistyped path.
_FILE_ENDINGS = (".bin", ".ckpt", ".json", ".pkl", ".pt", ".tar", ".zip")
_REMEDY = "the file is damaged or from another version of panscape"
_PUBLISHED_ENDINGS = (".pkl", ".pt", ".pth", ".tar")  # file endings of published checkpoints


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


def load(name_or_path: str | os.PathLike[str], labels: LabelSpace | str | None = None) -> PanopticModel:
    """Load a model in eval mode, ready for inference.

    Args:
        name_or_path: a bundled model (:func:`list_weights`), or a published one (:func:`list_published`), which is
            fetched on first use, see :func:`fetch_weights`; in names ``-`` and ``_`` are equivalent. The path of a
            ``.safetensors`` file or of a folder with ``model.safetensors``; a run directory without it, whose newest
            intact checkpoint is used: the EMA weights if it has them; the id of a repository with that file on the
            Hugging Face hub ("owner/name"); the path of a checkpoint in its authors' layout (``.pth``, ``.pt``,
            ``.pkl``, ``.tar``), see :func:`panscape.zoo.published.load.create_published`; or a panoptic network of
            transformers, by the path of a folder of its ``save_pretrained`` or on the hub ("hf:owner/name"), see
            :func:`panscape.zoo.transformers.load.load_transformers`; or an exported model
            (``.onnx``, ``.xml``, ``.pt2``, ``.engine``), see :mod:`panscape.export`.
        labels: label space of a published checkpoint, which does not contain it, if it is not that of the dataset that
            it was published for; or of a network of transformers with other categories. Models saved by panscape
            contain theirs.

    Raises:
        UnknownNameError: no bundled or published model has this name; the closest names are suggested.
        UnreadableFileError: the file is missing or damaged, was not saved by panscape or by a newer version of it, has
            weights that are not finite, or cannot be downloaded.
        CheckpointMismatchError: the weights do not match the model described in the file.
        MissingExtraError: the runtime of an exported model is not installed.
        InvalidArgumentError: ``name_or_path`` is empty, or neither text nor a path; or a published checkpoint has
            another number of categories than the label space, needs an accepted licence, is to be downloaded by hand,
            or is a detector or a backbone alone; or as for networks of transformers.
        MissingExtraError: a network of transformers needs the extra ``panscape[transformers]``.
    """
    file = local_file(name_or_path, whole=True)
    if is_exported(file):
        return _with_provenance(load_exported(Path(file)), name_or_path)
    if _is_published(file):
        from panscape.zoo.published.load import create_published

        return _with_provenance(create_published(file, labels), name_or_path)
    files = network_files(os.fspath(file))
    if files is not None:
        from panscape.zoo.transformers.load import load_transformers

        return _with_provenance(load_transformers(files, labels), name_or_path)
    saved = _open(file)
    _logger.debug("model %s from %s", name_or_path, saved.path)
    if saved.step is not None:
        _logger.warning("%s contains an unfinished training; using its checkpoint of step %d", saved.path, saved.step)
    model = build_described(saved.description, saved.shapes, saved.path, remedy=_REMEDY)
    load_strict(model, saved.read(), saved.path, remedy=_REMEDY)
    return _with_provenance(model.eval(), name_or_path)


def _with_provenance(model: PanopticModel, name_or_path: str | os.PathLike[str]) -> PanopticModel:
    """Return a loaded model, after recording what its maps state: the weights, and facts of its card."""
    network = model.card.get("class of transformers") if model.spec is None else model.spec.name
    model.provenance = provenance_of(os.fspath(name_or_path), network, model.card)
    return model


def save(model: PanopticModel, path: str | os.PathLike[str], card: Mapping[str, Any] | None = None) -> None:
    """Save a model for :func:`load`; the file is written atomically.

    Args:
        model: created by :func:`panscape.create_model`.
        path: path of the file, with the ending ``.safetensors``.
        card: metadata to store with the weights, as plain JSON values; None for those of ``model.card``.

    Raises:
        InvalidArgumentError: the model was not created by ``create_model``, or the path has another ending.
    """
    path = to_path(path)
    if path.suffix != ".safetensors":
        raise InvalidArgumentError(f"expected a path that ends in .safetensors, got {path}")
    description = describe_model(model)
    if card is not None:
        description["card"] = dict(card)
    from safetensors.torch import save as to_bytes

    with atomic_write(path) as temporary:
        tensors = {name: tensor.detach().contiguous() for name, tensor in unique_state_dict(model).items()}
        temporary.write_bytes(to_bytes(tensors, metadata={_KEY: json.dumps(description)}))


def load_partial(model: PanopticModel, name_or_path: str | os.PathLike[str]) -> LoadReport:
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
    file = local_file(name_or_path)
    if _is_published(file):
        from panscape.zoo.published.load import published_state

        return load_matching(model, published_state(Path(file), model), Path(file))
    if network_files(os.fspath(file)) is not None:
        raise InvalidArgumentError(
            f"expected weights of a model of panscape to start from, got a network of transformers, {name_or_path}; "
            "train it with transformers"
        )
    saved = _open(file)
    normalization = described_normalization(saved.description, len(saved.shapes))
    if normalization is not None:
        warn_of_normalization(normalization, model, saved.path)
    report = load_matching(model, saved.read(), saved.path)._replace(normalization=normalization)
    return report if saved.step is None else report._replace(line=f"{report.line}, as of step {saved.step}")


def load_backbone(model: PanopticModel, path: str | os.PathLike[str]) -> None:
    """Load ImageNet weights into a model's backbone; see :meth:`PanopticModel.load_backbone`."""
    from panscape.zoo.published import backbones, darknet
    from panscape.zoo.published.read import read_checkpoint

    path = to_path(path)
    if is_darknet_file(path):
        darknet.fill_from_darknet(model, path)
    else:
        _logger.info(backbones.load_backbone(model, read_checkpoint(path), path))


def read_card(name_or_path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the metadata stored with a saved model; nothing is fetched for that of a published one.

    Args:
        name_or_path: as for :func:`load`.

    Raises:
        UnknownNameError: no bundled or published model has this name.
        UnreadableFileError: the file is missing or damaged.
    """
    entry = find_entry(name_or_path) if isinstance(name_or_path, str) else None
    if entry is not None and entry.access != "bundled":
        cached = WeightsCache().find(entry)
        if cached is None or entry.is_part:
            return {"name": entry.name, **entry.facts()}
        name_or_path = cached
    if is_exported(name_or_path):
        return dict(read_description(Path(name_or_path))["card"])
    if _is_published(name_or_path):
        return {}  # a published checkpoint has none
    files = network_files(os.fspath(name_or_path))
    if files is not None:
        from panscape.zoo.transformers.load import transformers_card

        return transformers_card(files)
    return _card(_open(name_or_path))


def list_weights() -> list[WeightsInfo]:
    """Return the bundled models; :func:`list_published` returns those that can be fetched."""
    return [WeightsInfo(p.stem, p, _card(_from_file(p))) for p in sorted(BUNDLED.glob("*.safetensors"))]


def _is_published(name_or_path: str | os.PathLike[str]) -> bool:
    path = to_path(name_or_path, "a model's name or path")
    return path.suffix in _PUBLISHED_ENDINGS or is_darknet_file(path)


class _Saved(NamedTuple):
    """A saved model that is not built yet; ``step`` is that of a checkpoint of an unfinished training."""

    path: Path
    description: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[], Mapping[str, Tensor]]
    step: int | None = None


def _card(saved: _Saved) -> dict[str, Any]:
    card = saved.description.get("card", {})
    return card if isinstance(card, dict) else {}


def _open(name_or_path: str | os.PathLike[str]) -> _Saved:
    if is_exported(name_or_path):
        raise UnreadableFileError(
            to_path(name_or_path), "an exported model has no weights to start from; use the model it was exported from"
        )
    path = _locate(name_or_path)
    checkpoint = load_newest(path / CHECKPOINTS_IN_RUN) if path.suffix != ".safetensors" else None
    if checkpoint is None:
        return _from_file(path)
    step, state = checkpoint
    tensors = unique_tensors(state["average"] or state["model"])
    return _Saved(path, state.get("description", {}), shapes_of(tensors), lambda: tensors, step)


def _from_file(path: Path) -> _Saved:
    header = read_header(path)
    if _KEY not in header.metadata:
        raise UnreadableFileError(
            path,
            "these weights were not saved by panscape; load a network of transformers by its folder or as "
            "hf:owner/name, and pass the weights of a backbone alone to --backbone-weights of panscape train, or to "
            "panscape.load_published",
        )
    description = parse_json(path, header.metadata[_KEY].encode())
    if not isinstance(description, dict):
        raise UnreadableFileError(path, "its description of the model is not a JSON object; save the model again")
    return _Saved(path, description, header.shapes, lambda: read_tensors(path))


def _locate(name_or_path: str | os.PathLike[str]) -> Path:
    name = os.fspath(name_or_path).removeprefix(HUB_PREFIX)
    path = Path(name)
    saved = saved_file(name)
    if saved is not None:
        return saved
    if (path / WEIGHTS_IN_FOLDER).is_file():
        return path / WEIGHTS_IN_FOLDER
    if saved_steps(path / CHECKPOINTS_IN_RUN):
        return path
    if path.is_dir():
        raise UnreadableFileError(
            path,
            f"expected {WEIGHTS_IN_FOLDER} in this folder, or the checkpoints of a training; if a training has just "
            "begun, wait for its first checkpoint",
        )
    if path.exists():
        raise UnreadableFileError(
            path,
            "expected a file that ends in .safetensors, saved by panscape; give its path, or the run directory of a "
            "checkpoint",
        )
    if path.name == name:
        raise UnknownNameError("model", name, catalogue(), command="panscape models")
    # If the first folder exists, it is a path; a request to the hub would only cost the time of its retries.
    if is_hub_id(name) and path.suffix not in _FILE_ENDINGS and not path.parent.is_dir():
        return _download(name)
    raise UnreadableFileError(
        path,
        "no such file; expected the name of a bundled or published model, the path of a .safetensors file, or a hub id "
        "like owner/name",
    )


def _download(hub_id: str) -> Path:
    return hub_file(
        hub_id,
        WEIGHTS_IN_FOLDER,
        remedy="check the id and the network, or give the path of a .safetensors file",
    )
