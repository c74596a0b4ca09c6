"""The catalogue of models that have a name: bundled ones, and those that their authors publish elsewhere.

Its data are in ``catalogue.json``: addresses, digests, licences and results, all as the authors state them. Sizes of
networks that are built here are those of their tensors in float32. What is not known is missing there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from panscape.hub import HUB_PREFIX

Access = Literal["bundled", "https", "by hand", "hub"]

_FILE = Path(__file__).with_name("catalogue.json")
_FULL_DIGITS = {"md5": 32, "sha256": 64}


class KnownDigest(NamedTuple):
    """The digest of a file as its publisher states it, often only its beginning.

    Attributes:
        kind: name of the hash function, "md5" or "sha256".
        digits: hexadecimal digits at the beginning of the digest.
    """

    kind: str
    digits: str

    def __str__(self) -> str:
        beginning = "" if len(self.digits) == _FULL_DIGITS[self.kind] else " begins with"
        return f"{self.kind}{beginning} {self.digits}"


@dataclass(frozen=True)
class Publisher:
    """Who published weights, and under which terms.

    Attributes:
        name: name of the repository.
        repository: its address; None for models that are bundled.
        code_licence: licence of the authors' code.
        licence: licence of the weights; None if the authors do not state one.
        licence_note: what to know about it.
        is_non_commercial: whether the licence excludes commercial use.
        hub_prefix: beginning of the names of all of its repositories on the hub, also of those without an entry.
    """

    name: str
    repository: str | None = None
    code_licence: str | None = None
    licence: str | None = None
    licence_note: str | None = None
    is_non_commercial: bool = False
    hub_prefix: str | None = None


@dataclass(frozen=True)
class CatalogueEntry:
    """A model with a name for :func:`panscape.load`.

    Attributes:
        name: the name.
        publisher: who published it.
        system: name of the method.
        data: name of the dataset it was trained on.
        access: "bundled" with panscape, "https" if it can be fetched, "by hand" if only people can download it, "hub"
            for a network of transformers on the Hugging Face hub.
        labels: name of its label space; None if it is not built here.
        model: name for :func:`panscape.create_model`; None if it is not built here.
        options: options of that call on which the tensors depend.
        is_part: whether it is a detector or a backbone alone, for :func:`panscape.zoo.load_partial`.
        metrics: results as published, in percent, by name.
        megabytes: size of its file in the cache or on the hub; None if unknown.
        bytes: exact size of the published file; None if unknown.
        hub: its repository on the hub, "owner/name"; :func:`panscape.load` takes it as "hf:owner/name", too.
        urls: addresses of the file, of which later ones are mirrors; for access by hand, the pages to open.
        digest: digest of the published file; None if the publisher states none.
        suffix: ending of the published file; by default that in the address.
        note: what else to know.
        data_terms: terms of the dataset; None if unknown.
    """

    name: str
    publisher: Publisher
    system: str
    data: str
    access: Access
    labels: str | None = None
    model: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    is_part: bool = False
    metrics: Mapping[str, float] = field(default_factory=dict)
    megabytes: float | None = None
    bytes: int | None = None
    hub: str | None = None
    urls: tuple[str, ...] = ()
    digest: KnownDigest | None = None
    suffix: str = ""
    note: str | None = None
    data_terms: str | None = None

    @property
    def file_suffix(self) -> str:
        """Ending of the published file."""
        return self.suffix or PurePosixPath(urlsplit(self.urls[0]).path).suffix

    def facts(self) -> dict[str, Any]:
        """Return what is known of it, for model cards, by the names that cards use."""
        facts = {
            "system": self.system,
            "data": self.data,
            "terms of the data": self.data_terms,
            "licence": self.publisher.licence or "not stated",
            "about the licence": self.publisher.licence_note,
            "licence of the authors' code": self.publisher.code_licence,
            "results as published": dict(self.metrics),
            "repository": self.publisher.repository,
            "on the hub": self.hub,
            "note": self.note,
        }
        return {name: fact for name, fact in facts.items() if fact}


@cache
def catalogue() -> Mapping[str, CatalogueEntry]:
    """Return the entries by name: bundled ones, those under a permissive licence, others, and non-commercial ones."""
    return read_catalogue(json.loads(_FILE.read_text(encoding="utf-8")))


def read_catalogue(content: Mapping[str, Any]) -> dict[str, CatalogueEntry]:
    """Return the entries of a catalogue by name, from its JSON."""
    publishers = {name: Publisher(name, **fields) for name, fields in content["publishers"].items()}
    entries = {}
    for fields in content["models"]:
        known = {**fields, "publisher": publishers[fields["publisher"]], "urls": tuple(fields.get("urls", ()))}
        digest = known.pop("digest", None)
        terms = content["terms_of_data"].get(fields["data"])
        entries[fields["name"]] = CatalogueEntry(
            **known, digest=None if digest is None else KnownDigest(**digest), data_terms=terms
        )
    return entries


def find_entry(name: str) -> CatalogueEntry | None:
    """Return the entry of a name, in which ``-`` and ``_`` are equivalent, or of "hf:owner/name"; None if none.

    A repository without an entry, but by a publisher who has others under one licence, gets one.
    """
    entries = catalogue()
    if not name.startswith(HUB_PREFIX):
        return entries.get(name.replace("-", "_"))
    hub = name.removeprefix(HUB_PREFIX)
    for entry in entries.values():
        if entry.hub == hub:
            return entry
    for publisher in {entry.publisher for entry in entries.values()}:
        if publisher.hub_prefix is not None and hub.startswith(publisher.hub_prefix):
            return CatalogueEntry(name, publisher, publisher.name, "not stated", "hub", hub=hub)
    return None


def list_published() -> list[CatalogueEntry]:
    """Return the published models that have a name: permissive licences first, non-commercial ones last."""
    return [entry for entry in catalogue().values() if entry.access != "bundled"]
