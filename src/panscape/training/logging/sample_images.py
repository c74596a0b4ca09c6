"""Sample images of a training: image, ground truth, prediction and network outputs on one sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from panscape.datasets.base import PanopticDataset
from panscape.datasets.load import load_sample
from panscape.errors import BadSampleError, InvalidArgumentError
from panscape.geometry import Size, size_with_longest_side
from panscape.images import resize_images, save_png
from panscape.labels import LabelSpace
from panscape.models import PanopticModel
from panscape.models.base import in_eval_mode
from panscape.models.prediction import run_network
from panscape.panoptic import PanopticMap
from panscape.visualize import PANEL_TITLES, draw_segments, make_grid

_NUM_SAMPLES = 3
_SHEET_ASPECT = 1.6  # width / height, as of most screens
_MIN_COLUMNS = 3  # image, ground truth and prediction stay in one row for comparison


def draw_samples(model: PanopticModel, dataset: PanopticDataset, *, device: torch.device) -> list[Tensor]:
    """Return sheets of :func:`draw_progress` for a few images, evenly spaced; unreadable ones are left out.

    Args:
        model: predicts the maps; in any mode.
        dataset: the images.
        device: of the model.
    """
    sheets = []
    count = min(_NUM_SAMPLES, len(dataset))
    for i in range(count):
        try:
            sample = load_sample(dataset, i * len(dataset) // count)
        except BadSampleError:  # the evaluation stops at it or lists it
            continue
        geometry = model.geometry(sample.truth.size)
        size = geometry.inference_size
        with in_eval_mode(model), torch.inference_mode():
            images, outputs = run_network(model, [sample.image], [geometry], device)
            prediction = model.decode(outputs, [size])[0].to("cpu")
            panels = model.visualize(outputs, size)
        small = images[0].mul(255).round().to("cpu", torch.uint8)
        sheets.append(draw_progress(small, sample.truth.resize(*size).compact(), prediction, panels, model.labels))
    return sheets


def draw_training_crop(model: PanopticModel, images: Tensor, targets: Any) -> Tensor | None:
    """Return a sheet of what training teaches on the first of some crops, or None if the model has nothing to show.

    The model, its modes and the random state stay unchanged.

    Args:
        model: in any mode.
        images: training crops, float [B, 3, H, W] in 0..1, on the model's device.
        targets: their stacked targets.
    """
    device = images.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []), in_eval_mode(model), torch.inference_mode():
        torch.manual_seed(0)  # the same regions are sampled if a resumed training draws the step again
        panels = model.visualize_training(images, targets)
    return make_grid(list(panels.values()), list(panels)) if panels else None


def draw_progress(
    image: Tensor,
    truth: PanopticMap,
    prediction: PanopticMap,
    panels: Mapping[str, Tensor],
    labels: LabelSpace,
    *,
    longest_side: int = 512,
) -> Tensor:
    """Put an image, its ground truth, its prediction and the network's outputs on one sheet.

    Args:
        image: uint8 [3, H, W].
        truth: the ground truth, of the same size.
        prediction: the predicted map, of the same size.
        panels: visualisations of the network's outputs, of the same size, by name.
        labels: the label space of the maps.
        longest_side: in pixels; larger images are downscaled, and much smaller ones upscaled by an integer factor,
            before lines and names are drawn, so that these stay sharp and hide little.

    Returns:
        uint8 [3, H', W'].

    Raises:
        InvalidArgumentError: image, maps and panels differ in size, or have another type or shape.
    """
    size = Size(*image.shape[-2:])
    sizes = {"truth": truth.size, "prediction": prediction.size}
    sizes |= {f"panel {name!r}": Size(*panel.shape[-2:]) for name, panel in panels.items()}
    for name, other in sizes.items():
        if other != size:
            raise InvalidArgumentError(
                f"expected all parts of the image's size {size.height}x{size.width}, "
                f"got the {name} of {other.height}x{other.width}"
            )
    shown = _shown_size(size, longest_side)
    truth, prediction = (part.resize(*shown).compact() for part in (truth, prediction))
    cells = {
        "image": _resized(image, shown),
        "truth": draw_segments(truth, labels, names="category"),
        "prediction": draw_segments(prediction, labels, names="category"),
    }
    cells |= {PANEL_TITLES.get(name, name): _resized(panel, shown) for name, panel in panels.items()}
    return make_grid(list(cells.values()), list(cells), columns=_columns(len(cells), shown))


def contact_sheet(sheets: Sequence[Tensor]) -> Tensor:
    """Stack the sheets of several samples vertically.

    Args:
        sheets: uint8 [3, H, W] each.

    Raises:
        InvalidArgumentError: ``sheets`` is empty.
    """
    return make_grid(sheets, columns=1)


def save_progress(folder: Path, step: int, name: str, image: Tensor) -> Path:
    """Write an image as ``folder/images/step_00001200_NAME.png`` and return its path.

    Args:
        folder: the run directory; must exist.
        step: step of the training.
        name: distinguishes images of one step.
        image: uint8 [3, H, W].

    Raises:
        OSError: the file cannot be written.
    """
    path = folder / "images" / f"step_{step:08d}_{name}.png"
    path.parent.mkdir(exist_ok=True)
    save_png(path, image)
    return path


def _shown_size(size: Size, longest_side: int) -> Size:
    if max(size) > longest_side:
        return size_with_longest_side(size, longest_side)
    factor = longest_side // max(size)
    return Size(size.height * factor, size.width * factor)


def _resized(image: Tensor, size: Size) -> Tensor:
    image = image.cpu()
    factor = size.width // image.shape[2]
    if factor >= 1 and size.height >= image.shape[1]:
        return image.repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    return (resize_images(image[None].float() / 255, size)[0] * 255).round().to(torch.uint8)


def _columns(num_cells: int, cell: Size) -> int:
    """Return the number of columns for a sheet whose aspect ratio fits a screen."""

    def misfit(columns: int) -> float:
        rows = math.ceil(num_cells / columns)
        aspect = columns * cell.width / (rows * cell.height)
        return abs(math.log(aspect / _SHEET_ASPECT))

    fewest = min(num_cells, _MIN_COLUMNS)
    candidates = {fewest, *(math.ceil(num_cells / rows) for rows in range(1, num_cells + 1))}
    return min(sorted(c for c in candidates if c >= fewest), key=misfit)
