"""The values of the report section that compares two runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from panscape.evaluation.bootstrap import small_sample_warning
from panscape.evaluation.compare import Comparison, Difference
from panscape.evaluation.report.html import Name
from panscape.evaluation.report.sections import type_name
from panscape.metrics.tables import format_count

_MOST_IMAGES = 10


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """Return the differences of two runs and their significance."""
    only = comparison.num_only_first, comparison.num_only_second
    clear = [d for d in comparison.categories.values() if d.is_more_than_noise]
    better = sum(d.change > 0 for d in clear)
    improved = [image for image in comparison.changed if image.change > 0]
    degraded = [image for image in reversed(comparison.changed) if image.change < 0]
    images = (("Most improved", "better", improved), ("Most degraded", "worse", degraded))
    # By significance, then by size of the change.
    ranked = sorted(
        comparison.categories.items(),
        key=lambda item: (not item[1].is_more_than_noise, 0 if math.isnan(item[1].change) else -abs(item[1].change)),
    )
    return {
        "first": comparison.first,
        "second": comparison.second,
        "num_images": format_count(comparison.num_images, "image"),
        "only": [f"{number:,}" for number in only] if any(only) else None,
        "sentence": comparison.sentence,
        "note": comparison.note,
        "caution": small_sample_warning(comparison.num_images),
        "groups": _rows(((name, None), d) for name, d in comparison.groups.items()),
        "types": _rows(((type_name(error_type), d) for error_type, d in comparison.types.items()), is_cost=True),
        "categories": _rows(((name, None), d) for name, d in ranked),
        "num_better": better,
        "num_worse": len(clear) - better,
        "images": [(title, direction, changes[:_MOST_IMAGES]) for title, direction, changes in images if changes],
    }


def _rows(entries: Iterable[tuple[Name, Difference]], *, is_cost: bool = False) -> list[dict[str, Any]]:
    """Return rows of differences; of a cost, a decrease is better and lies on the right of the bar."""
    entries = list(entries)
    ends = [abs(v) for _, d in entries for v in (d.low, d.high, d.change) if not math.isnan(v)]
    scale = max(ends, default=0) or 1.0
    rows = []
    for name, d in entries:
        low, high, change = (-d.high, -d.low, -d.change) if is_cost else (d.low, d.high, d.change)
        direction = "better" if low > 0 else "worse" if high < 0 else ""
        verdict = direction or ("could be noise" if d.change else "same")
        rows.append(
            {
                "name": name,
                "before": d.before,
                "after": d.after,
                "change": d.change,
                "low": d.low,
                "high": d.high,
                "direction": direction,
                "verdict": "not comparable" if math.isnan(d.change) else verdict,
                "places": [0.5 + 0.5 * value / scale for value in (low, high, change)],
            }
        )
    return rows
