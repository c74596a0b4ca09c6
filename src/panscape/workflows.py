"""Training and evaluation as one call each, from the names that the command line takes: recipes, models and folders.

Options have the names and defaults of the dataclasses that the command line uses. What these functions call takes
the dataclasses themselves: :func:`panscape.training.run.run`, :func:`panscape.evaluation.evaluate_model.evaluate` and
:func:`panscape.evaluation.evaluate_files.evaluate_files`.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from panscape import zoo
from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.evaluation.options import EvaluationOptions, InferenceOptions, ReadingOptions
from panscape.inference.device import choose_device
from panscape.input_files import to_path
from panscape.models import PanopticModel
from panscape.recipes import FROM_FOLDER, get_recipe, resolve_recipe_name
from panscape.recipes.data_options import FolderData
from panscape.recipes.from_run import data_for, load_unseen
from panscape.training.config import Recipe
from panscape.training.run_options import RunOptions

if TYPE_CHECKING:
    from panscape.datasets.base import PanopticDataset
    from panscape.evaluation.evaluate_files import FileEvaluation
    from panscape.metrics import EvaluationReport

_Path = str | os.PathLike[str]
_PartT = TypeVar("_PartT", bound=Any)
_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class TrainingResult:
    """The result of :func:`train`.

    Attributes:
        model: the trained model, in eval mode on the CPU.
        report: its metrics on the val images.
        folder: the run directory, which :func:`panscape.load` takes too.
    """

    model: PanopticModel
    report: EvaluationReport
    folder: Path

    def __str__(self) -> str:
        return f"{self.folder}\n{self.report}"


def train(
    recipe: Recipe | _Path = FROM_FOLDER, *, out: _Path, data: _Path | None = None, **options: Any
) -> TrainingResult:
    """Train a model and evaluate it, as ``panscape train`` does.

    For example::

        result = panscape.train(data="my_folder", out="my_run")
        result = panscape.train("town", out="town_run", steps=2000, optimizer={"learning_rate": 1e-3}, device="cuda")
        result.model.predict("photo.jpg")

    Args:
        recipe: a :class:`~panscape.training.config.Recipe`; the name of one (:func:`panscape.list_recipes`); or the
            path of a Python file with a function ``recipe``. By default, settings are derived from the images of a
            folder of your own, and ``data`` is that folder; see :func:`panscape.datasets.from_folder` for its layout.
        out: run directory, which must be new or empty unless ``resume=True``.
        data: folder of the dataset; synthetic datasets need none.
        **options: fields of :class:`~panscape.training.run_options.RunOptions`, such as ``device``, ``seed`` or
            ``resume``, and of the recipe, such as ``steps`` or ``batch_size``. A mapping changes fields of a part of
            the recipe and keeps its others. For a folder of your own also ``void``, ``hold_out`` and ``min_area``,
            see :class:`~panscape.recipes.data_options.FolderData`.

    Raises:
        UnknownNameError: there is no such recipe or option; the closest names are suggested.
        PanscapeError: as :func:`panscape.training.run.run`.
        KeyboardInterrupt: as :func:`panscape.training.run.run`; ``resume=True`` continues.
    """
    # The training loop and its dependencies take long to import, and evaluate does not need them.
    from panscape.training.run import run

    run_names = {field.name for field in fields(RunOptions)} - {"out", "data"}
    recipe_names = {field.name for field in fields(Recipe)} - {"data"}
    is_folder = not isinstance(recipe, Recipe) and os.fspath(recipe) == FROM_FOLDER
    folder_names = {field.name for field in fields(FolderData)} if is_folder else set()
    _require_known(options, run_names | recipe_names | folder_names, "option of train")
    run_options: RunOptions = _of_fields(RunOptions, {**options, "out": out, "data": data})
    if not isinstance(recipe, Recipe):
        reading = _of_fields(FolderData, {name: value for name, value in options.items() if name in folder_names})
        recipe = _recipe_of(recipe, run_options, reading)
    recipe = _with_fields(recipe, {name: value for name, value in options.items() if name in recipe_names})
    report = run(recipe, run_options)
    return TrainingResult(zoo.load(run_options.out), report, run_options.out)


def evaluate(
    model: PanopticModel | _Path,
    dataset: PanopticDataset | Recipe | _Path | None = None,
    *,
    data: _Path | None = None,
    split: str = "val",
    device: str | None = None,
    workers: int = 1,
    **options: Any,
) -> EvaluationReport:
    """Evaluate a model on a dataset, as ``panscape evaluate MODEL`` does.

    For example::

        report = panscape.evaluate("my_run", data="my_folder")
        report = panscape.evaluate("town", "town", limit=20, ap=True)
        report.panoptic.all.pq

    Args:
        model: a model, or what :func:`panscape.load` takes.
        dataset: a dataset; or a recipe or its name, for the dataset of the recipe. By default that of the run, if
            ``model`` is a run directory, with all data options of the run; else ``data`` is a folder of your own, see
            :func:`panscape.datasets.from_folder`. In another label space than the model, categories correspond by name.
        data: folder of the dataset; by default that of the run. Synthetic datasets need none.
        split: split of the dataset.
        device: a torch device, or "auto" for CUDA if available. By default a given model stays where it is, and a
            loaded one moves to "auto".
        workers: data loading processes; 0 loads in this process.
        **options: fields of :class:`~panscape.evaluation.options.EvaluationOptions`, such as ``protocol`` or ``ap``,
            and of :class:`~panscape.evaluation.options.InferenceOptions`, such as ``limit`` or ``precision``.

    Raises:
        UnknownNameError: there is no such model, recipe or option; the closest names are suggested.
        InvalidArgumentError: ``model`` is a run directory, and was trained on images of the split.
        PanscapeError: as :func:`panscape.load` and :func:`panscape.evaluation.evaluate_model.evaluate`.
    """
    from panscape.datasets.relabeled import relabeled
    from panscape.evaluation.evaluate_model import evaluate as evaluate_model

    metrics, inference = _grouped(options, "option of evaluate", EvaluationOptions, InferenceOptions)
    folder = None if data is None else to_path(data)
    path = None if isinstance(model, PanopticModel) else to_path(model, "a model, its name or path")
    opened = _dataset_of(dataset, folder, split, path)
    if not isinstance(model, PanopticModel):
        model, device = zoo.load(os.fspath(model), labels=opened.labels), device or "auto"
    if device is not None:
        model = model.to(choose_device(device, model))
    opened = relabeled(opened, model.labels)
    return evaluate_model(model, opened, options=metrics, inference=inference, workers=workers)


def evaluate_files(predictions: _Path, truth: _Path, **options: Any) -> FileEvaluation:
    """Evaluate predictions of any tool in files, as ``panscape evaluate --predictions`` does.

    Args:
        predictions: a COCO panoptic JSON, or a folder in any form of :mod:`panscape.formats.reading.pairing`.
        truth: likewise.
        **options: fields of :class:`~panscape.evaluation.options.EvaluationOptions`, such as ``protocol`` or ``ap``,
            and of :class:`~panscape.evaluation.options.ReadingOptions`, such as ``labels`` or ``gt_dir``.

    Raises:
        UnknownNameError: there is no such option; the closest names are suggested.
        PanscapeError: as :func:`panscape.evaluation.evaluate_files.evaluate_files`.
    """
    from panscape.evaluation.evaluate_files import evaluate_files as evaluate_paths

    metrics, reading = _grouped(options, "option of evaluate_files", EvaluationOptions, ReadingOptions)
    return evaluate_paths(predictions, truth, options=metrics, reading=reading)


def _recipe_of(name: _Path, options: RunOptions, reading: FolderData) -> Recipe:
    """Return a recipe by name; that of a folder is derived from it, and the choices are logged."""
    if _require_recipe(name, "a recipe") != FROM_FOLDER:
        return get_recipe(os.fspath(name))
    from panscape.recipes.from_folder import derive

    derived = derive(
        reading.folder(options.data), reading, init_from=options.init_from, backbone_weights=options.backbone_weights
    )
    for note in derived.notes:
        _logger.info(note)
    return derived.recipe


def _dataset_of(
    dataset: PanopticDataset | Recipe | _Path | None, data: Path | None, split: str, model: Path | None
) -> PanopticDataset:
    """Return a split of the dataset of a run, a recipe or a folder; a dataset is returned as it is."""
    if dataset is None or isinstance(dataset, str | os.PathLike):
        name = None if dataset is None else _require_recipe(dataset, "a dataset or a recipe")
        _, options, folder = data_for(model, name, data)
        return load_unseen(options, folder, split, model)
    return load_unseen(dataset.data, data, split, model) if isinstance(dataset, Recipe) else dataset


def _require_recipe(name: _Path, expected: str) -> str:
    """Return the full name of a recipe; the error about a folder names the argument for it."""
    try:
        return resolve_recipe_name(os.fspath(name))
    except UnknownNameError as error:
        if Path(name).is_dir():
            raise InvalidArgumentError(
                f"expected {expected}, got the folder {name}; give a folder of your own as data"
            ) from error
        raise


def _grouped(options: Mapping[str, Any], kind: str, *groups: type[Any]) -> list[Any]:
    """Return an instance of each dataclass with those of the options that are its fields."""
    _require_known(options, {field.name for group in groups for field in fields(group)}, kind)
    return [_of_fields(group, options) for group in groups]


def _of_fields(kind: type[Any], options: Mapping[str, Any]) -> Any:
    """Return a dataclass with those of the options that are its fields; paths may be text."""
    values = {}
    for field in fields(kind):
        if field.name in options:
            value = options[field.name]
            is_path = "Path" in str(field.type) and value is not None
            values[field.name] = Path(value) if is_path else value
    return kind(**values)


def _with_fields(part: _PartT, values: Mapping[str, Any]) -> _PartT:
    """Return a dataclass with other fields; a mapping changes fields of a field."""
    _require_known(values, {field.name for field in fields(part)}, f"field of {type(part).__name__}")
    new = {}
    for name, value in values.items():
        old = getattr(part, name)
        new[name] = _with_fields(old, value) if isinstance(value, Mapping) and is_dataclass(old) else value
    return replace(part, **new)


def _require_known(values: Mapping[str, Any], known: set[str], kind: str) -> None:
    for name in values:
        if name not in known:
            raise UnknownNameError(kind, name, known)
