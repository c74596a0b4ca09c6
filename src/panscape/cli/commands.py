"""The commands, and how their options are parsed; each command imports its dependencies in ``run``."""

from __future__ import annotations

import json
import logging
import os
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields, replace
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import FlagCreatePairsOff, OmitArgPrefixes, OmitSubcommandPrefixes, Positional, arg, subcommand

from panscape import __version__
from panscape.cli import data_arguments, decode_arguments
from panscape.cli.benchmark import Benchmark
from panscape.cli.evaluate import Evaluate
from panscape.cli.export import Export
from panscape.cli.habits import command_hint
from panscape.cli.licences import ACCEPT_HELP
from panscape.cli.models import Models
from panscape.cli.parser import HELP_ALL, parse
from panscape.cli.predict import Predict
from panscape.cli.printing import fitted, print_json, say
from panscape.cli.recipes import Recipes
from panscape.cli.tune import Tune
from panscape.cli.weights import Weights
from panscape.errors import InvalidArgumentError, UnknownNameError

_logger = logging.getLogger(__name__)

_DESCRIPTION = f"""Panoptic segmentation: a category for every pixel, and an instance for every object.

"panscape COMMAND --help" explains a command, "panscape --version" prints the version. {ACCEPT_HELP} Exit codes: 0
success, 1 some inputs were skipped, 2 the command failed, 130 interrupted."""


@dataclass(frozen=True)
class Demo:
    """Render synthetic scenes, predict them, compare them with the ground truth and write an HTML page."""

    out: Path = Path("panscape_demo")
    """Folder for the page."""

    model: str = "town"
    """Model to run; its categories must be those of the synthetic scenes."""

    device: str = "auto"
    """Device to run on, as in "panscape predict"."""

    json: bool = False
    """Print one JSON object instead of tables; shares are in 0..1."""

    def run(self) -> int:
        """Run the demo."""
        from panscape.cli.demo import run_demo

        result = run_demo(self.out, model_name=self.model, device=self.device)
        if self.json:
            print_json(result.to_dict())
        else:
            say(fitted(str(result)))
            say(f"\nopen {result.page.resolve()} in a browser")
        return 0


@dataclass(frozen=True)
class Train:
    """Train a model with a recipe, or on a folder of your own; "panscape recipes" lists the recipes."""

    arguments: Annotated[Positional[tuple[str, ...]], arg(metavar="RECIPE", help_behavior_hint="")] = ()
    """Arguments after "train". Each recipe has options of its own, so "run" parses them in two steps."""

    def run(self) -> int:
        """Train, or print the recipe."""
        from panscape.cli.train import parse_training

        if _is_rank_zero():
            command = parse_training(self.arguments)
        else:  # errors about options are the same in all processes, and only rank 0 prints them
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                try:
                    command = parse_training(self.arguments)
                except (InvalidArgumentError, UnknownNameError):
                    return 2
        if command.print_config:
            from panscape.training.run_folder import recipe_to_dict

            say(json.dumps(recipe_to_dict(command.recipe), indent=2))
            return 0
        from panscape.metrics.tables import format_percent
        from panscape.training.run import run

        if _is_rank_zero():
            for note in command.notes:
                _logger.info(note)
        report = run(command.recipe, command.options)
        if not _is_rank_zero():
            return 0
        recipe, out = command.recipe, command.options.out
        if command.json:
            from panscape.training.run_folder import RunFolder
            from panscape.zoo import read_card

            paths = {"out": out, "model": out / "model.safetensors"}
            facts = {"recipe": recipe.name, "steps": recipe.steps, "model_step": read_card(paths["model"])["steps"]}
            facts["seed"] = command.options.seed
            print_json({**facts, "hours": round(RunFolder(out).hours, 4), **paths, **report.to_dict()})
        else:
            quality, iou = map(format_percent, (report.panoptic.all.pq, report.semantic.mean_iou))
            say(f"val PQ {quality}, mIoU {iou}; model in {out / 'model.safetensors'}")
        return 0


def _is_rank_zero() -> bool:
    """Return whether this process is rank 0 or the only process of the training."""
    if "RANK" in os.environ:  # set by torchrun, maybe inside a SLURM task
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("SLURM_PROCID", "LOCAL_RANK"))


def _list_decoding(command: str, model: str | None) -> int:
    """Print the post-processing options of a model."""
    if model is None:
        raise InvalidArgumentError(f"expected a MODEL to list the options of: panscape {command} MODEL --decode.help")
    import panscape

    loaded = panscape.load(model)
    grid = None
    if command == "tune":
        from panscape.evaluation.tune import default_grid

        grid = default_grid(loaded.decoding)
    say(decode_arguments.overview(loaded, model, grid))
    return 0


_Command = (
    Annotated[Predict, subcommand("predict")]
    | Annotated[Demo, subcommand("demo")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Tune, subcommand("tune")]
    | Annotated[Benchmark, subcommand("benchmark")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Export, subcommand("export")]
    | Annotated[Recipes, subcommand("recipes")]
    | Annotated[Models, subcommand("models")]
    | Annotated[Weights, subcommand("weights")]
)
_CONFIG = (OmitArgPrefixes, OmitSubcommandPrefixes, FlagCreatePairsOff)
_COMMANDS: dict[str, type[Any]] = {
    "predict": Predict,
    "demo": Demo,
    "evaluate": Evaluate,
    "tune": Tune,
    "benchmark": Benchmark,
    "train": Train,
    "export": Export,
    "recipes": Recipes,
    "models": Models,
    "weights": Weights,
}


def run_command(arguments: list[str]) -> int:
    """Parse the options of a command and run it; return the exit code.

    Raises:
        PanscapeError: the options are invalid, or the command fails.
        SystemExit: with 0, after the help.
    """
    if arguments == ["--version"]:
        say(f"panscape {__version__}")
        return 0
    if not arguments or arguments[0] in ("-h", "--help", HELP_ALL):
        parse(_Command, ["--help"], program="panscape", description=_DESCRIPTION, config=_CONFIG)
    name, rest = arguments[0], arguments[1:]
    if name.startswith("-"):
        raise InvalidArgumentError(f"unknown option {name}; expected one of {', '.join(_COMMANDS)}")
    if (other := command_hint(name)) is not None:
        raise InvalidArgumentError(f"unknown command {name!r}; use panscape {other}")
    if name not in _COMMANDS:
        raise UnknownNameError("command", name, _COMMANDS)
    kind = _COMMANDS[name]
    if kind is Train:
        return Train(tuple(rest)).run()
    decode: tuple[str, ...] = ()
    if any(option.name == "decode" for option in fields(kind)):
        rest, decode = decode_arguments.split(rest, several=kind is Tune)
    data: tuple[str, ...] = ()
    if any(option.name == "dataset" for option in fields(kind)):
        rest, data = data_arguments.split(rest)
    command = parse(kind, rest, program=f"panscape {name}", config=_CONFIG)
    if decode_arguments.HELP in decode:
        return _list_decoding(name, command.model)
    if data:
        command = replace(command, dataset=replace(command.dataset, data_options=data))
    return int((replace(command, decode=decode) if decode else command).run())
