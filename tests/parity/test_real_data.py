"""The readers against the raw numbers of real files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from panscape import LabelSpace
from panscape.datasets import Cityscapes, CocoPanoptic, aerial, camvid
from panscape.formats import (
    decode_cityscapes,
    decode_coco,
    encode_cityscapes,
    encode_coco,
    load_coco_png,
    load_label_image,
)

DATA = Path("../shared/data")

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not here"),
]


def raw(path):
    with Image.open(path) as image:
        return np.array(image)


class TestCityscapes:
    root = DATA / "cityscapes"
    files = sorted(root.glob("gtFine/*/*/*_instanceIds.png"))
    labels = LabelSpace.load("cityscapes")

    def test_all_files_are_here(self):
        assert len(self.files) == 14

    @pytest.mark.parametrize("path", files, ids=lambda p: p.name.removesuffix("_gtFine_instanceIds.png"))
    def test_categories_equal_the_label_ids(self, path):
        panoptic = decode_cityscapes(load_label_image(path), self.labels)
        label_ids = raw(path.with_name(path.name.replace("instanceIds", "labelIds")))
        table = np.full(256, 255)
        for category, c in enumerate(self.labels):
            table[c.source_id] = category
        assert np.array_equal(panoptic.semantic(void=255).numpy(), table[label_ids])

    @pytest.mark.parametrize("path", files[:6], ids=lambda p: p.name.removesuffix("_gtFine_instanceIds.png"))
    def test_objects_equal_the_instance_ids(self, path):
        values = raw(path)
        panoptic = decode_cityscapes(values, self.labels)
        things = {self.labels[c].source_id for c in self.labels.thing_ids}
        instances = [int(v) for v in np.unique(values) if v >= 1000 and v // 1000 in things]
        groups = [int(v) for v in np.unique(values) if int(v) in things]
        is_thing = [self.labels[c].is_thing for c in panoptic.category.tolist()]
        assert sum(is_thing) == len(instances) + len(groups)
        assert (0 if panoptic.crowd is None else int(panoptic.crowd.sum())) == len(groups)
        got = sorted(area for area, thing in zip(panoptic.areas().tolist(), is_thing, strict=True) if thing)
        assert got == sorted(int((values == v).sum()) for v in instances + groups)
        assert decode_cityscapes(encode_cityscapes(panoptic, self.labels), self.labels).equals(panoptic)

    def test_some_group_is_a_crowd(self):
        assert any(decode_cityscapes(load_label_image(p), self.labels).crowd is not None for p in self.files)

    def test_the_dataset(self):
        dataset = Cityscapes(self.root, "train")
        assert len(dataset) == 4
        for i in range(4):
            sample = dataset[i]
            path = self.root / f"leftImg8bit/train/aachen/{sample.name}_leftImg8bit.png"
            assert np.array_equal(sample.image.numpy(), raw(path).transpose(2, 0, 1))


class TestCoco:
    root = DATA / "coco_panoptic_sample"

    def test_areas_and_boxes_equal_the_published_ones(self):
        labels = LabelSpace.load("coco_panoptic")
        content = json.loads((self.root / "panoptic_examples.json").read_text())
        assert len(content["annotations"]) == 2
        for annotation in content["annotations"]:
            rgb = load_coco_png(self.root / "panoptic_examples" / annotation["file_name"])
            published = annotation["segments_info"]
            panoptic = decode_coco(rgb, published, labels)
            colours, ours = encode_coco(panoptic, labels)
            fields = ("category_id", "area", "bbox", "iscrowd")
            assert [{f: s[f] for f in fields} for s in ours] == [{f: s[f] for f in fields} for s in published]
            number = np.array([0, *(s["id"] for s in published)])
            assert np.array_equal(number[panoptic.ids.numpy()], rgb.astype(np.int64) @ [1, 256, 65536])
            assert decode_coco(colours, ours, labels).equals(panoptic)

    def test_the_dataset(self):
        paths = self.root / "panoptic_examples.json", self.root / "panoptic_examples", self.root / "images"
        dataset = CocoPanoptic(*paths)
        assert dataset.labels.categories == LabelSpace.load("coco_panoptic").categories
        assert [dataset[i].name for i in range(2)] == ["000000142238", "000000439180"]
        for i in range(2):
            assert np.array_equal(
                dataset[i].image.numpy(), raw(self.root / f"images/{dataset[i].name}.jpg").transpose(2, 0, 1)
            )


CATEGORY_MASKS = [
    pytest.param(camvid, "camvid", "train", 367, 11, 50, id="camvid-train"),
    pytest.param(camvid, "camvid", "val", 101, 11, 50, id="camvid-val"),
    pytest.param(aerial, "dubai_aerial", "train", None, 255, 100, id="aerial-train"),
    pytest.param(aerial, "dubai_aerial", "val", None, 255, 100, id="aerial-val"),
]


@pytest.mark.parametrize(("factory", "folder", "split", "length", "void", "min_area"), CATEGORY_MASKS)
def test_histograms_equal_those_of_the_masks(factory, folder, split, length, void, min_area):
    dataset = factory(DATA / folder, split)
    images = sorted((DATA / folder / "images" / split).iterdir())
    assert len(dataset) == (length or len(images))
    for i in range(0, len(dataset), max(1, len(dataset) // 6)):
        sample = dataset[i]
        assert sample.image.shape == (3, *sample.truth.size)
        numbers = raw(DATA / folder / "labels" / split / f"{sample.name}.png")
        got = np.bincount(sample.truth.semantic(void=255).flatten().numpy(), minlength=256)
        for category, c in enumerate(dataset.labels):
            mask = numbers == c.source_id
            num_objects = int((sample.truth.category == category).sum())
            if not c.is_thing:
                assert (got[category], num_objects) == (mask.sum(), int(mask.any()))
                continue
            parts, _ = ndimage.label(mask, np.ones((3, 3)))
            areas = np.bincount(parts.ravel())[1:]
            assert (got[category], num_objects) == (areas[areas >= min_area].sum(), (areas >= min_area).sum())
        assert got[255] >= (numbers == void).sum()


@pytest.mark.parametrize(("factory", "folder", "split", "length", "void", "min_area"), CATEGORY_MASKS)
def test_every_label_image_is_known(factory, folder, split, length, void, min_area):
    known = {c.source_id for c in factory(DATA / folder, split).labels} | {void}
    for path in sorted((DATA / folder / "labels" / split).iterdir()):
        assert set(np.flatnonzero(np.bincount(raw(path).ravel())).tolist()) <= known
