"""The command line.

Nothing heavy is imported here: options are plain dataclasses, and each command imports what it runs when it runs, so
that help and complaints about wrong options come at once.

Exit codes: 0 all went well; 1 some inputs could not be used, the others were; 2 the command could not be carried out;
130 interrupted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg, subcommand

from panscape import __version__
from panscape.errors import InvalidArgumentError, PanscapeError, UnknownNameError
from panscape.evaluation_options import EvaluationOptions
from panscape.scoring.command import FilesOptions, is_of_files, run_on_files

_DESCRIPTION = """Panoptic segmentation: every pixel's category and object.

"panscape COMMAND --help" explains a command, "panscape --version" prints the version. Exit codes: 0 all went well, 1
some inputs could not be used, the others were, 2 the command could not be carried out, 130 interrupted."""


@dataclass(frozen=True)
class Predict:
    """Find every category and object in photos and videos."""

    sources: Annotated[Positional[tuple[str, ...]], arg(metavar="SOURCE [SOURCE ...]", help_behavior_hint="")] = ()
    """Photos, videos, folders (searched with the folders in them) and patterns such as "shots/**/*.jpg"."""

    model: str = "street"
    """A bundled model (see "panscape weights list"), a .safetensors file, or the id of a Hugging Face repository."""

    out: Path = Path("panscape_out")
    """Folder for the results: overlays, and the maps of photos (those of videos with --frame-maps) in COCO panoptic
    form, panoptic.json and panoptic/."""

    panels: bool = False
    """Also write what the network said of each photo, as NAME_panels.png; videos have none."""

    frame_maps: bool = False
    """Also write the map of every frame of videos; photos always have theirs."""

    opacity: float = 0.5
    """Of the overlays' colors, 0 to 1."""

    hide_names: bool = False
    """Leave the names of categories off the overlays."""

    device: str = "auto"
    """"auto" is CUDA where there is a device, else the CPU; or a device that is here, such as "cpu" or "cuda:1"."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the numbers inside the network."""

    channels_last: bool = False
    """Lay memory out pixel by pixel; faster on some processors."""

    longest_side: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Resize pictures so that their longer side has this many pixels; maps keep the picture's size. By default only
    pictures larger than the model was made for are shrunk."""

    json: bool = False
    """Print one JSON object for each photo or video in place of text."""

    def run(self) -> int:
        """Predict; return 1 if a source could not be used."""
        import panscape
        from panscape.inference.console import Reporter
        from panscape.inference.outputs import OutputFolder
        from panscape.inference.predictor import Predictor
        from panscape.inference.run import Run
        from panscape.inference.sources import find_sources

        sources = find_sources(self.sources, leave_out=self.out)
        predictor = Predictor(
            panscape.load(self.model),
            device=self.device,
            precision=self.precision,
            channels_last=self.channels_last,
            longest_side=self.longest_side,
        )
        labels = predictor.model.labels
        with (
            OutputFolder(self.out, labels, opacity=self.opacity, names=not self.hide_names) as outputs,
            Reporter(sources, as_json=self.json) as reporter,
        ):
            run = Run(predictor, outputs, panels=self.panels, frame_maps=self.frame_maps)
            failures = run.over(sources, reporter)
        if not self.json:
            count = len(sources) - len(failures)
            print(f"{count} of {len(sources)} predicted; results in {self.out}")
        if failures and len(sources) > 1 and not self.json:
            print(f"panscape: {len(failures)} of {len(sources)} could not be used:", file=sys.stderr)
            for failure in failures:
                print(f"  {failure.source}: {failure.error}", file=sys.stderr)
        return 1 if failures else 0


@dataclass(frozen=True)
class Demo:
    """Draw a few scenes, predict them, compare with the truth and show it all on one page."""

    out: Path = Path("panscape_demo")
    """Folder for the page."""

    model: str = "town"
    """A model for the drawn town."""

    device: str = "auto"
    """As in "panscape predict"."""

    def run(self) -> int:
        """Run the demonstration."""
        from panscape.inference.demo import run_demo

        page = run_demo(self.out, model_name=self.model, device=self.device)
        print(f"open {page.resolve()} in a browser")
        return 0


_OF_BOTH = ("workers", "json", "out", "report")
"""Options of "panscape evaluate" that hold for a model and for files, besides what is measured."""


@dataclass(frozen=True)
class Evaluate:
    """Compare predictions with the truth, of a model (MODEL, --recipe) or of any tool (--predictions, --truth)."""

    model: Annotated[Positional[str | None], arg(metavar="MODEL", help_behavior_hint="")] = None
    """A bundled model (see "panscape weights list"), a .safetensors file, the folder of a training, or the id of a
    Hugging Face repository."""

    recipe: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Whose data to evaluate the model on."""

    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of the data; drawn data need none."""

    split: Literal["train", "val"] = "val"
    """Which part of the data."""

    oracle: Annotated[str, arg(metavar="PARTS")] = ""
    """Parts of the network's outputs to replace by the truth's, with commas between them, to see what each costs:
    semantic, centers, offsets of Panoptic SwiftNet (Table 7); semantic, boxes of dense detections."""

    limit: Annotated[int, arg(metavar="PICTURES")] = 0
    """Take no more than this many pictures, spread evenly over the data; 0 for all."""

    measured: EvaluationOptions = field(default_factory=EvaluationOptions)
    """What is measured, and by whose rules."""

    device: str = "auto"
    """As in "panscape predict"."""

    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the numbers inside the network."""

    speed: bool = False
    """Also measure images per second of a model, network and post-processing apart, each image alone and without
    reading it; every image is predicted once more for this and once to warm up."""

    workers: Annotated[int | None, arg(metavar="NUMBER", help_behavior_hint="")] = None
    """Of a model: processes that read ahead (1; 0 reads in between). Of files: threads (one each processor)."""

    on_bad_sample: Literal["stop", "skip"] = "stop"
    """What to do at a picture that cannot be used: stop, or leave it out, count it and list it."""

    json: bool = False
    """Print one JSON object in place of tables; shares are in 0..1."""

    out: Annotated[Path | None, arg(metavar="FILE.json")] = None
    """Also write that JSON object to a file, with what --compare needs."""

    report: Annotated[Path | None, arg(metavar="FILE.html")] = None
    """Also write a page to look at: intervals, what each kind of error costs, the worst pictures."""

    files: FilesOptions = field(default_factory=FilesOptions)
    """Predictions of any tool in files."""

    def run(self) -> int:
        """Evaluate; return 1 if pictures were left out or files were wrong."""
        if is_of_files(self, self.files, self.measured, shared=_OF_BOTH):
            from panscape.inference.console import bar_on_terminal

            return run_on_files(
                self.files,
                bar_on_terminal("pictures"),
                workers=self.workers,
                options=self.measured,
                as_json=self.json,
                out=self.out,
                report=self.report,
            )
        from panscape.recipes.evaluating import run_on_model

        return run_on_model(
            self.model or "",
            self.recipe or "",
            data=self.data,
            split=self.split,
            oracle=tuple(part.strip() for part in self.oracle.split(",") if part.strip()),
            limit=self.limit,
            options=self.measured,
            device=self.device,
            precision=self.precision,
            speed=self.speed,
            workers=1 if self.workers is None else self.workers,
            on_bad_sample=self.on_bad_sample,
            as_json=self.json,
            out=self.out,
            report=self.report,
        )


@dataclass(frozen=True)
class Train:
    """Train a model by a recipe, or on a folder of your own; "panscape train --help" lists the recipes."""

    arguments: Annotated[Positional[tuple[str, ...]], arg(metavar="RECIPE", help_behavior_hint="")] = ()
    """What stands after "train". Each recipe has options of its own, so it is read in two steps, by "run"."""

    def run(self) -> int:
        """Train, or show the recipe."""
        from panscape.recipes.command_line import parse_training

        if _is_first_process():
            command = parse_training(self.arguments)
        else:  # complaints about options are the same in all processes, and the first one makes them
            with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
                try:
                    command = parse_training(self.arguments)
                except (InvalidArgumentError, UnknownNameError):
                    return 2
        if command.show:
            from panscape.training.run_folder import recipe_to_dict

            print(json.dumps(recipe_to_dict(command.recipe), indent=2))
            return 0
        from panscape.training.run import run

        if _is_first_process():
            for note in command.notes:
                print(note, file=sys.stderr)
        run(command.recipe, command.options)
        return 0


def _is_first_process() -> bool:
    """Return whether this is the first, or the only one, of the processes that train together."""
    if "RANK" in os.environ:  # of torchrun, maybe inside a task of SLURM
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("SLURM_PROCID", "LOCAL_RANK"))


@dataclass(frozen=True)
class Weights:
    """Show the models that come with panscape."""

    action: Positional[Literal["list"]]
    """"list" names them with what is known about them."""

    json: bool = False
    """Print one JSON object for each."""

    def run(self) -> int:
        """List the bundled models."""
        import panscape

        for weights in panscape.list_weights():
            if self.json:
                print(json.dumps({"name": weights.name, "path": str(weights.path), "card": dict(weights.card)}))
                continue
            print(f"{weights.name}  ({weights.path.stat().st_size / 1e6:.1f} MB)")
            for fact, value in weights.card.items():
                print(f"  {fact}: {_in_words(value)}")
        return 0


def _in_words(value: Any) -> str:
    """Return a fact of a card as a line, or as a table if it holds a row for each of several names."""
    if isinstance(value, list):
        return "; then ".join(str(part) for part in value)
    if not isinstance(value, dict):
        return str(value)
    if not all(isinstance(part, dict) for part in value.values()):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    from panscape.metrics.tables import aligned

    header = ["", *next(iter(value.values()))]
    rows = [[name, *("-" if n is None else str(n) for n in part.values())] for name, part in value.items()]
    return "\n" + "\n".join(f"    {line}" for line in aligned([header, *rows]).splitlines())


_Command = (
    Annotated[Predict, subcommand("predict")]
    | Annotated[Demo, subcommand("demo")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Weights, subcommand("weights")]
)
_COMMANDS = ("predict", "demo", "evaluate", "train", "weights")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: arguments without the program's name; by default those of the process.

    Returns:
        The exit code, see the top of this file. Wrong options end the process with 2 right away.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        if arguments == ["--version"]:
            print(f"panscape {__version__}")
            return 0
        if not arguments:
            arguments = ["--help"]
        if not arguments[0].startswith("-") and arguments[0] not in _COMMANDS:
            raise UnknownNameError("command", arguments[0], _COMMANDS)
        if arguments[0] == "train":
            return Train(tuple(arguments[1:])).run()
        command = tyro.cli(
            _Command,
            prog="panscape",
            description=_DESCRIPTION,
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff),
        )
        return command.run()
    except (PanscapeError, OSError) as error:
        if isinstance(error, BrokenPipeError):  # the reader of our lines has gone; so do we, without a word
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        print(f"panscape: error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("panscape: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
