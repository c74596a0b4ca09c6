"""`panscape train`: every field of a recipe is an option, and the others are few and fixed."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import fields, is_dataclass, replace
from pathlib import Path

import pytest
import trees

from panscape.cli import main
from panscape.cli.train import parse_training
from panscape.errors import InvalidArgumentError, UnknownNameError, UnreadableFileError
from panscape.nn.pisr_baselines import ElementwiseProduct
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.recipes import get_recipe, list_recipes
from panscape.representations.centers import CenterDecoding
from panscape.representations.dense_boxes import DenseBoxRepresentation
from panscape.representations.masked_boxes import MaskedBoxDecoding
from panscape.representations.regions import RegionDecoding
from panscape.training.run_options import RunOptions

# Scripts rely on these names; a new one must be worth it, and one that goes breaks somebody.
OPERATIONAL = [
    "out",
    "data",
    "resume",
    "init_from",
    "backbone_weights",
    "seed",
    "device",
    "devices",
    "precision",
    "workers",
    "threads",
    "on_error",
    "profile",
    "checkpoint_every",
    "log_every",
    "image_every",
]

OPTIONAL_PARTS = ("relations", "instance_maps")  # whose options are there where a recipe has the part

MY_RECIPE = """
from dataclasses import replace
from panscape.recipes import get_recipe

def recipe():
    return replace(get_recipe("town"), name="mine", steps=77)
"""

MY_DATA = """
from __future__ import annotations
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from panscape.recipes import get_recipe
from panscape.training.config import DataOptions

@dataclass(frozen=True)
class MyData(DataOptions):
    place: Path = Path("here")
    kind: Literal["a", "b"] = "a"

    def load(self, root: Path | None, split: str):
        raise NotImplementedError

def recipe():
    return replace(get_recipe("town"), data=MyData())
"""


def test_operational_options_are_frozen():
    assert [f.name for f in fields(RunOptions)] == OPERATIONAL


def printed_help(capsys, *arguments, option="--help"):
    with pytest.raises(SystemExit) as end:
        main(["train", *arguments, option])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_the_help_names_the_list_of_recipes_and_lists_operational_options(capsys):
    text = printed_help(capsys)
    assert '"panscape recipes" lists the recipes' in text
    for name in OPERATIONAL:
        assert f"--{name.replace('_', '-')}" in text


def test_the_help_of_a_recipe_has_its_published_results_and_hours(capsys):
    words = " ".join(printed_help(capsys, "swiftnet_r18_bsb").split())
    assert (
        "Published: BSB Aerial val (Tables 1 and 2, no rotation): PQ 69.5 SQ 89.3 RQ 77.5 mIoU 75.1 FPS 64.9." in words
    )
    assert "Published: BSB Aerial test (Table 1, no rotation): PQ 68.1 SQ 88.2 RQ 76.0." in words
    assert "Estimated: 6 hours with --devices 2 --precision fp16 on RTX 3090." in words
    assert "Published" not in printed_help(capsys, "town")


@pytest.mark.parametrize("arguments", [[], ["town"], ["from_folder"], ["deeplab_r52_cityscapes_relations"]])
def test_the_help_fits_on_two_screens(arguments, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    text = printed_help(capsys, *arguments)
    assert len(text.splitlines()) <= 80
    assert "--help-all" in text
    assert "--optimizer.betas" not in text


def test_the_short_help_lists_the_fields_that_are_no_parts(capsys):
    text = printed_help(capsys, "town")
    for name, value in vars(get_recipe("town")).items():
        option = f"--{name.replace('_', '-')}"
        assert f"{option}." not in text
        assert is_dataclass(value) or re.search(rf"{option}[ ,]", text), name


def options_of(value, prefix=""):
    for field in fields(value):
        part, name = getattr(value, field.name), prefix + field.name.replace("_", "-")
        if part is None and field.name in OPTIONAL_PARTS:
            continue
        yield from options_of(part, f"{name}.") if is_dataclass(part) else [name]


@pytest.mark.parametrize("recipe", ["town", "swiftnet_r18_cityscapes_pyrx3", "from_folder", "town_relations_pisr"])
def test_every_field_of_a_recipe_is_an_option_with_its_help(recipe, capsys):
    text = printed_help(capsys, recipe, option="--help-all")
    options = list(options_of(get_recipe(recipe)))
    assert "model.representation.decoding.top-k" in options
    assert "augmentation.crop" in options
    for option in options:
        assert re.search(rf"--{re.escape(option)}[ ,]", text), option
    words = " ".join(text.replace("│", " ").split())
    assert "Height and width of training crops, in pixels." in words
    for name in OPERATIONAL:
        assert f"--{name.replace('_', '-')}" in text


def dataclasses_of(value):
    parts = [getattr(value, field.name) for field in fields(value)]
    return {type(value)}.union(*(dataclasses_of(part) for part in parts if is_dataclass(part)))


def test_help_has_no_references_of_the_api_documentation():
    recipes = map(get_recipe, list_recipes())
    kinds = set().union(*map(dataclasses_of, recipes), dataclasses_of(RegionDecoding()))
    assert {CenterDecoding, MaskedBoxDecoding, DenseBoxRepresentation} <= kinds
    for kind in kinds:
        attributes = inspect.getdoc(kind).partition("\nAttributes:\n")[2].partition("\nRaises:")[0]
        assert not re.findall(r":[a-z]+:`[^`]+`", attributes), kind


def test_arguments_override_the_recipe():
    arguments = ["town", "--out", "o", "--steps", "7", "--optimizer.learning-rate", "1e-4", "--model.levels", "2"]
    arguments += ["--model.representation.sigma", "3", "--augmentation.crop", "64", "128", "--no-sync-batch-norm"]
    arguments += ["--augmentation.shortest-sides", "100", "200", "--data.view", "above", "--seed", "5", "--resume"]
    command = parse_training(arguments)
    recipe = command.recipe
    assert (recipe.steps, recipe.optimizer.learning_rate, recipe.model.levels) == (7, 1e-4, 2)
    assert (recipe.model.representation.sigma, recipe.augmentation.crop) == (3.0, (64, 128))
    assert (recipe.augmentation.shortest_sides, recipe.data.view) == ((100, 200), "above")
    assert recipe.sync_batch_norm is False
    assert recipe.model.width == get_recipe("town").model.width
    assert command.options == RunOptions(Path("o"), seed=5, resume=True)


def test_relations_have_the_options_of_their_kind():
    arguments = ["--out", "o", "--model.relations.num-instances", "7", "--model.instance-maps.radius", "0.2"]
    base = get_recipe("town_relations_pisr").model
    pisr = parse_training(["town_relations_pisr", *arguments, "--model.relations.no-reweighting"]).recipe.model
    relations = replace(base.relations, num_instances=7, reweighting=False)
    assert pisr == replace(base, relations=relations, instance_maps=CenterInstanceMaps(radius=0.2))
    product = parse_training(["town_relations_product", *arguments]).recipe.model
    assert product.relations == ElementwiseProduct(num_instances=7)


@pytest.mark.parametrize(
    ("recipe", "arguments", "said"),
    [
        (
            "town_relations_pisr",
            ["--model.relations.num-instance", "7"],
            "did you mean --model.relations.num-inst",
        ),
        ("town_relations_pisr", ["--model.relations.num-instances", "0"], "expected num_instances of 1 or more, got 0"),
        ("town_relations_product", ["--model.relations.no-reweighting"], "--model.relations.no-reweighting"),
        ("town_relations_base", ["--model.relations.num-instances", "7"], "--model.relations.num-instances"),
    ],
)
def test_wrong_options_of_relations_say_what_was_meant(recipe, arguments, said, capsys):
    assert main(["train", recipe, "--out", "o", *arguments]) == 2
    assert said in capsys.readouterr().err


def structure(value):
    """Return the types that options are made from; recipes of one structure have the same options."""
    if is_dataclass(value):
        return type(value), *(structure(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, tuple):
        return type(value), *map(structure, value)
    return type(value)


def test_nothing_given_is_the_recipe_itself():
    recipes = [get_recipe(name) for name in list_recipes() if name != "from_folder"]
    for recipe in {structure(recipe): recipe for recipe in recipes}.values():  # parsing takes long
        assert parse_training([recipe.name, "--out", "o"]).recipe == recipe


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "many"], "--steps"),
        (["--augmentation.crop", "64"], "--augmentation.crop"),
        (["--augmentation.rotation", "left"], "right_angles"),
        (["--optimizer.learning-rat", "1"], "--optimizer.learning-rate"),
        (["--precision", "fp8"], "bf16"),
        (["--model.representation.sigma", "-1"], "expected sigma above 0, got -1.0"),
        (["--augmentation.flip", "2"], "expected flip in 0..1, got 2.0"),
    ],
)
def test_wrong_options_say_what_was_meant(arguments, said, capsys):
    assert main(["train", "town", "--out", "o", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_without_out_nothing_starts(capsys):
    assert main(["train", "town"]) == 2
    assert "missing from panscape train town: --out PATH" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["twon", "--out", "o"], "unknown recipe 'twon'; did you mean town"),
        (
            ["town", "--out", "o", "--schedule.min-lr", "1"],
            "expected schedule.min_lr of at most the peak learning rate 0.002",
        ),
        (["town", "--out", "o", "--steps", "0"], "expected steps of 1 or more, got 0"),
        (["town", "--out", "o", "--workers", "-1"], "expected workers of 0 or more, got -1"),
        (
            ["from_folder", "--out", "o"],
            "expected the folder of your images and their annotations, got none; give --data",
        ),
        (["--out", "o"], "expected the folder of your images and their annotations, got none; give --data DIR"),
        (["--data", "nowhere", "--out", "o"], "nowhere: no such folder; expected one with (a) COCO panoptic format"),
        (["my_recipe.py", "--out", "o"], "my_recipe.py: no such file; expected a Python file with a function"),
    ],
)
def test_errors_are_one_line_and_exit_code_two(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["train", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"panscape: error: {message}")
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["twon", "--out", "o"], ["town", "--out", "o", "--stepz", "3"]])
@pytest.mark.parametrize(
    ("environment", "is_told"),
    [
        ({}, True),
        ({"SLURM_PROCID": "0"}, True),
        ({"SLURM_PROCID": "5"}, False),
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "SLURM_PROCID": "1"}, True),
        ({"RANK": "4", "LOCAL_RANK": "0", "SLURM_PROCID": "1"}, False),
    ],
)
def test_of_several_processes_the_first_complains(environment, is_told, arguments, capsys, monkeypatch):
    for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert main(["train", *arguments]) == 2
    captured = capsys.readouterr()
    assert bool(captured.out + captured.err) == is_told


def test_a_recipe_of_ones_own_file(tmp_path, capsys):
    path = tmp_path / "my_recipe.py"
    path.write_text(MY_RECIPE)
    command = parse_training([str(path), "--out", "o", "--batch-size", "2"])
    assert (command.recipe.name, command.recipe.steps, command.recipe.batch_size) == ("mine", 77, 2)
    assert get_recipe(str(path)).steps == 77


def test_data_of_ones_own_have_options(tmp_path):
    path = tmp_path / "my_recipe.py"
    path.write_text(MY_DATA)
    command = parse_training([str(path), "--out", "o", "--data.kind", "b", "--data.place", "there"])
    assert (command.recipe.data.kind, command.recipe.data.place) == ("b", Path("there"))


@pytest.mark.parametrize(
    ("text", "end"),
    [
        ("x = 1", "but it has no such function"),
        ("def recipe(): return 3", "returned int"),
        ("def recipe(a): return a", "but TypeError: recipe() missing 1 required positional argument: 'a'; correct it"),
    ],
)
def test_a_file_without_a_recipe(tmp_path, text, end):
    path = tmp_path / "my_recipe.py"
    path.write_text(text)
    with pytest.raises(InvalidArgumentError) as caught:
        get_recipe(str(path))
    assert str(caught.value).startswith(f'{path}: expected a Python file with a function "recipe"')
    assert str(caught.value).endswith(end)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("x = 1\ndef recipe(:", 2, "SyntaxError: invalid syntax"),
        ("import no_such_package", 1, "ModuleNotFoundError: No module named 'no_such_package'"),
        (
            "import json\n\ndef recipe():\n    json.loads('')",
            4,
            "JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
        ),
        ("1 / 0", 1, "ZeroDivisionError: division by zero"),
        ("raise SystemExit(3)", 1, "SystemExit: 3"),
    ],
)
def test_an_exception_of_a_file_is_one_line_with_its_place(tmp_path, capsys, text, line, what):
    path = tmp_path / "my_recipe.py"
    path.write_text(text)
    assert main(["train", str(path), "--out", "o"]) == 2
    message = capsys.readouterr().err
    assert message.startswith(f"panscape: error: {path}, line {line}: expected a Python file with")
    assert message.endswith(f"but {what}; correct it\n")
    assert message.count("\n") == 1


def test_errors_have_their_kinds():
    with pytest.raises(UnknownNameError):
        parse_training(["twon"])
    with pytest.raises(UnreadableFileError):
        parse_training(["twon.py"])


def test_a_folder_of_ones_own_needs_no_name(tmp_path, capsys):
    trees.coco_panoptic(tmp_path)
    named, unnamed = (
        parse_training([*name, "--data", str(tmp_path), "--out", "o", "--steps", "9"]) for name in (["from_folder"], [])
    )
    assert named == unnamed
    assert named.recipe.steps == 9
    assert named.recipe.augmentation.crop == (64, 64)
    assert any("every 10th image is held out" in note for note in named.notes)
    assert named.notes[-1].startswith("derived defaults, changed by options: Panoptic SwiftNet with ")
    assert ", crops of 64x64, 9 steps, " in named.notes[-1]
    unchanged = parse_training(["--data", str(tmp_path), "--out", "o"])
    assert unchanged.notes[-1].startswith("derived defaults: Panoptic SwiftNet with ")
    assert main(["train", "--data", str(tmp_path), "--print-config"]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["backbone"] == "residual_xs"


def test_showing_needs_no_folder(capsys):
    assert main(["train", "town_l1", "--print-config", "--steps", "5"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["name"], shown["steps"], shown["model"]["representation"]["boundary_alphas"]) == ("town_l1", 5, [])


def test_the_recipe_of_the_tutorial_is_a_file_of_ten_lines(tmp_path):
    page = (Path(__file__).parents[3] / "docs" / "tutorials" / "train_your_own.md").read_text(encoding="utf-8")
    (block,) = [b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def recipe" in b]
    assert len([line for line in block.splitlines() if line]) <= 11
    (tmp_path / "my_recipe.py").write_text(block)
    recipe = parse_training([str(tmp_path / "my_recipe.py"), "--out", "o", "--steps", "3"]).recipe
    assert (recipe.name, recipe.steps, recipe.data.hold_out, recipe.model.width) == ("mine", 3, 5, 96)
