"""A small catalogue of published models for tests, on a local server, and an empty cache."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from file_server import FileServer, serving
from released_deeplab import MOBILENETV2, released_shapes

from panscape.zoo.published import catalogue, download

MODEL, PART, BY_HAND, RESTRICTED, HUB = "tiny_cityscapes", "tiny_part", "tiny_vistas", "tiny_meta", "tiny_coco"
_PUBLISHERS = {
    "authors": {"repository": "https://authors", "code_licence": "MIT", "licence": "MIT"},
    "others": {
        "repository": "https://others",
        "code_licence": "MIT",
        "licence": "CC-BY-NC-4.0",
        "is_non_commercial": True,
    },
    "panscape": {"code_licence": "Apache-2.0", "licence": "Apache-2.0"},
}


def checkpoint(path: Path, value: float = 0.01) -> bytes:
    """Write a file with the tensors of the smallest released Panoptic-DeepLab, all of one value, and return it."""
    tensors = {name: torch.tensor(value).expand(shape) for name, shape in released_shapes(MOBILENETV2[2]).items()}
    torch.save(tensors, path)
    return path.read_bytes()


def darknet_file(value: float = 1.0) -> bytes:
    """Return a file of Darknet's weights, all of one value."""
    return struct.pack("<iiiQ", 0, 2, 0, 0) + struct.pack("<f", value) * 2000


def write_catalogue(path: Path, address: str, **changes: Any) -> None:
    """Write a catalogue whose files are on a server; ``changes`` are those of the whole network."""
    whole = {"publisher": "authors", "system": "Tiny", "data": "Cityscapes", "access": "https"}
    whole |= {"model": MOBILENETV2[0], "labels": "cityscapes", "metrics": {"PQ": 55.1}, "megabytes": 31.1}
    whole |= {"urls": [f"{address}/net.pth"], "megabytes": None, **changes}
    part = {
        "publisher": "authors",
        "system": "Tiny (backbone)",
        "data": "ImageNet",
        "is_part": True,
        "suffix": ".weights",
    }
    part |= {"access": "https", "urls": [f"{address}/{PART}"]}
    models = [
        {"name": "street", "publisher": "panscape", "system": "Tiny", "data": "CamVid", "access": "bundled"},
        {"name": MODEL, **whole},
        {"name": PART, **part},
        {"name": HUB, "publisher": "authors", "system": "Tiny", "data": "COCO", "access": "hub", "hub": "a/tiny"},
        {"name": BY_HAND, **whole, "access": "by hand", "urls": ["https://drive/1"], "note": "the second file"},
        {"name": RESTRICTED, **part, "publisher": "others", "data": "COCO"},
    ]
    terms = {"Cityscapes": "see its site"}
    path.write_text(json.dumps({"publishers": _PUBLISHERS, "terms_of_data": terms, "models": models}))
    catalogue.catalogue.cache_clear()


@contextmanager
def published(folder: Path, monkeypatch: pytest.MonkeyPatch, content: bytes) -> Iterator[FileServer]:
    """Serve a file as all published ones within a context, with an empty cache in ``folder``."""
    monkeypatch.setenv("PANSCAPE_CACHE", str(folder / "cache"))
    monkeypatch.delenv("PANSCAPE_OFFLINE")
    monkeypatch.setattr(download, "_PAUSE", 0.0)
    with serving(content) as server, monkeypatch.context() as patch:
        patch.setattr(catalogue, "_FILE", folder / "catalogue.json")
        write_catalogue(folder / "catalogue.json", server.address)
        yield server
    catalogue.catalogue.cache_clear()


def digest(content: bytes, kind: str = "sha256") -> str:
    """Return the digest of a file."""
    return hashlib.new(kind, content).hexdigest()
