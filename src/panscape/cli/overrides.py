"""Overrides the fields of a recipe from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Annotated, cast

import tyro
from tyro.conf import FlagCreatePairsOff, arg

from panscape.cli.data_arguments import split
from panscape.cli.parser import HELP, parse
from panscape.recipes import FROM_FOLDER, describe_recipe, get_recipe
from panscape.recipes.data_options import FolderData
from panscape.recipes.from_folder import derive, describe_settings
from panscape.training.config import Recipe
from panscape.training.run_options import RunOptions


@dataclass(frozen=True)
class TrainingCommand:
    """The parsed arguments of ``panscape train``.

    Attributes:
        recipe: recipe with the given fields.
        options: options of the run.
        print_config: print the recipe instead of training.
        json: print the results as JSON.
        notes: lines for the user about the data found and the settings chosen.
    """

    recipe: Recipe
    options: RunOptions
    print_config: bool
    json: bool
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Options:
    run: Annotated[RunOptions, arg(name=""), FlagCreatePairsOff]
    """Options of the run: folders, devices, precision, logging."""

    recipe: Annotated[Recipe, arg(name="")]
    """Fields of the recipe."""

    print_config: Annotated[bool, FlagCreatePairsOff] = False
    """Print the recipe as JSON; do not train."""

    json: Annotated[bool, FlagCreatePairsOff] = False
    """Print one JSON object at the end."""


def override(recipe: Recipe, name: str, arguments: Sequence[str], notes: tuple[str, ...] = ()) -> TrainingCommand:
    """Return the recipe with the given fields, and the options of its run.

    Every field is an option, named by its dotted path in the recipe.

    Args:
        recipe: recipe that defines the options and their defaults.
        name: name of the recipe, or path of its file.
        arguments: options and their values.
        notes: notes to pass on.

    Raises:
        InvalidArgumentError: an option is unknown or missing, or has an invalid value.
        SystemExit: with 0, after the help.
    """
    is_printed = "--print-config" in arguments  # then nothing is written, and --out is not required
    given = parse(
        _Options,
        arguments,
        program=f"panscape train {name}",
        description=_description(name),
        default=_Options(RunOptions(Path() if is_printed else tyro.MISSING), recipe),
        # The short help hides fields that have fields of their own.
        is_rare=lambda kind, field: issubclass(kind, Recipe) and is_dataclass(getattr(recipe, field.name)),
    )
    return TrainingCommand(given.recipe, given.run, given.print_config, given.json, notes)


def override_from_folder(arguments: Sequence[str]) -> TrainingCommand:
    """Like :func:`override`, with the recipe derived from the folder given as ``--data``.

    Raises:
        PanscapeError: as :func:`panscape.recipes.from_folder.derive` and :func:`override`.
        SystemExit: as :func:`override`.
    """
    # Finds the folder and the options for reading it; the options of the network depend on --init-from.
    is_help = not set(arguments).isdisjoint(HELP)
    first = override(get_recipe(FROM_FOLDER), FROM_FOLDER, arguments if is_help else split(arguments, "--model.")[0])
    data = cast(FolderData, first.recipe.data)
    options = first.options
    derived = derive(
        data.folder(options.data), data, init_from=options.init_from, backbone_weights=options.backbone_weights
    )
    command = override(derived.recipe, FROM_FOLDER, arguments, derived.notes)
    if command.recipe == derived.recipe:
        return command
    settings = describe_settings(command.recipe, derived.start, "derived defaults, changed by options")
    return replace(command, notes=(*derived.notes[:-1], settings))


def _description(name: str) -> str:
    if name == FROM_FOLDER:
        return (
            "Train on a folder of your own. Defaults are derived from its images; the values below are those for 1000 "
            "images of 480x640 pixels. --print-config with --data prints the values for your folder."
        )
    facts = f"Train with the recipe {name}. The defaults are the values of the recipe."
    if name.endswith(".py"):
        return facts
    info = describe_recipe(name)
    lines = [facts, info.summary, *(f"Published: {result}." for result in info.published)]
    if info.hours is not None:
        lines.append(f"Estimated: {info.hours} hours with --devices {info.num_devices} --precision fp16 on RTX 3090.")
    return "\n\n".join(lines)
