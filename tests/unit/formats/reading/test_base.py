"""Names of images, and of files that a JSON may name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from maps import SHAPES

from panscape.errors import listed, shown
from panscape.formats.problems import IssueKind, Problem, count_by_kind, escape_control_chars
from panscape.formats.reading.base import city_key_of, inside, key_of
from panscape.formats.reading.coco import described_segments


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (139, "139"),
        ("000000000139", "139"),
        ("0", "0"),
        ("000", "0"),
        (-1, "-1"),
        ("a_01", "a_01"),
        ("²", "²"),
        (True, None),
        (None, None),
        (1.0, None),
        ([1], None),
    ],
)
def test_keys(name: object, key: str | None) -> None:
    assert key_of(name) == key


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("frankfurt_000000_000294_leftImg8bit", "frankfurt_000000_000294"),
        ("bad-honnef_000000_000000_gtFine_panoptic", "bad-honnef_000000_000000"),
        ("aachen_000001_000019", "aachen_000001_000019"),
        ("aachen_1_19", None),
        ("some_aachen_000001_000019", None),
        (17, None),
    ],
)
def test_keys_of_cityscapes(name: object, key: str | None) -> None:
    assert city_key_of(name) == key


def test_files_stay_in_their_folder(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "linked").symlink_to(folder)
    (folder / "out").symlink_to(tmp_path)
    (folder / "round").symlink_to(folder / "round")
    assert inside(folder, "a.png") == folder / "a.png"
    assert inside(folder, "sub/a.png") == folder / "sub/a.png"
    assert inside(tmp_path / "linked", "a..b.png") == tmp_path / "linked" / "a..b.png"
    for name in (
        "../a.png",
        "/a.png",
        "sub/../../a.png",
        "sub\\..\\..\\a.png",
        "C:/a.png",
        "\\\\host\\a.png",
        "out/a.png",
    ):
        assert "which is outside" in str(inside(folder, name))
    for strange in (None, 3, "", ["a"], "a\x00b"):
        assert str(inside(folder, strange)).startswith("expected the name of a file, got ")


def test_problems_are_counted_and_printed_safely() -> None:
    problems = [Problem("b", IssueKind.SIZE, "x"), Problem("a", IssueKind.AREA, "y"), Problem("c", IssueKind.SIZE, "z")]
    assert count_by_kind(problems) == {"wrong size": 2, "areas that contradict the pixels": 1}
    assert [problem.is_note for problem in problems] == [False, True, False]
    assert str(problems[0]) == "b: x"
    assert shown("\x1b[31m\n\ud800") == "'\\x1b[31m\\n\\ud800'"
    assert str(Problem("\udcff\n", IssueKind.SIZE, "\x1b[31m")) == r"\udcff\n: \x1b[31m"
    assert (
        escape_control_chars("Straße, सड़क, क्\u200dष, 道路\u2028\x7f") == "Straße, सड़क, क्\u200dष, 道路" + r"\u2028\x7f"
    )
    assert len(shown("a" * 1000)) == 80
    deep = json.loads("[" * 900 + "]" * 900)
    assert len(shown(deep)) <= 80
    assert listed([1, 2, 3]) == "1, 2, 3"
    assert listed(list(range(9))) == "0, 1, 2, 3, 4 and 4 more"


def test_descriptions_of_segments() -> None:
    good = {"id": 5, "category_id": 24, "iscrowd": 1, "area": 7.0, "score": 0.5}
    segments, in_doubt, problems = described_segments(
        "f", [good, {"id": 6, "category_id": 1}, {"id": 0, "category_id": 7}, 3], SHAPES
    )
    assert [tuple(s) for s in segments] == [(5, 2, 0.5, True, 7)]
    assert in_doubt == {0, 6}
    assert {p.kind for p in problems} == {IssueKind.CATEGORY, IssueKind.SHAPE, IssueKind.SCORE}
