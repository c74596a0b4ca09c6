"""Options of other tools, with what they are here: hints in the errors about unknown options.

This module imports nothing heavy.
"""

from __future__ import annotations

_STEPS = "--steps; an epoch has as many steps as there are training images divided by --batch-size"
_INIT = "--init-from MODEL; options of its network begin with --model."
_RECIPE = 'the name or the Python file of a recipe as the first argument ("panscape recipes" lists the names)'
_SOURCE = "the files and folders as arguments without an option: panscape predict photo.jpg folder/"
_MODEL = "the model as the first argument: panscape {command} MODEL"
_DECODE = '--decode.NAME; "panscape {command} --model MODEL --decode.help" lists the names'
_CATEGORIES = "nothing: categories are those of the data; a folder of masks names them in its categories.json"

# For each command, words that other tools use for an option, and the option here. Words are separated by spaces, and
# the "-" in them may be a "_".
_HABITS: dict[str, dict[str, str]] = {
    "train": {
        "epochs num-epochs max-epochs num-train-epochs": _STEPS,
        "iters iterations max-iter max-iters max-steps num-steps total-steps": "--steps",
        "lr lr0 base-lr learning-rate": "--optimizer.learning-rate",
        "batch bs ims-per-batch train-batch-size per-device-train-batch-size": "--batch-size",
        "imgsz img img-size image-size size input-size crop crop-size resolution": "--augmentation.crop HEIGHT WIDTH",
        "weights checkpoint ckpt pretrained-weights load-from finetune start init model model-name-or-path": _INIT,
        "multi-scale multiscale": "--augmentation.multi-scale, with the lengths of the shorter side",
        "patience early-stopping es-patience early-stopping-patience": "--early-stopping.patience, in evaluations",
        "degrees rotate": "--augmentation.max-angle, with --augmentation.rotation any",
        "pretrained": "--model.pretrained for ImageNet weights, or --init-from MODEL for a trained model",
        "backbone encoder": "--model.backbone",
        "optim opt": "--optimizer.name",
        "weight-decay wd": "--optimizer.weight-decay",
        "momentum": "--optimizer.momentum",
        "clip clip-grad grad-clip max-grad-norm gradient-clip-val": "--optimizer.grad-clip-norm",
        "warmup warmup-steps warmup-iters warmup-epochs": "--schedule.warmup-steps",
        "scheduler lr-scheduler lr-scheduler-type": "--schedule.kind",
        "ema": "--ema-decay",
        "accumulate accum gradient-accumulation-steps accumulate-grad-batches": "--grad-accum-steps",
        "save-every save-period save-interval save-steps": "--checkpoint-every",
        "eval-interval val-interval eval-steps": "--eval-every",
        "log-interval logging-steps": "--log-every",
        "val-split val-ratio": "--data.hold-out",
        "classes num-classes nc": _CATEGORIES,
        "config cfg config-file recipe": _RECIPE,
        "continue resume-from resume-from-checkpoint": "--resume, with the --out of the run",
        "num-workers nw dataloader-num-workers": "--workers",
        "num-gpus nproc-per-node world-size": "--devices",
    },
    "predict": {
        "source input inputs image images path video file img": _SOURCE,
        "weights checkpoint ckpt model-path": "--model",
        "conf confidence threshold score-threshold iou": _DECODE,
        "imgsz img-size image-size size input-size": "--max-size",
        "pictures labels hide-labels no-labels": "--names",
    },
    "evaluate": {
        "weights checkpoint ckpt model model-path": _MODEL,
        "truth ground-truth annotations gt-json": "--gt",
        "pred preds prediction results dt": "--predictions",
        "conf confidence threshold score-threshold": "--decode.NAME",
        "num-workers": "--workers",
    },
    "tune": {"weights checkpoint ckpt model model-path": _MODEL},
    "benchmark": {
        "weights checkpoint ckpt model model-path": _MODEL,
        "imgsz img-size image-size input-size resolution": "--size HEIGHTxWIDTH",
        "source data dataset data-dir input": "--images",
        "batch bs": "--batch-size",
        "iters iterations repeat repeats runs num-runs": "--rounds",
        "num-threads": "--threads",
        "channels-last": "--memory-format channels-last",
        "half": "--precision bf16, or fp16 on CUDA",
        "num-images": "--limit",
    },
    # of all of these commands
    "": {
        "output output-dir outdir save-dir work-dir logdir log-dir project": "--out",
        "dataset data-dir data-path data-root root dataset-path": "--data",
        "gpu gpus cuda": "--device cuda",
        "amp fp16 half mixed-precision use-fp16": "--precision fp16",
        "bf16 bfloat16": "--precision bf16",
        "debug": "-v",
    },
}
_COMMANDS = {
    "val": "evaluate",
    "validate": "evaluate",
    "test": "evaluate",
    "score": "evaluate",
    "infer": "predict",
    "inference": "predict",
    "segment": "predict",
    "detect": "predict",
    "finetune": "train",
    "fit": "train",
    "convert": "weights convert",
}


def option_hint(option: str, program: str) -> str | None:
    """Return what an option of other tools is called here; None if it is no such option.

    Args:
        option: as it was given, such as ``--lr`` or ``--lr=0.1``.
        program: name of the program and the command.
    """
    command = program.removeprefix("panscape").strip().partition(" ")[0]
    if command not in _HABITS:
        return None
    word = option.partition("=")[0].lstrip("-").replace("_", "-")
    for name in (command, ""):
        for words, hint in _HABITS[name].items():
            if word in words.split():
                return hint.format(command=command)
    return None


def command_hint(name: str) -> str | None:
    """Return the command for a name that other tools use; None if it is no such name."""
    return _COMMANDS.get(name)
