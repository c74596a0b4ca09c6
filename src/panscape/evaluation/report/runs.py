"""The values of the report section with several runs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from panscape.evaluation.compare import summary_rows
from panscape.evaluation.report.size_chart import Sizes, has_same_ranges, size_chart
from panscape.evaluation.results import Evaluation

_NOT_MEASURED = "AP by size is not drawn, as not all runs have it; evaluate each with --ap-sizes."
_OTHER_RANGES = (
    "AP by size is not drawn, as the runs have other objects or size ranges; evaluate all on the same images."
)
_SOURCES = {"instances_before_fusion": "objects before fusion", "instances": "objects of the maps"}


def runs_values(runs: Mapping[str, Evaluation]) -> dict[str, Any] | None:
    """Return the summary row of each run, and the chart of AP by size, or why there is none; None without numbers.

    Args:
        runs: by name.
    """
    columns, rows = summary_rows(runs)
    if not columns:
        return None
    source, sizes = _sizes(runs)
    is_same = has_same_ranges(list(sizes.values()))
    return {
        "columns": columns,
        "rows": rows,
        "is_same_number": len({len(run.records) for run in runs.values()}) == 1,
        "chart": size_chart(sizes) if sizes and is_same else None,
        "source": source,
        "note": None if not source or (sizes and is_same) else _OTHER_RANGES if sizes else _NOT_MEASURED,
    }


def _sizes(runs: Mapping[str, Evaluation]) -> tuple[str, dict[str, Sizes]]:
    """Return of which objects AP by size was measured, empty for none, and if all runs have it, theirs by name."""
    summaries = {name: run.to_dict() for name, run in runs.items()}
    measured = ""
    for metric, source in _SOURCES.items():
        found = {name: (summary.get(metric) or {}).get("by_size") for name, summary in summaries.items()}
        if all(found.values()):
            return source, {name: sizes for name, sizes in found.items() if sizes}
        measured = source if any(found.values()) else measured
    return measured, {}
