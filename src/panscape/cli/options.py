"""Groups of options that several commands share. This module imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import arg

from panscape.cli.data_arguments import Data, with_arguments
from panscape.cli.parser import RARE
from panscape.cli.printing import say
from panscape.errors import InvalidArgumentError
from panscape.evaluation.options import InferenceOptions
from panscape.runtime_options import RuntimeOption

if TYPE_CHECKING:
    from panscape.datasets.base import PanopticDataset
    from panscape.evaluation.compare import Comparison


@dataclass(frozen=True)
class DatasetOptions:
    """The images and their ground truth."""

    recipe: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Recipe of the dataset (see "panscape recipes"); by default that of the run."""

    data: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of the dataset; by default that of the run. Synthetic datasets need none."""

    data_options: Data = ()
    """Set an option of the dataset, such as --data.void 0; --data.help lists them."""

    split: Annotated[str, arg(metavar="NAME")] = "val"
    """Split of the dataset: train, val, or another one, such as test."""

    def load(self, model: str, program: str) -> tuple[str, PanopticDataset]:
        """Return the name of the recipe, and the split of the dataset.

        Args:
            model: the model to evaluate. If it is the directory of a run with this recipe, data options are those of
                the run.
            program: name of the command, for error messages.

        Raises:
            InvalidArgumentError: the model was trained on images of the split.
            PanscapeError: there is no such recipe, option or split, or its files are missing.
        """
        from panscape.recipes.from_run import data_for, load_unseen

        name, data, root = data_for(model, self.recipe, self.data)
        return name, load_unseen(with_arguments(data, self.data_options, program), root, self.split, model)

    def is_known(self, model: str | None) -> bool:
        """Return whether a recipe or a folder is given, or the model has a run directory, which knows its own."""
        from panscape.training.run_options import run_folder_of

        return self.recipe is not None or self.data is not None or run_folder_of(model) is not None


@dataclass(frozen=True)
class ExecutionOptions(InferenceOptions):
    """Images to use, device and precision."""

    device: str = "auto"
    """Device to run on, as in "panscape predict"."""

    runtime: RuntimeOption = field(default="torch", metadata=RARE)
    """What runs the network on a CPU, as in "panscape predict"."""


@dataclass(frozen=True)
class ResultOptions:
    """Output of an evaluation."""

    json: bool = False
    """Print one JSON object instead of tables; shares are in 0..1."""

    out: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint="")] = None
    """Also write that JSON object to a file, with the data that --compare needs."""

    report: Annotated[Path | None, arg(metavar="FILE.html", help_behavior_hint="")] = None
    """Also write an HTML report: confidence intervals, error breakdown, worst images."""

    def write(
        self,
        scores: Any,
        *,
        comparison: Comparison | None = None,
        runs: Mapping[str, Any] | None = None,
        images: Path | None = None,
    ) -> None:
        """Write the requested files.

        Args:
            scores: see :func:`~panscape.evaluation.report.page.write_report`.
            comparison: see there.
            runs: see there.
            images: see there.
        """
        if self.out is not None:
            from panscape.evaluation.results import write_results

            write_results(self.out, scores)
        if self.report is not None:
            from panscape.evaluation.report.page import write_report

            write_report(self.report, scores, comparison=comparison, runs=runs, images=images)
            if not self.json:
                say(f"\nreport: {self.report}")

    @property
    def paths(self) -> dict[str, Path | None]:
        """The written files, for the JSON object of a command."""
        return {"out": self.out, "report": self.report}


def require_writable(*paths: Path | None) -> None:
    """Check early that files can be written.

    Args:
        paths: of the files; None for files that are not written.

    Raises:
        InvalidArgumentError: one is a folder, or in a folder that does not exist.
    """
    for path in filter(None, paths):
        if not path.parent.is_dir():
            raise InvalidArgumentError(f"cannot write {path}: no folder {path.parent}; create it first")
        if path.is_dir():
            raise InvalidArgumentError(f"cannot write {path}: it is a folder; use the name of a file in it")


def given(options: Any, default: Any = None) -> list[str]:
    """Return the names of the options that differ from their defaults, also those of groups.

    Args:
        options: dataclass whose fields have defaults.
        default: instance with the default values; by default those of the class.
    """
    default = type(options)() if default is None else default
    names = []
    for option in fields(options):
        value, usual = getattr(options, option.name), getattr(default, option.name)
        names += given(value, usual) if is_dataclass(value) else [option.name] if value != usual else []
    return names
