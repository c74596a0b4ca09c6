"""Recipes: complete training configurations by name.

A recipe is a frozen :class:`~panscape.training.config.Recipe`. Those with a name are rows of
:mod:`panscape.recipes.table`: a base recipe of their family, and the fields that they change. Listing them imports
nothing heavy.
"""

from __future__ import annotations

import importlib
import sys
import traceback
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from panscape.errors import InvalidArgumentError, UnknownNameError, UnreadableFileError, in_one_line
from panscape.recipes.published import PublishedResult, results_of, table_names
from panscape.recipes.table import DATASETS, TABLE

if TYPE_CHECKING:
    from panscape.training.config import Recipe

_EXPECTED = 'expected a Python file with a function "recipe" that takes no arguments and returns a Recipe'
FROM_FOLDER = "from_folder"
"""Name of the recipe whose defaults are derived from a folder."""

_ROWS = {row.name: (family, row) for family in TABLE for row in family.rows}


@dataclass(frozen=True, slots=True)
class RecipeInfo:
    """A recipe in a list.

    Attributes:
        name: name of the recipe.
        system: name of the panoptic system.
        data: name of the dataset.
        summary: one-line summary.
        num_devices: number of RTX 3090 for which the hours are estimated; 0 without an estimate.
        hours: estimated hours of the training; None without an estimate.
        published: results of the paper's rows that the recipe repeats.
        ablation_of: for an ablation on synthetic scenes, name of the recipe whose row it repeats at a small size.
    """

    name: str
    system: str
    data: str
    summary: str
    num_devices: int
    hours: int | None
    published: tuple[PublishedResult, ...]
    ablation_of: str | None

    def contains(self, word: str) -> bool:
        """Return whether any text contains the word; case is ignored, and ``-`` and ``_`` are equivalent."""
        text = "\n".join((self.name, self.system, self.data, self.summary))
        return _searchable(word) in _searchable(text)


def _searchable(text: str) -> str:
    return text.casefold().replace("-", "_")


def describe_recipe(name: str) -> RecipeInfo:
    """Return what is known about a recipe without building it.

    Args:
        name: one of :func:`list_recipes`.
    """
    family, row = _ROWS[name]
    published = results_of(name)
    where = ""
    if family.paper:
        tables = table_names({table for result in published for table in result.tables})
        where = tables if family.paper == family.system else f"{family.paper}, {tables}"
        where = f" ({where if published else 'not in the paper'})"
    return RecipeInfo(
        name=name,
        system=family.system,
        data=DATASETS[row.data],
        summary=f"{row.summary}{where}.",
        num_devices=family.num_devices,
        hours=row.hours,
        published=published,
        ablation_of=row.ablation_of,
    )


def describe_recipes() -> list[RecipeInfo]:
    """Return all recipes, sorted by system and dataset."""
    systems, datasets = list(dict.fromkeys(family.system for family in TABLE)), list(DATASETS.values())
    infos = map(describe_recipe, _ROWS)
    return sorted(infos, key=lambda info: (systems.index(info.system), datasets.index(info.data)))


def list_recipes() -> dict[str, str]:
    """Return the names of all recipes, each with a one-line summary."""
    return {name: describe_recipe(name).summary for name in _ROWS}


def resolve_recipe_name(name: str) -> str:
    """Return the canonical spelling of a recipe's name, with ``_`` for ``-``; paths of Python files are kept.

    Args:
        name: as for :func:`get_recipe`.

    Raises:
        UnknownNameError: there is no recipe of this name; the message suggests the nearest names.
        UnreadableFileError: there is no such file.
    """
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise UnreadableFileError(name, f"no such file; {_EXPECTED}")
        return name
    canonical = name.replace("-", "_")
    if canonical not in _ROWS:
        raise UnknownNameError("recipe", name, _ROWS)
    return canonical


def get_recipe(name: str) -> Recipe:
    """Return a recipe by name.

    Args:
        name: one of :func:`list_recipes`, where ``-`` and ``_`` are equivalent; or the path of a Python file, ending in
            ``.py``, with a function ``recipe`` that returns a recipe. The file is executed.

    Raises:
        UnknownNameError: there is no recipe of this name; the message suggests the nearest names.
        UnreadableFileError: there is no such file.
        InvalidArgumentError: the file has no such function, it returns something else, or the file raises an exception.
    """
    name = resolve_recipe_name(name)
    if name.endswith(".py"):
        return _recipe_of_file(Path(name))
    family, row = _ROWS[name]
    module, _, function = family.builder.partition(".")
    recipe: Recipe = getattr(importlib.import_module(f"panscape.recipes.{module}"), function)(row)
    return recipe


def _recipe_of_file(path: Path) -> Recipe:
    from panscape.training.config import Recipe

    module = ModuleType(f"panscape_recipe_{path.stem}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look up their annotations there
    try:
        SourceFileLoader(module.__name__, str(path)).exec_module(module)
        function = getattr(module, "recipe", None)
        recipe = function() if callable(function) else None
    except (Exception, SystemExit) as error:  # the file is code of the user
        what = f"{type(error).__name__}: {error.msg if isinstance(error, SyntaxError) else in_one_line(error)}"
        raise InvalidArgumentError(f"{path}{_line_of(error, path)}: {_EXPECTED}, but {what}; correct it") from error
    if not callable(function):
        raise InvalidArgumentError(f"{path}: {_EXPECTED}, but it has no such function")
    if not isinstance(recipe, Recipe):
        raise InvalidArgumentError(f"{path}: {_EXPECTED}; it returned {type(recipe).__name__}")
    return recipe


def _line_of(error: BaseException, path: Path) -> str:
    """Return ", line N" for the last line of the file that led to the exception; empty if none did."""
    if isinstance(error, SyntaxError) and error.filename == str(path):
        return f", line {error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    return f", line {lines[-1]}" if lines else ""
