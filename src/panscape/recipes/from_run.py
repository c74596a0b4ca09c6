"""The dataset of an evaluation: by default that of the run, as its run directory records it."""

from __future__ import annotations

import logging
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

from panscape.datasets.base import PanopticDataset
from panscape.errors import InvalidArgumentError, listed
from panscape.evaluation.training_images import seen_in_training
from panscape.input_files import load_json
from panscape.recipes import FROM_FOLDER, data_options, get_recipe, resolve_recipe_name
from panscape.training.config import DataOptions
from panscape.training.run_options import run_folder_of

_logger = logging.getLogger(__name__)


class RecipeData(NamedTuple):
    """The dataset of a recipe.

    Attributes:
        recipe: name of the recipe.
        options: options of the dataset.
        folder: its folder; None for synthetic scenes.
    """

    recipe: str
    options: DataOptions
    folder: Path | None


def data_for(model: str | Path | None, recipe: str | None, folder: Path | None) -> RecipeData:
    """Return the dataset on which a model is evaluated.

    Args:
        model: as for :func:`panscape.training.run_options.run_folder_of`.
        recipe: name or file of the recipe that defines the dataset; by default that of the run, else
            :data:`panscape.recipes.FROM_FOLDER`. If it is that of the run, the options are those of the run.
        folder: the folder of the dataset; by default that of the run.

    Raises:
        UnknownNameError: there is no such recipe.
        UnreadableFileError: ``run.json`` cannot be read.
        InvalidArgumentError: the run used a dataset class of a recipe file, which only that file can build.
    """
    run = run_folder_of(model)
    is_file = (recipe or "").endswith(".py")  # it builds datasets that a run directory cannot
    known = None if run is None or is_file else _dataset_of_run(run)
    if known is not None and (recipe is None or resolve_recipe_name(recipe) == known.recipe):
        return known._replace(folder=folder or known.folder)
    name = resolve_recipe_name(recipe or FROM_FOLDER)
    return RecipeData(name, get_recipe(name).data, folder)


def _dataset_of_run(run: Path) -> RecipeData:
    record = run / "run.json"
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
    return RecipeData(name, options, None if folder is None else Path(folder))


def load_unseen(data: DataOptions, root: Path | None, split: str, model: str | Path | None) -> PanopticDataset:
    """Open a split on which a model is evaluated.

    Args:
        data: the options of the dataset.
        root: its folder; None for synthetic scenes.
        split: name of the split. Only "train" may contain images of the training; in the run's own dataset, which has
            the same images in two splits, they are reported in a warning.
        model: the model or its run directory; the training images of others are not known.

    Raises:
        InvalidArgumentError: the model was trained on images of the split.
        PanscapeError: as ``data.load``.
    """
    dataset = data.load(root, split)
    run = run_folder_of(model)
    if run is not None and data.splits(root).require(split) != "train":
        seen = seen_in_training(run, dataset)
        what = f"{len(seen)} of {len(dataset)} images of the split {split!r} were in its training ({listed(seen)})"
        if seen and not _is_own_dataset(run, data, root):
            raise InvalidArgumentError(
                f"expected images that {run} was not trained on, but {what}; use the data options of the run, or other "
                "images, or evaluate its training images as the split train"
            )
        if seen:
            _logger.warning("%s: %s, so that the metrics say little; remove them from one of the splits", run, what)
    return dataset


def _is_own_dataset(run: Path, data: DataOptions, root: Path | None) -> bool:
    try:
        _, options, folder = _dataset_of_run(run)
    except InvalidArgumentError:  # of a recipe file
        return False
    return data == options and (root and root.resolve()) == folder


def _names(kind: type[Any]) -> set[str]:
    return {field.name for field in fields(kind)}


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
