from __future__ import annotations

import pickle

import pytest

from panscape import errors

EVERY = [
    (errors.InvalidMapError("wrong ids"), ValueError, "wrong ids"),
    (errors.InvalidLabelSpaceError("no category"), ValueError, "no category"),
    (errors.InvalidAnnotationError("two descriptions"), ValueError, "two descriptions"),
    (errors.InvalidArgumentError("too small"), ValueError, "too small"),
    (errors.UnreadableFileError("a.png", "no such file"), OSError, "a.png: no such file"),
    (errors.UnwritableFileError("a.png", "a folder"), OSError, "cannot write a.png: a folder"),
    (errors.DiskFullError("a.png", "no space"), OSError, "cannot write a.png: no space"),
    (errors.UnknownNameError("model", "swift", ["a", "b"]), KeyError, "unknown model 'swift'; known: a, b"),
    (errors.UnknownNameError("model", "swift", []), KeyError, "unknown model 'swift'; known: none"),
    (
        errors.UnknownNameError("backbone", "swift", map(str, range(200))),
        KeyError,
        "unknown backbone 'swift'; none of the 200 known names is similar",
    ),
    (
        errors.MissingExtraError("av", "video", "reading video"),
        ImportError,
        "reading video needs av; install it with: pip install 'panscape[video]'",
    ),
    (
        errors.CheckpointMismatchError("a.pth", missing=["b", "a"], unused="cdefghi", remedy="give another"),
        ValueError,
        "a.pth does not fit the model; 2 missing: a, b; 7 unused: c, d, e, f, g and 2 more; give another",
    ),
    (
        errors.BadSampleError("a.png", "a.png: no such\nfile", "remove it"),
        ValueError,
        "a.png: no such file; remove it",
    ),
    (
        errors.BadSampleError("a", "too dark"),
        ValueError,
        "a: too dark; repair or remove it, or skip invalid images with --on-error skip",
    ),
    (
        errors.WorkerDiedError("pid 7 was killed"),
        RuntimeError,
        "a data-loader process died: pid 7 was killed. The usual cause is a lack of memory, or of shared "
        "memory in /dev/shm; repeat the command with fewer --workers and --resume to continue from the last checkpoint",
    ),
    (
        errors.ProcessLostError("Connection closed by peer"),
        RuntimeError,
        "another process of this training has ended (Connection closed by peer); its output contains the cause; "
        "fix that, then repeat the command with --resume to continue from the last checkpoint",
    ),
    (
        errors.TrainingDivergedError(7, {"semantic": float("nan"), "center": 0.5}, ["a", "b"], "there is none yet"),
        FloatingPointError,
        "the loss is not finite (semantic nan, center 0.5) at step 7, images a, b; there is none yet; check these "
        "images and their labels, which --resume would use again; if they are correct, start another run from this "
        "run directory (--init-from) with a lower learning rate or a grad_clip_norm",
    ),
    (
        errors.TrainingDivergedError(7, {"center": 0.5}, ["a"], "there is none yet"),
        FloatingPointError,
        "the gradient is not finite, although the loss is (center 0.5), at step 7, images a; there is none yet; check "
        "these images and their labels, which --resume would use again; if they are correct, start another run from "
        "this run directory (--init-from) with a lower learning rate, or with --precision fp32",
    ),
]


def test_the_table_is_complete():
    kinds = {v for v in vars(errors).values() if isinstance(v, type) and issubclass(v, errors.PanscapeError)}
    assert {type(e) for e, _, _ in EVERY} | {errors.PanscapeError} == kinds


@pytest.mark.parametrize(("error", "builtin", "message"), EVERY)
def test_each_is_what_a_caller_expects_and_one_line(error, builtin, message):
    assert isinstance(error, builtin)
    assert isinstance(error, errors.PanscapeError)
    assert str(error) == message


@pytest.mark.parametrize(("error", "builtin", "message"), EVERY)
def test_each_survives_the_way_out_of_a_worker_process(error, builtin, message):
    other = pickle.loads(pickle.dumps(error))
    assert type(other) is type(error)
    assert str(other) == message
    assert vars(other) == vars(error)
