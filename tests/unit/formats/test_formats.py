from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map
from PIL import Image
from pycocotools import mask as coco_masks

from panscape import Category, LabelSpace, PanopticMap
from panscape.errors import InvalidAnnotationError, InvalidArgumentError, InvalidLabelSpaceError, UnreadableFileError
from panscape.formats import (
    CocoPanopticWriter,
    coco_categories,
    decode_cityscapes,
    decode_coco,
    encode_cityscapes,
    encode_coco,
    labels_from_coco,
    load_coco,
    load_coco_png,
    load_label_image,
    parse_coco_segments,
    save_coco,
)
from panscape.formats.issues import IssueKind

CITY = LabelSpace.load("cityscapes")


def colours(ids):
    """COCO's colours of ids, by the definition of the format."""
    ids = np.asarray(ids, dtype=np.int64)
    return np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)


def described(*ids, category_id=24, **more):
    return [{"id": i, "category_id": category_id, **more} for i in ids]


class TestEncodeCoco:
    def test_ids_are_written_in_base_256(self):
        ids = torch.tensor([[0, 1, 255, 256], [65535, 65536, 65537, 70000]], dtype=torch.int32)
        rgb, segments = encode_coco(PanopticMap(ids, torch.zeros(70000, dtype=torch.int64)))
        assert rgb.dtype == torch.uint8
        assert rgb.is_contiguous()
        assert np.array_equal(rgb.numpy(), colours(ids.numpy()))
        assert [s["id"] for s in segments] == [1, 255, 256, 65535, 65536, 65537, 70000]

    def test_area_and_box_equal_those_of_pycocotools(self):
        panoptic = generated_map(3, size=(61, 83), objects=12, crowd=True).compact()
        rgb, segments = encode_coco(panoptic, SHAPES)
        for segment, mask in zip(segments, panoptic.masks(), strict=True):
            encoded = coco_masks.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
            assert segment["area"] == coco_masks.area(encoded)
            assert segment["bbox"] == coco_masks.toBbox(encoded).tolist()
            assert np.array_equal((rgb.numpy() == colours(segment["id"])).all(-1), mask.numpy())
        json.dumps(segments)

    def test_categories_crowds_and_scores_are_described(self):
        panoptic = a_map("AAB\nA.C", {"A": 1, "B": 2, "C": 3}, crowd="C")
        panoptic = PanopticMap(panoptic.ids, panoptic.category, torch.tensor([0.5, 0.25, 1.0]), panoptic.crowd)
        _, segments = encode_coco(panoptic, SHAPES)
        assert segments == [
            {"id": 1, "category_id": 7, "area": 3, "bbox": [0, 0, 2, 2], "iscrowd": 0, "score": 0.5},
            {"id": 2, "category_id": 24, "area": 1, "bbox": [2, 0, 1, 1], "iscrowd": 0, "score": 0.25},
            {"id": 3, "category_id": 26, "area": 1, "bbox": [2, 1, 1, 1], "iscrowd": 1, "score": 1.0},
        ]
        assert [s["category_id"] for s in encode_coco(panoptic)[1]] == [1, 2, 3]
        assert panoptic.to_coco(SHAPES)[1] == segments

    def test_segments_without_pixels_are_left_out(self):
        panoptic = PanopticMap(torch.tensor([[0, 2]], dtype=torch.int32), torch.tensor([0, 1, 2]))
        assert [s["id"] for s in encode_coco(panoptic)[1]] == [2]

    def test_a_foreign_category_names_the_label_space(self):
        with pytest.raises(InvalidArgumentError, match=r"categories 0\.\.3 of label space 'shapes', got 4; use the"):
            encode_coco(a_map("A", {"A": 4}), SHAPES)


class TestDecodeCoco:
    def test_any_ids_become_dense(self):
        ids = [[0, 3937500], [256**3 - 1, 1]]
        panoptic = decode_coco(colours(ids), described(1, 3937500, 256**3 - 1), SHAPES)
        assert panoptic.ids.tolist() == [[0, 2], [3, 1]]
        assert panoptic.category.tolist() == [2, 2, 2]
        assert panoptic.crowd is None
        assert panoptic.score is None

    def test_arrays_and_tensors_read_alike(self):
        rgb = colours([[5, 0]])
        assert decode_coco(torch.from_numpy(rgb), described(5), SHAPES).equals(decode_coco(rgb, described(5), SHAPES))

    def test_crowds_and_scores_are_read(self):
        segments = [*described(5, iscrowd=1, score=0.5), *described(6, iscrowd=0, score=1)]
        panoptic = decode_coco(colours([[5, 6]]), segments, SHAPES)
        assert panoptic.crowd.tolist() == [True, False]
        assert panoptic.score.tolist() == [0.5, 1.0]

    def test_a_description_without_pixels_is_allowed(self):
        panoptic = decode_coco(colours([[5, 5]]), described(7, 5), SHAPES)
        assert panoptic.num_segments == 2
        assert panoptic.areas().tolist() == [0, 2]

    def test_without_labels_the_category_is_the_position(self):
        assert decode_coco(colours([[5]]), described(5, category_id=9)).category.tolist() == [9]

    @pytest.mark.parametrize(
        ("ids", "segments", "message"),
        [
            ([[1, 2]], described(1), r"description of every id in the PNG, but segments_info lacks 2; describe"),
            ([[1, 2, 3, 4, 5, 6, 7]], [], r"segments_info lacks 1, 2, 3, 4, 5 and 2 more"),
            ([[1]], described(1, 1), r"one description of each id, got several for 1"),
            ([[1]], described(0, 1), r"'id' in 1\.\.16777215 \(0 is void\) .* got 'id' 0 in \{'id': 0"),
            ([[1]], described(1, 256**3), r"got 'id' 16777216 in"),
            ([[1]], described(1, category_id=3), r"label space 'shapes' \(7, 11, 24, 26\), got 3 \(id 1\)"),
            ([[1]], [{"id": 1}], r"got no 'category_id' in \{'id': 1\}"),
            ([[1]], [{"id": "1", "category_id": 7}], r"integers 'id' .* got 'id' '1' in \{'id': '1'"),
            (
                [[1, 2]],
                [*described(1, score=0.5), *described(2)],
                r"score in 0\.\.1 for every segment or for none, .* got None",
            ),
        ],
    )
    def test_contradictions_say_what_was_expected_and_came(self, ids, segments, message):
        with pytest.raises(InvalidAnnotationError, match=message):
            decode_coco(colours(ids), segments, SHAPES)

    def test_valid_segments_are_kept_beside_invalid_ones(self):
        good = {"id": 5, "category_id": 24, "iscrowd": 1, "area": 7.0, "score": 0.5}
        read = parse_coco_segments([good, {"id": 6, "category_id": 1}, {"id": 0, "category_id": 7}, 3], SHAPES)
        assert [tuple(s) for s in read.segments] == [(5, 2, 0.5, True, 7)]
        assert read.ambiguous == {0, 6}
        assert read.issues.keys() == {IssueKind.CATEGORY, IssueKind.SHAPE, IssueKind.SCORE}

    @pytest.mark.parametrize("pixels", [np.zeros((2, 2), np.uint8), np.zeros((2, 2, 4), np.uint8), np.zeros((2, 2, 3))])
    def test_wrong_arrays_are_refused(self, pixels):
        with pytest.raises(InvalidArgumentError, match=r"uint8 \[H, W, 3\], got .*; read the PNG with"):
            decode_coco(pixels, [], SHAPES)


class TestLabelsOfCoco:
    def test_round_trip(self):
        assert labels_from_coco("shapes", coco_categories(SHAPES)) == SHAPES

    def test_missing_colours_are_chosen_apart(self):
        categories = [{"id": i, "name": str(i), "isthing": 1} for i in range(133)]
        chosen = [c.color for c in labels_from_coco("x", categories)]
        assert len(set(chosen)) == 133
        assert min(min(c) for c in chosen) >= 32

    def test_errors(self):
        with pytest.raises(InvalidAnnotationError, match=r"'isthing' .* 1 for countable .* missing in \{'id': 1, "):
            labels_from_coco("x", [{"id": 1, "name": "a"}])
        twice = {"id": 1, "name": "a", "isthing": 1}
        with pytest.raises(InvalidLabelSpaceError, match="own name, given twice: a"):
            labels_from_coco("x", [twice, twice])

    @pytest.mark.parametrize("color", [[1, 2], [0, 0, 256], "red", ["1", "2", "3"], 7])
    def test_an_unusable_color_is_generated(self, color):
        fields = {"id": 1, "name": "a", "isthing": 1}
        assert labels_from_coco("x", [{**fields, "color": color}]) == labels_from_coco("x", [fields])


@pytest.mark.parametrize("score", [5.0, -0.1, float("nan")])
def test_scores_out_of_range_name_the_segment(score):
    with pytest.raises(InvalidAnnotationError, match=r"expected a score in 0\.\.1 for every .*, got"):
        decode_coco(colours([[1]]), described(1, score=score), SHAPES)


class TestCocoFiles:
    def test_a_saved_map_is_read_back(self, tmp_path):
        panoptic = generated_map(1, crowd=True)
        panoptic.save(tmp_path / "000042.png", SHAPES)
        assert load_coco(tmp_path / "000042.png", SHAPES).equals(panoptic)
        content = json.loads((tmp_path / "000042.json").read_text())
        assert content["images"] == [{"id": 42, "file_name": "000042.png", "height": 96, "width": 128}]
        assert labels_from_coco("shapes", content["categories"]) == SHAPES
        assert sorted(p.name for p in tmp_path.iterdir()) == ["000042.json", "000042.png"]
        with Image.open(tmp_path / "000042.png") as image:
            assert image.mode == "RGB"

    def test_a_map_of_a_dataset_is_described_by_the_json_of_its_folder(self, tmp_path):
        maps = {name: generated_map(seed) for seed, name in enumerate(("a", "b"))}
        with CocoPanopticWriter(tmp_path / "v1.2.json", tmp_path / "v1.2", SHAPES) as writer:
            for name, panoptic in maps.items():
                writer.write(name, panoptic)
        for name, panoptic in maps.items():
            loaded = load_coco(tmp_path / f"v1.2/{name}.png")
            assert (loaded.equals(panoptic), loaded.labels) == (True, SHAPES)
        for name, message in {
            "v1.2.json": r"v1\.2\.json: expected the PNG of a map, got its description; give the PNG",
            "gone.png": r"gone\.png: no such file",
            "v1.2": "expected a file, got a folder",
        }.items():
            with pytest.raises(UnreadableFileError, match=message):
                load_coco(tmp_path / name)

    def test_a_pair_is_replaced_whole_or_not_at_all(self, tmp_path, monkeypatch):
        path = tmp_path / "a.png"
        old = generated_map(1)
        save_coco(old, path)

        def fails(self, data):
            self.write_text("half")
            raise OSError("disk full")

        monkeypatch.setattr(Path, "write_bytes", fails)
        with pytest.raises(OSError, match="disk full"):
            save_coco(generated_map(2), path)
        assert load_coco(path).equals(old)
        assert len(list(tmp_path.iterdir())) == 2

    def test_a_missing_folder_is_named_with_the_png(self, tmp_path):
        with pytest.raises(InvalidArgumentError, match=r"cannot write .*x\.png: the folder .*nofolder does not exist"):
            save_coco(generated_map(0), tmp_path / "nofolder" / "x.png")

    def test_a_path_of_a_lossy_format_is_refused(self, tmp_path):
        with pytest.raises(InvalidArgumentError, match=r"ends in \.png"):
            save_coco(generated_map(0), tmp_path / "a.jpg")

    def test_palette_pngs_are_read_and_grey_ones_refused(self, tmp_path):
        image = Image.fromarray(np.array([[0, 1]], np.uint8))
        image.putpalette([0, 0, 0, 5, 1, 0])
        image.save(tmp_path / "palette.png")
        assert load_coco_png(tmp_path / "palette.png").tolist() == [[[0, 0, 0], [5, 1, 0]]]
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "grey.png")
        with pytest.raises(
            UnreadableFileError, match=r"grey\.png: expected a PNG of three channels.*got mode L; write"
        ):
            load_coco_png(tmp_path / "grey.png")

    def test_bad_json_raises_an_error_with_the_expected_type(self, tmp_path):
        save_coco(generated_map(0), tmp_path / "a.png")
        path = tmp_path / "a.json"
        path.unlink()
        with pytest.raises(UnreadableFileError, match=r"a\.png: .*description in a\.json"):
            load_coco(tmp_path / "a.png")
        path.write_text("{")
        with pytest.raises(UnreadableFileError, match=r"a\.json: expected JSON, but"):
            load_coco(tmp_path / "a.png")
        for text in ("[]", "{}", '{"annotations": [{"image_id": 1, "bbox": []}]}', '{"annotations": [1]}'):
            path.write_text(text)
            with pytest.raises(
                InvalidAnnotationError, match=r"a\.json: expected COCO panoptic JSON, 'annotations' with"
            ):
                load_coco(tmp_path / "a.png")

    def test_a_renamed_png_is_not_described(self, tmp_path):
        save_coco(generated_map(0), tmp_path / "a.png")
        (tmp_path / "a.png").rename(tmp_path / "b.png")
        (tmp_path / "a.json").rename(tmp_path / "b.json")
        with pytest.raises(
            InvalidAnnotationError, match=r"b\.json: expected the description of b\.png, got 1 others; keep"
        ):
            load_coco(tmp_path / "b.png")


class TestCocoPanopticWriter:
    def test_without_a_name_of_the_image_the_png_is_noted(self, tmp_path):
        with CocoPanopticWriter(tmp_path / "set.json", tmp_path / "set", SHAPES) as writer:
            writer.write("7", generated_map(1))
        assert [i["file_name"] for i in json.loads(writer.json_path.read_text())["images"]] == ["7.png"]

    def test_a_set_is_a_folder_and_a_json(self, tmp_path):
        maps = {"7": generated_map(1), "aachen_1": generated_map(2)}
        with CocoPanopticWriter(tmp_path / "out" / "set.json", tmp_path / "out" / "set", SHAPES) as writer:
            for name, panoptic in maps.items():
                path = writer.write(name, panoptic, image=f"{name}.tif")
                assert path == tmp_path / "out" / "set" / f"{name}.png"
                assert not writer.json_path.exists(), "a set with a JSON is complete"
        content = json.loads(writer.json_path.read_text())
        assert [i["id"] for i in content["images"]] == [7, "aachen_1"]
        assert [i["file_name"] for i in content["images"]] == ["7.tif", "aachen_1.tif"]
        for annotation, panoptic in zip(content["annotations"], maps.values(), strict=True):
            rgb = load_coco_png(writer.folder / annotation["file_name"])
            assert decode_coco(rgb, annotation["segments_info"], SHAPES).equals(panoptic)

    def test_an_error_leaves_no_json(self, tmp_path):
        writer = CocoPanopticWriter(tmp_path / "set.json", tmp_path / "set", SHAPES)
        writer.write("a", generated_map(0))
        with pytest.raises(InvalidArgumentError), writer:
            writer.write("a", generated_map(0))
        assert [p.name for p in tmp_path.iterdir()] == ["set"]

    def test_names_are_checked(self, tmp_path):
        with CocoPanopticWriter(tmp_path / "set.json", tmp_path / "set", SHAPES) as writer:
            writer.write("a", generated_map(0))
            with pytest.raises(InvalidArgumentError, match="unique name for each image, got 'a' twice"):
                writer.write("a", generated_map(0))
            with pytest.raises(InvalidArgumentError, match=r"inside the folder to write, got '\.\./b'"):
                writer.write("../b", generated_map(0))


class TestCityscapes:
    def test_the_rules_of_the_format(self):
        values = np.array(
            [
                [7, 7, 26, 26],  # road; a group of cars
                [26000, 26001, 24000, 24000],  # two cars, a person
                [0, 4, 29001, 1],  # unlabeled, static, a caravan, ego vehicle: in none of the 19 categories
            ],
            np.uint16,
        )
        panoptic = decode_cityscapes(values, CITY)
        assert panoptic.ids.tolist() == [[1, 1, 2, 2], [4, 5, 3, 3], [0, 0, 0, 0]]
        assert [CITY[c].name for c in panoptic.category] == ["road", "car", "person", "car", "car"]
        assert panoptic.crowd.tolist() == [False, True, False, False, False]
        assert panoptic.score is None

    def test_negative_values_are_void(self):
        assert decode_cityscapes(np.array([[-1, 7]], np.int32), CITY).ids.tolist() == [[0, 1]]
        assert decode_cityscapes(torch.tensor([[-1, 7]]), CITY).ids.tolist() == [[0, 1]]

    def test_stuff_with_counts_is_one_segment(self):
        cars_are_stuff = LabelSpace("x", (Category("car", False, 26, (0, 0, 142)),))
        panoptic = decode_cityscapes(np.array([[26, 26000, 26001]], np.uint16), cars_are_stuff)
        assert panoptic.ids.tolist() == [[1, 1, 1]]
        assert panoptic.crowd is None

    def test_encoding_counts_from_zero_within_a_category(self):
        names = {"A": "road", "B": "car", "C": "car", "D": "person", "E": "car", "F": "road"}
        panoptic = a_map("ABC\nDEF\n..A", {k: CITY.index(v) for k, v in names.items()}, crowd="E")
        encoded = encode_cityscapes(panoptic, CITY)
        assert encoded.dtype == np.uint16
        assert encoded.tolist() == [[7, 26000, 26001], [24000, 26, 7], [0, 0, 7]]

    def test_maps_that_the_format_cannot_hold(self):
        many = PanopticMap(torch.arange(1, 1002, dtype=torch.int32)[None], torch.full((1001,), CITY.index("car")))
        with pytest.raises(
            InvalidArgumentError, match="at most 1000 objects of a category, got more of 'car'; use COCO"
        ):
            encode_cityscapes(many, CITY)
        for source, is_thing in ((0, False), (1000, False), (70, True)):
            labels = LabelSpace("x", (Category("thing", is_thing, source, (0, 0, 0)),))
            with pytest.raises(InvalidArgumentError, match=rf"1\.\.64 for things, got {source} for 'thing'"):
                encode_cityscapes(a_map("A"), labels)

    @pytest.mark.parametrize("values", [np.zeros((2, 2)), np.zeros((2, 2, 3), np.uint8)])
    def test_wrong_arrays_are_refused(self, values):
        with pytest.raises(InvalidArgumentError, match=r"instance ids as integers \[H, W\], got"):
            decode_cityscapes(values, CITY)


class TestLoadNumbers:
    @pytest.mark.parametrize("dtype", [np.uint8, np.uint16, bool])
    def test_numbers_are_read_as_stored(self, tmp_path, dtype):
        numbers = np.array([[0, 1], [1, 0]]).astype(dtype) * (26001 if dtype is np.uint16 else 1)
        Image.fromarray(numbers.astype(dtype)).save(tmp_path / "a.png")
        assert load_label_image(tmp_path / "a.png").tolist() == numbers.tolist()

    def test_a_palette_is_ignored(self, tmp_path):
        image = Image.fromarray(np.array([[0, 2]], np.uint8))
        image.putpalette([9] * 9)
        image.save(tmp_path / "a.png")
        assert load_label_image(tmp_path / "a.png").tolist() == [[0, 2]]

    @pytest.mark.parametrize("pixel", [[7, 7, 7], [7, 7, 7, 255], [7, 255], 7])
    def test_equal_channels_are_one(self, tmp_path, pixel):
        for ending in (".png", ".tif"):
            Image.fromarray(np.array([[pixel, pixel]], np.uint8)).save(tmp_path / f"a{ending}")
            assert load_label_image(tmp_path / f"a{ending}").tolist() == [[7, 7]]

    def test_a_lossy_format_is_refused(self, tmp_path):
        Image.fromarray(np.zeros((2, 2), np.uint8)).save(tmp_path / "a.png", "JPEG")
        with pytest.raises(UnreadableFileError, match=r"^[^ ]*a\.png: expected a label image as PNG, got JPEG"):
            load_label_image(tmp_path / "a.png")

    def test_colours_are_refused(self, tmp_path):
        Image.fromarray(np.array([[[7, 7, 8]]], np.uint8)).save(tmp_path / "a.png")
        with pytest.raises(UnreadableFileError, match=r"a\.png: expected a label image with one integer.*got mode RGB"):
            load_label_image(tmp_path / "a.png")
