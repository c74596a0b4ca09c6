"""Networks of transformers: their label spaces, their files in a folder or on the hub, and what is refused."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import load_file, save_file
from tiny_transformers import BUILDERS, NAMES, save_network

import panscape
from panscape import LabelSpace, zoo
from panscape.errors import CheckpointMismatchError, InvalidArgumentError, MissingExtraError, UnreadableFileError
from panscape.inference.predictor import Predictor
from panscape.models.transformers_model import FAMILIES, TransformersModel
from panscape.zoo.transformers.files import network_files
from panscape.zoo.transformers.labels import labels_of
from panscape.zoo.transformers.load import load_transformers

FIVE = LabelSpace.from_names("five", things=["Car", "person"], stuff=["road", "sky", "tree"])
COCO, CITYSCAPES, ADE20K = (LabelSpace.load(name) for name in ("coco_panoptic", "cityscapes", "ade20k_150"))
# Of the list that transformers' models of ADE20K have, these are not among the synonyms of the dataset.
OTHER_NAMES = {
    8: "windowpane", 37: "bathtub", 38: "railing", 87: "streetlight", 89: "television receiver", 90: "airplane",
    92: "apparel", 109: "swimming pool", 113: "waterfall", 138: "ashcan",
}  # fmt: skip


class TestLabels:
    @pytest.mark.parametrize("name", ["coco_panoptic", "cityscapes", "ade20k_150", "vistas_v1.2"])
    def test_published_label_spaces_are_recognised(self, name: str) -> None:
        labels, source = labels_of(LabelSpace.load(name).names, "x")
        assert (labels.name, source) == (name, list(range(len(labels))))

    def test_ade20k_is_recognised_with_other_synonyms(self) -> None:
        names = [OTHER_NAMES.get(i, name.split(",")[0] + " ") for i, name in enumerate(ADE20K.names)]
        labels, source = labels_of(names, "x")
        assert (labels.name, source) == ("ade20k_150", list(range(150)))
        assert len(labels.things) == 100

    def test_suffixes_of_coco_may_be_missing(self) -> None:
        names = [name.removesuffix("-merged").removesuffix("-other") for name in COCO.names]
        assert labels_of(names, "x") == (COCO, list(range(133)))

    def test_another_order_is_followed(self) -> None:
        names = sorted(CITYSCAPES.names)
        labels, source = labels_of(names, "x")
        assert [names[i] for i in source] == list(labels.names)
        assert source != sorted(source)

    def test_the_swap_in_the_list_of_oneformer_is_not(self) -> None:
        # The weights have the order of the dataset; only the list of names has these two exchanged.
        names = list(CITYSCAPES.names)
        names[1], names[2] = names[2], names[1]
        assert names[1:3] == ["building", "sidewalk"]
        assert labels_of(names, "x") == (CITYSCAPES, list(range(19)))
        assert labels_of(names, "x", CITYSCAPES) == (CITYSCAPES, list(range(19)))

    @pytest.mark.parametrize("named", [True, False])
    def test_detr_has_a_category_for_each_id_of_coco(self, named: bool) -> None:
        names = [f"LABEL_{i}" for i in range(250)]
        for category in COCO if named else ():
            names[category.source_id] = category.name
        labels, source = labels_of(names, "x", uses_source_ids=True)
        assert (labels, source) == (COCO, [category.source_id for category in COCO])
        names[3], names[4] = "motorcycle", "car"
        with pytest.raises(InvalidArgumentError, match="expected the categories of coco_panoptic, cityscapes"):
            labels_of(names, "x", uses_source_ids=True)

    @pytest.mark.parametrize(
        ("path", "num", "expected"),
        [
            ("hf:tue-mps/coco_panoptic_eomt_large_640", 133, COCO),
            ("downloads/ade20k_panoptic_eomt_giant_1280", 150, ADE20K),
            ("facebook/mask2former-swin-large-cityscapes-panoptic", 19, CITYSCAPES),
        ],
    )
    def test_without_names_the_repository_names_the_dataset(self, path: str, num: int, expected: LabelSpace) -> None:
        names = [f"LABEL_{i}" for i in range(num)]
        assert labels_of(names, path) == (expected, list(range(num)))
        with pytest.raises(InvalidArgumentError, match=f"by number and names, got {num} in coco/made: LABEL_0"):
            labels_of(names, "coco/made")

    def test_a_given_label_space_is_matched_by_name(self) -> None:
        assert labels_of(NAMES, "x", FIVE) == (FIVE, [1, 3, 0, 2, 4])
        assert labels_of([f"LABEL_{i}" for i in range(5)], "x", FIVE) == (FIVE, [0, 1, 2, 3, 4])

    def test_a_known_label_space_is_not_replaced(self) -> None:
        # What the evaluation of a model on other data gives.
        assert labels_of(CITYSCAPES.names, "x", FIVE) == (CITYSCAPES, list(range(19)))

    @pytest.mark.parametrize(
        ("names", "given", "message"),
        [
            (
                NAMES,
                None,
                r"and names, got 5 in x: road, car, sky, person, tree; write .* as labels\.json into the fol",
            ),
            ([f"LABEL_{i}" for i in range(133)], None, r"by number and names, got 133 in x: LABEL_0"),
            (NAMES[:4], FIVE, r"of the 4 categories of x, road, car, sky, person, got 'five' with 5; give"),
            (
                ["Car", "person", "road", "sky", "sea"],
                FIVE,
                r"of x, .*sea, got 'five' with Car, .*; give each the name",
            ),
            ([*NAMES[:4], "sea"], FIVE, r"the categories of x, .*sea, got 'five' with Car, .*; give each the name"),
        ],
    )
    def test_others_need_one(self, names: list[str], given: LabelSpace | None, message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            labels_of(names, "x", given)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one network of EoMT for COCO and one of OneFormer for other categories."""
    folder = tmp_path_factory.mktemp("networks")
    save_network("EoMT", folder / "eomt", COCO.names)
    save_network("OneFormer", folder / "oneformer")
    return folder


def copy_of(networks: Path, name: str, folder: Path) -> Path:
    return Path(shutil.copytree(networks / name, folder / name))


def changed(folder: Path, **options: Any) -> Path:
    """Change options of config.json; those that are None are removed."""
    path = folder / "config.json"
    content = {**json.loads(path.read_text()), **options}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not None}))
    return folder


def tensors_replaced(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    return folder


class TestFolder:
    def test_the_label_space_may_lie_in_the_folder(self, networks: Path, tmp_path: Path) -> None:
        folder = copy_of(networks, "oneformer", tmp_path)
        (folder / "labels.json").write_text(
            json.dumps([{"id": i, "name": n, "isthing": i % 2} for i, n in enumerate(NAMES)])
        )
        model = panscape.load(folder, CITYSCAPES)
        assert [c.name for c in model.labels.things] == ["car", "person"]

    def test_oneformer_receives_the_text_of_its_task(self, networks: Path) -> None:
        from transformers import CLIPTokenizer, OneFormerProcessor

        model = panscape.load(networks / "oneformer", FIVE)
        words = ["t", "h", "e</w>", "t", "a", "s", "k</w>", "i", "s</w>", *"panopti", "c</w>"]
        vocabulary = json.loads((networks / "oneformer" / "vocab.json").read_text())
        expected = [vocabulary[word] for word in ("<|startoftext|>", *words, "<|endoftext|>")]
        assert model.task.tolist() == [*expected, *[0] * (77 - len(expected))]
        processor = object.__new__(OneFormerProcessor)  # it fetches names of classes when it is created
        processor.tokenizer = CLIPTokenizer(
            *(str(networks / "oneformer" / name) for name in ("vocab.json", "merges.txt"))
        )
        assert torch.equal(model.task[None], processor._preprocess_text(["the task is panoptic"], max_length=77))

    def test_a_tokenizer_in_one_file_gives_the_same(self, networks: Path, tmp_path: Path) -> None:
        from transformers import CLIPTokenizer

        folder = copy_of(networks, "oneformer", tmp_path)
        own = CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"))
        (folder / "vocab.json").unlink()
        own.backend_tokenizer.save(str(folder / "tokenizer.json"))
        expected = panscape.load(networks / "oneformer", FIVE).task
        assert torch.equal(panscape.load(folder, FIVE).task, expected)

    def test_weights_in_parts_or_pickled_are_read(self, networks: Path, tmp_path: Path) -> None:
        expected = panscape.load(networks / "eomt").state_dict()
        folder = copy_of(networks, "eomt", tmp_path)
        tensors = load_file(folder / "model.safetensors")
        (folder / "model.safetensors").unlink()
        torch.save(tensors, folder / "pytorch_model.bin")
        pickled = panscape.load(folder).state_dict()
        parts = {name: f"part{i % 2}.safetensors" for i, name in enumerate(tensors)}
        for part in set(parts.values()):
            save_file({name: tensors[name] for name in parts if parts[name] == part}, folder / part)
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": parts}))
        (folder / "pytorch_model.bin").write_bytes(b"not read")
        in_parts = panscape.load(folder).state_dict()
        for name, tensor in expected.items():
            assert torch.equal(tensor, pickled[name])
            assert torch.equal(tensor, in_parts[name])

    def test_what_changes_maps_changes_the_options_that_they_are_kept_under(
        self, networks: Path, tmp_path: Path
    ) -> None:
        folder = copy_of(networks, "oneformer", tmp_path)
        found = []
        for content in (
            "{}",
            '{"size": {"shortest_edge": 64}}',
            '{"size": {"height": 64, "width": 64}}',
            '{"image_mean": [0, 0, 0]}',
        ):
            (folder / "preprocessor_config.json").write_text(content)
            found.append(Predictor(panscape.load(folder, FIVE), device="cpu").options["model"])
        (folder / "preprocessor_config.json").unlink()
        assert Predictor(panscape.load(folder, FIVE), device="cpu").options["model"] == found[0]
        assert len(set(found)) == 4

    def test_its_card_names_it(self, networks: Path) -> None:
        card = zoo.read_card(networks / "eomt")
        assert card == {
            "system": "EoMT",
            "class of transformers": "EomtForUniversalSegmentation",
            "source": str(networks / "eomt"),
        }
        assert panscape.load(networks / "eomt").card == {**card, "data": "coco_panoptic"}

    def test_no_backbone_is_fetched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("a request"))
        names = [f"LABEL_{i}" for i in range(250)]
        options = {"backbone_config": None, "backbone": "test_resnet", "use_timm_backbone": True}
        folder = save_network("DETR", tmp_path / "detr", names, **options)
        # As in the repository of the hub.
        changed(folder, **options, use_pretrained_backbone=True)
        assert panscape.load(folder).predict(torch.zeros(3, 32, 32, dtype=torch.uint8)).size == (32, 32)
        other = save_network("Mask2Former", tmp_path / "mask2former")
        with pytest.raises(
            InvalidArgumentError, match=r"of the backbone in .*, got only its name 'microsoft/swin-tiny'"
        ):
            panscape.load(changed(other, backbone_config=None, backbone="microsoft/swin-tiny"), FIVE)


class TestRefused:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                {"architectures": ["SegformerForSemanticSegmentation"]},
                r"got SegformerForSemanticSegmentation, which has n",
            ),
            (
                {"architectures": ["RfDetrForInstanceSegmentation"]},
                r"got RfDetrForInstanceSegmentation, which has no pan",
            ),
            ({"architectures": None, "model_type": "sam3"}, r"got sam3, which has no panoptic output"),
            (
                {"architectures": None, "model_type": None},
                r"as architectures in config\.json of .*, got none; it is of an",
            ),
            ({"patch_size": 14}, r"masks at stride 4 of .*, got image_size 64, patch_size 14 and num_upscale_blocks 2"),
            ({"image_size": [64, 128]}, r"a square input and masks at stride 4 of .*, got image_size \[64, 128\]"),
        ],
    )
    def test_other_networks(self, networks: Path, tmp_path: Path, options: dict[str, Any], message: str) -> None:
        with pytest.raises(InvalidArgumentError, match=message):
            panscape.load(changed(copy_of(networks, "eomt", tmp_path), **options))

    def test_a_network_without_names(self, networks: Path, tmp_path: Path) -> None:
        folder = changed(copy_of(networks, "eomt", tmp_path), id2label={"1": "road", "2": "car"})
        with pytest.raises(
            UnreadableFileError, match=r"expected id2label of config\.json with ids from 0 on, got 1, 2"
        ):
            panscape.load(folder)

    def test_a_processor_that_splits_images(self, networks: Path, tmp_path: Path) -> None:
        folder = copy_of(networks, "eomt", tmp_path)
        (folder / "preprocessor_config.json").write_text('{"do_split_image": true}')
        with pytest.raises(
            InvalidArgumentError, match=r"got those of .* for semantic segmentation; use those whose name"
        ):
            panscape.load(folder)

    @pytest.mark.parametrize("statistics", ['{"image_mean": [0.5]}', '{"image_std": [0, 0, 0]}', '{"image_mean": "x"}'])
    def test_statistics_that_cannot_be_used(self, networks: Path, tmp_path: Path, statistics: str) -> None:
        folder = copy_of(networks, "eomt", tmp_path)
        (folder / "preprocessor_config.json").write_text(statistics)
        with pytest.raises(UnreadableFileError, match="expected image_mean and image_std of three channels, got"):
            panscape.load(folder)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda t: t.pop("query.weight"), r"1 missing: query\.weight; use the files that"),
            (
                lambda t: t.update({"query.weight": torch.zeros(3, 32)}),
                r"1 of another shape: query\.weight: expected \[7, 32\], found \[3, 32\]",
            ),
            (
                lambda t: t.update({f"network.{name}": t.pop(name) for name in list(t)}),
                r"in the layout of EoMT's authors, perhaps only differences to a backbone of DINOv3; convert",
            ),
        ],
    )
    def test_weights_of_another_network(self, networks: Path, tmp_path: Path, change: Any, message: str) -> None:
        folder = tensors_replaced(copy_of(networks, "eomt", tmp_path), change)
        with pytest.raises(CheckpointMismatchError, match=message):
            panscape.load(folder)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"num_hidden_layers": 10**9}, "it describes a network of more than .* parameters, which the file lacks"),
            (
                {"num_queries": 10**12},
                r"config\.json describes a network of 32000\d+ numbers, and the weights have \d+$",
            ),
        ],
    )
    def test_a_much_larger_configuration(
        self, networks: Path, tmp_path: Path, options: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(UnreadableFileError, match=message):
            panscape.load(changed(copy_of(networks, "eomt", tmp_path), **options))

    def test_weights_that_are_not_finite(self, networks: Path, tmp_path: Path) -> None:
        folder = tensors_replaced(copy_of(networks, "eomt", tmp_path), lambda t: t["query.weight"].fill_(torch.nan))
        with pytest.raises(UnreadableFileError, match=r"expected finite weights, but query\.weight contain nan"):
            panscape.load(folder)

    @pytest.mark.parametrize("content", [b"", b"\x00" * 100, None])
    def test_damaged_or_missing_weights(self, networks: Path, tmp_path: Path, content: bytes | None) -> None:
        folder = copy_of(networks, "eomt", tmp_path)
        (folder / "model.safetensors").unlink()
        if content is not None:
            (folder / "model.safetensors").write_bytes(content)
        expected = "a complete safetensors file" if content is not None else "weights, one of model.safetensors, model"
        with pytest.raises(UnreadableFileError, match=f"expected {expected}"):
            panscape.load(folder)

    def test_code_in_pickled_weights(self, networks: Path, tmp_path: Path) -> None:
        folder = copy_of(networks, "eomt", tmp_path)
        (folder / "model.safetensors").unlink()
        torch.save({"weight": print}, folder / "pytorch_model.bin")
        with pytest.raises(UnreadableFileError, match=r"pytorch_model\.bin"):
            panscape.load(folder)

    def test_oneformer_without_a_tokenizer(self, networks: Path, tmp_path: Path) -> None:
        folder = copy_of(networks, "oneformer", tmp_path)
        (folder / "merges.txt").unlink()
        with pytest.raises(
            UnreadableFileError, match=r"text of the task, tokenizer\.json or vocab\.json and merges\.txt"
        ):
            panscape.load(folder, FIVE)
        (folder / "tokenizer.json").write_text("{}")
        with pytest.raises(UnreadableFileError, match=r"tokenizer\.json: expected a tokenizer of CLIP, but"):
            panscape.load(folder, FIVE)

    def test_its_weights_alone_and_a_start_of_training(self, networks: Path) -> None:
        with pytest.raises(
            UnreadableFileError, match="load a network of transformers by its folder or as hf:owner/name"
        ):
            panscape.load(networks / "eomt" / "model.safetensors")
        model = panscape.create_model("swiftnet", FIVE, backbone="residual_xs", width=8)
        with pytest.raises(
            InvalidArgumentError, match=r"to start from, got a network of transformers, .*; train it with"
        ):
            zoo.load_partial(model, networks / "eomt")

    def test_without_the_extra(self, networks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(MissingExtraError, match=r"needs transformers; .* pip install 'panscape\[transformers\]'$"):
            panscape.load(networks / "eomt")


def fetched(name: str) -> TransformersModel:
    files = network_files(name)
    assert files is not None
    return load_transformers(files)


class NotFoundError(EntryNotFoundError, OSError):
    """What the client of the hub raises; its own needs a response."""


class TestHub:
    """Against a hub in memory: a cache, which is filled by downloads."""

    @pytest.fixture
    def requests(self, networks: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        asked: list[str] = []
        cache: set[str] = set()

        def metadata(url: str, timeout: float) -> Any:
            asked.append(url.rpartition("/")[2])
            if not (networks / "eomt" / asked[-1]).is_file():
                raise NotFoundError(f"404: {url}")
            return SimpleNamespace(size=1)

        def download(repository: str, name: str) -> str:
            cache.add(name)
            return str(networks / "eomt" / name)

        def cached(repository: str, name: str) -> str | None:
            return str(networks / "eomt" / name) if name in cache else None

        monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", cached)
        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
        monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
        return asked

    def test_files_are_fetched_once(self, requests: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        model = panscape.load("hf:tue-mps/coco_panoptic_eomt_small_640_2x")
        assert requests == ["config.json", "processor_config.json", "preprocessor_config.json", "model.safetensors"]
        assert model.card["source"] == "https://huggingface.co/tue-mps/coco_panoptic_eomt_small_640_2x"
        assert model.provenance["licence"] == "MIT"
        requests.clear()
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
        panscape.load("hf:tue-mps/coco_panoptic_eomt_small_640_2x")
        assert requests == []

    def test_cards_have_the_licence_of_the_catalogue(self, requests: list[str]) -> None:
        model = fetched("hf:facebook/mask2former-swin-tiny-coco-panoptic")
        assert model.card["licence"] == "CC-BY-NC-4.0"

    @pytest.mark.parametrize(
        ("name", "task"),
        [
            ("tue-mps/coco_instance_eomt_large_640", "instance"),
            ("facebook/mask2former-swin-tiny-cityscapes-semantic", "semantic"),
            ("facebook/maskformer-swin-base-ade", "semantic"),
        ],
    )
    def test_weights_for_another_task_are_not_fetched(self, requests: list[str], name: str, task: str) -> None:
        with pytest.raises(InvalidArgumentError, match=f"got those of hf:{name} for {task} segmentation"):
            fetched(f"hf:{name}")
        assert requests == ["config.json"]

    def test_a_repository_that_is_not_there(self, networks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[str] = []

        def fail(url: str, timeout: float) -> Any:
            asked.append(f"{url} {timeout:g}")
            raise OSError("Name or service not known")

        monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", fail)
        with pytest.raises(
            UnreadableFileError, match=r"config\.json in the cache .*, but Name or service not known; che"
        ):
            panscape.load("hf:owner/nothing")
        assert asked == ["https://huggingface.co/owner/nothing/resolve/main/config.json 10"]

    @pytest.mark.parametrize("name", ["hf:", "hf:name", "hf:a/b/c", "hf:/etc/passwd"])
    def test_what_is_no_id(self, name: str) -> None:
        with pytest.raises(
            InvalidArgumentError, match="expected the id of a repository after hf:, as in hf:owner/name"
        ):
            panscape.load(name)


def test_every_family_has_a_tiny_network() -> None:
    assert {family.name for family in FAMILIES.values()} == set(BUILDERS)
