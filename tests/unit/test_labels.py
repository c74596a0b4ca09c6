from __future__ import annotations

import json
from pathlib import Path

import pytest

from panscape import Category, LabelSpace
from panscape.errors import InvalidLabelSpaceError, UnknownNameError, UnreadableFileError
from panscape.labels import generated_color

SKY = Category("sky", False, 11, (70, 130, 180))
CAR = Category("car", True, 26, (0, 0, 142))


class TestLabelSpace:
    def test_a_category_is_its_position(self):
        labels = LabelSpace("two", (SKY, CAR))
        assert len(labels) == 2
        assert list(labels) == [SKY, CAR]
        assert labels[1] is CAR
        assert labels.index("car") == 1
        assert labels.thing_ids == (1,)
        assert labels.stuff_ids == (0,)
        assert labels.id_of_source == {11: 0, 26: 1}
        assert hash(labels) == hash(LabelSpace("two", (SKY, CAR)))

    def test_by_name(self):
        labels = LabelSpace("two", [SKY, CAR])
        assert labels == LabelSpace("two", (SKY, CAR))
        assert labels["car"] is CAR
        assert "car" in labels
        assert CAR in labels
        assert "cat" not in labels
        assert 1 in labels
        assert 2 not in labels
        assert -1 not in labels
        assert labels.names == ("sky", "car")
        assert labels.things == (CAR,)
        assert labels.stuff == (SKY,)
        assert labels.same_colors == ()
        twins = [Category(name, False, i, (9, 9, 9)) for i, name in enumerate("abc")]
        assert LabelSpace("four", [*twins, CAR]).same_colors == (("a", "b", "c"),)
        with pytest.raises(UnknownNameError, match=r"did you mean car\?"):
            labels["cat"]

    def test_from_names_and_from_coco(self):
        labels = LabelSpace.from_names("own", things=["car", "person"], stuff=["road"])
        assert labels.names == ("car", "person", "road")
        assert [c.source_id for c in labels] == [1, 2, 3]
        assert labels.stuff_ids == (2,)
        assert len({c.color for c in labels}) == 3
        coco = [
            {"id": 11, "name": "sky", "isthing": 0, "color": [70, 130, 180]},
            {"id": 26, "name": "car", "isthing": 1},
        ]
        assert LabelSpace.from_coco(coco).names == ("sky", "car")
        assert LabelSpace.from_coco(coco, "two")["sky"] == SKY

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (
                lambda: LabelSpace("two", ["sky", "car"]),
                r"expected categories as panscape\.Category, got str; .*from_na",
            ),
            (lambda: LabelSpace("two", None), "expected a name and a sequence of categories, got 'two' and None"),
            (lambda: LabelSpace([SKY], (CAR,)), "expected a name and a sequence of categories, got .Category"),
            (
                lambda: LabelSpace.from_names(["car"], things=["car"]),
                r"as in from_names\('mine', things=.*got \['car'\]",
            ),
            (lambda: LabelSpace.from_names("own", things="car"), r"sequences of category names.*things='car'"),
            (lambda: LabelSpace.from_names("own", things=None), "sequences of category names.*things=None"),
            (lambda: LabelSpace.from_names("own", things=[7]), "expected a name as text, got 7"),
            (lambda: Category("", False, 0, (0, 0, 0)), "expected a name as text, got ''"),
            (lambda: Category("car", "0", 0, (0, 0, 0)), "'car': expected is_thing as True or False, got '0'"),
            (lambda: Category("car", True, 7.9, (0, 0, 0)), r"'car': expected an integer source_id, got 7\.9"),
        ],
    )
    def test_a_value_of_another_kind_in_python(self, build, message):
        with pytest.raises(InvalidLabelSpaceError, match=message):
            build()

    @pytest.mark.parametrize(
        ("content", "things", "sources"),
        [
            (["road", "car"], (), [0, 1]),
            ({"0": "road", "7": "car"}, (), [0, 7]),
            ([{"id": 3, "name": "road", "isthing": 0}, {"id": 7, "name": "car", "isthing": 1}], (1,), [3, 7]),
            (
                {
                    "info": {},
                    "categories": [
                        {"id": 3, "name": "road", "isthing": 0, "supercategory": "flat"},
                        {"source_id": 7, "name": "car", "is_thing": True, "color": None},
                    ],
                },
                (1,),
                [3, 7],
            ),
        ],
    )
    def test_simpler_files(self, tmp_path, content, things, sources):
        path = tmp_path / "mine.JSON"
        path.write_text(json.dumps(content))
        labels = LabelSpace.load(path)
        assert (labels.name, labels.names, labels.thing_ids) == ("mine", ("road", "car"), things)
        assert [c.source_id for c in labels] == sources
        assert [c.color for c in labels] == [generated_color(0), generated_color(1)]

    def test_a_color_may_be_missing(self):
        plain = LabelSpace("two", (SKY, CAR)).to_dict()
        del plain["categories"][1]["color"]
        labels = LabelSpace.from_dict(plain)
        assert labels["sky"] == SKY
        assert labels["car"].color == generated_color(1)

    def test_a_notebook_shows_a_table(self):
        html = LabelSpace("two", (SKY, Category("<b>", True, 1, (0, 0, 0))))._repr_html_()
        assert html.count("<tr>") == 3
        assert "rgb(70, 130, 180)" in html
        assert "&lt;b&gt;" in html
        assert "<b>" not in html

    def test_an_unknown_name_suggests_the_nearest(self):
        with pytest.raises(UnknownNameError, match=r"unknown category of two 'cat'; did you mean car\?"):
            LabelSpace("two", (SKY, CAR)).index("cat")

    def test_dict_and_json_round_trip(self, tmp_path):
        labels = LabelSpace("two", (SKY, CAR))
        assert LabelSpace.from_dict(labels.to_dict()) == labels
        path = tmp_path / "two.json"
        path.write_text(json.dumps(labels.to_dict()))
        assert LabelSpace.load(path) == labels
        assert LabelSpace.load(str(path)) == labels

    def test_contradictions_are_refused(self):
        with pytest.raises(InvalidLabelSpaceError, match="'none' has no category; it needs at least one"):
            LabelSpace("none", ())
        with pytest.raises(InvalidLabelSpaceError, match="each category needs its own name, given twice: sky"):
            LabelSpace("two", (SKY, Category("sky", True, 2, (0, 0, 0))))
        with pytest.raises(InvalidLabelSpaceError, match="each category needs its own source_id, given twice: 11"):
            LabelSpace("two", (SKY, Category("air", True, 11, (0, 0, 0))))
        for color in ((0, 0), (0, 0, 256), (0, 0, 0.5), (-1, 0, 0), None):
            with pytest.raises(InvalidLabelSpaceError, match=r"'sky': expected a color of three integers in 0\.\.255"):
                Category("sky", False, 0, color)

    @pytest.mark.parametrize(
        "change",
        [
            lambda d: d.pop("name"),
            lambda d: d.pop("categories"),
            lambda d: d["categories"][0].pop("is_thing"),
            lambda d: d["categories"][0].update(source_id="eleven"),
            lambda d: d["categories"][0].update(color=[1, 2]),
            lambda d: d["categories"][0].update(color=[1, 2, 3, 4]),
            lambda d: d["categories"][0].update(color=5),
            lambda d: d.update(categories=[3]),
            lambda d: d.update(name=5),
            lambda d: d["categories"][0].update(name=None),
            lambda d: d["categories"][0].update(is_thing="false"),
            lambda d: d["categories"][0].update(is_thing=2),
            lambda d: d["categories"][0].update(source_id=7.9),
            lambda d: d["categories"][0].update(source_id="7"),
            lambda d: d["categories"][0].update(source_id=True),
            lambda d: d["categories"][0].update(color=["1", "2", "3"]),
        ],
    )
    def test_an_incomplete_description_raises_an_error(self, change):
        description = json.loads(json.dumps(LabelSpace("two", (SKY, CAR)).to_dict()))
        change(description)
        with pytest.raises(InvalidLabelSpaceError, match=r"expected (\{'name', 'categories'|'\w+' of every|a color)"):
            LabelSpace.from_dict(description)

    def test_a_value_of_another_type_is_refused_with_its_file_and_field(self, tmp_path):
        description = LabelSpace("two", (SKY, CAR)).to_dict()
        description["categories"][0]["is_thing"] = "false"
        path = tmp_path / "a.json"
        path.write_text(json.dumps(description))
        with pytest.raises(
            InvalidLabelSpaceError, match=r"a\.json: expected 'is_thing' of .*, got 'false' in \{'name'"
        ):
            LabelSpace.load(path)

    def test_invalid_files(self, tmp_path):
        with pytest.raises(UnknownNameError, match=r"unknown label space 'cityscape'; did you mean cityscapes\?"):
            LabelSpace.load("cityscape")
        with pytest.raises(UnreadableFileError, match=r"no\.json: no such file"):
            LabelSpace.load(tmp_path / "no.json")
        (tmp_path / "bad.json").write_text("{")
        with pytest.raises(UnreadableFileError, match=r"bad\.json: expected JSON, but"):
            LabelSpace.load(tmp_path / "bad.json")
        (tmp_path / "list.json").write_text("[5]")
        with pytest.raises(InvalidLabelSpaceError, match=r"list\.json: expected \{'name', .*got 5 as category 0"):
            LabelSpace.load(tmp_path / "list.json")
        (tmp_path / "none.json").write_text('{"name": "none", "categories": []}')
        with pytest.raises(InvalidLabelSpaceError, match=r"none\.json: label space 'none' has no category"):
            LabelSpace.load(tmp_path / "none.json")


class TestBundled:
    @pytest.mark.parametrize("name", LabelSpace.bundled())
    def test_every_file_is_a_label_space_of_its_name(self, name):
        labels = LabelSpace.load(name)
        assert labels.name == name
        assert LabelSpace.from_dict(labels.to_dict()) == labels
        # In Mapillary's own configuration of Vistas 2.0, 29 categories share 8 colours.
        num_colors = {"vistas_v2.0": 116 - 29 + 8}.get(name, len(labels))
        assert len({c.color for c in labels}) == num_colors, "two categories share a colour"

    def test_cityscapes_has_the_nineteen_training_categories(self):
        labels = LabelSpace.load("cityscapes")
        # Label ids, things and colours as published in cityscapesScripts (helpers/labels.py).
        assert [c.source_id for c in labels] == [7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33]
        assert labels.thing_ids == tuple(range(11, 19))
        assert [c.name for c in labels][:3] == ["road", "sidewalk", "building"]
        assert {c.name: c.color for c in labels}["rider"] == (255, 0, 0)

    def test_coco_has_eighty_things_and_fifty_three_stuff(self):
        labels = LabelSpace.load("coco_panoptic")
        assert (len(labels), labels.thing_ids) == (133, tuple(range(80)))
        assert (labels[0].source_id, labels[79].source_id, labels[132].source_id) == (1, 90, 200)

    def test_camvid_and_aerial(self):
        camvid = LabelSpace.load("camvid")
        assert [c.source_id for c in camvid] == list(range(11))
        assert [camvid[i].name for i in camvid.thing_ids] == ["sign", "car", "pedestrian", "bicyclist"]
        aerial = LabelSpace.load("aerial")
        assert [c.name for c in aerial] == ["building", "land", "road", "vegetation", "water"]
        assert aerial.thing_ids == (0,)

    # Sizes as published: Vistas in Mapillary's configurations, ADE20K in MaskFormer's, IDD at AutoNUE's level 3, BSB
    # Aerial in Section 3.1 of Panoptic SwiftNet.
    @pytest.mark.parametrize(
        ("name", "num", "num_things", "sources", "things"),
        [
            ("vistas_v1.2", 65, 37, (1, 65), ["Bird", "Crosswalk - Plain", "Person", "Car", "Truck"]),
            ("vistas_v2.0", 116, 70, (1, 123), ["Bird", "Driveway", "Car", "Temporary Barrier"]),
            ("ade20k_150", 150, 100, (0, 149), ["bed", "window", "car", "flag"]),
            ("idd_26", 26, 9, (0, 25), ["person", "autorickshaw", "vehicle fallback"]),
            ("bsb", 14, 11, (1, 14), ["swimming pool", "vehicle", "small construction"]),
        ],
    )
    def test_published_label_spaces(self, name, num, num_things, sources, things):
        labels = LabelSpace.load(name)
        assert (len(labels), len(labels.thing_ids)) == (num, num_things)
        assert (labels[0].source_id, labels[num - 1].source_id) == sources
        assert [c.source_id for c in labels] == sorted(c.source_id for c in labels)
        assert all(labels[labels.index(thing)].is_thing for thing in things)
        stuff = {"vistas_v1.2": "Road", "vistas_v2.0": "Road", "ade20k_150": "sky", "idd_26": "sky", "bsb": "lake"}
        assert not labels[labels.index(stuff[name])].is_thing

    def test_things_of_vistas_and_ade20k_are_those_of_the_published_lists(self):
        # Mask2Former's table of Vistas 1.2, MaskFormer's of ADE20K-150, where the other 100 are things.
        vistas = [0, 1, 8, *range(19, 24), *range(32, 43), *range(44, 58), *range(59, 63)]
        assert LabelSpace.load("vistas_v1.2").thing_ids == tuple(vistas)
        stuff = """0 1 2 3 4 5 6 9 11 13 16 17 21 25 26 28 29 34 40 46 48 51 52 54 59 60 61 63 68 77 79 84 91 94 96
            99 100 101 105 106 109 113 114 117 122 128 131 140 141 145"""
        assert LabelSpace.load("ade20k_150").stuff_ids == tuple(int(i) for i in stuff.split())

    @pytest.mark.real_data
    def test_coco_equals_the_published_list(self):
        path = Path("../shared/data/coco_panoptic_sample/panoptic_coco_categories.json")
        if not path.exists():
            pytest.skip(f"{path} is not here")
        for category, published in zip(LabelSpace.load("coco_panoptic"), json.loads(path.read_text()), strict=True):
            assert category == Category(
                published["name"], bool(published["isthing"]), published["id"], tuple(published["color"])
            )
