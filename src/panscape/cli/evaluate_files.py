"""`panscape evaluate --predictions ... --gt ...` and `--compare`; nothing heavy is imported before files are read."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from panscape.cli.options import ResultOptions, given, require_writable
from panscape.cli.printing import fitted, print_json, say
from panscape.errors import InvalidArgumentError
from panscape.progress import ProgressBar

if TYPE_CHECKING:
    from panscape.cli.evaluate import Evaluate
    from panscape.evaluation.evaluate_files import FileEvaluation

_logger = logging.getLogger(__name__)

_MOST_LINES = 20
_FORMS = "a MODEL with --data DIR or --recipe, to evaluate a model, or --predictions with --gt, to evaluate files"
_WITH_COMPARE = ("compare", "report", "json")


@dataclass(frozen=True)
class FileOptions:
    """Predictions of any tool in files, instead of a MODEL."""

    predictions: Annotated[Path | None, arg(metavar="DIR_OR_JSON", help_behavior_hint="")] = None
    """A COCO panoptic JSON, or a folder with one such JSON, Cityscapes *_instanceIds.png, annotations of IDD, arrays of
    transformers (.npz, or .npy and .json) or semantic masks."""

    gt: Annotated[Path | None, arg(metavar="DIR_OR_JSON", help_behavior_hint="")] = None
    """Ground truth of --predictions, in one of the same formats."""

    images: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Folder of the images, to show them in the --report of --predictions."""

    compare: Annotated[tuple[Path, ...], arg(metavar="A.json B.json ...", help_behavior_hint="")] = ()
    """Compare files written by --out, instead of --predictions: a row for each, and the changes from the first to the
    last and whether they are significant; --report writes a page with AP by size."""


def is_files_mode(command: Evaluate) -> bool:
    """Return whether files are evaluated or compared instead of a model.

    Raises:
        InvalidArgumentError: options of neither or of both are set, or a required option is missing.
    """
    files = command.files
    of_files = [*given(files), *given(command.reading)]
    shared = [*given(command.metric), *given(command.result)]
    of_model = [name for name in given(command) if name not in (*of_files, *shared)]
    if files.compare:
        others = [name for name in (*of_model, *shared, *of_files) if name not in _WITH_COMPARE]
        if others:
            raise InvalidArgumentError(
                f"expected --compare alone or with --report and --json, got it together with "
                f"{_as_options(others)}; it compares existing results"
            )
        if len(files.compare) < 2:
            raise InvalidArgumentError(
                "expected two or more files after --compare, got 1; panscape evaluate --out FILE.json writes one"
            )
        return True
    if not of_files and not of_model:
        raise InvalidArgumentError(f"expected {_FORMS}; got neither")
    is_files_mode = files.predictions is not None or (files.gt is not None and command.model is None)
    others = of_model if is_files_mode else of_files
    if others:
        with_what = "--predictions" if is_files_mode else "a MODEL"
        raise InvalidArgumentError(f"expected {_FORMS}; got {_as_options(others)} together with {with_what}")
    needed: dict[str, object] = {"--predictions": files.predictions, "--gt": files.gt}
    if not is_files_mode:
        needed = {"MODEL": command.model, "--data DIR or --recipe": command.dataset.is_known(command.model) or None}
    missing = [name for name, value in needed.items() if value is None]
    if missing:
        raise InvalidArgumentError(f"expected {_FORMS}; {missing[0]} is missing")
    return is_files_mode


def _as_options(names: list[str]) -> str:
    """Return field names as command-line options."""
    shown = {"model": "a MODEL", "data_options": "--data.NAME"}
    return ", ".join(shown.get(name, f"--{name.replace('_', '-')}") for name in names)


def run_on_files(command: Evaluate) -> int:
    """Evaluate files; print tables or JSON and write the requested files.

    Returns:
        0, or 1 if the files have issues.
    """
    files, result = command.files, command.result
    require_writable(result.out, result.report)
    if files.images is not None and result.report is None:
        raise InvalidArgumentError("expected --images with --report, as the report shows them; got no --report")
    if files.images is not None and not files.images.is_dir():
        raise InvalidArgumentError(f"expected a folder of images, but there is no {files.images}; fix --images")
    if files.predictions is None or files.gt is None:
        raise InvalidArgumentError(f"expected {_FORMS}")
    from panscape.evaluation.evaluate_files import evaluate_files
    from panscape.metrics.tables import format_count

    with ProgressBar("images") as bar:
        scores = evaluate_files(
            files.predictions, files.gt, options=command.metric, reading=command.reading, progress=bar.update
        )
    if not result.json:
        counts = f"{len(scores.records)} of {format_count(scores.num_images, 'image')}"
        protocol = command.metric.protocol
        title = f"{files.predictions} against {files.gt}: {counts}, {scores.labels.name}, protocol {protocol}"
        say(fitted(f"{title}\n\n{scores}"))
        _print_issues(scores)
    result.write(scores, images=files.images)
    if result.json:
        print_json(scores.to_dict() | result.paths)
    return 1 if scores.num_issues else 0


def compare_files(paths: Sequence[Path], result: ResultOptions) -> int:
    """Compare files of results, print tables or JSON and write an HTML report if requested.

    Args:
        paths: two or more files written by :func:`~panscape.evaluation.results.write_results`.
        result: output options.

    Returns:
        0.

    Raises:
        UnreadableFileError: a file is missing or is not JSON.
        InvalidAnnotationError: a file has other content.
        InvalidArgumentError: the runs cannot be compared, or the folder of the report does not exist.
    """
    require_writable(result.report)
    from panscape.evaluation.compare import compare, distinct_names, runs_table
    from panscape.evaluation.results import read_results

    runs = {name: read_results(path) for name, path in zip(distinct_names(*paths), paths, strict=True)}
    (first, before), *later = runs.items()
    comparisons = [compare(before, run, names=(first, name)) for name, run in later]
    last = comparisons[-1]
    if not result.json:
        between = [f"{each.second} against {first}: {each.sentence}" for each in comparisons[:-1]]
        say(fitted("\n\n".join(filter(None, [runs_table(runs), *between, str(last)]))))
    result.write(later[-1][1], comparison=last, runs=runs)
    if result.json:
        for each in comparisons:
            print_json(each.to_dict() | {"report": result.report})
    return 0


def _print_issues(scores: FileEvaluation) -> None:
    """Print the issues of the files: counts by kind, then one line for each, up to a limit."""
    from panscape.formats.issues import count_by_kind

    for is_note, title in ((False, "issue"), (True, "note")):
        found = [issue for issue in scores.issues if issue.is_note == is_note]
        if not found:
            continue
        kinds = ", ".join(f"{kind} {count}" for kind, count in count_by_kind(found).items())
        lines = [f"{len(found)} {title}{'s' if len(found) > 1 else ''}: {kinds}"]
        lines += [f"  {issue}" for issue in found[:_MOST_LINES]]
        if len(found) > _MOST_LINES:
            lines.append(f"  and {len(found) - _MOST_LINES} more; --out FILE.json lists all")
        _logger.log(logging.INFO if is_note else logging.WARNING, "\n".join(lines))
