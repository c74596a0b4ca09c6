"""The image files of a benchmark, and their batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path

from panscape.datasets.town import town
from panscape.geometry import Size
from panscape.images import load_image, resize_images, save_jpeg
from panscape.inference.sources import images_in

SCENE_SIZE = Size(512, 1024)


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Image files.

    Attributes:
        paths: of the files.
        sizes: height and width of each image.
        origin: where they come from.
    """

    paths: Sequence[Path]
    sizes: Sequence[Size]
    origin: str

    @property
    def size(self) -> str:
        """The size of all images, such as "512x1024"; the number of sizes if they differ."""
        different = dict.fromkeys(self.sizes)
        return f"{len(different)} sizes" if len(different) > 1 else "x".join(map(str, next(iter(different))))

    def batches(self, batch_size: int) -> list[tuple[Path, ...]]:
        """Return batches of images of one size, in which every image occurs; the last of each size is filled up."""
        groups: dict[Size, list[Path]] = {}
        for path, size in zip(self.paths, self.sizes, strict=True):
            groups.setdefault(size, []).append(path)
        found = []
        for group in groups.values():
            count = -(-len(group) // batch_size)
            filled = list(islice(cycle(group), count * batch_size))
            found += [tuple(filled[i : i + batch_size]) for i in range(0, len(filled), batch_size)]
        return found


def image_set(folder: Path | None, limit: int, size: tuple[int, int] | None, into: Path) -> ImageSet:
    """Return images of a folder or synthetic scenes.

    Args:
        folder: of the images; None for synthetic scenes.
        limit: number of images; of a folder, evenly spread.
        size: height and width of the scenes, or to which images are resized; None for :data:`SCENE_SIZE`, or their own.
        into: folder for scenes and resized images.

    Raises:
        InvalidArgumentError: the folder has no image.
        UnreadableFileError: an image cannot be read, or there is no such folder.
    """
    if folder is None:
        scenes = town("val", limit, size or SCENE_SIZE, "street")
        images = (scenes[number].image for number in range(limit))
        origin = f"{limit} synthetic scenes"
    else:
        files = images_in(folder, limit)
        origin = f"{len(files)} images of {folder}"
        if size is None:
            return ImageSet(files, [Size(*load_image(path).shape[1:]) for path in files], origin)
        images = ((resize_images(load_image(path)[None].float() / 255, size)[0] * 255).byte() for path in files)
        origin += ", resized"
    into.mkdir(parents=True, exist_ok=True)
    paths, sizes = [], []
    for number, image in enumerate(images):
        paths.append(into / f"{number:04}.jpg")
        sizes.append(Size(*image.shape[1:]))
        save_jpeg(paths[-1], image)
    return ImageSet(paths, sizes, f"{origin}, JPEG")
