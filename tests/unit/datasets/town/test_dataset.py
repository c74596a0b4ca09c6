"""The synthetic town: reproducibility, exact ground truth, objects of all sizes, export and reading back."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from processes import TORCH, Process
from scipy import ndimage

from panscape.datasets.base import PanopticDataset, Sample
from panscape.datasets.cityscapes import Cityscapes
from panscape.datasets.coco_panoptic import CocoPanoptic
from panscape.datasets.export import export_cityscapes, export_coco
from panscape.datasets.town import SMALLEST_AREA, Town, town
from panscape.errors import InvalidArgumentError


def fingerprint(sample: Sample) -> str:
    return hashlib.sha256(sample.image.numpy().tobytes() + sample.truth.ids.numpy().tobytes()).hexdigest()


def print_fingerprint() -> None:
    print(fingerprint(Town(10, (96, 160), "both", seed=3)[7]))


def test_a_sample_depends_on_seed_index_size_and_view_alone(tmp_path) -> None:
    one = Town(10, (96, 160), "both", seed=3)
    backwards = [fingerprint(one[i]) for i in reversed(range(10))][::-1]
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global generator must not matter
    again = Town(10, (96, 160), "both", seed=3)
    assert [fingerprint(again[i]) for i in range(10)] == backwards
    assert len(set(backwards)) == 10
    assert fingerprint(Town(10, (96, 160), "both", seed=4)[7]) != backwards[7]
    other = Process(tmp_path / "log", print_fingerprint, imported=TORCH)  # which orders sets in another way
    assert other.end() == 0, other.text
    assert other.text.strip() == backwards[7]


@pytest.mark.parametrize("view", ["street", "above"])
def test_every_category_occurs(view: str) -> None:
    dataset = Town(60, (256, 256), view)
    seen = {int(c) for i in range(40) for c in dataset[i].truth.category}
    missing = {dataset.labels[c].name for c in set(range(14)) - seen}
    # Looking straight down there is no sky, and people and animals are too small to be drawn, or nearly so.
    assert missing - {"person", "animal"} == ({"sky"} if view == "above" else set())
    assert view == "above" or not missing


@pytest.mark.parametrize("view", ["street", "above"])
@pytest.mark.parametrize("size", [(64, 64), (100, 333), (256, 128)])
def test_truth_is_dense_and_of_the_image_s_size(view: str, size: tuple[int, int]) -> None:
    for i in range(3):
        sample = Town(3, size, view)[i]
        assert sample.image.shape == (3, *size)
        assert sample.image.dtype == torch.uint8
        assert sample.truth.ids.shape == size
        present = np.unique(sample.truth.ids.numpy())
        assert set(range(1, sample.truth.num_segments + 1)) == set(present.tolist()) - {0}
        assert int(sample.truth.areas().min()) >= SMALLEST_AREA
        stuff = [c for c in sample.truth.category.tolist() if c < 6]
        assert len(stuff) == len(set(stuff))


def test_objects_span_from_16_to_more_than_300_pixels() -> None:
    dataset = Town(12, (512, 1024), "both")
    extents: list[float] = []
    for i in range(12):
        truth = dataset[i].truth
        boxes = truth.boxes()[truth.category >= 6]
        extents += (boxes[:, 2:] - boxes[:, :2]).amax(dim=1).tolist()
    counts, _ = np.histogram(extents, [0, 8, 16, 32, 64, 128, 256, 1100])
    # Every octave is there; what is smaller is hidden in part, and rare.
    assert (counts[2:] >= 5).all()
    assert counts[0] == 0
    assert counts[1] < 0.1 * len(extents)
    assert max(extents) > 300


def test_little_is_void_and_objects_are_mostly_whole() -> None:
    dataset = Town(24, (192, 256), "both", seed=1)
    void, objects, pieces = [], 0, 0
    for i in range(24):
        truth = dataset[i].truth
        void.append(float((truth.ids == 0).float().mean()))
        ids = truth.ids.numpy()
        for row in (truth.category >= 6).nonzero()[:, 0].tolist():
            components, _ = ndimage.label(ids == row + 1, np.ones((3, 3)))
            largest = np.bincount(components.ravel())[1:].max()
            objects += 1
            pieces += largest < 0.6 * (components > 0).sum()
    assert np.mean(void) < 0.02
    assert max(void) < 0.3
    # Occlusion cuts some objects apart, such as cars behind a tree.
    assert pieces < 0.12 * objects


def test_images_are_exposed_and_vary() -> None:
    dataset = Town(24, (96, 96), "both")
    means = torch.stack([dataset[i].image.float().mean(dim=(1, 2)) for i in range(24)])
    assert 60 < float(means.mean()) < 190
    assert float(means.std(dim=0).min()) > 10


def test_a_town_is_a_dataset_with_an_end() -> None:
    dataset = town("val", 2, (32, 48))
    assert isinstance(dataset, PanopticDataset)
    assert len(dataset) == 2
    assert fingerprint(dataset[-1]) == fingerprint(dataset[1])
    assert fingerprint(town("train", 2, (32, 48))[1]) != fingerprint(dataset[1])
    with pytest.raises(IndexError):
        dataset[2]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"view": "below"}, "expected view as one of street, above, both, got 'below'"),
        ({"size": (16, 64)}, "at least 32x32, got 16x64"),
        ({"seed": -1}, "at least 0, got 1000 and -1"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        Town(**arguments)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="train, val, test"):
        town("valid")


def test_exported_datasets_are_read_back(tmp_path) -> None:
    dataset, steps = Town(3, (64, 96), "both"), []
    json_path = export_coco(dataset, tmp_path / "coco", "val", lambda done, total: steps.append((done, total)))
    export_cityscapes(dataset, tmp_path / "cityscapes", "val")
    assert steps == [(1, 3), (2, 3), (3, 3)]
    coco = CocoPanoptic(json_path, json_path.with_suffix(""), tmp_path / "coco" / "val")
    assert coco.labels.categories == dataset.labels.categories
    cityscapes = Cityscapes(tmp_path / "cityscapes", "val", dataset.labels)
    for read in (coco, cityscapes):
        assert len(read) == 3
        for i in range(3):
            assert read[i].name == dataset[i].name
            assert torch.equal(read[i].image, dataset[i].image)
            assert read[i].truth.equals(dataset[i].truth)
