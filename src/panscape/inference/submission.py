"""Predictions in the submission format of a benchmark server, ready to upload.

Sources: cityscapesScripts (``evalPanopticSemanticLabeling``, ``evalInstanceLevelSemanticLabeling``), whose evaluation
the server repeats; the COCO results format (https://cocodataset.org/#format-results) and the names of its upload page.
"""

from __future__ import annotations

import json
import secrets
import shutil
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from panscape.atomic_io import atomic_write
from panscape.datasets.splits import ImageFile
from panscape.errors import InvalidAnnotationError, InvalidArgumentError
from panscape.formats import encode_coco
from panscape.formats.id_png import encode_id_png
from panscape.labels import LabelSpace
from panscape.panoptic import PanopticMap


class Submission(ABC):
    """Writes the submission format of a benchmark; a context manager that creates the folder completely or not at all.

    Everything is written into a hidden folder beside it, which is renamed to the folder when the ``with`` block
    succeeds, and removed otherwise.

    Args:
        folder: must be absent or empty.
        split: split of the benchmark's data.
        labels: label space of the maps; :meth:`warnings` reports missing categories.
        method: name of the method, part of the file names for COCO.

    Attributes:
        archives: after the block, the ZIP files to upload.

    Raises:
        InvalidArgumentError: the folder is not empty, or a category is not in the benchmark.
    """

    benchmark: ClassVar[str]
    """Name of the benchmark, for messages."""

    label_space: ClassVar[str]
    """The bundled label space of the benchmark."""

    num_images: ClassVar[Mapping[str, int]]
    """Number of images in each split of the benchmark."""

    needs_scores: ClassVar[bool]
    """Whether maps need scores of their instances."""

    def __init__(self, folder: Path, split: str, labels: LabelSpace, method: str) -> None:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InvalidArgumentError(
                f"expected a new or empty folder for a submission, but {folder} exists and is not empty; give another "
                "--out, or remove it"
            )
        self.folder, self.split, self.labels, self.method = folder, split, labels, method
        self.archives: list[Path] = []
        self._missing = self._missing_categories()
        self._written: dict[str, list[Path]] = {}  # files of each archive
        self._target = folder.resolve()
        self._place = self._target.with_name(f".{self._target.name}.{secrets.token_hex(4)}")

    @abstractmethod
    def write(self, image: ImageFile, result: PanopticMap) -> None:
        """Write the map of one image.

        Raises:
            InvalidAnnotationError: its size differs from that in the benchmark's list of images.
        """

    @abstractmethod
    def _finish(self) -> None:
        """Write the files that describe all images."""

    def warnings(self, num_images: int) -> list[str]:
        """Return what the submission lacks for the benchmark, one sentence for each point.

        Args:
            num_images: number of predicted images.
        """
        found = []
        if self._missing:
            found.append(
                f"the model has no {', '.join(self._missing)}: it can predict {len(self.labels)} of the "
                f"{len(self.labels) + len(self._missing)} categories of {self.benchmark}"
            )
        expected = self.num_images.get(self.split)
        if expected not in (None, num_images):
            found.append(
                f"found {num_images} images, {self.benchmark} {self.split} has {expected}; a submission needs all"
            )
        return found

    def __enter__(self) -> Self:
        self._place.mkdir(parents=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
                for name, paths in self._written.items():
                    self._pack(self._place / name, paths)
                if self._target.is_dir():
                    self._target.rmdir()  # it is empty; not every system can replace a folder
                self._place.rename(self._target)
                self.archives = [self.folder / name for name in self._written]
        finally:
            shutil.rmtree(self._place, ignore_errors=True)

    def _pack(self, archive: Path, paths: list[Path]) -> None:
        """Add files to an archive, with paths relative to its top folder."""
        top = self._top(archive.name)
        with zipfile.ZipFile(archive, "w") as pack:
            for path in paths:
                # PNGs are compressed already.
                method = zipfile.ZIP_STORED if path.suffix == ".png" else zipfile.ZIP_DEFLATED
                pack.write(path, path.relative_to(top).as_posix(), compress_type=method)

    def _top(self, archive: str) -> Path:
        """Return the folder to which paths in the archive are relative."""
        return self._place

    def _add(self, archive: str, path: Path) -> Path:
        """Register a file for an archive, and create its folder."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._written.setdefault(archive, []).append(path)
        return path

    def _annotation(self, archive: str, folder: Path, name: str, image_id: int | str, result: PanopticMap) -> Any:
        """Write the PNG of a map in COCO panoptic format, and return its annotation."""
        rgb, segments = encode_coco(result, self.labels)
        with atomic_write(self._add(archive, folder / name)) as path:
            path.write_bytes(encode_id_png(rgb.numpy()))
        return {"image_id": image_id, "file_name": name, "segments_info": segments}

    def _missing_categories(self) -> list[str]:
        wanted = {category.source_id: category for category in LabelSpace.load(self.label_space)}
        for category in self.labels:
            other = wanted.pop(category.source_id, None)
            if other is None or (other.name, other.is_thing) != (category.name, category.is_thing):
                kind = "thing" if category.is_thing else "stuff"
                raise InvalidArgumentError(
                    f"expected a model for the categories of {self.benchmark}, got one for label space "
                    f"{self.labels.name!r}, whose {category.name!r} ({kind}, number {category.source_id}) "
                    f"is not in {self.benchmark}; give --model one that was trained for it"
                )
        return [category.name for category in wanted.values()]


class CityscapesSubmission(Submission):
    """Cityscapes: the panoptic and the instance-level semantic labelling tasks.

    ::

        panoptic/cityscapes_panoptic_SPLIT.json                     content of cityscapes_SPLIT_panoptic.zip
        panoptic/cityscapes_panoptic_SPLIT/NAME_pred_panoptic.png
        instance/NAME_pred.txt                                      content of cityscapes_SPLIT_instance.zip
        instance/masks/NAME_pred_NUMBER.png

    The JSON is in COCO panoptic format, with label ids as categories and NAME as ``image_id``. A text file has one line
    for each thing segment of the map: the relative path of its mask, the label id, and the confidence.
    """

    benchmark = "Cityscapes"
    label_space = "cityscapes"
    num_images: ClassVar[Mapping[str, int]] = {"train": 2975, "val": 500, "test": 1525, "train_extra": 19998}
    needs_scores = True

    def __init__(self, folder: Path, split: str, labels: LabelSpace, method: str) -> None:
        super().__init__(folder, split, labels, method)
        self._name = f"cityscapes_panoptic_{split}"
        self._archives = {part: f"cityscapes_{split}_{part}.zip" for part in ("panoptic", "instance")}
        self._annotations: list[Any] = []

    def write(self, image: ImageFile, result: PanopticMap) -> None:
        """See :meth:`Submission.write`.

        Raises:
            InvalidAnnotationError: as in :meth:`Submission.write`.
            InvalidArgumentError: the map has no scores.
        """
        _check_size(image, result)
        if result.score is None:
            raise InvalidArgumentError("expected a map with scores, which rank instances, got none")
        result = result.compact().to("cpu")
        scores = [] if result.score is None else result.score.tolist()
        panoptic, instance = self._archives["panoptic"], self._archives["instance"]
        place = self._place / "panoptic" / self._name
        name = f"{image.name}_pred_panoptic.png"
        self._annotations.append(self._annotation(panoptic, place, name, image.name, result))
        lines = []
        for row, (category, score) in enumerate(zip(result.category.tolist(), scores, strict=True)):
            if self.labels[category].is_thing:
                mask = f"masks/{image.name}_pred_{row:04d}.png"
                path = self._add(instance, self._place / "instance" / mask)
                path.write_bytes(encode_id_png(255 * (result.ids == row + 1).byte().numpy()))
                lines.append(f"{mask} {self.labels[category].source_id} {score!r}\n")
        text = self._add(instance, self._place / "instance" / f"{image.name}_pred.txt")
        text.write_text("".join(lines), encoding="utf-8")

    def _finish(self) -> None:
        path = self._add(self._archives["panoptic"], self._place / "panoptic" / f"{self._name}.json")
        path.write_text(json.dumps({"annotations": self._annotations}), encoding="utf-8")

    def _top(self, archive: str) -> Path:
        part = next(part for part, name in self._archives.items() if name == archive)
        return self._place / part


class CocoSubmission(Submission):
    """COCO: the panoptic task.

    ::

        panoptic_SPLIT2017_METHOD_results.json
        panoptic_SPLIT2017_METHOD_results/NAME.png
        panoptic_SPLIT2017_METHOD_results.zip       contains both
    """

    benchmark = "COCO"
    label_space = "coco_panoptic"
    num_images: ClassVar[Mapping[str, int]] = {"train": 118_287, "val": 5000, "test": 40_670, "test-dev": 20_288}
    needs_scores = False

    def __init__(self, folder: Path, split: str, labels: LabelSpace, method: str) -> None:
        super().__init__(folder, split, labels, method)
        self._name = f"panoptic_{split}2017_{method}_results"
        self._annotations: list[Any] = []

    def write(self, image: ImageFile, result: PanopticMap) -> None:
        """See :meth:`Submission.write`."""
        _check_size(image, result)
        image_id = image.name if image.image_id is None else image.image_id
        place, name = self._place / self._name, f"{image.name}.png"
        self._annotations.append(self._annotation(f"{self._name}.zip", place, name, image_id, result.compact()))

    def _finish(self) -> None:
        path = self._add(f"{self._name}.zip", self._place / f"{self._name}.json")
        path.write_text(json.dumps({"annotations": self._annotations}), encoding="utf-8")


SUBMISSIONS: Mapping[str, type[Submission]] = {kind.benchmark: kind for kind in (CityscapesSubmission, CocoSubmission)}
"""The benchmarks with a supported submission format, by name of their dataset."""


def _check_size(image: ImageFile, result: PanopticMap) -> None:
    if image.size not in (None, result.size):
        (height, width), size = result.size, image.size
        raise InvalidAnnotationError(
            f"{image.path}: expected {size.height}x{size.width} pixels, as in the benchmark's list of images, got "
            f"{height}x{width}; download the image again"
        )
