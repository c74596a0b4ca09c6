"""A run of a recipe: from a folder of data to a model, whatever happens in between."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import Any, TypeVar, cast

import torch
from lightning_fabric import Fabric

from panscape import zoo
from panscape.errors import InvalidArgumentError, PanscapeError
from panscape.files import write_json
from panscape.images import resized
from panscape.metrics import EvaluationReport
from panscape.models.panoptic_model import in_eval_mode
from panscape.nn.batch_norm import synchronized
from panscape.sampling import category_rarity, repeat_factors
from panscape.training.augmenting import variation
from panscape.training.batches import Batch, loader_death_explained, training_batches
from panscape.training.checkpoints import Checkpoints, saved_steps
from panscape.training.evaluation import evaluate
from panscape.training.loop import TrainingState, train
from panscape.training.optimization import WeightAverage, create_optimizer
from panscape.training.pictures import draw_progress, stack_sheets
from panscape.training.recipe import Recipe
from panscape.training.reporting import NullReporter, Reporter
from panscape.training.run_folder import RunFolder
from panscape.training.run_options import RunOptions
from panscape.training.samples import SampleStream, categories_of
from panscape.training.timing import StepTimer
from panscape.training.watching import Stopped, Watch

_PRECISIONS: dict[str, Any] = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}
_NUM_SHEETS = 3  # val pictures that are drawn beside their truth
_T = TypeVar("_T")


def run(recipe: Recipe, options: RunOptions) -> EvaluationReport:
    """Train a recipe into ``options.out`` and evaluate what came of it.

    The folder then holds ``model.safetensors``, ready for :func:`panscape.load`, and ``evaluation.json``.

    Args:
        recipe: what to do.
        options: where and how.

    Returns:
        The quality of the model on all val pictures.

    Raises:
        PanscapeError: something that the user can mend; see the modules of this package for each.
        KeyboardInterrupt: stopped; a checkpoint was written if a step had been done.
    """
    fabric = _launched(options)
    return _Run(fabric, recipe, options).go()


def _launched(options: RunOptions) -> Fabric:
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise InvalidArgumentError(f'expected device "auto", "cpu" or "cuda", got {device!r}')
    if device == "cuda" and not torch.cuda.is_available():
        raise InvalidArgumentError("device cuda was asked for, but torch finds none here; take --device cpu")
    if device == "cpu" and options.precision == "fp16":
        raise InvalidArgumentError("fp16 needs a CUDA device; take --precision bf16 or fp32 on the CPU")
    if options.threads:
        torch.set_num_threads(options.threads)
    fabric = Fabric(
        accelerator=device,
        devices=options.devices,
        num_nodes=options.nodes,
        precision=_PRECISIONS[options.precision],
    )
    fabric.launch()
    return fabric


def _device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} threads"


class _Run:
    """One run in one process: what it has, and what happens when."""

    def __init__(self, fabric: Fabric, recipe: Recipe, options: RunOptions) -> None:
        self.fabric, self.recipe, self.options = fabric, recipe, options
        self.is_first = fabric.is_global_zero
        self.train_set = recipe.data.load(options.data, "train")
        self.val_set = recipe.data.load(options.data, "val")
        if self.train_set.labels != self.val_set.labels:
            raise InvalidArgumentError("expected one label space in the training and val pictures, got two")
        self.state = self._state()
        self.folder = self.on_first(
            lambda: RunFolder.open(options.out, recipe, seed=options.seed, data=options.data, resume=options.resume)
        )
        self.checkpoints = self.on_first(lambda: Checkpoints(self.folder.checkpoints))
        self._resume()
        device = f"{fabric.device.type}, {_device_name(fabric.device)}"
        self.on_first(lambda: self.folder.begin(self.state.step, device=device, processes=fabric.world_size))
        self.timer = StepTimer(is_on=options.profile, device=fabric.device)
        self.reporter: Reporter = NullReporter()
        self.watch = Watch(fabric, lambda text: self.reporter.note(text), self._last_checkpoint)

    def go(self) -> EvaluationReport:
        options, recipe, state = self.options, self.recipe, self.state
        if self.is_first:
            self.reporter = Reporter(options.out, recipe.steps, state.step + 1, log_every=options.log_every)
        with self.reporter, self.watch:
            try:
                with loader_death_explained(), self._batches() as batches:
                    train(
                        self.fabric,
                        state,
                        batches,
                        recipe,
                        seed=options.seed,
                        reporter=self.reporter,
                        watch=self.watch,
                        timer=self.timer,
                        after_step=self._after_step,
                    )
            except Stopped:
                self._save()
                self.reporter.note(f"stopped after step {state.step}; add --resume to go on")
                raise
            report = self._evaluate(0)
        self._finish(report)
        return report

    def on_first(self, action: Callable[[], _T]) -> _T:
        """Do something in the first process alone; its result, or what it raises, is everybody's."""
        if self.fabric.world_size == 1:
            return action()
        outcome: tuple[Any, PanscapeError | OSError | None] = (None, None)
        if self.is_first:
            try:
                outcome = (action(), None)
            except (PanscapeError, OSError) as error:
                outcome = (None, error)
        result, failure = self.fabric.broadcast(outcome)
        if failure is not None:
            raise failure
        return cast(_T, result)

    def _state(self) -> TrainingState:
        recipe, options = self.recipe, self.options
        torch.manual_seed(options.seed)
        model = recipe.model.create(self.train_set.labels)
        if options.start is not None:
            self._say(zoo.start_from(model, options.start))
        model.to(self.fabric.device).to(memory_format=torch.channels_last)
        if recipe.sync_batch_norm and self.fabric.world_size > 1:
            synchronized(model)
        average = WeightAverage(model, recipe.average_decay) if recipe.average_decay else None
        return TrainingState(model, create_optimizer(model, recipe.optimizer), average)

    def _resume(self) -> None:
        found = self.on_first(lambda: self.checkpoints.load(self._say))
        if found is None:
            return
        self.state.step, content = found
        self.state.model.load_state_dict(content["model"])
        self.state.optimizer.load_state_dict(content["optimizer"])
        if self.state.average is not None:
            self.state.average.load_state_dict(content["average"])
        self.fabric.strategy.precision.load_state_dict(content["precision"])
        self._say(f"going on after step {self.state.step} of {self.recipe.steps}")

    def _save(self) -> None:
        self.watch.look_back()  # what is not finite must not become a checkpoint
        state = self.state
        if state.step == 0:
            return
        content = {
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "average": None if state.average is None else state.average.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
        }
        self.on_first(lambda: self.checkpoints.save(state.step, content) and None)

    def _last_checkpoint(self) -> str:
        steps = saved_steps(self.checkpoints.folder)
        if not steps:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is that of step {steps[-1]}: add --resume to go on from it"

    @contextmanager
    def _batches(self) -> Iterator[Iterator[Batch]]:
        recipe, options = self.recipe, self.options
        repeats = rarity = None
        if recipe.sampling.repeat_threshold:
            categories = categories_of(self.train_set, on_bad_sample=options.on_bad_sample)
            repeats = repeat_factors(categories, recipe.sampling.repeat_threshold)
            factors = category_rarity(categories, recipe.sampling.repeat_threshold, len(self.train_set.labels))
            rarity = tuple(factors.tolist())
        augment, copy_paste, recolor = variation(recipe.augmentation, self.train_set.labels, rarity)
        stream = SampleStream(
            self.train_set,
            augment,
            self.state.model.encode,
            options.seed,
            repeats=repeats,
            copy_paste=copy_paste,
            recolor=recolor,
            on_bad_sample=options.on_bad_sample,
        )
        batches = training_batches(
            stream,
            batch_size=recipe.batch_size,
            first_step=self.state.step + 1,
            last_step=recipe.steps,
            rank=self.fabric.global_rank,
            world_size=self.fabric.world_size,
            parts=recipe.accumulate,
            workers=options.workers,
            pin_memory=self.fabric.device.type == "cuda",
        )
        with closing(cast(Generator[Batch], batches)):
            yield batches

    def _after_step(self, step: int) -> None:
        options, recipe = self.options, self.recipe
        is_last = step == recipe.steps
        if is_last or step % options.checkpoint_every == 0:
            with self.reporter.aside("saving"):
                self._save()
        if options.pictures_every and (is_last or step % options.pictures_every == 0) and self.is_first:
            with self.reporter.aside("drawing"):
                self.reporter.picture(step, "val", self._sheets())
        if recipe.eval_every and step % recipe.eval_every == 0 and not is_last:
            self._evaluate(recipe.eval_pictures)

    def _evaluate(self, limit: int) -> EvaluationReport:
        with self.reporter.aside("evaluating"):
            report = evaluate(
                self.state.best_model,
                self.val_set,
                fabric=self.fabric,
                limit=limit,
                workers=min(1, self.options.workers),
                on_bad_sample=self.options.on_bad_sample,
            )
        self.reporter.evaluation(self.state.step, report)
        return report

    def _sheets(self) -> torch.Tensor:
        """Draw a few val pictures beside truth, prediction and what the network says."""
        model, sheets = self.state.best_model, []
        for i in range(min(_NUM_SHEETS, len(self.val_set))):
            sample = self.val_set[i * len(self.val_set) // _NUM_SHEETS]
            size = model.working_size(sample.truth.size)
            image = resized(sample.image[None].float() / 255, size)
            with in_eval_mode(model), torch.inference_mode():
                outputs = model(image.to(self.fabric.device))
                prediction = model.decode(outputs, [size])[0].to("cpu")
                panels = model.panels(outputs, size)
            small = image[0].mul(255).round().to(torch.uint8)
            sheets.append(draw_progress(small, sample.truth.resize(*size).compact(), prediction, panels, model.labels))
        return stack_sheets(sheets)

    def _finish(self, report: EvaluationReport) -> None:
        skips = self.watch.all_skips()
        if skips:
            self._say(f"{sum(skips.values())} samples were left out, of {len(skips)} pictures: " + ", ".join(skips))
        if self.options.profile:
            self._say(self.timer.report(self.options.workers))
        self.on_first(lambda: self._write(report))

    def _write(self, report: EvaluationReport) -> None:
        recipe, out = self.recipe, self.options.out
        scores = {"PQ": report.panoptic.all.pq, "PQ things": report.panoptic.things.pq}
        scores |= {"PQ stuff": report.panoptic.stuff.pq, "mIoU": report.semantic.mean_iou}
        card = {"recipe": recipe.name, "steps": recipe.steps, "seed": self.options.seed}
        card["val"] = {name: round(100 * score, 1) for name, score in scores.items() if not math.isnan(score)}
        zoo.save(self.state.best_model, out / "model.safetensors", card)
        write_json(out / "evaluation.json", report.to_dict())

    def _say(self, text: str) -> None:
        if self.is_first and text:
            print(text, file=sys.stderr, flush=True)
