"""Parses the arguments of ``panscape train`` to a recipe and the options of its run.

The help of the command and errors about a recipe's name import nothing heavy; the options of a recipe need its modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import FlagCreatePairsOff, Positional, arg

from panscape.cli.parser import parse
from panscape.errors import InvalidArgumentError
from panscape.recipes import FROM_FOLDER, get_recipe, resolve_recipe_name
from panscape.training.run_options import RunOptions

if TYPE_CHECKING:
    from panscape.cli.overrides import TrainingCommand

_DESCRIPTION = """Train a model with a recipe.

"panscape recipes" lists the recipes. RECIPE can also be a Python file with a function "recipe" that returns one.
Without RECIPE, --data is a folder of your own, and the defaults are derived from its images. Every field of a recipe is
an option, such as --steps 1000 or --optimizer.learning-rate 1e-4: "panscape train RECIPE --help-all" lists them."""


@dataclass(frozen=True)
class _Overview:
    run: Annotated[RunOptions, arg(name="")]
    """Options of the run: folders, devices, precision, logging."""

    recipe: Annotated[Positional[str], arg(metavar="[RECIPE]")] = FROM_FOLDER
    """Recipe to train with."""

    print_config: bool = False
    """Print the recipe as JSON; do not train."""

    json: bool = False
    """Print one JSON object at the end."""


def parse_training(arguments: Sequence[str]) -> TrainingCommand:
    """Return the parsed arguments.

    Args:
        arguments: the arguments after ``panscape train``.

    Raises:
        PanscapeError: the recipe is unknown or cannot be loaded, the folder cannot be read, or an option is invalid.
        SystemExit: with 0, after the help.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        parse(_Overview, ["--help"], program="panscape train", description=_DESCRIPTION, config=(FlagCreatePairsOff,))
    is_named = not arguments[0].startswith("-")
    name, rest = (arguments[0], arguments[1:]) if is_named else (FROM_FOLDER, arguments)
    if is_named and "=" in name:
        raise InvalidArgumentError(f'unexpected argument {name}; options begin with "--" here: --NAME VALUE')
    name = resolve_recipe_name(name)

    from panscape.cli.overrides import override, override_from_folder

    if name == FROM_FOLDER:
        return override_from_folder(rest)
    return override(get_recipe(name), name, rest)
