"""The loss of a model on crops of the val images, for early stopping."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from collections.abc import Generator as BatchGenerator
from contextlib import closing
from dataclasses import dataclass
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Generator, Tensor

from panscape.datasets.base import PanopticDataset
from panscape.datasets.load import OnError
from panscape.geometry import Size
from panscape.models import PanopticModel
from panscape.models.base import in_eval_mode
from panscape.panoptic import PanopticMap
from panscape.training.config import Recipe
from panscape.training.data.loader import Batch, training_batches
from panscape.training.data.stream import SampleStream
from panscape.training.distributed import Distributed
from panscape.training.loop import to_device
from panscape.transforms import Compose, RandomCrop
from panscape.transforms.resize import resize

_SEED = 0  # whatever the seed of the run, so that runs can be compared


@dataclass(frozen=True)
class _InferenceResize:
    """Resizes an image to the size at which a model predicts it."""

    model: PanopticModel

    def new_size(self, size: Size, generator: Generator) -> Size:
        return self.model.inference_size(size)

    def __call__(self, image: Tensor, truth: PanopticMap, generator: Generator) -> tuple[Tensor, PanopticMap]:
        return resize(image, truth, self.new_size(truth.size, generator))


def validation_losses(
    model: PanopticModel,
    dataset: PanopticDataset,
    recipe: Recipe,
    fabric: Fabric,
    processes: Distributed,
    *,
    on_error: OnError,
    workers: int,
    progress: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Return the mean losses by name over crops of the val images, equal in all processes.

    One crop of each image, without augmentation, at the size at which the model predicts. Images, places and batches
    are the same at each call: whole batches of the recipe's batch size, the last one completed by further crops. With
    several processes each computes its share of each batch, as in training. The model is in eval mode, so that losses
    that exist in training only are missing.

    Args:
        model: on the device of the fabric.
        dataset: the val images.
        recipe: its crop, batch size, parts and ``eval_limit``.
        fabric: launched; defines device and precision.
        processes: the processes of the training, all of which must call this.
        on_error: handling of images that cannot be used, see :class:`SampleStream`.
        workers: data-loader processes.
        progress: called after each batch of this process.

    Raises:
        PanscapeError: an image cannot be used; in all processes.
    """
    num_images = min(len(dataset), recipe.eval_limit or len(dataset))
    num_batches = -(-num_images // recipe.batch_size)
    crops = SampleStream(
        dataset,
        Compose((_InferenceResize(model), RandomCrop(recipe.augmentation.crop))),
        model.encode,
        _SEED,
        record_cut_off=model.needs_cut_off,
        on_error=on_error,
    )
    batches = training_batches(
        crops,
        batch_size=recipe.batch_size,
        first_step=1,
        last_step=num_batches,
        rank=fabric.global_rank,
        world_size=processes.count,
        parts=recipe.grad_accum_steps,
        workers=workers,
        pin_memory=fabric.device.type == "cuda",
    )
    sums: Counter[str] = Counter()
    torch.manual_seed(_SEED)  # networks of two stages sample regions; each step of a training sets its own seed
    with closing(cast(BatchGenerator[Batch], batches)), in_eval_mode(model), torch.no_grad():
        for _ in range(num_batches * recipe.grad_accum_steps):
            images, targets = to_device(processes.sync_call(lambda: next(batches)), fabric.device)
            with fabric.autocast():
                outputs = model(images, targets) if model.takes_targets else model(images)
            outputs = fabric.strategy.precision.convert_output(outputs)
            sums.update({name: float(loss) for name, loss in model.loss(outputs, targets).items()})
            progress()
    gathered = sum(processes.all_gather(sums), Counter())
    count = num_batches * recipe.grad_accum_steps * processes.count
    return {name: gathered[name] / count for name in sums}
