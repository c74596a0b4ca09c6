"""`panscape recipes`, and names of recipes in which - and _ are equivalent."""

import json

import pytest

from panscape.cli import main
from panscape.cli.train import parse_training
from panscape.recipes import get_recipe, list_recipes, resolve_recipe_name
from panscape.recipes.data_options import (
    Ade20kData,
    AerialData,
    BsbData,
    CamVidData,
    CityscapesData,
    CocoPanopticData,
    FolderData,
    IddData,
    TownData,
    VistasData,
)
from panscape.recipes.model_options import (
    DenseDetectionsOptions,
    MaskFormerOptions,
    PanopticDeepLabOptions,
    PanopticFPNOptions,
    SeamlessOptions,
    SwiftNetOptions,
    UPerNetOptions,
    UPerNetSemanticOptions,
    YoloPanopticLightOptions,
    YoloPanopticOptions,
)

SYSTEMS = {
    SwiftNetOptions: "Panoptic SwiftNet",
    DenseDetectionsOptions: "Dense detections",
    PanopticDeepLabOptions: "Panoptic-DeepLab and PISR",
    SeamlessOptions: "Seamless, all scales",
    YoloPanopticOptions: "YOLO-based",
    YoloPanopticLightOptions: "YOLO-based",
    PanopticFPNOptions: "Panoptic FPN",
    MaskFormerOptions: "MaskFormer",
    UPerNetOptions: "UPerNet",
    UPerNetSemanticOptions: "UPerNet",
}
DATASETS = {
    CityscapesData: "Cityscapes",
    CocoPanopticData: "COCO panoptic",
    Ade20kData: "ADE20K",
    VistasData: "Mapillary Vistas",
    IddData: "India Driving Dataset",
    BsbData: "BSB Aerial",
    CamVidData: "CamVid (street scenes)",
    AerialData: "Satellite images of Dubai",
    TownData: "Synthetic scenes",
    FolderData: "A folder of your own",
}


def listed(capsys, *arguments):
    assert main(["recipes", "--json", *arguments]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_every_recipe_is_listed_with_its_system_and_dataset(capsys):
    found = listed(capsys)
    assert {one["recipe"]: one["summary"] for one in found} == list_recipes()
    assert len(found) == len(list_recipes())
    for one in found:
        recipe = get_recipe(one["recipe"])
        assert (one["system"], one["dataset"]) == (SYSTEMS[type(recipe.model)], DATASETS[type(recipe.data)]), one


def test_text_is_grouped_by_system_and_dataset(capsys):
    assert main(["recipes"]) == 0
    lines = capsys.readouterr().out.splitlines()
    systems = [line for line in lines if not line.startswith(" ")]
    assert systems == list(dict.fromkeys(SYSTEMS.values()))  # each once
    named = [line.split()[0] for line in lines if line.startswith("    ")]
    assert sorted(named) == sorted(list_recipes())
    street = lines.index("  CamVid (street scenes)")
    assert lines[street + 1].split() == ["street", *list_recipes()["street"].split()]


def test_published_results_are_listed(capsys):
    (one,) = listed(capsys, "--search", "deeplab_r52_coco_ocr")
    assert (one["hours"], one["num_devices"], one["ablation_of"]) == (27, 8, None)
    (result,) = one["published"]
    assert (result["paper"], result["tables"], result["dataset"]) == ("PISR", ["Table 2"], "COCO val")
    assert result["metrics"] == {"PQ": 37.2, "things": 38.9, "stuff": 35.7}
    assert main(["recipes", "--search", "deeplab_r52_coco_ocr"]) == 0
    line = "OCR, object context of categories (PISR, Table 2). Published: PQ 37.2."
    assert capsys.readouterr().out.endswith(f"{line}\n")


@pytest.mark.parametrize("word", ["coco", "COCO", "Coco panoptic"])
def test_search_ignores_case(word, capsys):
    names = {one["recipe"] for one in listed(capsys, "--search", word)}
    assert names == {name for name in list_recipes() if "coco" in name}


def test_search_finds_both_spellings_of_a_name(capsys):
    assert [one["recipe"] for one in listed(capsys, "--search", "street_boxes")] == ["street_boxes"]


def test_search_without_result_is_one_line(capsys):
    assert main(["recipes", "--search", "no such word"]) == 2
    message = "panscape: error: no recipe contains 'no such word'; omit --search to list all recipes\n"
    assert capsys.readouterr() == ("", message)


def test_names_with_hyphens_are_the_same_recipes():
    assert resolve_recipe_name("street_boxes") == "street_boxes"
    assert resolve_recipe_name("town") == "town"
    assert get_recipe("town-boxes-weak") == get_recipe("town_boxes_weak")
    assert parse_training(["town-pyrx1", "--out", "o"]).recipe == get_recipe("town_pyrx1")
