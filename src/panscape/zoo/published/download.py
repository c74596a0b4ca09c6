"""Download of one file over HTTP: announced, resumed after an interruption, and refused if it is a web page."""

from __future__ import annotations

import json
import logging
import re
import shutil
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from http.client import HTTPException, HTTPMessage, HTTPResponse, responses
from pathlib import Path
from typing import IO, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.request import HTTPRedirectHandler, Request, build_opener

from panscape.atomic_io import unwritable, write_json
from panscape.errors import DiskFullError, PanscapeError, UnreadableFileError, shown
from panscape.progress import ProgressBar

_logger = logging.getLogger(__name__)

_TIMEOUT = 10.0  # seconds without an answer or without data
_ATTEMPTS = 5  # after the connection is lost
_PAUSE = 1.0  # seconds before the second attempt, and twice as long before each other
_CHUNK = 1 << 18
_MARKUP = re.compile(rb"(\xef\xbb\xbf)?\s*<[!?a-z]", re.IGNORECASE)  # also XML, as some hosts state errors
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d+/(\d{1,18})")
_LENGTH = re.compile(r"[0-9]{1,18}")
_MEANINGS = {
    **dict.fromkeys((301, 302, 303, 307, 308), "it leads in a circle, or to an address that is not of the web"),
    401: "it needs a login",
    403: "the server refuses it, perhaps because it was withdrawn or because of your network",
    404: "it is no longer there",
    410: "it is no longer there",
    429: "the server receives too many requests; try again later",
}


class _State(NamedTuple):
    """What identifies the file of which a part has been received.

    Attributes:
        address: where it comes from.
        version: its ETag or its date; empty if the server states none, so that it cannot be resumed.
        total: its size in bytes; None if the server does not state it.
    """

    address: str
    version: str
    total: int | None


def download(address: str, target: Path, *, what: str, min_bytes: int = 0, other_bytes: int = 0) -> None:
    """Download a file; what an interrupted call has received is used by the next one.

    The part that is there lies beside ``target``, as ``NAME.part``, and what it is a part of in ``NAME.part.json``. It
    is continued if the server supports that and the file there is still the same, else it begins again.

    Args:
        address: of the file, http or https. Redirections are followed, but none from https to http.
        target: path to write; its folder exists.
        what: name of the file in messages.
        min_bytes: smaller files are refused.
        other_bytes: space that must be free beside that of the file.

    Raises:
        UnreadableFileError: the server cannot be reached, does not have the file, or sends a web page or a file that is
            too short.
        DiskFullError: the disk is full, or has too little space for the file.
        UnwritableFileError: the system refuses the file for another reason.
    """
    part = _Part(target.with_name(f"{target.name}.part"))
    request = _Download(address, part, what, min_bytes, other_bytes)
    with ProgressBar(f"fetching {what}, MB") as bar:
        losses, before = 0, 0
        while not request.receive(bar):
            # A connection that is lost again and again, but transfers something between, is used to the end.
            losses, before = (1, part.size) if part.size - before >= _CHUNK else (losses + 1, before)
            if losses == _ATTEMPTS:
                raise UnreadableFileError(
                    address, f"the connection was lost after {part.size / 1e6:.1f} MB; repeat the command to continue"
                )
            time.sleep(_PAUSE * 2 ** (losses - 1))
    part.finish(target)


class _Part:
    """The part of a file that has been received."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._record = path.with_name(f"{path.name}.json")

    @property
    def size(self) -> int:
        """Number of bytes received."""
        return self._path.stat().st_size if self._path.is_file() else 0

    def state(self, address: str) -> _State | None:
        """Return what this is a part of, if it can be continued from an address."""
        try:
            state = _State(**json.loads(self._record.read_bytes()))
        except (OSError, ValueError, TypeError):
            return None
        return state if state.address == address and state.version and self.size else None

    def begin(self, state: _State) -> None:
        """Begin again."""
        write_json(self._record, state._asdict())
        self.append(b"", is_first=True)

    def append(self, content: bytes, *, is_first: bool = False) -> None:
        try:
            with self._path.open("wb" if is_first else "ab") as file:
                file.write(content)
        except OSError as error:
            raise unwritable(self._path, error) from error

    def require_space(self, size: int) -> None:
        free = shutil.disk_usage(self._path.parent).free
        if size > free:
            raise DiskFullError(
                self._path.parent,
                f"{size / 1e6:.0f} MB are needed and {free / 1e6:.0f} MB are free; free space, or set PANSCAPE_CACHE "
                "to a folder on another disk",
            )

    def remove(self) -> None:
        for path in (self._path, self._record):
            with suppress(OSError):
                path.unlink(missing_ok=True)

    def finish(self, target: Path) -> None:
        self._path.replace(target)
        self._record.unlink(missing_ok=True)


class _Download:
    def __init__(self, address: str, part: _Part, what: str, min_bytes: int, other_bytes: int) -> None:
        self._address, self._part, self._what = address, part, what
        self._min_bytes, self._other_bytes = min_bytes, other_bytes
        self._is_announced = False

    def receive(self, bar: ProgressBar) -> bool:
        """Receive the file, or what is missing of it, and return whether it is complete.

        Raises:
            PanscapeError: see :func:`download`.
        """
        state = self._part.state(self._address)
        if state is None or state.total != self._part.size:  # else only the last step is missing
            response, total = self._request(state)
            with response:
                self._announce(response, total, bar)
                try:
                    self._copy(response, total, bar)
                except (HTTPException, OSError) as error:
                    if isinstance(error, PanscapeError):
                        raise
                    _logger.debug("%s: %s", self._address, _reason(error))
                    return False
            if total is not None and self._part.size != total:
                if self._part.size > total:  # the server has sent something else than the rest
                    self._part.remove()
                return False
        self._require_size(self._part.size)
        return True

    def _request(self, state: _State | None) -> tuple[HTTPResponse, int | None]:
        """Return a response that continues the part that is here, or that begins the file again, and its size."""
        if state is not None:
            response = self._open({"Range": f"bytes={self._part.size}-", "If-Range": state.version})
            is_rest = _content_range(response) == (self._part.size, state.total)
            if response.status == 206 and is_rest and _version(response) in ("", state.version):
                return response, state.total
            if response.status == 200:
                _logger.info("the server has changed the file, or sends no parts of it; beginning again")
                return response, self._begin(response)
            response.close()
        response = self._open({})
        return response, self._begin(response)

    def _open(self, headers: Mapping[str, str]) -> HTTPResponse:
        request = Request(self._address, headers={"User-Agent": "panscape", **headers})  # noqa: S310 - from the catalogue
        try:
            response: HTTPResponse = build_opener(_SafeRedirects).open(request, timeout=_TIMEOUT)
        except HTTPError as error:
            error.close()
            if error.code == 416 and "Range" in headers:  # the file there is shorter than the part here
                self._part.remove()
                return self._open({})
            raise self._refused(error) from error
        except (HTTPException, OSError) as error:
            if isinstance(error, PanscapeError):
                raise
            raise UnreadableFileError(self._address, f"{_reason(error)}; check the network and its proxy") from error
        return response

    def _refused(self, error: HTTPError) -> UnreadableFileError:
        meaning = _MEANINGS.get(error.code, "the server fails; try again later" if error.code >= 500 else "")
        answer = f"{error.code} {responses.get(error.code, '')}".strip()  # the server's own words may be anything
        return UnreadableFileError(self._address, f"{meaning or 'the server refuses it'} ({answer})")

    def _begin(self, response: HTTPResponse) -> int | None:
        """Prepare to receive the whole file, and return its size."""
        length = response.headers.get("Content-Length", "")
        total = int(length) if _LENGTH.fullmatch(length) else None
        encoding = response.headers.get("Content-Encoding", "identity")
        if response.status != 200 or encoding.lower() != "identity":
            answer = f"{response.status} {responses.get(response.status, '')}, encoding {shown(encoding)}"
            raise UnreadableFileError(self._address, f"expected the file as it is, got another answer ({answer})")
        if response.headers.get_content_type() == "text/html":
            raise self._web_page(response)
        if total is not None:
            self._require_size(total)
        self._part.require_space((total or self._min_bytes) + self._other_bytes)
        self._part.begin(_State(self._address, _version(response), total))
        return total

    def _web_page(self, response: HTTPResponse) -> UnreadableFileError:
        at = "" if response.url == self._address else f" of {response.url}"
        self._part.remove()
        return UnreadableFileError(
            self._address, f"expected the weights, got a web page{at}: a login, or the file is gone"
        )

    def _require_size(self, size: int) -> None:
        if size < self._min_bytes:
            self._part.remove()
            raise UnreadableFileError(
                self._address,
                f"expected at least {self._min_bytes / 1e6:.1f} MB, got a file of {size / 1e6:.1f} MB; it is cut off "
                "or another file",
            )

    def _announce(self, response: HTTPResponse, total: int | None, bar: ProgressBar) -> None:
        if self._is_announced:
            return
        self._is_announced = True
        size = "" if total is None else f", {total / 1e6:.1f} MB"
        rest = f", continued after {self._part.size / 1e6:.1f} MB" if self._part.size else ""
        text = f"fetching {self._what} from {self._address}{size}{rest}"
        if _logger.isEnabledFor(logging.INFO) or logging.getLogger("panscape").level != logging.NOTSET:
            _logger.info("%s", text)
        else:  # nobody has set up logging; a download is not silent without being asked to be
            bar.print(text)
        if response.url != self._address:
            _logger.debug("it has moved to %s", response.url)

    def _copy(self, response: HTTPResponse, total: int | None, bar: ProgressBar) -> None:
        size = self._part.size
        while content := response.read1(_CHUNK):  # what is there, so that little is lost with the connection
            if not size and _MARKUP.match(content):
                raise self._web_page(response)
            self._part.append(content)
            size += len(content)
            bar.update(round(size / 1e6), None if total is None else max(1, round(total / 1e6)))


class _SafeRedirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise UnreadableFileError(req.full_url, f"it leads to {shown(newurl)}, which is not encrypted")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _content_range(response: HTTPResponse) -> tuple[int, int] | None:
    """Return the first byte and the total size in a Content-Range; None if it is missing."""
    found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    return None if found is None else (int(found[1]), int(found[2]))


def _version(response: HTTPResponse) -> str:
    tag = response.headers.get("ETag", "")
    if tag and not tag.startswith("W/"):  # weak ones do not promise equal bytes
        return str(tag)
    return str(response.headers.get("Last-Modified", ""))


def _reason(error: BaseException) -> str:
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, BaseException) else error
    if isinstance(cause, TimeoutError):
        return f"no answer within {_TIMEOUT:g} s"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({cause.verify_message})"
    text = " ".join(str(getattr(cause, "strerror", None) or cause).split())
    return text or type(cause).__name__
