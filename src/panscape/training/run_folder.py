"""The run directory: its layout, and how a new start treats an existing directory.

====================  ==================================================================================
``run.json``          recipe, seed and data of the run; command, versions and device of each start
``run.lock``          who trains in the directory at the moment
``training_images``   names and sizes of the training images, ``.json``
``metrics.jsonl``     losses and metrics, one JSON object per line
``checkpoints/``      checkpoints to resume from
``tensorboard/``      curves
``images/``           predictions beside the ground truth
====================  ==================================================================================
"""

from __future__ import annotations

import json
import math
import platform
import shlex
import shutil
import subprocess
import sys
from contextlib import suppress
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from panscape.atomic_io import atomic_write, is_leftover, remove_leftovers
from panscape.errors import InvalidArgumentError, UnreadableFileError, UnwritableFileError
from panscape.nn.pisr import Relations
from panscape.serialization import to_plain
from panscape.training.config import DataOptions, ModelOptions, Recipe
from panscape.zoo.checkpoints import CHECKPOINTS_IN_RUN, saved_steps

LOCK_NAME = "run.lock"
"""Name of the file of the lock on a run directory."""

_WITH_TYPE = (ModelOptions, DataOptions, Relations)  # parts of a recipe that may have one of several classes
_CHANGEABLE = ("eval_every", "eval_limit", "early_stopping")  # they affect evaluation and end, not the steps


class RunFolder:
    """The directory of one run. Only rank 0 opens and begins it, after it has locked it.

    Attributes:
        path: path of the directory.
        steps: number of steps of the run, once it is opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.steps = 0

    @property
    def metrics(self) -> Path:
        """The metrics file: one JSON object per line, each with its ``"step"``."""
        return self.path / "metrics.jsonl"

    @property
    def hours(self) -> float:
        """Hours of training up to the last metrics, with those before a resume."""
        return max((line.get("time", 0.0) for line in self._lines()), default=0.0) / 3600

    def is_drawn(self, step: int) -> bool:
        """Return whether the images of a step have been written; those of val images are the last ones."""
        return (self.images / f"step_{step:08d}_val.png").exists()

    def recorded_recipe(self) -> dict[str, Any] | None:
        """Return the recipe of a run that exists, as :func:`recipe_to_dict` returns it; None if there is none.

        Raises:
            UnreadableFileError: ``run.json`` cannot be read.
        """
        return dict(self._read()["recipe"]) if self._record.exists() else None

    def evaluation(self, step: int, name: str = "val") -> dict[str, Any] | None:
        """Return the line of the metrics with the evaluation after a step, if any; ``name`` is that of the reporter."""
        return next((line for line in self._lines() if line.get("step") == step and name in line), None)

    def _lines(self) -> list[dict[str, Any]]:
        """Return the metrics; a line that a killed process has cut off is left out."""
        found = []
        for line in self.metrics.read_text(encoding="utf-8").splitlines() if self.metrics.exists() else []:
            with suppress(ValueError):
                found.append(json.loads(line))
        return found

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / CHECKPOINTS_IN_RUN

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard event files."""
        return self.path / "tensorboard"

    @property
    def images(self) -> Path:
        """The folder of images."""
        return self.path / "images"

    @classmethod
    def open(cls, path: Path, recipe: Recipe, *, seed: int, data: Path | None, resume: bool) -> RunFolder:
        """Create the directory of a new run, or open that of a run to resume.

        An absent or empty directory becomes that of a new run, with or without ``resume``. Without ``resume``, so does
        the directory of a run that ended before its first checkpoint. ``resume`` requires the same recipe, seed and
        data; only ``eval_every``, ``eval_limit`` and ``early_stopping`` may differ, and ``steps`` may be fewer.
        Unfinished files of a killed process are removed. If an error is raised, the directory is unchanged.

        Args:
            path: the run directory.
            recipe: the recipe to train.
            seed: the seed of the run.
            data: folder of the dataset; None if the recipe needs none.
            resume: whether to resume a run.

        Raises:
            InvalidArgumentError: the directory contains other files, a run while ``resume`` is false, or a run that
                differs.
            UnreadableFileError: ``run.json`` cannot be read.
            UnwritableFileError: the directory cannot be written.
        """
        run = cls(path)
        run.steps = recipe.steps
        record: dict[str, Any] = {
            "recipe": recipe_to_dict(recipe),
            "seed": seed,
            "data": None if data is None else str(data.resolve()),
            "starts": [],
        }
        if run._record.exists():
            old = run._read()
            saved = saved_steps(run.checkpoints)
            if not resume and not saved:
                run._clear()
                run._write(record)
                return run
            if not resume:
                step = saved[-1]
                name, steps = old["recipe"].get("name"), old["recipe"].get("steps")
                raise InvalidArgumentError(
                    f"{path} contains a run of {name} at step {step} of {steps}; add --resume to continue it, or give "
                    "another --out"
                )
            steps = old["recipe"].get("steps")
            if isinstance(steps, int):
                run.steps = max(steps, recipe.steps)  # more are a difference
                record["recipe"]["steps"] = run.steps
            run._require_same(old, record)
            record["starts"] = old["starts"]
        elif path.is_dir():
            others = sorted(p.name for p in path.iterdir() if not is_leftover(p) and p.name != LOCK_NAME)
            if others:
                shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
                raise InvalidArgumentError(
                    f"expected an empty folder or a run directory, but {path} contains {shown}; give another --out"
                )
        run._write(record)
        try:
            for folder in (path, run.images):
                remove_leftovers(folder)
        except OSError as error:
            raise _unwritable(path, error) from error
        return run

    def begin(self, step: int, *, device: str, processes: int) -> None:
        """Record the start or resumption of a training.

        Metrics of steps after ``step`` stay until :class:`~panscape.training.logging.event_log.EventLog` replaces them.

        Args:
            step: number of completed steps, 0 for a new run.
            device: description of the device.
            processes: number of processes.

        Raises:
            UnwritableFileError: the directory cannot be written.
        """
        record = self._read()
        record["starts"].append(
            {
                "step": step,
                "time": datetime.now().astimezone().isoformat(timespec="seconds"),
                "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
                "panscape": version("panscape"),
                "git": _git_revision(),
                "torch": torch.__version__,
                "python": platform.python_version(),
                "device": device,
                "processes": processes,
            }
        )
        self._write(record)
        try:
            for folder in (self.checkpoints, self.tensorboard, self.images):
                folder.mkdir(exist_ok=True)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    @property
    def _record(self) -> Path:
        return self.path / "run.json"

    def _read(self) -> dict[str, Any]:
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UnreadableFileError(self._record, f"it cannot be read ({error}); give another --out") from error
        expected = {"recipe": dict, "seed": int, "starts": list}
        if not isinstance(record, dict) or not all(isinstance(record.get(k), t) for k, t in expected.items()):
            raise UnreadableFileError(self._record, "it is not the run.json of a panscape run; give another --out")
        return record

    def _write(self, record: dict[str, Any]) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._record, durable=True) as temporary:
                temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _clear(self) -> None:
        """Remove the metrics, curves and images of a run that has no checkpoint."""
        try:
            self.metrics.unlink(missing_ok=True)
            for folder in (self.tensorboard, self.images):
                if folder.exists():
                    shutil.rmtree(folder)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _require_same(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        parts = [
            {**record["recipe"], "seed": record["seed"], "data folder": record.get("data")} for record in (old, new)
        ]
        for name in _CHANGEABLE:
            for part in parts:
                part.pop(name, None)
        found = differences(*parts)
        remedy = "resume it with its original settings, or give another --out"
        if new["recipe"]["steps"] > old["recipe"].get("steps", math.inf):
            remedy += (
                "; its learning rates were those of a run of its length: to train longer, start another run with "
                f"--init-from {self.path}"
            )
        if found:
            raise InvalidArgumentError(
                f"{self.path} contains a different run: {'; '.join(found)} (there -> here); {remedy}"
            )


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as JSON values: dicts, lists, strings, numbers, booleans and None.

    Model, data and relations contain the name of their class as ``"type"``.

    Raises:
        InvalidArgumentError: a field has a value that JSON cannot represent; the message names the field.
    """
    result: dict[str, Any] = to_plain(recipe, "recipe", _type_of)
    return result


def _type_of(part: Any) -> dict[str, str]:
    return {"type": type(part).__qualname__} if isinstance(part, _WITH_TYPE) else {}


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return the differences of two results of :func:`recipe_to_dict`, as ``optimizer.eps: 1e-08 -> 1e-07``."""
    return _differences(old, new, "")


_ABSENT = object()


def _differences(old: Any, new: Any, name: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        if old.get("type") != new.get("type"):  # then all other fields differ, too
            return [
                f"{name}.type: {_shown(old.get('type', _ABSENT))} -> {_shown(new.get('type', _ABSENT))}".lstrip(".")
            ]
        found = []
        for key in [*old, *(key for key in new if key not in old)]:
            found += _differences(old.get(key, _ABSENT), new.get(key, _ABSENT), f"{name}.{key}".lstrip("."))
        return found
    return [] if old == new else [f"{name}: {_shown(old)} -> {_shown(new)}"]


def _shown(value: Any) -> str:
    return "absent" if value is _ABSENT else json.dumps(value, ensure_ascii=False)


def _git_revision() -> str | None:
    """Return the git revision of the working directory, with ``-dirty`` if files differ; None outside a repository."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _unwritable(path: Path, error: OSError) -> UnwritableFileError:
    return UnwritableFileError(path, f"{error.strerror or error}; free space or give another --out")
