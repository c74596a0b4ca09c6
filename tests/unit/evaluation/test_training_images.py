"""Images of an evaluation that were in a training are recognised by their content."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from panscape.datasets.splits import ImageFile
from panscape.errors import InvalidArgumentError
from panscape.evaluation.training_images import record_training_images, seen_in_training


def dataset(*paths: Path) -> Any:
    return SimpleNamespace(image_files=[ImageFile(path.stem, path) for path in paths])


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_by_content_and_for_lost_files_by_name_and_size(tmp_path: Path) -> None:
    sky = b"\0" * 20_000  # equal in the middle, as uncompressed images may be
    train = [written(tmp_path / "train" / name, sky + name.encode()) for name in ("a.tif", "b.tif", "c.tif")]
    missing = tmp_path / "train/missing.tif"
    record_training_images(tmp_path, dataset(*train, missing))
    renamed = written(tmp_path / "val/1.tif", train[0].read_bytes())
    same_name = written(tmp_path / "val/b.tif", sky + b"x.tif")
    other = written(tmp_path / "val/d.tif", sky + b"d.tif, longer")
    asked = dataset(renamed, same_name, other, train[2], tmp_path / "val/none.tif")
    assert seen_in_training(tmp_path, asked) == [renamed, train[2]]
    train[1].unlink()
    assert seen_in_training(tmp_path, asked) == [renamed, same_name, train[2]]


def test_without_files_or_with_a_record_of_something_else(tmp_path: Path) -> None:
    record_training_images(tmp_path, object())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    one = written(tmp_path / "a.png", b"a")
    assert seen_in_training(tmp_path, dataset(one)) == []
    (tmp_path / "training_images.json").write_text('{"folder": "/", "images": [3]}')
    with pytest.raises(InvalidArgumentError, match=r"training_images\.json: expected the record of the training"):
        seen_in_training(tmp_path, dataset(one))
