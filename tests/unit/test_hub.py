"""Files of the hub: from the cache, downloaded once with a message, or an error with a remedy."""

from __future__ import annotations

import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest

from panscape import hub
from panscape.errors import UnreadableFileError
from panscape.hub import cached_file, find_hub_file, hub_file, is_cached

ADDRESS = "https://huggingface.co/owner/name/resolve/main/model.safetensors"


def fetched() -> Path:
    return hub_file("owner/name", "model.safetensors", remedy="give a file")


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests to a hub that has the file, with an empty cache."""
    asked: list[str] = []

    def metadata(url: str, timeout: float) -> Any:
        asked.append(f"size of {url} within {timeout:g} s")
        return SimpleNamespace(size=12_345_678)

    def download(repo_id: str, filename: str) -> str:
        asked.append(f"{repo_id}/{filename}")
        return "/cache/model.safetensors"

    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return asked


def test_cached_files_are_not_requested(questions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "/cache/model.safetensors")
    assert fetched() == Path("/cache/model.safetensors")
    assert questions == []


def test_repositories_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "models--owner--name" / "snapshots").mkdir(parents=True)
    assert is_cached("owner/name")
    assert not is_cached("owner/other")


def test_a_download_is_announced_with_source_and_size(questions: list[str], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "panscape")
    assert fetched() == Path("/cache/model.safetensors")
    assert caplog.record_tuples == [("panscape.hub", logging.INFO, f"fetching {ADDRESS}, 12.3 MB")]
    assert questions == [f"size of {ADDRESS} within 10 s", "owner/name/model.safetensors"]


def test_offline_nothing_is_requested(questions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(UnreadableFileError, match=rf"expected {ADDRESS} .* HF_HUB_OFFLINE forbids .*; give a file$"):
        fetched()
    assert questions == []


def test_an_unreachable_hub_is_tried_once(monkeypatch: pytest.MonkeyPatch) -> None:
    # The client of the hub's package, against a local port without a server.
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(hub, "hub_address", lambda *_: "http://127.0.0.1:9/owner/name/resolve/main/model.safetensors")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", lambda *_: pytest.fail("five attempts would begin here"))
    with pytest.raises(UnreadableFileError, match=r"owner/name: expected http://127\.0\.0\.1:9/.*refused.*; give a f"):
        fetched()


def test_retries_of_the_client_are_not_shown(
    questions: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = logging.getLogger("huggingface_hub.utils._http")

    def download(*_: object) -> str:
        client.warning("Retrying in 1s [Retry 1/5].")
        raise OSError("connection lost")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(UnreadableFileError, match="connection lost; give a file"):
        fetched()
    assert caplog.messages == []
    client.warning("visible again")
    assert caplog.messages == ["visible again"]


@pytest.mark.parametrize(("kind", "is_known"), [("EntryNotFoundError", True), ("LocalEntryNotFoundError", False)])
def test_a_file_that_the_repository_lacks_is_none(
    questions: list[str], monkeypatch: pytest.MonkeyPatch, kind: str, is_known: bool
) -> None:
    error = type("Refusal", (getattr(huggingface_hub.errors, kind), OSError), {})

    def metadata(*_: object, **__: object) -> Any:
        raise error("no such entry")

    monkeypatch.setattr(huggingface_hub, "get_hf_file_metadata", metadata)
    if is_known:
        assert find_hub_file("owner/name", "model.safetensors", remedy="give a file") is None
    else:  # nobody could be asked
        with pytest.raises(UnreadableFileError, match="no such entry; give a file"):
            find_hub_file("owner/name", "model.safetensors", remedy="give a file")


def test_the_cache_is_looked_up_without_requests(questions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert cached_file("owner/name", "model.safetensors") is None
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_: "/cache/model.safetensors")
    assert cached_file("owner/name", "model.safetensors") == Path("/cache/model.safetensors")
    assert questions == []
