from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.representations.centers import CenterDecoding
from panscape.representations.decoding_options import decoding_options, replace_options
from panscape.representations.dense_boxes import DenseBoxDecoding
from panscape.representations.fusion import FusionConfig


@pytest.mark.parametrize(
    ("decoding", "parts"),
    [(CenterDecoding(), [CenterDecoding]), (DenseBoxDecoding(), [DenseBoxDecoding, FusionConfig])],
)
def test_each_field_is_an_option_of_one_name_with_its_text(decoding: Any, parts: list[type]) -> None:
    names = [field.name for part in parts for field in fields(part) if field.name != "fusion"]
    options = decoding_options(decoding)
    assert sorted(options) == sorted(names)  # thus none is in two parts
    for option in options.values():
        assert len(option.help) > 20, option.name
        assert "  " not in option.help
        assert ":" not in option.help[-3:]
    assert decoding_options(None) == {}


def test_nested_options_are_replaced_and_the_others_stay() -> None:
    start = DenseBoxDecoding(mask_threshold=0.2, fusion=FusionConfig(stuff_area=7))
    changed = replace_options(start, {"min_score": 0.3, "compat": "paper", "max_overlap": 1})
    fusion = FusionConfig(stuff_area=7, min_score=0.3, max_overlap=1.0)
    assert changed == DenseBoxDecoding(compat="paper", mask_threshold=0.2, fusion=fusion)
    assert type(changed.fusion.max_overlap) is float
    assert replace_options(start, {}) == start


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"min_scor": 0.3},
            UnknownNameError,
            r"unknown decoding option 'min_scor'; did you mean min_score\? known: class_ag",
        ),
        (
            {"sigma": 3},
            UnknownNameError,
            r"unknown decoding option 'sigma'; known: class_agnostic_nms_iou, compat, largest_part",
        ),
        ({"fusion": FusionConfig()}, UnknownNameError, "unknown decoding option 'fusion'"),
        ({"min_score": 1.5}, InvalidArgumentError, r"expected min_score in 0\.\.1, got 1\.5"),
        ({"min_score": float("nan")}, InvalidArgumentError, r"expected min_score in 0\.\.1, got nan"),
        ({"min_score": "0.5"}, InvalidArgumentError, "expected min_score as a number, got '0.5'"),
        ({"min_score": True}, InvalidArgumentError, "expected min_score as a number, got True"),
        ({"max_detections": 2.0}, InvalidArgumentError, "expected max_detections as an integer, got 2.0"),
        ({"max_detections": 0}, InvalidArgumentError, "expected max_detections of 1 or more, got 0"),
        ({"stuff_on_uncovered": 1}, InvalidArgumentError, "expected stuff_on_uncovered as True or False, got 1"),
        ({"compat": "papers"}, InvalidArgumentError, 'expected compat as "released" or "paper", got \'papers\''),
    ],
)
def test_invalid_values(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        replace_options(DenseBoxDecoding(), changes)


@pytest.mark.parametrize("changes", [{"stuff_area": -1}, {"thing_area": -1}, {"threshold": float("inf")}])
def test_ranges_of_centre_decoding(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=f"expected {next(iter(changes))} of 0 or more"):
        replace(CenterDecoding(), **changes)


def test_a_system_without_options() -> None:
    with pytest.raises(UnknownNameError, match="unknown decoding option 'min_score'; known: none"):
        replace_options(None, {"min_score": 0.3})
