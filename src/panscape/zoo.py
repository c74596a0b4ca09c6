"""Saved models: one safetensors file that holds the weights and says how to rebuild the model around them."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from dataclasses import fields as part_fields
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from panscape.convert.filling import fill, unaliased_state
from panscape.errors import (
    CheckpointMismatchError,
    InvalidArgumentError,
    InvalidLabelSpaceError,
    UnknownNameError,
    UnreadableFileError,
)
from panscape.files import replacing
from panscape.hub import hub_file
from panscape.labels import LabelSpace
from panscape.models import PanopticModel, create_model

_BUNDLED = Path(__file__).parent / "weights"
WEIGHTS_IN_FOLDER = "model.safetensors"  # in the folder of a training, and in repositories on the hub
_KEY = "panscape"
# One folder and a name as the hub allows them; what ends like a file is a path that somebody mistyped.
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_FILE_ENDINGS = (".bin", ".ckpt", ".json", ".onnx", ".pkl", ".pt", ".tar", ".zip")
_PUBLISHED_ENDINGS = (".pkl", ".pt", ".pth")  # of the files in which authors publish weights
# Parts of models that may appear among the options of a saved model, and where in panscape they are.
_PARTS = {
    "CenterDecoding": "representations.centers",
    "CenterInstanceMaps": "nn.instance_maps",
    "CenterRepresentation": "representations.centers",
    "Concatenation": "nn.relation_alternatives",
    "DenseBoxDecoding": "representations.dense_box_decoding",
    "DenseBoxRepresentation": "representations.dense_boxes",
    "ElementwiseProduct": "nn.relation_alternatives",
    "ObjectContext": "nn.relation_alternatives",
    "PanopticRelations": "nn.relations",
    "PastingRules": "representations.merging",
}


@dataclass(frozen=True, slots=True)
class Weights:
    """A saved model.

    Attributes:
        name: for :func:`load`.
        path: of its file.
        card: facts about it: data, licence, measured numbers.
    """

    name: str
    path: Path
    card: Mapping[str, Any]


class Taken(NamedTuple):
    """What a model took over from weights to start from.

    Attributes:
        line: says what was and what was not copied.
        names: of the model's tensors that were filled, as :func:`panscape.convert.filling.unaliased_state` has them.
    """

    line: str
    names: frozenset[str]


def load(name_or_path: str | Path, labels: LabelSpace | str | None = None) -> PanopticModel:
    """Load a model, ready to predict.

    Args:
        name_or_path: a bundled model (:func:`list_weights`), the path of a ``.safetensors`` file or of a folder that
            holds ``model.safetensors``, or the id of a repository on the Hugging Face hub ("owner/name") that does; or
            the path of a checkpoint in its authors' layout (``.pth``, ``.pt``, ``.pkl``), see
            :func:`panscape.convert.published.create_published`.
        labels: the categories of an authors' checkpoint, which does not name them, if they are not those of the data
            set that it was published for; models that panscape saved have theirs.

    Raises:
        UnknownNameError: no bundled model has this name; the nearest are suggested.
        UnreadableFileError: the file is missing or damaged, was not saved by panscape or by a newer version of it, or
            the hub does not give it.
        CheckpointMismatchError: the weights do not fit the model they claim to be.
        InvalidArgumentError: an authors' checkpoint has another number of categories than the labels.
    """
    if Path(name_or_path).suffix in _PUBLISHED_ENDINGS:
        from panscape.convert.published import create_published

        return create_published(name_or_path, labels)
    path = _locate(name_or_path)
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

    fill(model, load_file(path), path, remedy="the file is damaged or from another version of panscape")
    return model.eval()


def save(model: PanopticModel, path: str | Path, card: Mapping[str, Any] | None = None) -> None:
    """Save a model so that :func:`load` gives it back; the file appears whole or not at all.

    Args:
        model: made by :func:`panscape.create_model`.
        path: must end in ``.safetensors``.
        card: facts to keep with the weights, as plain JSON values.

    Raises:
        InvalidArgumentError: the model was not made by ``create_model``, or the path ends otherwise.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise InvalidArgumentError(f"expected a path that ends in .safetensors, got {path}")
    if model.spec is None:
        raise InvalidArgumentError("expected a model made by panscape.create_model, whose options can be saved with it")
    from safetensors.torch import save as to_bytes

    description = {
        "model": model.spec.name,
        "options": {k: _to_json(v) for k, v in model.spec.options.items()},
        "labels": model.labels.to_dict(),
        "card": dict(card or {}),
    }
    with replacing(path) as temporary:
        tensors = {name: tensor.detach().contiguous() for name, tensor in unaliased_state(model).items()}
        temporary.write_bytes(to_bytes(tensors, metadata={_KEY: json.dumps(description)}))


def start_from(model: PanopticModel, name_or_path: str | Path) -> Taken:
    """Copy the weights of a saved model that have a place in another one, and leave the others as they are.

    Args:
        model: to be trained further; it may have other categories or parts.
        name_or_path: as for :func:`load`; or a file of a backbone alone, as :func:`panscape.load_published` takes it.

    Returns:
        What was copied.

    Raises:
        UnknownNameError: no bundled model has this name.
        UnreadableFileError: the file is missing or damaged.
        CheckpointMismatchError: nothing fits.
    """
    if Path(name_or_path).suffix in _PUBLISHED_ENDINGS:
        from panscape.convert.published import published_state

        return copy_fitting(model, published_state(Path(name_or_path)), Path(name_or_path))
    path = _locate(name_or_path)
    _describe(path)
    from safetensors.torch import load_file

    return copy_fitting(model, load_file(path), path)


def copy_fitting(model: PanopticModel, found: Mapping[str, Tensor], path: Path) -> Taken:
    """Copy what has a place in a model, and leave the rest as it is; see :func:`start_from`.

    A tensor has a place by its name and shape. A backbone has one, too, where it is called otherwise, as in models of
    another family: if all of it is found, by names and shapes, below one other name. And where a model has copies of a
    part (:attr:`PanopticModel.copied_parts`) and the file has none, they get what that part gets.

    Args:
        model: to be trained further.
        found: tensors by name.
        path: of their file, for messages.

    Raises:
        CheckpointMismatchError: nothing fits.
    """
    needed = unaliased_state(model)
    sources = {name: name for name in needed if name in found and found[name].shape == needed[name].shape}
    num_same, origins = len(sources), list[str]()
    for backbone in model.backbones:
        mine = {name: tensor for name, tensor in needed.items() if name.startswith(f"{backbone}.")}
        if mine.keys() <= sources.keys():
            continue
        origin = _backbone_in(found, mine, backbone)
        if origin is not None:
            renamed = {name: origin + name.removeprefix(backbone) for name in mine if name not in sources}
            sources |= {name: source for name, source in renamed.items() if source in found}
            origins.append(origin)
    num_moved = len(sources) - num_same
    copies = list[str]()
    for copy, part in model.copied_parts.items():
        if not any(name.startswith(f"{copy}.") for name in found):
            again = {copy + n.removeprefix(part): source for n, source in sources.items() if n.startswith(f"{part}.")}
            sources |= again
            copies += [copy] if again else []
    num_copied = len(sources) - num_same - num_moved
    if not sources:
        raise CheckpointMismatchError(
            path, missing=needed, unused=found, remedy="start from a model of the same family or with the same backbone"
        )
    with torch.no_grad():
        for name, source in sources.items():
            needed[name].copy_(found[source])
    moved = f", {num_moved} of them from its backbone, {origins[0]}" if num_moved else ""
    moved += f", {num_copied} of them copies, in {', '.join(copies)}" if num_copied else ""
    new = sorted(needed.keys() - sources.keys())
    rest = f"; new: {', '.join(new[:6])}{' and others' if len(new) > 6 else ''}" if new else ""
    line = f"started from {path.name}: {len(sources)} of {len(needed)} tensors{moved}{rest}"
    return Taken(line, frozenset(sources))


def _backbone_in(found: Mapping[str, Tensor], mine: Mapping[str, Tensor], backbone: str) -> str | None:
    """Return the first name in a file below which all that ``mine`` has below ``backbone`` lies.

    Counters do not count: norms that were frozen have none.
    """
    shapes = {name.removeprefix(backbone): tensor.shape for name, tensor in mine.items() if tensor.is_floating_point()}
    first = next(iter(shapes), None)
    if first is None:
        return None
    for origin in sorted(name.removesuffix(first) for name in found if name.endswith(first)):
        if all(origin + rest in found and found[origin + rest].shape == shape for rest, shape in shapes.items()):
            return origin
    return None


def read_card(name_or_path: str | Path) -> dict[str, Any]:
    """Return the facts kept with a saved model.

    Args:
        name_or_path: as for :func:`load`.

    Raises:
        UnknownNameError: no bundled model has this name.
        UnreadableFileError: the file is missing or damaged.
    """
    if Path(name_or_path).suffix in _PUBLISHED_ENDINGS:
        return {}  # of an authors' checkpoint
    return dict(_describe(_locate(name_or_path)).get("card", {}))


def list_weights() -> list[Weights]:
    """Return the bundled models."""
    return [Weights(p.stem, p, _describe(p).get("card", {})) for p in sorted(_BUNDLED.glob("*.safetensors"))]


def _locate(name_or_path: str | Path) -> Path:
    name, path = str(name_or_path), Path(name_or_path)
    if path.suffix == ".safetensors":
        return path
    bundled = _BUNDLED / f"{name}.safetensors"
    if path.name == name and bundled.is_file():
        return bundled
    if (path / WEIGHTS_IN_FOLDER).is_file():
        return path / WEIGHTS_IN_FOLDER
    if path.exists():
        raise UnreadableFileError(path, "expected a file that ends in .safetensors, saved by panscape; give its path")
    if path.name == name:
        raise UnknownNameError("model", name, [w.name for w in list_weights()])
    # Where the first folder exists, a path was meant; asking the hub would only cost the time of its retries.
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
            "these weights were not saved by panscape; the weights of a backbone alone are for --backbone-weights of "
            "panscape train, or panscape.load_published",
        ) from error
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise UnreadableFileError(path, f"expected a whole safetensors file, but {error}") from error
    if not isinstance(description, dict):
        raise UnreadableFileError(path, "its description of the model is not a JSON object")
    return description


def _to_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        fields = {f: _to_json(getattr(value, f)) for f in asdict(value)}
        return {"part": type(value).__name__} | fields
    if isinstance(value, (tuple, list)):
        return [_to_json(v) for v in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise InvalidArgumentError(
        f"cannot save a model whose options hold a {type(value).__name__}; name the part (a backbone, say) instead"
    )


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        fields = {k: _from_json(v) for k, v in value.items() if k != "part"}
        if value["part"] not in _PARTS:
            raise UnknownNameError("part", str(value["part"]), _PARTS)
        part = getattr(importlib.import_module(f"panscape.{_PARTS[value['part']]}"), value["part"])
        known = [field.name for field in part_fields(part)]
        for name in fields:
            if name not in known:
                raise UnknownNameError(f"option of {value['part']}", name, known, list_all=True)
        return part(**fields)
    return tuple(_from_json(v) for v in value) if isinstance(value, list) else value
