"""Results of the papers: the only place of their numbers, read by the help, the documentation's test and benchmarks."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files


@dataclass(frozen=True, slots=True)
class PublishedResult:
    """A row of a paper's table.

    Attributes:
        paper: short name of the paper, or of the authors' repositories.
        tables: tables and figures that have the row.
        row: label of the row.
        data: dataset and split.
        recipe: name of the recipe that repeats it; None if it is no training of its own.
        note: anything else that is needed to understand it.
        metrics: in percent, also ``FPS`` (images per second) and ``ms`` (per image), by the names of the documentation.
            ``things`` and ``stuff`` are their PQ; mIoU and iIoU are those of the semantic head; AP of dense detections
            is that of masks before fusion. Empty for a plot without numbers.
    """

    paper: str
    tables: tuple[str, ...]
    row: str
    data: str
    recipe: str | None = None
    note: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        numbers = " ".join(f"{name} {value}" for name, value in self.metrics.items()) or "a plot without numbers"
        note = f"; {self.note}" if self.note else ""
        return f"{self.data} ({table_names(self.tables)}, {self.row}{note}): {numbers}"


@cache
def published_results() -> tuple[PublishedResult, ...]:
    """Return the published results of all papers, in the order of the file."""
    papers = json.loads(files(__package__).joinpath("published.json").read_text(encoding="utf-8"))
    return tuple(
        PublishedResult(**{"paper": paper, **result, "tables": tuple(result["tables"])})
        for paper, content in papers.items()
        for result in content["results"]
    )


def results_of(recipe: str) -> tuple[PublishedResult, ...]:
    """Return the published results that a recipe repeats."""
    return tuple(result for result in published_results() if result.recipe == recipe)


def table_names(tables: Iterable[str]) -> str:
    """Return different tables in words, such as "Table 6" or "Tables 1, 4 and 5"."""
    names = sorted(set(tables), key=lambda name: (len(name), name))
    if len(names) < 2:
        return "".join(names)
    numbers = [name.removeprefix("Table ") for name in names]
    return f"Tables {', '.join(numbers[:-1])} and {numbers[-1]}"
