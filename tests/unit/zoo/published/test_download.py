"""Downloads against a local server that misbehaves."""

from __future__ import annotations

import errno
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from disk import room_for
from file_server import FileServer, serving

from panscape.errors import DiskFullError, UnreadableFileError, UnwritableFileError
from panscape.zoo.published import download as module
from panscape.zoo.published.download import download

CONTENT = bytes(range(256)) * 4000  # 1.0 MB, in several reads


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    monkeypatch.setattr(module, "_PAUSE", 0.0)
    with serving(CONTENT) as server:
        yield server


@pytest.fixture
def fetch(server: FileServer, tmp_path: Path) -> Callable[..., bytes]:
    def run(path: str = "/model.pkl", **options: Any) -> bytes:
        download(f"{server.address}{path}", tmp_path / "model", what="a model", **options)
        assert [one.name for one in tmp_path.iterdir()] == ["model"]
        return (tmp_path / "model").read_bytes()

    return run


def test_a_download_is_announced_with_its_size(
    server: FileServer, fetch: Callable[..., bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "panscape")
    assert fetch() == CONTENT
    assert caplog.messages == [f"fetching a model from {server.address}/model.pkl, 1.0 MB"]
    assert server.requests == [("/model.pkl", None)]


def test_a_download_is_announced_where_nobody_has_set_up_logging(
    fetch: Callable[..., bytes], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    fetch()
    assert capsys.readouterr().err.startswith("fetching a model from http://127.0.0.1:")
    caplog.set_level("WARNING", "panscape")  # as -q does
    fetch()
    assert capsys.readouterr().err == ""


def test_lost_connections_are_resumed_in_one_call(server: FileServer, fetch: Callable[..., bytes]) -> None:
    server.cuts = [300_000, 400_000]
    assert fetch() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=300000-", "bytes=700000-"]


def interrupted(server: FileServer, tmp_path: Path) -> None:
    """Let a download end after 300,000 bytes, with what that leaves behind."""
    server.cuts = [300_000, *[0] * 4]
    with pytest.raises(UnreadableFileError, match=r"connection was lost after 0\.3 MB; repeat the command to continue"):
        download(f"{server.address}/model.pkl", tmp_path / "model", what="a model")
    assert (tmp_path / "model.part").read_bytes() == CONTENT[:300_000]
    server.cuts, server.requests = [], []


def test_a_later_call_continues(
    server: FileServer, fetch: Callable[..., bytes], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    interrupted(server, tmp_path)
    caplog.set_level("INFO", "panscape")
    assert fetch() == CONTENT
    assert [wanted for _, wanted in server.requests] == ["bytes=300000-"]
    assert caplog.messages == [
        f"fetching a model from {server.address}/model.pkl, 1.0 MB, continued after 0.3 MB",
    ]


@pytest.mark.parametrize("change", ["no ranges", "another file", "a shorter file", "another address", "no record"])
def test_a_part_of_another_file_is_not_continued(
    change: str, server: FileServer, fetch: Callable[..., bytes], tmp_path: Path
) -> None:
    interrupted(server, tmp_path)
    if change == "no ranges":
        server.has_ranges = False
    elif change == "another file":
        server.etag, server.content = '"2"', CONTENT[::-1]
    elif change == "a shorter file":  # under the same version
        server.content = CONTENT[:200_000]
    elif change == "no record":
        (tmp_path / "model.part.json").write_text("{}")
    assert fetch("/other.pkl" if change == "another address" else "/model.pkl") == server.content


@pytest.mark.parametrize("change", ["another version", "another range", "the whole file"])
def test_an_answer_that_is_not_the_rest_is_not_used(
    change: str, server: FileServer, fetch: Callable[..., bytes], tmp_path: Path
) -> None:
    interrupted(server, tmp_path)
    if change == "another version":  # from a server that does not compare If-Range
        server.content, server.part_headers = CONTENT[::-1], {"ETag": '"2"'}
    elif change == "another range":
        server.part_headers = {"Content-Range": f"bytes 0-{len(CONTENT) - 1}/{len(CONTENT)}"}
    else:
        server.sends_all, server.states_length = True, False
    assert fetch() == server.content


def test_little_is_lost_with_a_connection(
    server: FileServer, fetch: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.05)
    server.cuts, server.pause = [200_000], 0.1  # less than is read at once
    assert fetch() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=200000-"]


def test_a_complete_part_needs_no_request(server: FileServer, fetch: Callable[..., bytes], tmp_path: Path) -> None:
    interrupted(server, tmp_path)
    (tmp_path / "model.part").write_bytes(CONTENT)
    assert fetch() == CONTENT
    assert server.requests == []


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (401, r"it needs a login \(401 Unauthorized\)"),
        (403, r"the server refuses it, perhaps because it was withdrawn .* \(403 Forbidden\)"),
        (404, r"it is no longer there \(404 Not Found\)"),
        (416, r"the server refuses it \(416 Requested Range Not Satisfiable\)"),
        (503, r"the server fails; try again later \(503 Service Unavailable\)"),
    ],
)
def test_refusals(status: int, message: str, server: FileServer, fetch: Callable[..., bytes], tmp_path: Path) -> None:
    server.statuses["/model.pkl"] = status
    with pytest.raises(UnreadableFileError, match=rf"^{server.address}/model\.pkl: {message}$"):
        fetch()
    assert list(tmp_path.iterdir()) == []


def test_moved_files_are_followed(server: FileServer, fetch: Callable[..., bytes]) -> None:
    server.moved = {"/model.pkl": "/there.pkl"}
    server.cuts = [300_000]
    assert fetch() == CONTENT
    assert [path for path, _ in server.requests] == ["/model.pkl", "/there.pkl"] * 2
    server.moved = {"/model.pkl": "/model.pkl"}
    with pytest.raises(UnreadableFileError, match=r"it leads in a circle, .* \(301 Moved Permanently\)$"):
        fetch()


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ({"Content-Encoding": "gzip"}, r"expected the file as it is, got another answer \(200 OK, encoding 'gzip'\)"),
        ({"Content-Length": "9" * 5000}, r"expected at least 1\.0 MB"),
    ],
)
def test_odd_headers(headers: dict[str, str], message: str, server: FileServer, fetch: Callable[..., bytes]) -> None:
    server.headers, server.cuts = headers, [10]
    with pytest.raises(UnreadableFileError, match=message):
        fetch(min_bytes=1_000_000)


def test_no_redirection_to_an_unencrypted_address() -> None:
    request = module.Request("https://here/x")
    with pytest.raises(UnreadableFileError, match="https://here/x: it leads to 'http://there/x', which is not encrypt"):
        module._SafeRedirects().redirect_request(request, None, 301, "", None, "http://there/x")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "start"),
    [
        ("text/html; charset=utf-8", b"Virus scan warning"),
        ("application/octet-stream", b"\n<!DOCTYPE html><title>Virus scan warning</title>"),
        ("application/octet-stream", b"\xef\xbb\xbf<!-- gone --><html>"),
        ("application/xml", b'<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>'),
    ],
)
def test_web_pages_are_refused(
    kind: str, start: bytes, server: FileServer, fetch: Callable[..., bytes], tmp_path: Path
) -> None:
    server.kind, server.content = kind, start + b" " * 200
    server.moved = {"/model.pkl": "/home"}
    with pytest.raises(UnreadableFileError, match=rf"expected the weights, got a web page of {server.address}/home: a"):
        fetch()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("states_length", [True, False])
def test_short_files_are_refused(
    states_length: bool, server: FileServer, fetch: Callable[..., bytes], tmp_path: Path
) -> None:
    server.states_length = states_length
    with pytest.raises(UnreadableFileError, match=r"expected at least 2\.0 MB, got a file of 1\.0 MB; it is cut off"):
        fetch(min_bytes=2_000_000)
    assert list(tmp_path.iterdir()) == []
    assert fetch(min_bytes=len(CONTENT)) == CONTENT


def test_servers_that_do_not_answer(
    server: FileServer, fetch: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TIMEOUT", 0.05)
    server.wait = threading.Event()
    with pytest.raises(UnreadableFileError, match=r"no answer within 0\.05 s; check the network and its proxy"):
        fetch()
    server.address = "http://127.0.0.1:9"
    with pytest.raises(UnreadableFileError, match="Connection refused; check the network"):
        fetch()


def test_too_little_space(
    server: FileServer, fetch: Callable[..., bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = namedtuple("usage", "free")(3_000_000)
    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "disk_usage", lambda _: free)
        with pytest.raises(DiskFullError, match="4 MB are needed and 3 MB are free; free space, or set PANSCAPE_CACHE"):
            fetch(other_bytes=2_500_000)
    assert list(tmp_path.iterdir()) == []
    with room_for(400_000), pytest.raises(DiskFullError, match="the disk is full; free space"):
        fetch()
    assert fetch() == CONTENT  # continued
    assert server.requests[-1][1] is not None


def test_a_folder_that_cannot_be_written(
    server: FileServer, fetch: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("panscape.zoo.published.download.Path.open", refuse)
    with pytest.raises(UnwritableFileError, match="the disk is read-only; write to another folder"):
        fetch()
