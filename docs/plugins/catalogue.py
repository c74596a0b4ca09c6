"""Hook of the documentation build: the cards of published models, from the catalogue."""

from __future__ import annotations

from typing import Any

from panscape.zoo.published.catalogue import list_published
from panscape.zoo.published.fetch import how_to_get


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Replace ``<!-- cards of published models -->`` by a section for each model."""
    return markdown.replace("<!-- cards of published models -->", cards())


def cards() -> str:
    """Return a section for each published model, with what is known of it."""
    parts = []
    for entry in list_published():
        facts = {name: fact for name, fact in entry.facts().items() if fact}
        facts["results as published"] = ", ".join(f"{name} {value}" for name, value in entry.metrics.items()) or None
        facts["network"] = entry.model and ", ".join(
            [f"`{entry.model}`", *(f"`{k}={v!r}`" for k, v in entry.options.items())]
        )
        facts["size"] = entry.megabytes and f"{entry.megabytes:g} MB"
        facts["published file"] = ", ".join(f"<{url}>" for url in entry.urls)
        facts["digest of that file"] = entry.digest and f"{entry.digest}"
        facts["how to get it"] = how_to_get(entry)
        rows = [f"| {name} | {fact} |" for name, fact in facts.items() if fact]
        parts.append("\n".join([f"### {entry.name}", "", "| | |", "|---|---|", *rows]))
    return "\n\n".join(parts)
