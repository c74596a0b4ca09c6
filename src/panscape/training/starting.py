"""Where a training may start instead of from random weights: a saved model, or a run that has not finished."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from panscape import zoo
from panscape.models import PanopticModel
from panscape.training.checkpoints import load_newest
from panscape.training.run_folder import RunFolder


def start_from(model: PanopticModel, source: str | Path, warn: Callable[[str], None] | None = None) -> str:
    """Copy the weights that have a place in a model, and leave the others as they are.

    Args:
        model: to be trained; it may have other categories or parts.
        source: as for :func:`panscape.zoo.load`; or the folder of a run without a model, whose newest whole checkpoint
            is taken: the averaged weights if it has them.
        warn: is told in a line of each damaged checkpoint that is passed over; by default it is printed to stderr.

    Returns:
        A line that says what was and what was not copied.

    Raises:
        UnknownNameError: no bundled model has this name.
        UnreadableFileError: the file is missing or damaged, or all checkpoints are.
        CheckpointMismatchError: nothing fits.
    """
    has_model = (Path(source) / zoo.WEIGHTS_IN_FOLDER).exists()
    found = None if has_model else load_newest(RunFolder(Path(source)).checkpoints, warn)
    if found is None:
        return zoo.start_from(model, source)
    step, state = found
    return f"{zoo.copy_fitting(model, state['average'] or state['model'], Path(source))}, as of step {step}"
