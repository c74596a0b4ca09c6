"""A local HTTP server of one file, which misbehaves as it is told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from panscape.folder_lock import FolderLock


class FileServer:
    """What the server does, and what it was asked.

    Attributes:
        content: the file, at any path.
        etag: its version.
        cuts: for each of the first answers, the number of bytes after which the connection is lost.
        statuses: the status of other paths.
        moved: the addresses that paths lead to, with 301.
        has_ranges: whether it sends parts of the file.
        kind: the content type.
        states_length: whether it states the length.
        headers: other headers than the right ones, of all answers.
        part_headers: likewise, of answers with a part of the file.
        sends_all: whether parts have the whole file as their content.
        pause: seconds after which a connection is lost.
        wait: what it waits for before it answers.
        requests: path and Range of each request.
    """

    def __init__(self, content: bytes) -> None:
        self.content, self.etag, self.kind = content, '"1"', "application/octet-stream"
        self.cuts: list[int] = []
        self.statuses: dict[str, int] = {}
        self.moved: dict[str, str] = {}
        self.has_ranges = self.states_length = True
        self.headers: dict[str, str] = {}
        self.part_headers: dict[str, str] = {}
        self.sends_all, self.pause = False, 0.0
        self.wait: threading.Event | None = None
        self.requests: list[tuple[str, str | None]] = []
        self.address = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        wanted = request.headers.get("Range")
        self.requests.append((request.path, wanted))
        if self.wait is not None:
            self.wait.wait(5)
        if request.path in self.statuses:
            request.send_error(self.statuses[request.path])
            return
        if request.path in self.moved:
            request.send_response(301)
            request.send_header("Location", self.moved[request.path])
            request.end_headers()
            return
        start = 0
        if wanted is not None and self.has_ranges and request.headers.get("If-Range") == self.etag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.content) > 0:
            request.send_error(416)
            return
        request.send_response(206 if start else 200)
        body = self.content[start:]
        headers = {"Content-Type": self.kind, "ETag": self.etag}
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(self.content) - 1}/{len(self.content)}"
        if self.states_length:
            headers["Content-Length"] = str(len(body))
        for name, value in (headers | self.headers | (self.part_headers if start else {})).items():
            request.send_header(name, value)
        request.end_headers()
        if self.sends_all:
            body = self.content
        is_cut = bool(self.cuts)
        request.wfile.write(body[: self.cuts.pop(0)] if is_cut else body)
        if is_cut and self.pause:
            time.sleep(self.pause)


@contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """Serve a file within a context."""
    server = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        server.address = f"http://127.0.0.1:{listener.server_address[1]}"
        listener.handle_error = lambda *_: None  # clients that hang up  # type: ignore[method-assign]
        thread = threading.Thread(target=listener.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            if server.wait is not None:
                server.wait.set()
            listener.shutdown()
            thread.join()


def fetch_slowly(folder: str, name: str, content: str) -> None:
    """Do what another process does that fetches the same model."""
    lock = FolderLock(Path(folder) / f"{name}.lock", f"download of {name}")
    lock.acquire()
    (Path(folder) / "begun").touch()
    while not (Path(folder) / "go").exists():
        time.sleep(0.001)
    (Path(folder) / f"{name}.weights").write_text(content)
    lock.close()
