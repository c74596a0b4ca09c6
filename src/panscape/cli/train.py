"""From the arguments of ``panscape train`` to a recipe and the options of its run.

Help and complaints about a recipe's name come before anything heavy is imported; a recipe's own options need it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro
from tyro.conf import Positional, arg

from panscape.recipes import check_recipe, get_recipe, list_recipes
from panscape.training.run_options import RunOptions

if TYPE_CHECKING:
    from panscape.cli.overrides import TrainingCommand

_PROGRAM = "panscape train"
_DESCRIPTION = """Train a model by a recipe.

RECIPE is one of the names below, or a Python file with a function "recipe" that returns one. Without it, --data is a
folder of your own, and what is not given follows from what lies in it. "panscape train RECIPE --help" lists the options
of a recipe, and everything in it can be given: --steps 1000, --optimizer.learning-rate 1e-4.

{recipes}"""


@dataclass(frozen=True)
class _Overview:
    run: Annotated[RunOptions, arg(name="")]
    """Where and how to run it."""

    recipe: Annotated[Positional[str], arg(metavar="[RECIPE]")] = "own"
    """What to train, and how."""

    print_config: bool = False
    """Print the recipe as JSON and end; nothing is trained."""


def parse_training(arguments: Sequence[str]) -> TrainingCommand:
    """Return what the arguments ask for.

    Args:
        arguments: what stands after ``panscape train``.

    Raises:
        PanscapeError: the recipe is not known or cannot be loaded, or the folder cannot be read.
        SystemExit: with 0 after the help, with 2 after a complaint about an option.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        recipes = "\n".join(f"- {name}: {summary}" for name, summary in list_recipes().items())
        tyro.cli(
            _Overview,
            prog=_PROGRAM,
            description=_DESCRIPTION.format(recipes=recipes),
            args=["--help"],
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    is_named = not arguments[0].startswith("-")
    name, rest = (arguments[0], arguments[1:]) if is_named else ("own", arguments)
    check_recipe(name)

    from panscape.cli.overrides import override, override_own

    program = f"{_PROGRAM} {name}"
    if name == "own":
        return override_own(program, rest)
    return override(get_recipe(name), program, rest)
