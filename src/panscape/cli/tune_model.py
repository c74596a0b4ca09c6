"""`panscape tune MODEL --recipe NAME`: chooses post-processing options on the dataset of a recipe."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from panscape import load, zoo
from panscape.cli.decode_arguments import parse_grid
from panscape.cli.options import require_writable
from panscape.cli.printing import fitted, print_json, say
from panscape.datasets.load import SkippedSample
from panscape.datasets.relabeled import relabeled
from panscape.errors import InvalidArgumentError
from panscape.evaluation.tune import Sweep, TuningReport, tune
from panscape.inference.device import choose_device
from panscape.metrics.tables import format_percent, format_table
from panscape.progress import ProgressBar
from panscape.runtime_options import on_runtime_of
from panscape.zoo.description import describe_model

if TYPE_CHECKING:
    from panscape.cli.tune import Tune

_logger = logging.getLogger(__name__)

_TITLES: Mapping[str, str] = {"pq": "PQ", "things-pq": "PQ things", "stuff-pq": "PQ stuff", "miou": "mIoU"}


def tune_model(command: Tune) -> int:
    """Tune a model; print a table or JSON, and optionally save the model with the chosen values.

    Returns:
        0, or 1 if images were skipped.
    """
    if command.out is not None and command.out.suffix != ".safetensors":
        raise InvalidArgumentError(f"expected --out to end in .safetensors, got {command.out}")
    require_writable(command.out)
    split, name = command.dataset.split, command.model or ""
    recipe, dataset = command.dataset.load(name, "panscape tune")
    model = load(name, labels=dataset.labels)
    execution = command.execution
    model, precision = on_runtime_of(model, execution.runtime, execution.precision, execution.device)
    execution = replace(execution, precision=precision)
    model = model.to(choose_device(execution.device, model))
    if command.out is not None:
        describe_model(model)  # which exported models cannot be saved with
    dataset = relabeled(dataset, model.labels)
    grid = parse_grid(model, command.decode, "panscape tune")
    if split != "train":
        _logger.warning("options are chosen on %s; scores of the tuned model on %s are biased", split, split)
    bad: list[SkippedSample] = []
    with ProgressBar("images") as bar:
        found = tune(
            model,
            dataset,
            grid=grid or None,
            metric=command.metric,
            rounds=command.rounds,
            protocol=command.protocol,
            inference=execution,
            skipped=bad.append,
            progress=bar.update,
        )
    facts = _facts(command, recipe, found)
    if not command.json:
        images = f"{found.num_images} image{'' if found.num_images == 1 else 's'} of {facts['recipe']} {split}"
        say(fitted(f"{name} on {images} (of {len(dataset)}), protocol {command.protocol}\n\n{tables(found)}"))
    if bad:
        lines = [f"  {error}" for _, error in bad]
        _logger.warning("\n".join([f"{len(bad)} images could not be used:", *lines]))
    if command.out is not None:
        model.replace_decoding(found.decoding)
        zoo.save(model, command.out, {**zoo.read_card(name), "decoding": _note(facts, found)})
        if not command.json:
            say(f"\nsaved: {command.out}")
    if command.json:
        skipped = [{"image": image, "error": error} for image, error in bad]
        sweeps = [_plain(sweep) for sweep in found.sweeps]
        print_json({"model": name, **facts, "sweeps": sweeps, "skipped": skipped, "out": command.out})
    return 1 if bad else 0


def _facts(command: Tune, recipe: str, found: TuningReport) -> dict[str, Any]:
    """Return the conditions and the results as plain values."""
    return {
        "recipe": recipe,
        "split": command.dataset.split,
        "images": found.num_images,
        "metric": command.metric,
        "protocol": command.protocol,
        "before": round(found.before, 6),
        "after": round(found.after, 6),
        "changes": {option: {"before": old, "after": new} for option, (old, new) in found.changes.items()},
    }


def tables(found: TuningReport) -> str:
    """Return a table of values and scores in percent for each option, and a summary of the changes.

    An asterisk marks the chosen value. The table of an option shows its last sweep, made with the best values of the
    other options.
    """
    title = _TITLES[found.metric]
    blocks = [_table(sweep, title) for sweep in found.last_sweeps]
    result = [
        f"{title} {format_percent(found.before)} with the model's own values, "
        f"{format_percent(found.after)} with the chosen values "
        f"({100 * (found.after - found.before):+.1f}); measured on the images they were chosen on"
    ]
    for option, (before, after) in found.changes.items():
        gain = f"{100 * found.gains[option]:+.2f}"
        result.append(f"  --decode.{option.replace('_', '-')} {after}  (was {before}; {gain} on its own)")
    if not found.changes:
        result.append("  no value is better than the model's own")
    edges = [sweep for sweep in found.last_sweeps if sweep.is_at_edge]
    for sweep in edges:
        side = "lower" if sweep.chosen == sweep.values[0] else "higher"
        option = sweep.option.replace("_", "-")
        result.append(
            f"  {option} {sweep.chosen} is at the edge of the tried values; try {side} ones: --decode.{option}"
        )
    return "\n\n".join([*blocks, "\n".join(result)])


def _table(sweep: Sweep, title: str) -> str:
    values = [f"{value}{'*' if value == sweep.chosen else ''}" for value in sweep.values]
    return format_table([[sweep.option, *values], [title, *map(format_percent, sweep.scores)]])


def _plain(sweep: Sweep) -> dict[str, Any]:
    return {
        "option": sweep.option,
        "values": sweep.values,
        "scores": sweep.scores,
        "before": sweep.before,
        "after": sweep.chosen,
        "is_at_edge": sweep.is_at_edge,
    }


def _note(facts: Mapping[str, Any], found: TuningReport) -> str:
    """Return a line for the model card."""
    changes = ", ".join(f"{option} {after} (was {before})" for option, (before, after) in found.changes.items())
    title = _TITLES[found.metric]
    return (
        f"{changes or 'unchanged'}; chosen by panscape tune for {title} on {facts['images']} images of "
        f"{facts['recipe']} {facts['split']}, where {title} went from {format_percent(found.before)} to "
        f"{format_percent(found.after)}. Other numbers on this card were measured with the previous values"
    )
