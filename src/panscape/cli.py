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
from dataclasses import dataclass, field, fields, replace
from io import StringIO
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional, arg, subcommand

from panscape import __version__
from panscape.errors import InvalidArgumentError, PanscapeError, UnknownNameError
from panscape.evaluation_options import EvaluationOptions
from panscape.inference import decode_arguments
from panscape.recipes.converting import ConvertWeights
from panscape.scoring.command import FilesOptions, is_of_files, run_on_files

_DESCRIPTION = """Panoptic segmentation: every pixel's category and object.

"panscape COMMAND --help" explains a command, "panscape --version" prints the version. Exit codes: 0 all went well, 1
some inputs could not be used, the others were, 2 the command could not be carried out, 130 interrupted."""


Decode = Annotated[tuple[str, ...], arg(name="decode.NAME", metavar="VALUE", help_behavior_hint="")]
"""Options of the model's post-processing, which ``main`` takes out of a command that has a field ``decode``."""


@dataclass(frozen=True)
class Predict:
    """Find every category and object in photos and videos."""

    sources: Annotated[Positional[tuple[str, ...]], arg(metavar="SOURCE [SOURCE ...]", help_behavior_hint="")] = ()
    """Photos, videos, folders (searched with the folders in them) and patterns such as "shots/**/*.jpg"."""

    model: str = "street"
    """A bundled model (see "panscape weights list"), a .safetensors file, a checkpoint of a paper's authors
    (.pth, .pkl), or the id of a Hugging Face repository."""

    recipe: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Predict the images of this recipe's data in place of SOURCE; needs --data."""

    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """With --recipe: folder of the data."""

    split: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """With --recipe: split of the data, such as val, the default, or test. It needs no ground truth."""

    submission: bool = False
    """With --recipe: write files for the server of its benchmark (Cityscapes, COCO) into --out, and nothing else."""

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

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numeric precision of the forward pass; fp16 needs a CUDA device."""

    channels_last: bool = False
    """Lay memory out pixel by pixel; faster on some processors."""

    longest_side: Annotated[int | None, arg(metavar="PIXELS")] = None
    """Resize pictures so that their longer side has this many pixels; maps keep the picture's size. By default only
    pictures larger than the model was made for are shrunk."""

    decode: Decode = ()
    """Another value for an option of the model's post-processing, such as --decode.stuff-area 500. --decode.help lists
    the options of the model."""

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

        split = self.split or "val"
        given: Sequence[str] = self.sources
        if self._takes_split() and not self.submission:
            from panscape.recipes.predicting import images_of_split

            given = images_of_split(self.recipe or "", self.data, split)
        sources = [] if self.submission else find_sources(given, leave_out=self.out)
        model = panscape.load(self.model)
        decode_arguments.set_decoding(model, self.decode, "panscape predict")
        predictor = Predictor(
            model,
            device=self.device,
            precision=self.precision,
            channels_last=self.channels_last,
            longest_side=self.longest_side,
        )
        if self.submission:
            from panscape.recipes.predicting import run_submission

            recipe = self.recipe or ""
            return run_submission(predictor, recipe, data=self.data, split=split, out=self.out, as_json=self.json)
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

    def _takes_split(self) -> bool:
        """Return whether to predict a recipe's data; refuse options of both ways."""
        if self.recipe is None and (self.data is not None or self.split is not None or self.submission):
            raise InvalidArgumentError(
                "--data, --split and --submission belong to --recipe NAME, whose data they are of"
            )
        if self.recipe is not None and self.sources:
            raise InvalidArgumentError(f"expected SOURCE or --recipe, got both: {self.sources[0]} and {self.recipe}")
        if self.submission and (self.panels or self.frame_maps):
            raise InvalidArgumentError("a submission has no --panels and no --frame-maps; leave them out")
        return self.recipe is not None


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
    """A bundled model (see "panscape weights list"), a .safetensors file, a checkpoint of a paper's authors
    (.pth, .pkl), the folder of a training, or the id of a Hugging Face repository."""

    recipe: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Whose data to evaluate the model on."""

    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of the data; drawn data need none."""

    split: str = "val"
    """Split of the data: train, val, or another one that it has, such as test."""

    oracle: Annotated[str, arg(metavar="PARTS")] = ""
    """Parts of the network's outputs to replace by the truth's, with commas between them, to see what each costs:
    semantic, centers, offsets of Panoptic SwiftNet (Table 7); semantic, boxes of dense detections."""

    limit: Annotated[int, arg(metavar="PICTURES")] = 0
    """Take no more than this many pictures, spread evenly over the data; 0 for all."""

    decode: Decode = ()
    """As in "panscape predict"."""

    measured: EvaluationOptions = field(default_factory=EvaluationOptions)
    """What is measured, and by whose rules."""

    device: str = "auto"
    """As in "panscape predict"."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Numeric precision of the forward pass; fp16 needs a CUDA device."""

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
            decode=self.decode,
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
class Tune:
    """Choose the options of a model's post-processing by trying values on images with ground truth."""

    model: Annotated[Positional[str | None], arg(metavar="MODEL", help_behavior_hint="")] = None
    """As in "panscape evaluate"."""

    recipe: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Whose data to try them on, at their own size and without augmentation."""

    data: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of the data; drawn data need none."""

    split: str = "train"
    """Which split of the data, as in "panscape evaluate". Numbers on a split that was used for choosing are no fair
    estimate afterwards."""

    limit: Annotated[int, arg(metavar="IMAGES")] = 200
    """Use no more than this many images, spread evenly over the data; 0 for all. The network's outputs for them are
    kept in a temporary folder (TMPDIR), as they are."""

    metric: Annotated[Literal["pq", "things-pq", "stuff-pq", "miou"], arg(name="for")] = "pq"
    """What is to become as high as possible: PQ of all categories, of things or of stuff, or mean IoU of the map."""

    decode: Decode = ()
    """The values to try for an option, such as --decode.stuff-area 100 500 2000; then only the options given are tuned.
    --decode.help lists the options of the model and the values that are tried otherwise."""

    rounds: int = 2
    """How often each option is gone through, one after the other; it ends earlier when nothing changes."""

    out: Annotated[Path | None, arg(metavar="FILE.safetensors")] = None
    """Write the model with the chosen values, and a note on its card of how they were chosen."""

    rules: Literal["coco", "deeplab2", "torchmetrics", "seamseg"] = "coco"
    """As in "panscape evaluate"."""

    device: str = "auto"
    """As in "panscape predict"."""

    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """As in "panscape predict"."""

    on_bad_sample: Literal["stop", "skip"] = "stop"
    """As in "panscape evaluate"."""

    json: bool = False
    """Print one JSON object in place of tables; shares are in 0..1."""

    def run(self) -> int:
        """Tune; return 1 if images were left out."""
        if self.model is None or self.recipe is None:
            raise InvalidArgumentError(
                "expected a MODEL and the recipe whose data to tune it on: panscape tune MODEL --recipe NAME --data DIR"
            )
        from panscape.recipes.tuning import tune_model

        return tune_model(
            self.model,
            self.recipe,
            data=self.data,
            split=self.split,
            limit=self.limit,
            metric=self.metric,
            decode=self.decode,
            rounds=self.rounds,
            out=self.out,
            rules=self.rules,
            device=self.device,
            precision=self.precision,
            on_bad_sample=self.on_bad_sample,
            as_json=self.json,
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
class ListWeights:
    """Show the models that come with panscape, with what is known about them."""

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


@dataclass(frozen=True)
class Weights:
    """Show the models that come with panscape, or convert a published checkpoint."""

    action: Annotated[ListWeights, subcommand("list")] | Annotated[ConvertWeights, subcommand("convert")]

    def run(self) -> int:
        """Do what was asked for."""
        return self.action.run()


def _list_decoding(command: str, model: str | None) -> int:
    """Print the options of a model's post-processing."""
    if model is None:
        raise InvalidArgumentError(f"expected a MODEL whose options to list: panscape {command} MODEL --decode.help")
    import panscape

    loaded = panscape.load(model)
    grid = None
    if command == "tune":
        from panscape.training.tuning import default_grid

        grid = default_grid(loaded.decoding)
    print(decode_arguments.overview(loaded, model, grid))
    return 0


_Command = (
    Annotated[Predict, subcommand("predict")]
    | Annotated[Demo, subcommand("demo")]
    | Annotated[Evaluate, subcommand("evaluate")]
    | Annotated[Tune, subcommand("tune")]
    | Annotated[Train, subcommand("train")]
    | Annotated[Weights, subcommand("weights")]
)
_COMMANDS = {"predict": Predict, "demo": Demo, "evaluate": Evaluate, "tune": Tune, "train": Train, "weights": Weights}


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
        decode: tuple[str, ...] = ()
        if any(option.name == "decode" for option in fields(_COMMANDS.get(arguments[0], Weights))):
            arguments, decode = decode_arguments.split(arguments, several=arguments[0] == "tune")
        command: Any = tyro.cli(
            _Command,
            prog="panscape",
            description=_DESCRIPTION,
            args=arguments,
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.OmitSubcommandPrefixes, tyro.conf.FlagCreatePairsOff),
        )
        if decode_arguments.HELP in decode:
            return _list_decoding(arguments[0], command.model)
        return int((replace(command, decode=decode) if decode else command).run())
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
