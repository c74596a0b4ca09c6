"""Files of the Hugging Face hub: fetched from its cache if present, else by one download; and uploaded.

The hub's own client retries an address five times. On a machine without internet access that takes two minutes, and its
message contains neither the file nor a remedy. Here, one short request checks the connection first.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from panscape.errors import UnreadableFileError, UnwritableFileError

HUB_PREFIX = "hf:"
"""Beginning of the names of networks of transformers on the hub."""

_logger = logging.getLogger(__name__)
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def is_hub_id(text: str) -> bool:
    """Return whether a text can be the id of a repository, "owner/name"."""
    return _ID.fullmatch(text) is not None


def hub_address(repository: str, name: str) -> str:
    """Return the URL of a file in a repository of the hub; ``HF_ENDPOINT`` may set the endpoint."""
    from huggingface_hub import hf_hub_url

    return str(hf_hub_url(repository, name))


def cached_file(repository: str, name: str) -> Path | None:
    """Return the path of a file of a hub repository in the cache; None if it is not there.

    Raises:
        UnreadableFileError: the id of the repository is not one.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        cached = try_to_load_from_cache(repository, name)
    except (HFValidationError, ValueError, OSError) as error:
        raise UnreadableFileError(repository, f"expected the id of a repository, {_reason(error)}") from error
    return Path(cached) if isinstance(cached, str) else None


def find_hub_file(repository: str, name: str, *, remedy: str) -> Path | None:
    """Return what :func:`hub_file` returns; None if the repository has no such file.

    Raises:
        UnreadableFileError: as :func:`hub_file`, for any other reason.
    """
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return hub_file(repository, name, remedy=remedy)
    except UnreadableFileError as error:
        # The second, a kind of the first, means that nobody could be asked.
        if isinstance(error.__cause__, EntryNotFoundError) and not isinstance(error.__cause__, LocalEntryNotFoundError):
            return None
        raise


def hub_file(repository: str, name: str, *, remedy: str) -> Path:
    """Return the path of a file of a hub repository; a cached file needs no network access.

    URL and size of a download are logged before it starts.

    Args:
        repository: its id, "owner/name".
        name: name of the file.
        remedy: what to do if the file cannot be fetched, for the error message.

    Raises:
        UnreadableFileError: the file is not in the cache, and the hub cannot be reached, is disabled by
            ``HF_HUB_OFFLINE``, or does not provide it. There is one connection attempt of at most
            ``HF_HUB_ETAG_TIMEOUT`` seconds (10).
    """
    from huggingface_hub import constants, get_hf_file_metadata, hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    failures: tuple[type[Exception], ...] = (*_network_errors(), HFValidationError, ValueError, OSError)
    try:
        cached = try_to_load_from_cache(repository, name)
        if isinstance(cached, str):
            _logger.debug("%s of %s is cached: %s", name, repository, cached)
            return Path(cached)
        address = hub_address(repository, name)
    except failures as error:
        raise UnreadableFileError(repository, f"expected the id of a repository, {_reason(error)}; {remedy}") from error
    expected = f"expected {address} in the cache of the Hugging Face hub or from there"
    if constants.HF_HUB_OFFLINE:
        raise UnreadableFileError(
            repository, f"{expected}, but it is not in the cache, and HF_HUB_OFFLINE forbids downloads; {remedy}"
        )
    try:
        with _without_warnings():
            size = get_hf_file_metadata(address, timeout=constants.HF_HUB_ETAG_TIMEOUT).size
            _logger.info("fetching %s%s", address, f", {size / 1e6:.1f} MB" if size else "")
            return Path(hf_hub_download(repository, name))
    except failures as error:
        raise UnreadableFileError(repository, f"{expected}, but {_reason(error)}; {remedy}") from error


def is_cached(repository: str) -> bool:
    """Return whether the cache of the hub has files of a repository, of any version."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return (Path(HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots").is_dir()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Drop the client's lines about each retry; the error has the reason."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def upload_folder(repository: str, folder: Path, *, private: bool, token: str | None, message: str) -> str:
    """Upload the files of a folder to a model repository of the hub, in one commit.

    Args:
        repository: its id, "owner/name"; created if it does not exist.
        folder: the files.
        private: whether a new repository is private.
        token: access token; None for the stored one.
        message: commit message.

    Returns:
        The URL of the commit.

    Raises:
        UnwritableFileError: the id is invalid, or the hub cannot be reached, is disabled by ``HF_HUB_OFFLINE`` or
            refuses the token or the files.
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    failures: tuple[type[Exception], ...] = (*_network_errors(), ValueError, OSError)
    try:
        api.create_repo(repository, private=private, exist_ok=True)
        commit = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message)
    except failures as error:
        raise UnwritableFileError(
            f"{repository} at {api.endpoint}",
            f"{_reason(error)}; check the id and the network, and that you have a token with write access (hf auth "
            "login, or token=)",
        ) from error
    return str(commit.commit_url)


def _network_errors() -> tuple[type[Exception], ...]:
    """Return the base classes of the network errors of the hub's client, which depend on its version."""
    found = []
    for module, name in (("httpx2", "HTTPError"), ("httpx", "HTTPError"), ("requests", "RequestException")):
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            found.append(kind)
    return tuple(found)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(" .:") or type(error).__name__
