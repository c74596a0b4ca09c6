"""`panscape evaluate --predictions ... --gt ...`; nothing heavy is imported before files are read."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import arg

from panscape.errors import InvalidArgumentError
from panscape.evaluation.options import EvaluationOptions
from panscape.progress import ProgressBar

if TYPE_CHECKING:
    from panscape.evaluation.files import Scores

_MOST_LINES = 20
_FORMS = "a MODEL with --recipe, to evaluate a model, or --predictions with --gt, to evaluate files"
_WITH_COMPARE = ("compare", "report", "json")


@dataclass(frozen=True)
class FileOptions:
    """Predictions of any tool in files, instead of a MODEL."""

    predictions: Annotated[Path | None, arg(metavar="DIR_OR_JSON")] = None
    """Predictions of any tool, instead of a MODEL: a COCO panoptic JSON, or a folder with one such JSON, with
    Cityscapes *_instanceIds.png, or with arrays as transformers returns them (.npz, or .npy and .json)."""

    gt: Annotated[Path | None, arg(metavar="DIR_OR_JSON")] = None
    """Ground truth of --predictions, in one of the same formats."""

    labels: Annotated[str | None, arg(metavar="NAME")] = None
    """Label space of --predictions: a bundled one, or a JSON file. By default the categories of the ground truth."""

    pred_dir: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of the PNGs of the predictions' JSON, if they are not beside it."""

    gt_dir: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of the PNGs of the ground truth's JSON, if they are not beside it."""

    label_ids: Literal["index", "dataset"] = "index"
    """Meaning of label_id in arrays: the index in the label space, or the id in the dataset's files."""

    threads: Annotated[int | None, arg(metavar="NUMBER", help_behavior_hint="")] = None
    """Threads that read --predictions and --gt. By default one per processor."""

    strict: bool = False
    """Raise an error at the first invalid file of --predictions. By default unreadable predictions count as missed."""

    images: Annotated[Path | None, arg(metavar="DIR")] = None
    """Folder of the images, to show them in the --report of --predictions."""

    compare: Annotated[tuple[Path, ...], arg(metavar="A.json B.json", help_behavior_hint="")] = ()
    """Compare two files written by --out, instead of --predictions: reports the changes from A to B and whether they
    are significant; --report writes them to a page."""


def is_files_mode(options: Any, files: FileOptions, measured: EvaluationOptions, *, shared: Collection[str]) -> bool:
    """Return whether files are evaluated instead of a model.

    Args:
        options: the dataclass of the whole command, with ``model`` and ``recipe``.
        files: options of files.
        measured: evaluation options, which apply to both.
        shared: names of options that apply to both.

    Raises:
        InvalidArgumentError: options of neither or of both are set, or a required option is missing.
    """
    of_files = _given(files)
    of_model = [name for name in _given(options) if name not in shared and getattr(options, name) is not files]
    if files.compare:
        others = [*(n for n in _given(options) if getattr(options, n) is not files), *_given(measured), *of_files]
        others = [name for name in others if name not in _WITH_COMPARE]
        if others:
            raise InvalidArgumentError(
                f"expected --compare alone or with --report and --json, got it together with "
                f"{_as_options(others)}; it compares existing results"
            )
        if len(files.compare) != 2:
            raise InvalidArgumentError(
                f"expected two files after --compare, of the run before and the run after, got {len(files.compare)}; "
                "panscape evaluate --out FILE.json writes one"
            )
        return True
    if not of_files and not of_model:
        raise InvalidArgumentError(f"expected {_FORMS}; got neither")
    is_files_mode = files.predictions is not None or (files.gt is not None and "model" not in of_model)
    others = of_model if is_files_mode else of_files
    if others:
        with_what = "--predictions" if is_files_mode else "a MODEL"
        raise InvalidArgumentError(f"expected {_FORMS}; got {_as_options(others)} together with {with_what}")
    needed = {"predictions": files.predictions, "gt": files.gt}
    if not is_files_mode:
        needed = {"MODEL": options.model, "recipe": options.recipe}
    missing = [name if name.isupper() else f"--{name}" for name, value in needed.items() if value is None]
    if missing:
        raise InvalidArgumentError(f"expected {_FORMS}; {missing[0]} is missing")
    return is_files_mode


def _as_options(names: list[str]) -> str:
    """Return field names as command-line options."""
    return ", ".join("a MODEL" if name == "model" else f"--{name.replace('_', '-')}" for name in names)


def _given(options: Any) -> list[str]:
    """Return the names of the options that differ from their defaults."""
    return [
        field.name
        for field in fields(options)
        if field.default is not MISSING and getattr(options, field.name) != field.default
    ]


def run_on_files(
    files: FileOptions,
    *,
    options: EvaluationOptions,
    as_json: bool,
    out: Path | None,
    report: Path | None,
) -> int:
    """Evaluate files or compare results; print tables or JSON and write the requested files.

    Args:
        files: with predictions and truth, or with what to compare.
        options: what is measured.
        as_json: print one JSON object in place of tables.
        out: also write a JSON that can be compared with others.
        report: also write a page to look at.

    Returns:
        0, or 1 if the files have issues.
    """
    require_places(out, report)
    if files.images is not None and report is None:
        raise InvalidArgumentError("expected --images with --report, as the report shows them; got no --report")
    if files.images is not None and not files.images.is_dir():
        raise InvalidArgumentError(f"expected a folder of images, but there is no {files.images}; fix --images")
    if files.threads is not None and files.threads < 1:
        raise InvalidArgumentError(
            f"expected --threads of 1 or more, got {files.threads}; omit it for one per processor"
        )
    if files.compare:
        from panscape.evaluation.compare import compare_command

        before, after = files.compare
        compare_command(before, after, report, as_json=as_json)
        return 0
    from panscape.evaluation.files import evaluate_files
    from panscape.formats.problems import escape_control_chars

    if files.predictions is None or files.gt is None:
        raise InvalidArgumentError(f"expected {_FORMS}")
    with ProgressBar("images") as bar, _ignore_large_image_warning():
        scores = evaluate_files(
            files.predictions,
            files.gt,
            labels=files.labels,
            prediction_pngs=files.pred_dir,
            truth_pngs=files.gt_dir,
            by_source_id=files.label_ids == "dataset",
            options=options,
            workers=files.threads or 0,
            strict=files.strict,
            progress=bar.update,
        )
    if as_json:
        print(json.dumps(scores.to_dict()))
    else:
        counts = f"{len(scores.records)} of {scores.num_images} images"
        paths = escape_control_chars(f"{files.predictions} against {files.gt}")
        print(f"{paths}: {counts}, {scores.labels.name}, protocol {options.protocol}\n")
        print(scores)
        _print_problems(scores)
    if out is not None:
        from panscape.evaluation.results import write_results

        write_results(out, scores)
    if report is not None:
        from panscape.evaluation.report.page import write_report

        with _ignore_large_image_warning():
            write_report(report, scores, images=files.images)
        if not as_json:
            print(f"\nreport: {report}")
    return 1 if scores.num_problems else 0


@contextmanager
def _ignore_large_image_warning() -> Iterator[None]:
    """Suppress Pillow's warning about large images; images that it rejects are reported as issues."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def require_places(*paths: Path | None) -> None:
    """Check early that files can be written.

    Args:
        paths: of the files; None for files that are not written.

    Raises:
        InvalidArgumentError: one is a folder, or in a folder that does not exist.
    """
    for path in paths:
        if path is not None and not path.parent.is_dir():
            raise InvalidArgumentError(f"cannot write {path}: no folder {path.parent}; create it first")
        if path is not None and path.is_dir():
            raise InvalidArgumentError(f"cannot write {path}: it is a folder; use the name of a file in it")


def _print_problems(scores: Scores) -> None:
    """Print the issues of the files: counts by kind, then one line for each, up to a limit."""
    from panscape.formats.problems import count_by_kind

    for is_note, title in ((False, "problem"), (True, "note")):
        found = [problem for problem in scores.problems if problem.is_note == is_note]
        if not found:
            continue
        kinds = ", ".join(f"{kind} {count}" for kind, count in count_by_kind(found).items())
        print(f"panscape: {len(found)} {title}{'s' if len(found) > 1 else ''}: {kinds}", file=sys.stderr)
        for problem in found[:_MOST_LINES]:
            print(f"  {problem}", file=sys.stderr)
        if len(found) > _MOST_LINES:
            print(f"  and {len(found) - _MOST_LINES} more; --out FILE.json lists all", file=sys.stderr)
