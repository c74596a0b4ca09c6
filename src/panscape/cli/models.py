"""`panscape models`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from tyro.conf import Positional, arg

from panscape.cli.default_model import STRONG
from panscape.cli.printing import fitted, print_json, say, terminal_columns, wrapped
from panscape.errors import UnknownNameError

if TYPE_CHECKING:
    from pathlib import Path

    from panscape.zoo import CatalogueEntry


@dataclass(frozen=True)
class Models:
    """List the models that have a name, bundled and published ones; the latter are fetched on first use."""

    name: Annotated[Positional[str | None], arg(metavar="NAME|TEXT", help_behavior_hint="")] = None
    """A model, for its card and how to get it; or part of names, systems or data, such as coco, to list only these."""

    all: bool = False
    """List all models. By default, of the published ones of a system and its data only the best."""

    json: bool = False
    """Print one JSON object per model, of all models."""

    def run(self) -> int:
        """List the models, or show one."""
        from panscape.zoo.published.catalogue import catalogue, find_entry

        entries = list(catalogue().values())
        if self.name is not None:
            entry = find_entry(self.name)
            entries = [entry] if entry is not None else _matching(entries, self.name)
            if not entries:
                raise UnknownNameError("model", self.name, catalogue(), command="panscape models --all")
        rows = [_Row.of(entry) for entry in entries]
        if self.json:
            for row in rows:
                print_json(row.to_dict())
        elif self.name is not None and len(rows) == 1:
            _print_details(rows[0])
        else:
            listed = rows if self.all or self.name is not None else _best(rows)
            say(_fitted_table(listed))
            _print_notes(len(rows) - len(listed))
        return 0


@dataclass(frozen=True)
class _Row:
    """A model in the list; ``path`` is None if it is not on this machine, or in the cache of the hub."""

    entry: CatalogueEntry
    path: Path | None
    card: Mapping[str, Any]

    @classmethod
    def of(cls, entry: CatalogueEntry) -> _Row:
        from panscape import zoo

        bundled = {weights.name: weights.path for weights in zoo.list_weights()} if entry.access == "bundled" else {}
        path = bundled.get(entry.name) or zoo.WeightsCache().find(entry)
        return cls(entry, path, zoo.read_card(entry.name))

    @property
    def metrics(self) -> Mapping[str, float]:
        """Results in percent: measured for bundled models, as published for others."""
        return self.card.get("val", {}) if self.entry.access == "bundled" else self.entry.metrics

    @property
    def megabytes(self) -> float | None:
        return self.entry.megabytes if self.path is None else self.path.stat().st_size / 1e6

    @property
    def state(self) -> str:
        """Where it is."""
        from panscape.hub import is_cached

        is_there = is_cached(self.entry.hub) if self.entry.hub else self.path is not None
        if is_there and self.entry.access != "bundled":
            return "cached"
        return "-" if self.entry.access == "https" else self.entry.access

    def to_dict(self) -> dict[str, Any]:
        entry = self.entry
        return {
            "model": entry.name,
            "system": entry.system,
            "data": entry.data,
            "access": entry.access,
            "path": self.path,
            "megabytes": None if self.megabytes is None else round(self.megabytes, 1),
            "metrics": dict(self.metrics),
            "licence": entry.publisher.licence,
            "is_non_commercial": entry.publisher.is_non_commercial,
            "urls": list(entry.urls),
            "digest": None if entry.digest is None else str(entry.digest),
            "card": self.card,
        }


def _matching(entries: Iterable[CatalogueEntry], text: str) -> list[CatalogueEntry]:
    text = text.lower()
    return [e for e in entries if any(text in part.lower() for part in (e.name, e.system, e.data))]


def _best(rows: Iterable[_Row]) -> list[_Row]:
    """Return bundled models, the default, and of the others the best of each system, data and kind of licence."""
    best: dict[tuple[object, ...], _Row] = {}
    for row in rows:
        entry = row.entry
        is_always_listed = entry.access == "bundled" or entry.name == STRONG
        key = (entry.name,) if is_always_listed else (entry.system, entry.data, entry.publisher.is_non_commercial)
        if key not in best or _quality(row) > _quality(best[key]):
            best[key] = row
    return list(best.values())


def _quality(row: _Row) -> tuple[bool, float]:
    """Return what the best model has most of; one that only people can download is behind the others."""
    return row.entry.access != "by hand", row.metrics.get("PQ", row.metrics.get("mIoU", 0.0))


def _fitted_table(rows: Sequence[_Row]) -> str:
    """Return the table; narrow terminals do not get the systems, which most names contain."""
    table, columns = _table(rows), terminal_columns()
    if columns is not None and max(map(len, table.splitlines())) > columns:
        table = "\n".join(_without_column(table.splitlines(), "system", "data"))
    return fitted(table)


def _without_column(lines: list[str], name: str, following: str) -> list[str]:
    start, end = (lines[0].index(title) for title in (name, following))
    return [line[:start] + line[end:] for line in lines]


def _table(rows: Iterable[_Row]) -> str:
    from panscape.metrics.tables import format_table

    columns = [["model"], ["system"], ["data"], ["licence"], ["PQ"], ["MB"], ["here"]]
    for row in rows:
        quality = f"{row.metrics['PQ']:.1f}" if "PQ" in row.metrics else "-"
        size = "-" if row.megabytes is None else f"{row.megabytes:.0f}"
        texts = (row.entry.name, row.entry.system, row.entry.data, row.entry.publisher.licence or "not stated")
        for column, cell in zip(columns, (*texts, quality, size, row.state), strict=True):
            column.append(cell)
    for column in columns[:4]:  # text is left-aligned
        column[:] = [cell.ljust(max(map(len, column))) for cell in column]
    return format_table(list(zip(*columns, strict=True)))


def _print_notes(num_hidden: int) -> None:
    from panscape.metrics.tables import format_count
    from panscape.zoo import WeightsCache

    cache = WeightsCache()
    sizes = cache.models()
    if num_hidden:
        say(wrapped(f"\n{num_hidden} more of these systems: panscape models --all, or panscape models coco", 0))
    say(wrapped("PQ of bundled models is measured, others as published. Licences are those of the weights.", 0))
    say(wrapped(f"In {cache.folder}: {format_count(len(sizes), 'model')}, {sum(sizes.values()):.1f} MB", 0))


def _print_details(row: _Row) -> None:
    from panscape.zoo.published.fetch import how_to_get

    entry = row.entry
    size = "" if row.megabytes is None else f"  ({row.megabytes:.1f} MB)"
    say(f"{entry.name}{size}")
    print_card({name: fact for name, fact in row.card.items() if name != "name"})
    facts = {
        "published file": list(entry.urls) if entry.access == "https" and row.path is None else None,
        "digest of that file": None if entry.digest is None else str(entry.digest),
        "file": row.path,
        "how to get it": how_to_get(entry) if row.path is None else None,
    }
    print_card({name: fact for name, fact in facts.items() if fact})


def print_card(card: Mapping[str, Any]) -> None:
    """Print the facts of a model card, one below the other."""
    for fact, value in card.items():
        text = _fact_text(value)
        # A table begins on a line of its own.
        say(f"  {fact}:{text}" if text.startswith("\n") else wrapped(f"  {fact}: {text}", hanging=4))


def _fact_text(value: Any) -> str:
    """Return a fact of a model card as a line, or as a table if it has a row for each of several names."""
    if isinstance(value, list):
        return "; then ".join(str(part) for part in value)
    if not isinstance(value, dict):
        return str(value)
    if not all(isinstance(part, dict) for part in value.values()):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    from panscape.metrics.tables import format_table

    header = ["", *next(iter(value.values()))]
    rows = [[name, *("-" if n is None else str(n) for n in part.values())] for name, part in value.items()]
    return "\n" + "\n".join(f"    {line}" for line in format_table([header, *rows]).splitlines())
