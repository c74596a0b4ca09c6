"""Published models by name: fetched once, verified, converted strictly and kept in the cache of the user."""

from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

from panscape.atomic_io import atomic_write, unwritable
from panscape.errors import (
    CheckpointMismatchError,
    InvalidArgumentError,
    PanscapeError,
    UnknownNameError,
    UnreadableFileError,
    UnwritableFileError,
)
from panscape.folder_lock import FolderLock
from panscape.hub import HUB_PREFIX
from panscape.input_files import to_path
from panscape.user_cache import CACHE_VARIABLE
from panscape.weights_file import read_header
from panscape.zoo.published.cache import REMEDY, WeightsCache
from panscape.zoo.published.catalogue import CatalogueEntry, catalogue, find_entry
from panscape.zoo.published.darknet import read_darknet
from panscape.zoo.published.download import download
from panscape.zoo.published.integrity import digest_of, require_same_file, verified_digest
from panscape.zoo.published.offline import forbidding_variable

_logger = logging.getLogger(__name__)

_THREADS = threading.RLock()  # locks of files are those of the process
_SHORTER = 0.9  # of the expected size; a file that is smaller is cut off


def published_entry(name: str) -> CatalogueEntry:
    """Return the entry of a published model.

    Raises:
        UnknownNameError: there is none; the closest names are suggested.
        InvalidArgumentError: it is bundled.
    """
    entry = find_entry(name)
    if entry is None:
        raise UnknownNameError("model", name, catalogue(), command="panscape models")
    if entry.access == "bundled":
        raise InvalidArgumentError(f"{entry.name} is part of panscape; there is nothing to fetch or to remove")
    return entry


def _require_kept_here(entry: CatalogueEntry) -> None:
    if entry.access == "hub":
        raise InvalidArgumentError(
            f"{entry.name} is kept in the cache of the Hugging Face hub: it is fetched when it is first used, and hf "
            "cache manages its files"
        )


def accept_licence(name: str) -> None:
    """Accept the licence of a published model for non-commercial use, once; the cache records it.

    Args:
        name: name of the model.

    Raises:
        UnknownNameError: no published model has this name; the closest names are suggested.
        InvalidArgumentError: it is bundled with panscape.
        UnwritableFileError: the cache cannot be written.
    """
    entry = published_entry(name)
    if not entry.publisher.is_non_commercial:
        _logger.info("%s needs no acceptance; its licence is %s", entry.name, entry.publisher.licence or "not stated")
        return
    cache = WeightsCache()
    with _with_remedy(cache):
        cache.accept(entry)
    _logger.info("accepted %s for %s", entry.publisher.licence, entry.name)


def fetch_weights(name: str, file: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of a published model in the cache; it is fetched, verified and converted if it is not there.

    Processes that fetch the same model at the same time wait for the first one.

    Args:
        name: name of the model.
        file: its published file, if it was downloaded by other means; it replaces a model that is there.

    Returns:
        The path of a model for :func:`panscape.load`, or for detectors and backbones alone the published file.

    Raises:
        UnknownNameError: no published model has this name; the closest names are suggested.
        InvalidArgumentError: the licence needs to be accepted, or the file can only be downloaded by hand; the message
            explains how.
        UnreadableFileError: the file cannot be fetched, or is not the published one.
        CheckpointMismatchError: its tensors are not those of the network.
        UnwritableFileError: the cache cannot be written, or its disk is full.
    """
    entry, cache = published_entry(name), WeightsCache()
    _require_kept_here(entry)
    path = cache.path(entry)
    if path.is_file() and file is None:
        return path
    _require_licence(entry, cache)
    if file is None:
        _require_fetchable(entry, cache)
    lock = FolderLock(cache.folder / f"{entry.name}.lock", f"download of {entry.name}", remedy=REMEDY)
    with _THREADS, closing(lock), _with_remedy(cache):
        lock.acquire(wait=True)
        cache.remove_leftovers(entry)
        if file is not None:
            return _keep(entry, cache, to_path(file), source=None)
        if path.is_file():  # another process has fetched it meanwhile
            return path
        received = cache.folder / f"{entry.name}.fetched{entry.file_suffix}"
        source = _download(entry, received)
        try:
            _keep(entry, cache, received, source)
        except (UnreadableFileError, CheckpointMismatchError, InvalidArgumentError):
            received.unlink()
            raise
        received.unlink()
    return path


def local_file(name_or_path: str | os.PathLike[str], *, whole: bool = False) -> str | os.PathLike[str]:
    """Return the path in the cache for the name of a published model, which is fetched if needed.

    For a network of transformers it is "hf:owner/name", which is not fetched here.

    Args:
        name_or_path: anything else is returned as it is.
        whole: whether a whole network is needed.

    Raises:
        InvalidArgumentError: a whole network is needed, and it is a detector or a backbone alone; or as
            :func:`fetch_weights`.
        PanscapeError: as :func:`fetch_weights`.
    """
    entry = find_entry(name_or_path) if isinstance(name_or_path, str) else None
    if entry is None or entry.access == "bundled":
        return name_or_path
    if entry.access == "hub":
        _require_licence(entry, WeightsCache())
        return f"{HUB_PREFIX}{entry.hub}"
    if whole and entry.is_part:
        raise InvalidArgumentError(
            f"expected a panoptic network, got {entry.name}, weights of a {entry.system}; train with --init-from "
            f"{entry.name}, or panscape.zoo.load_partial(model, {entry.name!r})"
        )
    if Path(name_or_path).exists():
        _logger.warning("%s is the published model; give ./%s for what is here under this name", entry.name, entry.name)
    path = fetch_weights(entry.name)
    if not entry.is_part:
        try:
            read_header(path)
        except UnreadableFileError as error:
            raise UnreadableFileError(
                path, f"the model is damaged; panscape weights remove {entry.name}, and it is fetched again"
            ) from error
    return path


def verify_weights(name: str) -> str:
    """Return the SHA-256 of a model in the cache, after checking that it is the file that was written there.

    Raises:
        UnknownNameError: no published model has this name; the closest names are suggested.
        UnreadableFileError: it is not in the cache, or has changed since.
    """
    entry, cache = published_entry(name), WeightsCache()
    _require_kept_here(entry)
    path = cache.path(entry)
    if not path.is_file():
        raise UnreadableFileError(path, f"{entry.name} is not in the cache; panscape weights fetch {entry.name}")
    digest, recorded = digest_of(path, "sha256"), cache.source(entry).get("kept_sha256")
    if digest != recorded:
        raise UnreadableFileError(
            path,
            f"expected sha256 {recorded or 'in a record beside it'}, got {digest}; the file has changed: panscape "
            f"weights remove {entry.name}, and fetch it again",
        )
    return digest


def _require_licence(entry: CatalogueEntry, cache: WeightsCache) -> None:
    if cache.has_accepted(entry):
        return
    terms = f"; terms of the data: {entry.data_terms}" if entry.data_terms else ""
    raise InvalidArgumentError(
        f"the weights of {entry.name} are under {entry.publisher.licence}, not for commercial use "
        f"({entry.publisher.repository}){terms}; to accept that, once: add --accept-licence {entry.name}, in Python "
        f"panscape.zoo.accept_licence({entry.name!r})"
    )


def _require_fetchable(entry: CatalogueEntry, cache: WeightsCache) -> None:
    if entry.access == "by hand":
        raise InvalidArgumentError(f"{entry.name} has to be downloaded by hand: {how_to_get(entry)}")
    if (variable := forbidding_variable()) is not None:
        raise UnreadableFileError(
            entry.name, f"not in {cache.folder}, and {variable} forbids downloads; {_with_file(entry)}"
        )


def how_to_get(entry: CatalogueEntry) -> str:
    """Return what to do to have a model, in one sentence."""
    if entry.access == "bundled":
        return "part of panscape"
    accept = f" --accept-licence {entry.name}" if entry.publisher.is_non_commercial else ""
    if entry.access == "hub":
        option = f" with{accept}" if accept else ""
        return f"it is fetched from the Hugging Face hub when it is first used{option}, also as {HUB_PREFIX}{entry.hub}"
    if entry.access == "by hand":
        note = f" ({entry.note})" if entry.note else ""
        return f"open {entry.urls[0]}{note}, then panscape weights fetch {entry.name} --file PATH{accept}"
    option = " with that option" if accept else ""
    return f"panscape weights fetch {entry.name}{accept}; or it is fetched when it is first used{option}"


def _with_file(entry: CatalogueEntry) -> str:
    return f"download {entry.urls[0]} by other means, then panscape weights fetch {entry.name} --file PATH"


def _download(entry: CatalogueEntry, target: Path) -> str:
    """Fetch the file from the first address that has it, and return the address."""
    megabytes = entry.megabytes or 0
    smallest = entry.bytes or int(_SHORTER * megabytes * 1e6)
    kept = 0 if entry.is_part else int(megabytes * 1e6)
    problems = []
    for address in entry.urls:
        if target.is_file():  # a call was stopped before it converted the file
            return address
        try:
            download(address, target, what=entry.name, min_bytes=smallest, other_bytes=kept)
        except UnreadableFileError as error:
            problems.append(str(error))
            _logger.debug("%s", error)
        else:
            return address
    raise UnreadableFileError(entry.name, f"cannot be fetched from {' nor from '.join(problems)}; {_with_file(entry)}")


def _keep(entry: CatalogueEntry, cache: WeightsCache, file: Path, source: str | None) -> Path:
    """Verify a published file, and write it as a model into the cache; return the path of the model.

    Args:
        entry: the model.
        cache: the cache.
        file: the file.
        source: its address; None for a file that the user has chosen, which may differ from an earlier one.
    """
    digest = verified_digest(file, entry)
    if source is not None and entry.digest is None:
        require_same_file(digest, cache.source(entry), file, entry)
    source = source or file.name
    path = cache.path(entry)
    if entry.is_part:
        read_darknet(file)  # raises if it is another kind of file
        with atomic_write(path) as temporary:
            shutil.copyfile(file, temporary)
    else:
        with _checkpoint_in(file, cache.folder) as checkpoint:
            _convert(entry, checkpoint, path, {"source": source, "sha256 of that file": digest})
    facts = {"source": source, "sha256": digest, "bytes": file.stat().st_size, "date": date.today().isoformat()}
    cache.record_source(entry, {**facts, "kept_sha256": digest_of(path, "sha256")})
    _logger.info("kept %s in %s, %.1f MB", entry.name, path, path.stat().st_size / 1e6)
    return path


@contextmanager
def _checkpoint_in(file: Path, folder: Path) -> Iterator[Path]:
    """Yield the checkpoint in a published file, which may be a zip archive with one ``.tar``."""
    if file.suffix != ".zip":
        yield file
        return
    unpacked = folder / f"{file.stem}.unpacked.tar"
    try:
        with ZipFile(file) as archive:
            members = [one for one in archive.infolist() if one.filename.endswith(".tar")]
            if len(members) != 1:
                raise UnreadableFileError(file, f"expected an archive with one .tar, got {len(members)}")
            with archive.open(members[0]) as content, unpacked.open("wb") as target:
                while block := content.read(1 << 20):
                    target.write(block)
        yield unpacked
    except BadZipFile as error:
        raise UnreadableFileError(file, f"expected a zip archive, but {error}; download it again") from error
    finally:
        unpacked.unlink(missing_ok=True)


def _convert(entry: CatalogueEntry, file: Path, path: Path, origin: dict[str, Any]) -> None:
    from panscape.zoo.published.load import create_published
    from panscape.zoo.save_load import save

    labels = None if entry.labels == "ade20k_150_semantic" else entry.labels  # that one is found by the network
    model = create_published(file, labels)
    spec = model.spec
    found = None if spec is None else {"model": spec.name, "labels": model.labels.name, **spec.options}
    wanted = {"model": entry.model, "labels": entry.labels, **entry.options}
    if found is None or any(found.get(name) != value for name, value in wanted.items()):
        raise UnreadableFileError(file, f"expected {wanted} for {entry.name}, got {found}; give the file of this model")
    save(model, path, {"name": entry.name, **entry.facts(), **origin})


@contextmanager
def _with_remedy(cache: WeightsCache) -> Iterator[None]:
    """Let errors about a cache that cannot be written name the remedy."""
    try:
        yield
    except UnwritableFileError as error:
        if REMEDY in str(error) or CACHE_VARIABLE in str(error):
            raise
        reason = str(error).removeprefix(f"cannot write {error.path}: ")
        raise type(error)(error.path, f"{reason}; or {REMEDY}") from error
    except OSError as error:
        if (
            isinstance(error, PanscapeError)
            or error.filename is None
            or not Path(error.filename).is_relative_to(cache.folder)
        ):
            raise
        raise unwritable(Path(error.filename), error) from error
