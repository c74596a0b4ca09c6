"""Names of images in several files."""

from __future__ import annotations

import pytest

from panscape.formats.keys import city_key_of, key_of, match_keys


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
        (1.0, "1"),
        (1.5, None),
        (float("nan"), None),
        ("a\\01", "a/01"),
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


def test_the_kind_of_key_that_matches_most_decides() -> None:
    known = [("1", "a/x"), ("2", "a/y"), ("3", "b/x")]
    assert match_keys([("2", "b/x"), ("3", "a/y"), ("9", "a/x")], known) == [2, 1, 0]
    assert match_keys([("2", None), ("3", "a/y")], known) == [1, 2]
    assert match_keys([("8", "c")], known) == [None]
    assert match_keys([], known) == []


def test_case_is_ignored_only_where_names_match_nothing_else() -> None:
    assert match_keys([("A", None), ("b", None)], [("a", None), ("B", None)]) == [0, 1]
    assert match_keys([("A", None), ("b", None)], [("A", None), ("B", None)]) == [0, None]


def test_a_key_of_two_images_matches_neither() -> None:
    assert match_keys([("x", "1")], [("x", "1"), ("x", "2")]) == [0]
    assert match_keys([("x",)], [("x",), ("x",)]) == [None]
