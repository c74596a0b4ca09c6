"""The files of a network of transformers: in a folder, or fetched from the hub once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.hub import HUB_PREFIX, cached_file, find_hub_file, hub_file, is_hub_id
from panscape.input_files import load_json
from panscape.weights_file import read_tensors
from panscape.zoo.published.read import read_checkpoint

_CONFIG, _PROCESSOR, _LABELS = "config.json", "preprocessor_config.json", "labels.json"
_INDEX = "model.safetensors.index.json"
WEIGHTS = ("model.safetensors", _INDEX, "pytorch_model.bin")
_TOKENIZERS = (("tokenizer.json",), ("vocab.json", "merges.txt"))
_REMEDY = "check the id and the network, or give the path of a folder with the repository's files"


class NetworkFiles(NamedTuple):
    """Where the files of a network are.

    Attributes:
        name: the folder, or the id on the hub with its prefix.
        config: content of its ``config.json``.
        folder: path of the folder; None for the hub.
    """

    name: str
    config: Mapping[str, Any]
    folder: Path | None

    def find(self, file: str) -> Path | None:
        """Return the path of a file, fetched if it is on the hub; None if there is no such file.

        Once the weights are in the cache, so are all files that were there with them, and the hub is not asked again.

        Raises:
            UnreadableFileError: the hub cannot be reached.
        """
        if self.folder is not None:
            return self.folder / file if (self.folder / file).is_file() else None
        cached = cached_file(self.repository, file)
        return cached if cached or self._cached_weights else find_hub_file(self.repository, file, remedy=_REMEDY)

    def require(self, file: str) -> Path:
        """Return the path of a file, fetched if it is on the hub.

        Raises:
            UnreadableFileError: there is no such file on the hub, or it cannot be reached.
        """
        return hub_file(self.repository, file, remedy=_REMEDY) if self.folder is None else self.folder / file

    @property
    def repository(self) -> str:
        """The id on the hub."""
        return self.name.removeprefix(HUB_PREFIX)

    def json(self, file: str) -> Mapping[str, Any]:
        """Return the content of a JSON with an object; empty if there is no such file."""
        path = self.find(file)
        return {} if path is None else _json_object(path)

    @property
    def processor(self) -> Mapping[str, Any]:
        """Content of the image processor's file, or that part of the file of a processor of texts and images."""
        own = self.json("processor_config.json").get("image_processor")
        return own if isinstance(own, Mapping) else self.json(_PROCESSOR)

    @property
    def labels(self) -> Path | None:
        """Path of a label space that somebody wrote into the folder."""
        return None if self.folder is None else self.find(_LABELS)

    def tokenizer(self) -> list[Path]:
        """Return the files of a tokenizer, fetched if they are on the hub.

        Raises:
            UnreadableFileError: there are none.
        """
        wanted = next((names for names in _TOKENIZERS if all(map(self.find, names))), None)
        if wanted is None and self.folder is not None:
            raise UnreadableFileError(
                self.folder,
                "expected a tokenizer for the text of the task, tokenizer.json or vocab.json and merges.txt; write it "
                "with save_pretrained of the processor, or copy it from the repository of the network",
            )
        return [self.require(name) for name in wanted or _TOKENIZERS[-1]]

    def read_weights(self) -> dict[str, Tensor]:
        """Read all tensors: of safetensors if there are such, else of ``pytorch_model.bin``, whose code is not run.

        Raises:
            UnreadableFileError: there are no weights, or a file is damaged or cannot be fetched.
        """
        name = self._cached_weights or next((name for name in WEIGHTS if self.find(name) is not None), None)
        if name is None:
            raise UnreadableFileError(
                self.name,
                f"expected weights, one of {', '.join(WEIGHTS)}; write them with save_pretrained of transformers",
            )
        path = self.require(name)
        if name != _INDEX:
            return dict(read_checkpoint(path))
        shards = _json_object(path).get("weight_map")
        if not isinstance(shards, dict) or not all(isinstance(s, str) and Path(s).name == s for s in shards.values()):
            raise UnreadableFileError(path, "expected weight_map with the file of each tensor; download it again")
        tensors = {}
        for shard in sorted(set(shards.values())):
            tensors.update(read_tensors(self.require(shard)))
        return tensors

    @property
    def _cached_weights(self) -> str | None:
        """Name of the file of weights on the hub that is in the cache."""
        if self.folder is not None:
            return None
        return next((name for name in WEIGHTS if cached_file(self.repository, name) is not None), None)


def network_files(name: str) -> NetworkFiles | None:
    """Return the files of a network of transformers; None if a name or path is of something else.

    Args:
        name: the path of a folder, or "hf:owner/name", whose ``config.json`` is fetched.

    Raises:
        InvalidArgumentError: "hf:" is not followed by the id of a repository.
        UnreadableFileError: ``config.json`` is damaged or cannot be fetched.
    """
    if name.startswith(HUB_PREFIX):
        repository = name.removeprefix(HUB_PREFIX)
        if not is_hub_id(repository):
            raise InvalidArgumentError(f"expected the id of a repository after hf:, as in hf:owner/name, got {name!r}")
        path = hub_file(repository, _CONFIG, remedy=_REMEDY)
        config, folder = _json_object(path), None
    else:
        folder = Path(name)
        if not (folder / _CONFIG).is_file():
            return None
        config = _json_object(folder / _CONFIG)
    return None if config.get("library_name") == "panscape" else NetworkFiles(name, config, folder)


def _json_object(path: Path) -> Mapping[str, Any]:
    content = load_json(path)
    if not isinstance(content, dict):
        raise UnreadableFileError(path, f"expected a JSON object, got {type(content).__name__}; download it again")
    return content
