"""Run a recipe: from a dataset to an evaluated model, with checkpoints, resume and several processes."""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import distributed

from panscape import zoo
from panscape.atomic_io import write_json
from panscape.datasets.base import PanopticDataset
from panscape.datasets.workers import explain_worker_death
from panscape.errors import BadSampleError, InvalidArgumentError, PanscapeError, listed
from panscape.evaluation.training_images import TRAINING_IMAGES, record_training_images, seen_in_training
from panscape.folder_lock import FolderLock
from panscape.memory import explain_out_of_memory
from panscape.metrics import EvaluationReport
from panscape.models import PanopticModel
from panscape.nn.sync_batch_norm import check_batch_norms, convert_sync_batchnorm
from panscape.panoptic import PanopticMap
from panscape.training.config import Recipe
from panscape.training.data.anchors import Anchors, anchors_for, has_anchors_from_data, recorded_anchors, with_anchors
from panscape.training.data.loader import Batch, collate, per_process_batch, training_batches
from panscape.training.data.recipe_stream import create_stream, segments_for
from panscape.training.distributed import Distributed
from panscape.training.early_stopping import EvaluationHistory
from panscape.training.init_weights import WeightInitializer
from panscape.training.launch import device_name, launch, only_rank_zero_logs
from panscape.training.logging.reporter import NullReporter, Reporter
from panscape.training.logging.sample_images import contact_sheet, draw_samples, draw_training_crop
from panscape.training.loop import TrainingState, max_throughput, to_device, train
from panscape.training.monitor import Stopped, TrainingMonitor, list_skips
from panscape.training.optimizer import ModelEMA, create_optimizer
from panscape.training.profiler import StepProfiler, compare_speeds
from panscape.training.run_evaluation import RunEvaluation
from panscape.training.run_folder import LOCK_NAME, RunFolder
from panscape.training.run_options import RunOptions
from panscape.zoo.checkpoints import Checkpoints, saved_steps

_logger = logging.getLogger(__name__)


def run(recipe: Recipe, options: RunOptions) -> EvaluationReport:
    """Train a recipe into ``options.out`` and evaluate the result.

    Progress is logged, and a terminal also shows a progress bar. With several processes, only rank 0 logs.

    The run directory then contains ``model.safetensors`` for :func:`panscape.load`, and ``evaluation.json``. Nothing is
    written before the compatibility of data, model and options has been checked.

    With several processes, each computes its share of every batch. Gradients are averaged over processes. The result
    equals that of one process up to rounding if every loss divides by a number that does not depend on the share. It is
    close otherwise: the released losses divide by the weights and by the hard pixels of each share.

    Args:
        recipe: what to train.
        options: where and how to run it.

    Returns:
        The metrics of the model on all val images.

    Raises:
        PanscapeError: an error that the user can fix; see the modules of this package for each.
        KeyboardInterrupt: stopped; a checkpoint was written if a step had been completed.
        SystemExit: in all processes except rank 0, when all stop for the same reason.
    """
    height, width = max(recipe.augmentation.crop_sizes)
    is_group_ours = not (distributed.is_available() and distributed.is_initialized())
    fabric = launch(options)
    with (
        Distributed(fabric, is_group_ours=is_group_ours) as processes,
        only_rank_zero_logs(processes),
        closing(FolderLock(options.out / LOCK_NAME, "training")) as lock,
        explain_out_of_memory(
            f"training with --batch-size {recipe.batch_size} and --augmentation.crop {height} {width}",
            fabric.device,
            "decrease the crop or the batch size, or increase --grad-accum-steps",
        ),
    ):
        return _Run(fabric, processes, recipe, options, lock).go()


class _Run:
    """One run in one process: its parts, and the order of events."""

    def __init__(
        self, fabric: Fabric, processes: Distributed, recipe: Recipe, options: RunOptions, lock: FolderLock
    ) -> None:
        self.fabric, self.processes, self.recipe, self.options = fabric, processes, recipe, options
        self.is_first = processes.is_first
        self.train_set, self.val_set = processes.sync_call(self._data)
        if has_anchors_from_data(recipe):
            self.recipe = recipe = with_anchors(recipe, processes.rank_zero(self._anchors))
        self.state = self._state()
        segments = processes.rank_zero(lambda: segments_for(recipe, self.train_set, on_error=options.on_error))
        self.stream = processes.sync_call(
            lambda: create_stream(
                recipe, self.train_set, self.state.model, segments, seed=options.seed, on_error=options.on_error
            )
        )
        for note in processes.rank_zero(lambda: recipe.data.inspect(self.train_set, self.val_set, options.on_error)):
            _logger.info(note)
        processes.rank_zero(lock.acquire)
        self.folder = processes.rank_zero(
            lambda: RunFolder.open(options.out, recipe, seed=options.seed, data=options.data, resume=options.resume)
        )
        # Fewer steps than those of the run end it early, with its learning rates.
        self.recipe, self.last_step = replace(recipe, steps=self.folder.steps), recipe.steps
        self.checkpoints = processes.rank_zero(lambda: Checkpoints(self.folder.checkpoints))
        self.saved_step = 0
        self.history = EvaluationHistory(recipe.early_stopping)
        for warning in recipe.early_stopping.warnings(recipe.eval_every, recipe.steps):
            _logger.warning(warning)
        self._resume()
        device = f"{fabric.device.type}, {device_name(fabric.device)}"
        processes.rank_zero(lambda: self.folder.begin(self.state.step, device=device, processes=processes.count))
        processes.rank_zero(self._record_images)
        self.timer = StepProfiler(is_on=options.profile, device=fabric.device)
        self.reporter: Reporter = NullReporter()
        self.monitor = TrainingMonitor(fabric, processes, lambda text: self.reporter.note(text), self._last_checkpoint)

    def go(self) -> EvaluationReport:
        state = self.state
        if self.is_first:
            self.reporter = self._reporter()
        self.evaluation = RunEvaluation(
            self.fabric,
            self.processes,
            self.recipe,
            self.options,
            state,
            self.val_set,
            self.history,
            self.reporter,
            self.monitor,
        )
        with self.reporter, self.monitor:
            try:
                self._finish_step()
                if state.step < self.last_step:
                    self._train()
                self.model_step = state.step
                report = self._evaluate_result()
                self._report_skips()
            except Stopped:
                self._save()
                self.reporter.note(f"stopped after step {state.step}; add --resume to continue")
                raise
        if self.options.profile:
            self._profile()
        self.processes.rank_zero(lambda: self._write(report))
        return report

    def _reporter(self) -> Reporter:
        options, steps, step = self.options, self.last_step, self.state.step
        if step == steps:
            what = "is complete" if step == self.recipe.steps else "ends early"
            if self.history.is_over and step < self.recipe.steps:
                what = f"has stopped early ({self.history.reason})"
            again = "" if step < self.recipe.steps else " again"
            _logger.info(
                "this run %s: %d of %d steps; evaluating and saving its model%s", what, step, self.recipe.steps, again
            )
            if self.folder.evaluation(step, self.history.result_name):  # its metrics are already written
                return Reporter(None, steps, step + 1, log_every=options.log_every)
        return Reporter(options.out, steps, step + 1, log_every=options.log_every)

    def _train(self) -> None:
        with explain_worker_death(), self._batches() as batches:
            train(
                self.fabric,
                self.state,
                batches,
                self.recipe,
                seed=self.options.seed,
                reporter=self.reporter,
                monitor=self.monitor,
                timer=self.timer,
                after_step=self._after_step,
                last_step=self.last_step,
            )

    def _data(self) -> tuple[PanopticDataset, PanopticDataset]:
        recipe, options = self.recipe, self.options
        per_process_batch(recipe.batch_size, self.processes.count, recipe.grad_accum_steps)
        train_set = recipe.data.load(options.data, "train")
        val_set = recipe.data.load(options.data, "val")
        if train_set.labels != val_set.labels:
            raise InvalidArgumentError("expected one label space in the training and val images, got two")
        if len(val_set) == 0:
            raise InvalidArgumentError(
                "expected at least one val image to evaluate on, got none; move some of the training images there"
            )
        return train_set, val_set

    def _anchors(self) -> Anchors:
        recorded = recorded_anchors(RunFolder(self.options.out)) if self.options.resume else None
        return recorded or anchors_for(self.recipe, self.train_set, on_error=self.options.on_error)

    def _record_images(self) -> None:
        out = self.options.out
        if not (out / TRAINING_IMAGES).exists():
            record_training_images(out, self.train_set)
        seen = seen_in_training(out, self.val_set)
        if seen:
            _logger.warning(
                "%d of %d val images are training images too, so that their metrics say little: %s",
                len(seen),
                len(self.val_set),
                listed(seen),
            )

    def _beginning(self, resumes: bool) -> WeightInitializer:
        options = self.options
        torch.manual_seed(options.seed)
        beginning = WeightInitializer(
            self.recipe.model,
            self.train_set.labels,
            start=options.init_from,
            backbone_weights=options.backbone_weights,
            resumes=resumes,
            freezes_backbone=self.recipe.optimizer.backbone_lr_mult == 0,
        )
        beginning.model.encode(PanopticMap.empty((64, 64)))  # raises if the representation does not fit the labels
        return beginning

    def _model(self) -> PanopticModel:
        """Return the initial network; rank 0 fetches missing weights, once."""
        processes, options = self.processes, self.options
        resumes = processes.rank_zero(lambda: options.resume and bool(saved_steps(RunFolder(options.out).checkpoints)))
        beginning = processes.sync_call(lambda: self._beginning(resumes))
        weights = processes.sync_call(lambda: beginning.weights)
        if weights is not None:
            processes.rank_zero(lambda: weights.fetch() and None)
        processes.sync_call(beginning.complete)  # on machines with their own cache, it fetches the weights there
        return beginning.model

    def _state(self) -> TrainingState:
        recipe = self.recipe
        model = self._model()
        model.to(self.fabric.device).to(memory_format=torch.channels_last)
        if recipe.sync_batch_norm and self.processes.count > 1:
            convert_sync_batchnorm(model)
        elif per_process_batch(recipe.batch_size, self.processes.count, recipe.grad_accum_steps) == 1:
            height, width = min(recipe.augmentation.crop_sizes)
            check_batch_norms(model, torch.zeros(1, 3, height, width, device=self.fabric.device))
        average = ModelEMA(model, recipe.ema_decay) if recipe.ema_decay else None
        return TrainingState(model, create_optimizer(model, recipe.optimizer), average)

    def _resume(self) -> None:
        found = self.processes.rank_zero(lambda: self.checkpoints.load())
        if found is None:
            if self.options.resume:
                _logger.info("no checkpoint to resume from in %s; starting with step 1", self.options.out)
            return
        self.state.step, content = found
        self.state.load_weights(content)
        self.state.optimizer.load_state_dict(content["optimizer"])
        if content["precision"]:  # empty if the run used another precision before
            self.fabric.strategy.precision.load_state_dict(content["precision"])
        self.saved_step = self.state.step
        self.history.load_state_dict(content["evaluations"])
        line = self.processes.rank_zero(lambda: self.folder.evaluation(self.state.step))
        if line is not None and self._due(self.state.step)[1]:
            self.history.add(line)  # it came after the checkpoint
        self.last_step = self.state.step if self.history.is_over else max(self.last_step, self.state.step)
        if self.state.step < self.last_step:
            early = f", to end early after step {self.last_step}" if self.last_step < self.recipe.steps else ""
            _logger.info("resuming after step %d of %d%s", self.state.step, self.recipe.steps, early)

    def _save(self) -> None:
        self.monitor.flush_checks()  # weights that are not finite must not be saved
        state = self.state
        if state.step == self.saved_step:
            return
        content = {
            "description": zoo.describe_model(state.model),
            "model": state.model.state_dict(),
            "optimizer": state.optimizer.state_dict(),
            "average": None if state.average is None else state.average.state_dict(),
            "precision": self.fabric.strategy.precision.state_dict(),
            "evaluations": self.history.state_dict(),
        }
        self.checkpoints.kept_step = self.history.best_step
        self.processes.rank_zero(lambda: self.checkpoints.save(state.step, content) and None)
        self.saved_step = state.step

    def _last_checkpoint(self) -> str:
        steps = saved_steps(self.checkpoints.folder)
        if not steps:
            return "there is no checkpoint yet"
        return f"the last good checkpoint is that of step {steps[-1]}"

    @contextmanager
    def _batches(self) -> Iterator[Iterator[Batch]]:
        batches = training_batches(
            self.stream,
            batch_size=self.recipe.batch_size,
            first_step=self.state.step + 1,
            last_step=self.last_step,
            rank=self.fabric.global_rank,
            world_size=self.processes.count,
            parts=self.recipe.grad_accum_steps,
            workers=self.options.workers,
            pin_memory=self.fabric.device.type == "cuda",
        )
        with closing(cast(Generator[Batch], batches)):
            yield batches

    def _after_step(self, step: int) -> bool:
        is_drawn, is_evaluated = self._due(step)
        is_saved = step == self.last_step or step % self.options.checkpoint_every == 0
        is_saved |= is_evaluated and self.recipe.early_stopping.patience > 0  # it may be the best
        if is_saved or is_drawn or is_evaluated:
            self.monitor.flush_checks()  # weights that are not finite must not be saved, drawn or evaluated
        if is_saved:
            with self.reporter.paused("saving"):
                self._save()
        if is_drawn:
            self._draw()
        if is_evaluated:
            self._evaluate()
        if self.history.is_over and not is_drawn and self._due(step)[0]:
            self._draw()
        return self.history.is_over

    def _due(self, step: int) -> tuple[bool, bool]:
        """Return whether images and an evaluation are due after a step.

        The final evaluation has its own place. With early stopping, it is that of the best model; the last step is
        evaluated before, as the others.
        """
        options, recipe = self.options, self.recipe
        is_last = step == self.last_step
        is_drawn = options.image_every > 0 and (is_last or step % options.image_every == 0)
        is_evaluated = recipe.eval_every > 0 and step % recipe.eval_every == 0
        return is_drawn, is_evaluated or is_last if recipe.early_stopping.patience else is_evaluated and not is_last

    def _finish_step(self) -> None:
        """Do what a run that ended after its checkpoint did not get to."""
        step = self.state.step
        if step == 0:
            return
        is_drawn, is_evaluated = self._due(step)
        if is_drawn and not self.processes.rank_zero(lambda: self.folder.is_drawn(step)):
            self._draw()
        if is_evaluated and not self.processes.rank_zero(lambda: self.folder.evaluation(step)):
            self._evaluate()

    def _draw(self) -> None:
        if not self.is_first:
            return
        with self.reporter.paused("drawing"):
            self._draw_training_crop()
            sheets = draw_samples(self.state.best_model, self.val_set, device=self.fabric.device)
            if sheets:
                self.reporter.image(self.state.step, "val", contact_sheet(sheets))

    def _draw_training_crop(self) -> None:
        model, step = self.state.model, self.state.step
        if not model.takes_targets:
            return
        try:
            batch = collate([self.stream[(step - 1) * self.recipe.batch_size]])
        except BadSampleError:  # it could be read in the step
            return
        sheet = draw_training_crop(model, *to_device(batch, self.fabric.device))
        if sheet is not None:
            self.reporter.image(step, "train", sheet)

    def _evaluate(self) -> None:
        """Evaluate before the end of the training, which early stopping may decide to be now."""
        self.evaluation.during_training()
        step = self.state.step
        if self.history.is_over and step < self.last_step:
            self.last_step = step
            self.reporter.note(f"stopped early after step {step} of {self.recipe.steps}: {self.history.reason}")

    def _evaluate_result(self) -> EvaluationReport:
        """Evaluate the model of the run: the last one, or with early stopping the best one."""
        if self.recipe.early_stopping.patience:
            best = self.history.best_step
            if best is not None and best != self.state.step:
                content = self.processes.rank_zero(lambda: self.checkpoints.load_step(best))
                if content is not None:
                    self.model_step = best
                    self.state.load_weights(content)
            self.reporter.note(f"the model of this run is that of step {self.model_step}")
        return self.evaluation.of_result()

    def _report_skips(self) -> None:
        skips = self.monitor.all_skips()
        if skips:
            self.reporter.note(
                f"{skips.total()} samples skipped and replaced, from {len(skips)} of {len(self.train_set)} training "
                f"images: {list_skips(skips)}"
            )
        self.evaluation.report_skips()

    def _profile(self) -> None:
        """Log the profile, and compare with training on one batch in memory; all processes must call this."""
        if self.timer.images_per_second == 0:
            _logger.info(self.timer.report(self.options.workers))
            return
        share = per_process_batch(self.recipe.batch_size, self.processes.count, self.recipe.grad_accum_steps)
        batch = self.processes.sync_call(lambda: collate([self.stream[number] for number in range(share)]))
        possible = max_throughput(batch, self.fabric, self.state, self.recipe)
        _logger.info(self.timer.report(self.options.workers))
        _logger.info(compare_speeds(self.timer.images_per_second, possible))

    def _write(self, report: EvaluationReport) -> None:
        recipe, out = self.recipe, self.options.out
        scores = {"PQ": report.panoptic.all.pq, "PQ things": report.panoptic.things.pq}
        scores |= {"PQ stuff": report.panoptic.stuff.pq, "mIoU": report.semantic.mean_iou}
        if report.semantic_head is not None:
            scores["mIoU of the semantic head"] = report.semantic_head.mean_iou
        card = {"recipe": recipe.name, "steps": self.model_step, "seed": self.options.seed}
        card["val"] = {name: round(100 * score, 1) for name, score in scores.items() if not math.isnan(score)}
        start = self.options.init_from
        if start is not None:
            with suppress(PanscapeError):  # they may have been removed since
                card["initial weights"] = f"{start}, licence {zoo.read_card(start).get('licence', 'not stated')}"
        zoo.save(self.state.best_model, out / "model.safetensors", card)
        write_json(out / "evaluation.json", report.to_dict())
