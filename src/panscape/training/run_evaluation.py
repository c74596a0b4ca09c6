"""The evaluations of a run on its val images."""

from __future__ import annotations

from lightning_fabric import Fabric
from torch import distributed

from panscape.datasets.base import PanopticDataset
from panscape.datasets.load import SkippedSample
from panscape.errors import BadSampleError
from panscape.evaluation.evaluate_model import evaluate
from panscape.evaluation.options import InferenceOptions
from panscape.metrics import EvaluationReport
from panscape.training.config import Recipe
from panscape.training.distributed import Distributed
from panscape.training.early_stopping import EvaluationHistory
from panscape.training.logging.reporter import Reporter
from panscape.training.loop import TrainingState
from panscape.training.monitor import TrainingMonitor
from panscape.training.run_options import RunOptions
from panscape.training.validation_loss import validation_losses


class RunEvaluation:
    """Evaluates the model of a run and reports the results; all processes call its methods together.

    Args:
        fabric: launched.
        processes: the processes of the training.
        recipe: the number of val images, and the metrics of early stopping.
        options: of the run.
        state: provides the model.
        val_set: the val images.
        history: receives the evaluations during the training.
        reporter: receives all evaluations.
        monitor: ends an evaluation on a stop request.
    """

    def __init__(
        self,
        fabric: Fabric,
        processes: Distributed,
        recipe: Recipe,
        options: RunOptions,
        state: TrainingState,
        val_set: PanopticDataset,
        history: EvaluationHistory,
        reporter: Reporter,
        monitor: TrainingMonitor,
    ) -> None:
        self.fabric, self.processes, self.recipe, self.options = fabric, processes, recipe, options
        self.state, self.val_set, self.history = state, val_set, history
        self.reporter, self.monitor = reporter, monitor
        self._skipped: dict[str, str] = {}

    def during_training(self) -> None:
        """Evaluate on ``eval_limit`` images, with the validation loss if early stopping uses it."""
        stopping, step = self.recipe.early_stopping, self.state.step
        with self.reporter.paused("evaluating"):
            report = self._evaluate(self.recipe.eval_limit)
            losses = self._losses() if stopping.patience and "loss" in stopping.metrics else None
        self.reporter.evaluation(step, report, losses)
        line = {"step": step, "val": report.to_dict()}
        self.history.add(line if losses is None else {**line, "val_losses": losses})

    def of_result(self) -> EvaluationReport:
        """Evaluate the model of the run on all images."""
        with self.reporter.paused("evaluating"):
            report = self._evaluate(0)
        self.reporter.evaluation(self.state.step, report, name=self.history.result_name)
        return report

    def report_skips(self) -> None:
        """Report the images that were skipped."""
        if self._skipped:
            self.reporter.note(
                f"skipped in the evaluation {len(self._skipped)} of {len(self.val_set)} images: "
                + ", ".join(sorted(self._skipped))
            )

    def _evaluate(self, limit: int) -> EvaluationReport:
        model, step = self.state.best_model, self.state.step
        if self.processes.count > 1 and not self.recipe.sync_batch_norm:
            for buffer in model.buffers():  # those of rank 0 are saved; synchronised norms already share them
                distributed.broadcast(buffer, 0)
        try:
            return evaluate(
                model,
                self.val_set,
                fabric=self.fabric,
                inference=InferenceOptions(limit, on_error=self.options.on_error),
                workers=min(1, self.options.workers),
                skipped=self._note_skipped,
                progress=lambda done, count: self.monitor.stop_evaluation_if_requested(step),
            )
        except BadSampleError as error:  # all processes raise it
            self.processes.fail(error)

    def _losses(self) -> dict[str, float]:
        step = self.state.step
        return validation_losses(
            self.state.best_model,
            self.val_set,
            self.recipe,
            self.fabric,
            self.processes,
            on_error=self.options.on_error,
            workers=min(1, self.options.workers),
            progress=lambda: self.monitor.stop_evaluation_if_requested(step),
        )

    def _note_skipped(self, skipped: SkippedSample) -> None:
        if skipped.image not in self._skipped:
            self._skipped[skipped.image] = skipped.reason
            self.reporter.note(f"skipped in the evaluation {skipped.image}: {skipped.reason}")
