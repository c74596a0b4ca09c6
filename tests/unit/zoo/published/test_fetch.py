"""Published models by name, from a local server into a cache of the test."""

from __future__ import annotations

import errno
import json
import os
import threading
import zipfile
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from file_server import FileServer, fetch_slowly
from processes import NOTHING, Process
from published_models import (
    BY_HAND,
    HUB,
    MODEL,
    PART,
    RESTRICTED,
    checkpoint,
    darknet_file,
    digest,
    published,
    write_catalogue,
)

import panscape
from panscape import LabelSpace, zoo
from panscape.cli import main
from panscape.errors import InvalidArgumentError, UnknownNameError, UnreadableFileError, UnwritableFileError
from panscape.zoo.published.fetch import local_file

CONTENT = darknet_file()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with published(tmp_path, monkeypatch, CONTENT) as server:
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "weights"


def test_a_model_is_fetched_once_and_works_offline(
    server: FileServer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    server.content = checkpoint(tmp_path / "net.pth")
    caplog.set_level("INFO", "panscape")
    assert zoo.read_card(MODEL)["system"] == "Tiny"  # without fetching it
    assert server.requests == []
    first = panscape.load("tiny-cityscapes")
    size = len(server.content) / 1e6
    assert caplog.messages[0] == f"fetching {MODEL} from {server.address}/net.pth, {size:.1f} MB"
    assert sorted(one.name for one in cache.iterdir()) == [f"{MODEL}.safetensors", f"{MODEL}.source.json"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again = panscape.load(MODEL)
    assert len(server.requests) == 1
    for model in (first, again):
        assert (model.labels, model.training) == (LabelSpace.load("cityscapes"), False)
        assert all(bool((t == 0.01).all()) for t in model.parameters())
    assert zoo.load_partial(again, MODEL).names
    source, sha256 = f"{server.address}/net.pth", digest(server.content)
    assert zoo.read_card(MODEL) == {
        "name": MODEL,
        "system": "Tiny",
        "data": "Cityscapes",
        "terms of the data": "see its site",
        "licence": "MIT",
        "licence of the authors' code": "MIT",
        "results as published": {"PQ": 55.1},
        "repository": "https://authors",
        "source": source,
        "sha256 of that file": sha256,
    }
    record = json.loads((cache / f"{MODEL}.source.json").read_text())
    assert (record["sha256"], record["bytes"], record["date"]) == (sha256, len(server.content), str(date.today()))
    path = cache / f"{MODEL}.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UnreadableFileError, match=f"damaged; panscape weights remove {MODEL}, and it is fetched again"):
        panscape.load(MODEL)
    # The maps state what made them.
    assert again.provenance == {
        "weights": MODEL,
        "network": "panoptic_deeplab_mobilenetv2",
        "data": "Cityscapes",
        "licence": "MIT",
        "source": source,
        "source_sha256": sha256,
    }


@pytest.mark.parametrize("kind", ["md5", "sha256"])
def test_files_are_verified(kind: str, server: FileServer, cache: Path, tmp_path: Path) -> None:
    wrong = {"digest": {"kind": kind, "digits": "0123ab"}}
    write_catalogue(tmp_path / "catalogue.json", server.address, **wrong)
    with pytest.raises(
        UnreadableFileError, match=rf"file of {MODEL}, whose {kind} begins with 0123ab, got [0-9a-f]+; d"
    ):
        panscape.load(MODEL)
    assert list(cache.iterdir()) == []  # else the next call would read it again
    right = {"digest": {"kind": kind, "digits": digest(CONTENT, kind)[:6]}}
    write_catalogue(tmp_path / "catalogue.json", server.address, **right)
    with pytest.raises(UnreadableFileError, match=r"expected a \.pth checkpoint of tensors .* another kind of file"):
        panscape.load(MODEL)
    write_catalogue(tmp_path / "catalogue.json", server.address, **right, bytes=9999)
    with pytest.raises(UnreadableFileError, match=r"expected at least 0\.0 MB, got a file of 0\.0 MB"):
        panscape.load(MODEL)


def test_a_converted_file_is_recognised_by_its_digest(server: FileServer, tmp_path: Path) -> None:
    content = checkpoint(tmp_path / "net.pth")
    write_catalogue(
        tmp_path / "catalogue.json", server.address, digest={"kind": "md5", "digits": digest(content, "md5")}
    )
    assert main(["-q", "weights", "convert", str(tmp_path / "net.pth"), "--out", str(tmp_path / "m.safetensors")]) == 0
    card = zoo.read_card(tmp_path / "m.safetensors")
    assert (card["name"], card["licence"], card["converted from"]) == (MODEL, "MIT", "net.pth")


def test_another_network_than_the_catalogue_states(server: FileServer, cache: Path, tmp_path: Path) -> None:
    server.content = checkpoint(tmp_path / "net.pth")
    write_catalogue(tmp_path / "catalogue.json", server.address, model="panoptic_deeplab_r52")
    with pytest.raises(UnreadableFileError, match=r"'panoptic_deeplab_r52', .*, got .*'panoptic_deeplab_mobilenetv2'"):
        panscape.load(MODEL)
    assert list(cache.iterdir()) == []


def test_without_a_published_digest_the_first_file_is_trusted(server: FileServer, cache: Path) -> None:
    path = zoo.fetch_weights(PART)
    assert path == cache / f"{PART}.weights"
    assert path.read_bytes() == CONTENT
    assert zoo.verify_weights(PART) == digest(CONTENT)
    entry = zoo.list_published()[1]
    assert zoo.WeightsCache().models() == {PART: len(CONTENT) / 1e6}
    assert zoo.WeightsCache().remove(entry) == len(CONTENT) / 1e6
    server.content = darknet_file(2.0)
    with pytest.raises(
        UnreadableFileError, match=rf"fetched on {date.today()}, sha256 {digest(CONTENT)}, got .*; if its"
    ):
        zoo.fetch_weights(PART)
    assert not path.exists()
    (cache.parent / "new.weights").write_bytes(b"?" * 100)
    with pytest.raises(UnreadableFileError, match="expected Darknet's weights, but the file does not begin with"):
        zoo.fetch_weights(PART, cache.parent / "new.weights")
    (cache.parent / "new.weights").write_bytes(server.content)
    assert zoo.fetch_weights(PART, cache.parent / "new.weights").read_bytes() == server.content
    path.write_bytes(CONTENT)
    with pytest.raises(UnreadableFileError, match=f"got {digest(CONTENT)}; the file has changed: panscape weights rem"):
        zoo.verify_weights(PART)


def test_mirrors_are_tried_in_turn(server: FileServer, tmp_path: Path) -> None:
    addresses = [f"{server.address}/{name}" for name in ("gone", "moved", "net.pth")]
    server.statuses, server.moved = {"/gone": 404}, {"/moved": "/gone"}
    write_catalogue(tmp_path / "catalogue.json", server.address, urls=addresses, is_part=True)
    assert zoo.fetch_weights(MODEL).read_bytes() == CONTENT
    zoo.WeightsCache().remove(zoo.list_published()[0])
    write_catalogue(tmp_path / "catalogue.json", server.address, urls=addresses[:2])
    with pytest.raises(UnreadableFileError) as caught:
        zoo.fetch_weights(MODEL)
    assert str(caught.value) == (
        f"{MODEL}: cannot be fetched from {addresses[0]}: it is no longer there (404 Not Found) nor from "
        f"{addresses[1]}: it is no longer there (404 Not Found); download {addresses[0]} by other means, then panscape "
        f"weights fetch {MODEL} --file PATH"
    )


def test_a_licence_for_non_commercial_use_is_accepted_once(server: FileServer, cache: Path) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        zoo.fetch_weights(RESTRICTED)
    assert str(caught.value) == (
        f"the weights of {RESTRICTED} are under CC-BY-NC-4.0, not for commercial use (https://others); to accept that, "
        f"once: add --accept-licence {RESTRICTED}, in Python panscape.zoo.accept_licence('{RESTRICTED}')"
    )
    assert server.requests == []
    zoo.accept_licence(RESTRICTED)
    zoo.accept_licence(PART)  # needs none
    zoo.fetch_weights(RESTRICTED)
    zoo.WeightsCache().remove(next(e for e in zoo.list_published() if e.name == RESTRICTED))
    zoo.fetch_weights(RESTRICTED)
    record = cache / f"{RESTRICTED}.licence.json"
    assert json.loads(record.read_text()) == {"licence": "CC-BY-NC-4.0", "accepted": str(date.today())}
    record.write_text('{"licence": "MIT"}')  # another one was accepted
    assert zoo.fetch_weights(RESTRICTED).is_file()
    zoo.WeightsCache().remove(next(e for e in zoo.list_published() if e.name == RESTRICTED))
    with pytest.raises(InvalidArgumentError, match="not for commercial use"):
        zoo.fetch_weights(RESTRICTED)


def test_files_that_people_download(server: FileServer, cache: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        panscape.load(BY_HAND)
    assert str(caught.value) == (
        f"{BY_HAND} has to be downloaded by hand: open https://drive/1 (the second file), then panscape weights fetch "
        f"{BY_HAND} --file PATH"
    )
    checkpoint(tmp_path / "drive-1.tar")
    with zipfile.ZipFile(tmp_path / "drive-1.zip", "w") as archive:
        archive.write(tmp_path / "drive-1.tar", "models/drive-1.tar")
        archive.writestr("models/config.ini", "")
    assert zoo.fetch_weights(BY_HAND, tmp_path / "drive-1.zip") == cache / f"{BY_HAND}.safetensors"
    assert zoo.read_card(BY_HAND)["source"] == "drive-1.zip"
    assert sorted(one.name for one in cache.iterdir()) == [f"{BY_HAND}.safetensors", f"{BY_HAND}.source.json"]
    assert panscape.load(BY_HAND).labels.name == "cityscapes"
    (tmp_path / "other.zip").write_bytes(b"PK")
    with pytest.raises(UnreadableFileError, match="expected a zip archive, but File is not a zip file; download"):
        zoo.fetch_weights(BY_HAND, tmp_path / "other.zip")
    with pytest.raises(UnreadableFileError, match="no such file; check its name and folder"):
        zoo.fetch_weights(BY_HAND, tmp_path / "none.zip")
    assert (cache / f"{BY_HAND}.safetensors").is_file()
    assert server.requests == []


@pytest.mark.parametrize("variable", ["PANSCAPE_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_requested(
    variable: str, server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "true")
    with pytest.raises(UnreadableFileError) as caught:
        zoo.fetch_weights(PART)
    assert str(caught.value) == (
        f"{PART}: not in {cache}, and {variable} forbids downloads; download {server.address}/{PART} by other means, "
        f"then panscape weights fetch {PART} --file PATH"
    )
    assert server.requests == []
    assert not cache.exists()


def test_threads_that_fetch_the_same_model(server: FileServer) -> None:
    server.wait = threading.Event()
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(zoo.fetch_weights(PART))) for _ in range(3)]
    for thread in threads:
        thread.start()
    server.wait.set()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 1
    assert len(found) == 3
    assert len(server.requests) == 1


def test_another_process_is_waited_for(
    server: FileServer, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    other = Process(tmp_path / "log", fetch_slowly, cache, PART, "of the other", imported=NOTHING)
    assert other.wait_until((cache / "begun").exists), other.text
    caplog.set_level("INFO", "panscape")

    def go_on(_: float) -> None:
        (cache / "go").touch()
        other.end()

    monkeypatch.setattr("panscape.folder_lock.time", SimpleNamespace(sleep=go_on))
    assert zoo.fetch_weights(PART).read_text() == "of the other"
    assert server.requests == []
    assert caplog.messages[0].startswith(f"{cache} is in use by another download of {PART}, process {other.pid} on ")
    assert caplog.messages[0].endswith("; waiting for it")


def test_a_cache_that_cannot_be_written(
    server: FileServer, cache: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = zoo.fetch_weights(PART)
    real = os.open

    def refuse(name: Any, flags: int, *rest: Any, **options: Any) -> int:
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", str(name))
        return real(name, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    assert zoo.fetch_weights(PART) == path  # what is there can be used
    remedy = "set PANSCAPE_CACHE to a folder that can be written"
    with pytest.raises(
        UnwritableFileError, match=f"cannot write {cache}: Read-only file system; free space or {remedy}"
    ):
        panscape.load(MODEL)
    monkeypatch.setattr(os, "open", real)
    (tmp_path / "file").touch()
    monkeypatch.setenv("PANSCAPE_CACHE", str(tmp_path / "file"))
    for refused in (lambda: zoo.accept_licence(RESTRICTED), lambda: zoo.fetch_weights(PART)):
        with pytest.raises(UnwritableFileError, match=f"cannot write .*: Not a directory; .*{remedy}"):
            refused()


def test_names_that_are_not_fetched(server: FileServer) -> None:
    with pytest.raises(UnknownNameError, match="unknown model 'tiny_cityscape'; did you mean tiny_cityscapes or"):
        panscape.load("tiny_cityscape")
    with pytest.raises(UnknownNameError, match="unknown model 'nothing'; panscape models lists the 6 known"):
        zoo.fetch_weights("nothing")
    with pytest.raises(InvalidArgumentError, match="street is part of panscape; there is nothing to fetch"):
        zoo.fetch_weights("street")
    with pytest.raises(
        InvalidArgumentError, match=f"{HUB} is kept in the cache of the Hugging Face hub: it is fetched"
    ):
        zoo.fetch_weights(HUB)
    assert local_file(HUB) == local_file("hf:a/tiny") == "hf:a/tiny"
    assert local_file("street") == "street"
    with pytest.raises(InvalidArgumentError, match=f"got {PART}, weights of a Tiny .backbone.; train with --init-from"):
        panscape.load(PART)
    assert server.requests == []


def test_networks_of_the_hub_need_an_accepted_licence_too() -> None:
    listed, other = "mask2former_swin_l_coco", "hf:facebook/maskformer-swin-base-coco"
    for name in (listed, "hf:facebook/mask2former-swin-large-coco-panoptic", other):
        added = name if name == other else listed
        with pytest.raises(InvalidArgumentError, match=rf"CC-BY-NC-4\.0, .* add --accept-licence {added},"):
            panscape.load(name)
    zoo.accept_licence(other)
    assert local_file(other) == other
    assert local_file("hf:owner/name") == "hf:owner/name"


def test_a_folder_of_the_same_name_is_noted(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    zoo.fetch_weights(PART)
    monkeypatch.chdir(tmp_path)
    Path(PART).mkdir()
    with pytest.raises(InvalidArgumentError, match="expected a model on Darknet-53 for"):
        zoo.load_partial(torch.nn.Identity(), PART)  # type: ignore[arg-type]
    assert f"{PART} is the published model; give ./{PART} for what is here under this name" in caplog.messages
