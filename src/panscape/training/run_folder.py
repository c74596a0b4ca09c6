"""The folder of a run: what lies where, and what a folder that exists means for a new start.

====================  ==================================================================================
``run.json``          recipe, seed and data of the run; command, versions and device of each of its starts
``metrics.jsonl``     what was measured, a line at a time
``checkpoints/``      what a training goes on from
``tensorboard/``      curves
``images/``         predictions beside the truth
====================  ==================================================================================
"""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import fields, is_dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from panscape.atomic_io import atomic_write
from panscape.errors import InvalidArgumentError, UnreadableFileError, UnwritableFileError
from panscape.nn.pisr import Relations
from panscape.training.checkpoints import saved_steps
from panscape.training.config import DataOptions, ModelOptions, Recipe

_WITH_TYPE = (ModelOptions, DataOptions, Relations)  # of which a recipe may hold one class or another
_CHANGEABLE = ("eval_every", "eval_limit")  # they decide what is measured, not what is learned


class RunFolder:
    """The folder of one run. Only the first of several processes opens and begins it.

    Attributes:
        path: of the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def metrics(self) -> Path:
        """The file of measurements: JSON objects, one a line, each with its ``"step"``."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / "checkpoints"

    @property
    def tensorboard(self) -> Path:
        """The folder of curves."""
        return self.path / "tensorboard"

    @property
    def images(self) -> Path:
        """The folder of images."""
        return self.path / "images"

    @classmethod
    def open(cls, path: Path, recipe: Recipe, *, seed: int, data: Path | None, resume: bool) -> RunFolder:
        """Make the folder of a new run, or find that of one to go on with.

        A folder that is absent or empty becomes that of a new run, with ``resume`` or without, and without it also
        that of a run that ended before its first checkpoint. ``resume`` goes on with a run of the same recipe, seed and
        data; only how often and on how much it is evaluated may differ. Whenever an error is raised, nothing in the
        folder has changed.

        Args:
            path: the folder.
            recipe: what is trained.
            seed: of the run.
            data: folder of the dataset; None if the recipe needs none.
            resume: whether to go on with a run.

        Raises:
            InvalidArgumentError: the path is a file or a folder of something else, or of a run while ``resume`` is
                false, or of a run that differs.
            UnreadableFileError: the folder's record of its run cannot be read.
            UnwritableFileError: the folder cannot be written to.
        """
        run = cls(path)
        record: dict[str, Any] = {
            "recipe": recipe_to_dict(recipe),
            "seed": seed,
            "data": None if data is None else str(data.resolve()),
            "starts": [],
        }
        if path.exists() and not path.is_dir():
            raise InvalidArgumentError(f"expected a folder for the run, but {path} is a file; give another --out")
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
                    f"{path} holds a run of {name} at step {step} of {steps}; add --resume to go on with it, or give "
                    "another --out"
                )
            run._require_same(old, record)
            record["starts"] = old["starts"]
        elif path.is_dir():
            # A process killed at its very start leaves an unfinished record.
            others = sorted(p.name for p in path.iterdir() if not p.match(".run.*.json"))
            if others:
                shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
                raise InvalidArgumentError(
                    f"expected an empty folder or that of a run, but {path} holds {shown}; give another --out"
                )
        run._write(record)
        return run

    def begin(self, step: int, *, device: str, processes: int) -> None:
        """Note that a training starts or goes on here.

        What was measured after ``step`` stays until :class:`~panscape.training.logging.event_log.EventLog` replaces it.

        Args:
            step: number of steps done, 0 for a new run.
            device: on which it runs, in words.
            processes: how many take part.

        Raises:
            UnwritableFileError: the folder cannot be written to.
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
            raise UnreadableFileError(self._record, "it is not the record of a run of panscape; give another --out")
        return record

    def _write(self, record: dict[str, Any]) -> None:
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with atomic_write(self._record, durable=True) as temporary:
                temporary.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def _clear(self) -> None:
        """Remove what a run that did not get far has measured and drawn."""
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
        if found:
            raise InvalidArgumentError(
                f"{self.path} holds another run: {'; '.join(found)} (there -> here); go on with what it was started "
                "with, or give another --out"
            )


def recipe_to_dict(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as JSON would give it back: dicts, lists, strings, numbers, booleans and None.

    Model, data and relations say as ``"type"`` which class they are.

    Raises:
        InvalidArgumentError: a field holds what cannot be written down; names it.
    """
    result: dict[str, Any] = _plain(recipe, "recipe")
    return result


def _plain(value: Any, name: str) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        kind = {"type": type(value).__qualname__} if isinstance(value, _WITH_TYPE) else {}
        return kind | {f.name: _plain(getattr(value, f.name), f"{name}.{f.name}") for f in fields(value)}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(part, f"{name}.{key}") for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part, f"{name}.{i}") for i, part in enumerate(value)]
    if isinstance(value, Path):
        return str(value)
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise InvalidArgumentError(
        f"expected numbers, strings, paths, tuples, dicts and dataclasses in a recipe, got a "
        f"{type(value).__qualname__} as {name}"
    )


def differences(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Return how two results of :func:`recipe_to_dict` differ: ``optimizer.learning_rate: 0.0001 -> 0.0002`` lines."""
    return _differences(old, new, "")


_ABSENT = object()


def _differences(old: Any, new: Any, name: str) -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        if old.get("type") != new.get("type"):  # all else differs then, too
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
    """Return the revision of the repository around the working directory, ``-dirty`` if files differ; None if none."""
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
    return UnwritableFileError(path, f"{error.strerror or error}; make room or give another --out")
