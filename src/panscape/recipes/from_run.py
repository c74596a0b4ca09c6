"""The dataset that a run was trained on, as its run directory records it."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from panscape.datasets.base import PanopticDataset
from panscape.errors import InvalidArgumentError
from panscape.input_files import load_json
from panscape.recipes import data_options
from panscape.training.config import DataOptions


class RunDataset(NamedTuple):
    """The dataset of a run.

    Attributes:
        recipe: name of the recipe.
        options: the options of the dataset that the run used.
        folder: the folder of the dataset; None for synthetic scenes.
    """

    recipe: str
    options: DataOptions
    folder: Path | None

    def load(self, folder: Path | None, split: str) -> PanopticDataset:
        """Return a split, with the options of the run.

        Args:
            folder: the folder of the dataset; None for that of the run.
            split: name of the split.

        Raises:
            PanscapeError: there is no such split, or files are missing.
        """
        return self.options.load(self.folder if folder is None else folder, split)


def dataset_of_run(path: Path) -> RunDataset | None:
    """Return the dataset of a run directory; None if the path is no run directory.

    Raises:
        UnreadableFileError: ``run.json`` cannot be read.
        InvalidArgumentError: the run used a dataset class of a recipe file, which only that file can build.
    """
    record = path / "run.json"
    if not record.is_file():
        return None
    content = load_json(record)
    try:
        described, name, folder = dict(content["recipe"]["data"]), str(content["recipe"]["name"]), content["data"]
        kind = getattr(data_options, described.pop("type"), None)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidArgumentError(f"{record}: expected the run.json of a panscape run") from error
    if not (isinstance(kind, type) and issubclass(kind, DataOptions)) or set(described) - _names(kind):
        raise InvalidArgumentError(
            f"{record}: the run used data options that this version of panscape does not have; give --recipe with the "
            "name or the Python file of its recipe"
        )
    options = kind(**{key: _tuples(value) for key, value in described.items()})
    return RunDataset(name, options, None if folder is None else Path(folder))


def _names(kind: type[Any]) -> set[str]:
    return {field.name for field in fields(kind)}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
