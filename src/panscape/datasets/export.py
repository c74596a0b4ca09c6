"""Export any dataset in the layout of COCO panoptic or Cityscapes; reading it back gives the same maps."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from panscape.atomic_io import atomic_write
from panscape.datasets.base import PanopticDataset, Sample
from panscape.errors import InvalidArgumentError
from panscape.formats import CocoPanopticWriter, encode_cityscapes
from panscape.formats.coco_writer import path_inside
from panscape.formats.id_png import encode_id_png
from panscape.images import save_png


def export_coco(
    dataset: PanopticDataset,
    folder: str | os.PathLike[str],
    split: str = "train",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write ``split``/NAME.png, ``annotations/panoptic_SPLIT``/NAME.png and ``annotations/panoptic_SPLIT.json``.

    Each file is written completely or not at all, the JSON last: a dataset with a JSON is complete.

    Args:
        dataset: the dataset to write, with unique sample names.
        folder: the output folder; created if it does not exist.
        split: name of the split, part of the paths.
        progress: called after each sample with the number written and the total number.

    Returns:
        The path of the JSON; read it with :class:`panscape.datasets.coco_panoptic.CocoPanoptic`.

    Raises:
        InvalidArgumentError: two samples have the same name, or a name leaves the folder.
    """
    images, annotations = Path(folder) / split, Path(folder) / "annotations"
    images.mkdir(parents=True, exist_ok=True)
    json_path = annotations / f"panoptic_{split}.json"
    with CocoPanopticWriter(json_path, annotations / f"panoptic_{split}", dataset.labels) as writer:
        for sample in _unique_samples(dataset, progress):
            writer.write(sample.name, sample.truth, image=f"{sample.name}.png")  # first, as it checks the name
            path = images / f"{sample.name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            save_png(path, sample.image)
    return json_path


def export_cityscapes(
    dataset: PanopticDataset,
    folder: str | os.PathLike[str],
    split: str = "train",
    city: str = "town",
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write ``leftImg8bit`` and ``gtFine`` in the layout of Cityscapes, with the label space's own source ids.

    Each file is written completely or not at all, an image after its annotation. Folders in names become a part of the
    file names, ``a/b`` becomes ``a_b``, as the format has one folder for each city.

    Args:
        dataset: the dataset to write, with unique sample names.
        folder: the output folder; created if it does not exist.
        split: name of the split, part of the paths.
        city: the subfolder of the split.
        progress: called after each sample with the number written and the total number.

    Returns:
        ``folder``; read it with :class:`panscape.datasets.cityscapes.Cityscapes`, giving it ``dataset.labels``.

    Raises:
        InvalidArgumentError: two samples have the same name, a name leaves the folder, or an image has more than 1000
            objects of a category, which the format cannot represent.
    """
    root = Path(folder)
    images, annotations = root / "leftImg8bit" / split / city, root / "gtFine" / split / city
    for needed in (images, annotations):
        needed.mkdir(parents=True, exist_ok=True)
    written: dict[str, str] = {}
    for sample in _unique_samples(dataset, progress):
        name = "_".join(path_inside(sample.name).parts)
        if written.setdefault(name, sample.name) != sample.name:
            raise InvalidArgumentError(
                f"expected names that differ in more than folders, got {written[name]!r} and {sample.name!r}, which "
                f"both become {name!r}; export in COCO panoptic format"
            )
        with atomic_write(annotations / f"{name}_gtFine_instanceIds.png") as temporary:
            temporary.write_bytes(encode_id_png(encode_cityscapes(sample.truth, dataset.labels)))
        save_png(images / f"{name}_leftImg8bit.png", sample.image)
    return root


def _unique_samples(dataset: PanopticDataset, progress: Callable[[int, int], None] | None) -> Iterator[Sample]:
    """Return the samples in order; report each as written when the next one is requested."""
    seen: set[str] = set()
    for index in range(len(dataset)):
        sample = dataset[index]
        if sample.name in seen:
            raise InvalidArgumentError(
                f"expected unique sample names, got {sample.name!r} twice; its first file would be overwritten"
            )
        seen.add(sample.name)
        yield sample
        if progress is not None:
            progress(index + 1, len(dataset))
