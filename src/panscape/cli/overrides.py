"""A recipe with some of its fields given on the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

import tyro
from tyro.conf import FlagCreatePairsOff, arg

from panscape.recipes.data_options import FolderData
from panscape.recipes.from_folder import derive, own
from panscape.training.config import Recipe
from panscape.training.run_options import RunOptions


@dataclass(frozen=True)
class TrainingCommand:
    """What ``panscape train`` was asked for.

    Attributes:
        recipe: with what was given.
        options: of the run.
        show: only print the recipe.
        notes: lines that tell the user what was found and chosen.
    """

    recipe: Recipe
    options: RunOptions
    show: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Options:
    run: Annotated[RunOptions, arg(name=""), FlagCreatePairsOff]
    """Where and how to run it."""

    recipe: Annotated[Recipe, arg(name="")]
    """What to train, and how."""

    print_config: Annotated[bool, FlagCreatePairsOff] = False
    """Print the recipe as JSON and end; nothing is trained."""


def override(recipe: Recipe, program: str, arguments: Sequence[str], notes: tuple[str, ...] = ()) -> TrainingCommand:
    """Return the recipe with the fields that are given, and the options of its run.

    Every field is an option: its place in the recipe, with dots.

    Args:
        recipe: gives the fields that are not given, and which options there are.
        program: for the help.
        arguments: options and their values.
        notes: handed on.

    Raises:
        SystemExit: with 0 after the help, with 2 after a complaint about an option.
    """
    is_shown = "--print-config" in arguments  # then nothing is written
    given = tyro.cli(
        _Options,
        prog=program,
        description=_description(recipe),
        default=_Options(RunOptions(Path() if is_shown else tyro.MISSING), recipe),
        args=list(arguments),
    )
    return TrainingCommand(given.recipe, given.run, given.print_config, notes)


def override_own(program: str, arguments: Sequence[str]) -> TrainingCommand:
    """Like :func:`override` with the recipe that follows from the folder given as ``--data``.

    Raises:
        PanscapeError: as :func:`panscape.recipes.from_folder.derive`.
        SystemExit: as :func:`override`.
    """
    first = override(own(), program, arguments)  # says where the data are and how to read them
    data = cast(FolderData, first.recipe.data)
    derived = derive(data.folder(first.options.data), data)
    return override(derived.recipe, program, arguments, derived.notes)


def _description(recipe: Recipe) -> str:
    if recipe.name == "own":
        return (
            "Train on a folder of your own. Options that are not given follow from what lies in it; shown is what a "
            "thousand images of 480x640 get. --print-config with --data prints what yours get."
        )
    return f"Train by the recipe {recipe.name}. Each option shows what the recipe says."
