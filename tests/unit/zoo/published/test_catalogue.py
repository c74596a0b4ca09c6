"""The catalogue of models with a name: complete, consistent, and of networks that are built here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from panscape import LabelSpace, create_model, list_models, list_weights
from panscape.datasets.ade20k import ade20k_labels
from panscape.nn.darknet import Darknet
from panscape.nn.yolov3 import YoloV3
from panscape.zoo.published.catalogue import CatalogueEntry, catalogue, find_entry, list_published
from panscape.zoo.published.darknet import darknet_tensors
from panscape.zoo.published.dense_detections import dense_detections_key
from panscape.zoo.published.identify import identify
from panscape.zoo.published.maskformer import maskformer_key
from panscape.zoo.published.panoptic_deeplab import panoptic_deeplab_key
from panscape.zoo.published.panoptic_fpn import panoptic_fpn_key
from panscape.zoo.published.seamless import seamless_key
from panscape.zoo.published.swiftnet import swiftnet_key
from panscape.zoo.published.upernet import CLASSIFIERS, upernet_key
from panscape.zoo.transfer import unique_state_dict

BUILT = {str((e.model, e.options)): e for e in catalogue().values() if e.model is not None}


def upernet(model: Any) -> Callable[[str], str]:
    return upernet_key(model.backbone, {CLASSIFIERS[0]: torch.zeros(())})


def names_of(entry: CatalogueEntry) -> Callable[[Any], Callable[[str], str]]:
    """Return the function that returns the names in the files of a publisher, for a model."""
    mmdetection = entry.publisher.name == "mmdetection"
    marks: Mapping[str, Any] = {}
    if mmdetection:
        tensors = ("semantic_head.conv_logits", "roi_head.mask_head.conv_logits", "panoptic_head.cls_embed")
        marks = dict.fromkeys((f"{name}.weight" for name in tensors), torch.zeros(()))
    return {
        "Panoptic-DeepLab": panoptic_deeplab_key,
        "Panoptic FPN": partial(panoptic_fpn_key, found=marks),
        "MaskFormer": partial(maskformer_key, found=marks),
        "UPerNet (semantic)": upernet,
        "Dense detections": lambda _: dense_detections_key({}),
        "Panoptic SwiftNet": swiftnet_key,
        "Seamless": seamless_key,
    }[entry.system]


@pytest.mark.parametrize("entry", BUILT.values(), ids=[entry.name for entry in BUILT.values()])
def test_entries_are_networks_with_a_known_layout(entry: CatalogueEntry) -> None:
    labels = ade20k_labels("semantic") if entry.labels == "ade20k_150_semantic" else LabelSpace.load(str(entry.labels))
    with torch.device("meta"):
        model: Any = create_model(str(entry.model), labels, **entry.options)
    tensors = unique_state_dict(model)
    assert entry.megabytes == round(sum(t.numel() * t.element_size() for t in tensors.values()) / 1e6, 1)
    key = names_of(entry)(model)
    found = identify({key(name): tensor for name, tensor in model.state_dict().items()}, Path("x.pth"))
    is_semantic = labels.name.endswith("semantic")
    assert (found.model, found.num_categories, found.is_semantic) == (entry.model, len(labels), is_semantic)
    assert entry.options.items() <= found.options.items()


def test_sizes_of_darknets_files() -> None:
    """A file that is shorter than its network is refused, so all sizes are known."""
    with torch.device("meta"):
        networks = {"darknet53_imagenet": Darknet(), "yolov3_coco": YoloV3(80)}
    for name, network in networks.items():
        size = 4 * sum(tensor.numel() for tensor in darknet_tensors(network))
        assert catalogue()[name].megabytes == round(size / 1e6, 1), name
    assert all(e.megabytes for e in list_published() if e.access != "hub")


def test_the_catalogue_is_consistent() -> None:
    entries = list(catalogue().values())
    assert [e.name for e in entries if e.access == "bundled"] == [e.name for e in entries[:4]]
    assert {e.name for e in entries[:4]} == {weights.name for weights in list_weights()}
    assert [e.name for e in list_published()] == [e.name for e in entries[4:]]
    # Permissive ones first, then those without a statement, then the non-commercial ones.
    rank = [2 if e.publisher.is_non_commercial else int(e.publisher.licence is None) for e in entries]
    assert rank == sorted(rank)
    for entry in entries:
        assert (entry.model is None) == (entry.labels is None), entry.name
        assert entry.model is None or entry.model in list_models()
        assert re.fullmatch(r"[a-z0-9_]+", entry.name)
        assert bool(entry.urls) == (entry.access in ("https", "by hand"))
        assert bool(re.fullmatch(r"[\w-]+/[\w-]+", entry.hub or "")) == (entry.access == "hub")
        assert entry.hub is None or find_entry(f"hf:{entry.hub}") == entry
        assert all(url.startswith("https://") and url == url.strip() for url in entry.urls)
        assert entry.is_part + (entry.model is not None) == (entry.access in ("https", "by hand")), entry.name
        if entry.access == "https" and not entry.is_part:
            assert entry.file_suffix in (".pkl", ".pth")
        if entry.publisher.name in ("detectron2", "MaskFormer"):  # the names promise the digest
            assert entry.digest == ("md5", re.findall(r"_([0-9a-f]{6})\.pkl$", entry.urls[0])[0])
        if entry.publisher.name == "mmdetection":
            assert entry.digest == ("sha256", re.findall(r"-([0-9a-f]{8})\.pth$", entry.urls[0])[0])
        assert all(0 < value < 100 for value in entry.metrics.values())
