"""The page of metrics is complete."""

from __future__ import annotations

from pathlib import Path

from panscape import metrics

PAGE = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_every_public_name_is_in_the_api_overview() -> None:
    table = PAGE.split("\n## API overview\n")[1]
    assert [name for name in metrics.__all__ if f"`{name}`" not in table] == []
