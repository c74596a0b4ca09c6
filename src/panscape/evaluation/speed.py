"""Inference speed of a model on the images of a dataset, as in papers: batch size 1, without image loading."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch

from panscape.datasets.base import PanopticDataset
from panscape.datasets.load import load_sample
from panscape.errors import BadSampleError, InvalidArgumentError
from panscape.evaluation.evaluate_model import autocast_of
from panscape.metrics.tables import format_table
from panscape.models.base import PanopticModel, in_eval_mode
from panscape.models.prediction import NETWORK, POST_PROCESS, PREPROCESS, predict_timed
from panscape.precision import Precision, require_precision
from panscape.spread import evenly_spread
from panscape.stopwatch import Stopwatch


@dataclass(frozen=True, slots=True)
class SpeedReport:
    """Inference times with batch size 1; ``str()`` returns a table.

    Attributes:
        network: seconds for each image from pixels on the device to outputs.
        post_processing: seconds for each image from outputs to the map, on the device.
        device: its type, such as "cpu" or "cuda".
        device_name: its name; empty if unknown.
        precision: numeric precision of the forward pass.
        threads: number of CPU threads if the device is the CPU; else 0.
    """

    network: tuple[float, ...]
    post_processing: tuple[float, ...]
    device: str
    device_name: str
    precision: str
    threads: int

    def __str__(self) -> str:
        return self.table()

    @property
    def total(self) -> tuple[float, ...]:
        """Seconds for each image from pixels on the device to the map."""
        return tuple(a + b for a, b in zip(self.network, self.post_processing, strict=True))

    @property
    def conditions(self) -> str:
        """Description of the measurement conditions."""
        name = f" ({self.device_name})" if self.device_name else ""
        threads = f", {self.threads} thread{'' if self.threads == 1 else 's'}" if self.threads else ""
        return f"{self.device}{name}{threads}, {self.precision}, batch of 1, {len(self.network)} images"

    def table(self) -> str:
        """Return a table with images per second and the median milliseconds per image."""
        rows = [[f"speed on {self.conditions}", "images/s", "median ms"]]
        for title, seconds in self._parts().items():
            rows.append([title, f"{_per_second(seconds):.1f}", f"{1000 * statistics.median(seconds):.1f}"])
        return format_table(rows)

    def to_dict(self) -> dict[str, Any]:
        """Return plain dicts for JSON."""
        parts = {
            title.replace("-", "_"): {
                "images_per_second": _per_second(seconds),
                "median_ms": 1000 * statistics.median(seconds),
            }
            for title, seconds in self._parts().items()
        }
        return {
            "images_per_second": parts["both"]["images_per_second"],
            **parts,
            "images": len(self.network),
            "batch_size": 1,
            "device": self.device,
            "device_name": self.device_name,
            "precision": self.precision,
            "threads": self.threads,
            "conditions": self.conditions,
        }

    def _parts(self) -> dict[str, tuple[float, ...]]:
        return {"network": self.network, "post-processing": self.post_processing, "both": self.total}


def _per_second(seconds: tuple[float, ...]) -> float:
    return len(seconds) / sum(seconds)


def measure_speed(
    model: PanopticModel,
    dataset: PanopticDataset,
    *,
    precision: Precision = "fp32",
    limit: int = 0,
    progress: Callable[[int, int], None] | None = None,
    clock: Callable[[], float] = perf_counter,
) -> SpeedReport:
    """Measure the inference time of each image of a dataset, with batch size 1.

    Each image is predicted twice, and only the second run counts. This excludes warm-up and compilation for a size.
    Timing starts with the pixels on the device as integers, so resizing and padding belong to the network. It stops
    when the outputs, and then the map, are computed; devices are synchronized. Loading and transfer of images, transfer
    of maps and the comparison with the ground truth are excluded.

    Args:
        model: on the device to use.
        dataset: of any label space; images that cannot be used are skipped.
        precision: numeric precision of the forward pass, as for :func:`panscape.evaluation.evaluate_model.evaluate`.
        limit: maximum number of images, spread evenly over the dataset; 0 for all.
        progress: called after each image with the number done and the number of all.
        clock: returns seconds.

    Raises:
        InvalidArgumentError: there is no image, or the limit is below 0.
        BadSampleError: no image can be used.
    """
    if len(dataset) == 0 or limit < 0:
        raise InvalidArgumentError(
            f"expected at least one image and a limit of 0 or more, got {len(dataset)} images and limit={limit}"
        )
    device = model.mean.device
    require_precision(precision, device)
    network: list[float] = []
    post_processing: list[float] = []
    numbers, first_error = evenly_spread(len(dataset), limit), None
    with in_eval_mode(model), torch.inference_mode():
        for done, number in enumerate(numbers, start=1):
            try:
                image = load_sample(dataset, number).image.to(device)
            except BadSampleError as error:
                first_error = first_error or error
            else:
                _timed(model, image, precision, clock)
                forward, decode = _timed(model, image, precision, clock)
                network.append(forward)
                post_processing.append(decode)
            if progress is not None:
                progress(done, len(numbers))
    if not network and first_error is not None:
        raise first_error
    threads = torch.get_num_threads() if device.type == "cpu" else 0
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return SpeedReport(tuple(network), tuple(post_processing), device.type, name, precision, threads)


def _timed(
    model: PanopticModel, image: torch.Tensor, precision: Precision, clock: Callable[[], float]
) -> tuple[float, float]:
    """Return the seconds of network and post-processing for one image, uint8 [3, H, W] on the device."""
    geometry = model.geometry((image.shape[1], image.shape[2]))
    watch = Stopwatch(image.device, clock)
    autocast = autocast_of(model, None, precision)
    predict_timed(model, [image], [geometry], image.device, watch, precision=autocast)
    return watch.elapsed[PREPROCESS] + watch.elapsed[NETWORK], watch.elapsed[POST_PROCESS]
