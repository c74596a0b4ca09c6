from __future__ import annotations

import pytest
from color_model import ColorModel
from maps import SHAPES

from panscape import PanopticModel, create_model
from panscape.cli.decode_arguments import apply_arguments, overview, parse_grid, split
from panscape.errors import InvalidArgumentError, UnknownNameError
from panscape.representations.centers import CenterDecoding
from panscape.representations.dense_boxes import DenseBoxDecoding
from panscape.representations.fusion import FusionConfig


@pytest.fixture(scope="module")
def boxes() -> PanopticModel:
    return create_model("dense_detections", SHAPES, backbone="test_resnet", fpn_width=8, box_width=8, semantic_width=8)


@pytest.mark.parametrize(
    ("arguments", "others", "taken", "taken_of_several"),
    [
        (["a", "--decode.x", "1", "b"], ["a", "b"], ["--decode.x", "1"], ["--decode.x", "1", "b"]),
        (["--decode.x=1", "b", "--y"], ["b", "--y"], ["--decode.x=1"], ["--decode.x=1", "b"]),
        (["--decode.x", "-1", "-y"], ["-y"], ["--decode.x", "-1"], ["--decode.x", "-1"]),
        (["--decode.x", "--y", "1"], ["--y", "1"], ["--decode.x"], ["--decode.x"]),
        (["--decode.help", "b"], ["b"], ["--decode.help"], ["--decode.help"]),
        (["--y", "1"], ["--y", "1"], [], []),
    ],
)
def test_options_are_taken_out(
    arguments: list[str], others: list[str], taken: list[str], taken_of_several: list[str]
) -> None:
    assert split(arguments) == (others, tuple(taken))
    _, several = split(arguments, several=True)
    assert several == tuple(taken_of_several)


def test_values_have_the_types_of_the_options(boxes: PanopticModel) -> None:
    given = ["--decode.min-score", "0.3", "--decode.stuff_on_uncovered=True", "--decode.compat", "paper"]
    apply_arguments(boxes, [*given, "--decode.max-detections", "7"], "panscape")
    fusion = FusionConfig(min_score=0.3, stuff_on_uncovered=True)
    assert boxes.decoding == DenseBoxDecoding(compat="paper", max_detections=7, fusion=fusion)
    apply_arguments(boxes, [], "panscape")
    assert boxes.decoding.fusion == fusion
    grid = parse_grid(boxes, ["--decode.stuff-area", "5", "10", "--decode.stuff-on-uncovered", "False"], "panscape")
    assert grid == {"stuff_area": (5, 10), "stuff_on_uncovered": (False,)}


def test_complaints(boxes: PanopticModel) -> None:
    with pytest.raises(UnknownNameError, match=r"option 'min-scor'; did you mean min-score\? known: class-agnostic"):
        apply_arguments(boxes, ["--decode.min-scor", "0.3"], "panscape predict")
    with pytest.raises(InvalidArgumentError, match=r"expected min_score in 0\.\.1, got 3\.0"):
        apply_arguments(boxes, ["--decode.min-score", "3"], "panscape predict")
    with pytest.raises(InvalidArgumentError, match="expected stuff_area of 0 or more, got -1"):
        apply_arguments(boxes, ["--decode.stuff-area", "-1"], "panscape predict")
    for words in (["--decode.max-detections", "2.5"], ["--decode.max-detections"], ["--decode.compat", "x"]):
        with pytest.raises(InvalidArgumentError, match=words[0]):
            apply_arguments(boxes, words, "panscape predict")


def test_the_overview_lists_every_option_with_its_value(boxes: PanopticModel) -> None:
    text = overview(boxes, "mine", {"min_score": (0.1, 0.2)})
    assert text.startswith("Post-processing options of mine (DenseBoxDecoding):\n")
    assert "\n\n--decode.score-threshold 0.06\n    Minimum probability of a category at a location, exclusive" in text
    assert text.count("--decode.") == 15
    assert text.count("tried by default: 0.1 0.2") == 1
    assert overview(ColorModel(), "mine") == "mine has no post-processing options."


def test_a_decoding_of_another_system_is_refused(boxes: PanopticModel) -> None:
    with pytest.raises(
        InvalidArgumentError, match=r"expected a DenseBoxDecoding as decoding of Dense.* got CenterDecod"
    ):
        boxes.replace_decoding(CenterDecoding())
    with pytest.raises(
        InvalidArgumentError, match="expected no decoding as decoding of ColorModel, got CenterDecoding"
    ):
        ColorModel().replace_decoding(CenterDecoding())
    with pytest.raises(
        InvalidArgumentError, match="expected a DenseBoxDecoding as decoding of DenseDetections, got None"
    ):
        boxes.replace_decoding(None)
