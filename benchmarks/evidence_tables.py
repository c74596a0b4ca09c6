"""Tables of scores by row and seed, and of differences that exceed the spread of seeds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import mean

from reporting import table

from panscape.recipes import describe_recipe
from panscape.recipes.published import results_of


@dataclass(frozen=True)
class Evidence:
    """Rows of a paper's tables that are trained at a small size.

    Attributes:
        prefix: prefix of the recipe names.
        names: display names of the rows.
        tables: rows of each table, the simplest first.
        by_percentile: whether objects are grouped by percentiles of their area, and measured by AP, instead of PQ.
        start: the row that is trained first, from which all others of a seed start; None for none.
    """

    prefix: str
    names: Mapping[str, str]
    tables: Mapping[str, tuple[str, ...]]
    by_percentile: bool = False
    start: str | None = None

    @property
    def paper(self) -> dict[str, float]:
        """Published PQ on Cityscapes val by row, for rows that are in a table of the paper."""
        found = {row: describe_recipe(self.prefix + row).ablation_of for row in self.names}
        results = {row: results_of(name) for row, name in found.items() if name is not None}
        return {row: of_row[0].metrics["PQ"] for row, of_row in results.items() if "PQ" in of_row[0].metrics}


EVIDENCE = {
    # Panoptic SwiftNet, Tables 6 and 8.
    "centers": Evidence(
        "town_",
        {
            "pyrx1": "PYRx1",
            "spp": "SPP",
            "pyrx2": "PYRx2",
            "pyrx3": "PYRx3 (4 regions)",
            "l1": "L1",
            "regions3": "3 regions",
            "regions8": "8 regions",
        },
        {"Table 6": ("pyrx1", "spp", "pyrx2", "pyrx3"), "Table 8": ("l1", "regions3", "pyrx3", "regions8")},
    ),
    # Real-Time Panoptic Segmentation from Dense Detections, Table 3.
    "boxes": Evidence(
        "town_boxes_",
        {
            "one_tower": "one tower",
            "two_towers": "two towers",
            "levelness": "levelness",
            "mask_loss": "mask loss",
            "weak": "from boxes",
            "light": "light",
        },
        {
            "Table 3": ("weak", "one_tower", "two_towers", "levelness", "mask_loss"),
            "The light network, ours": ("light", "mask_loss"),
        },
    ),
    # Panoptic, Instance and Semantic Relations, Table 5 and Figure 9, which is a plot without numbers. Table 4 has
    # another PQ for the base than Tables 1 and 5.
    "relations": Evidence(
        "town_relations_",
        {
            "base": "base",
            "concatenation": "concatenation",
            "product": "product",
            "ocr": "OCR",
            "without_reweighting": "without reweighting",
            "pisr": "PISR (K 20)",
            "k10": "K 10",
            "k50": "K 50",
        },
        {
            "Table 5": ("base", "concatenation", "product", "ocr", "without_reweighting", "pisr"),
            "Figure 9": ("base", "k10", "pisr", "k50"),
        },
    ),
    # Panoptic, Instance and Semantic Relations, Tables 2 and 3: one base network with and without it each.
    "hosts": Evidence(
        "town_hosts_",
        {
            "maskformer": "MaskFormer",
            "maskformer_pisr": "MaskFormer + PISR",
            "upernet": "UPerNet",
            "upernet_pisr": "UPerNet + PISR",
            "panoptic_fpn": "Panoptic FPN",
            "panoptic_fpn_pisr": "Panoptic FPN + PISR",
        },
        {
            "MaskFormer": ("maskformer", "maskformer_pisr"),
            "UPerNet": ("upernet", "upernet_pisr"),
            "Panoptic FPN": ("panoptic_fpn", "panoptic_fpn_pisr"),
        },
    ),
    # Improving Panoptic Segmentation at All Scales, Table 1 and Figure 5, which is a plot without numbers.
    "scales": Evidence(
        "town_scales_",
        {
            "full": "FULL",
            "crop": "CROP",
            "cabb": "CROP + CABB",
            "isus": "CROP + ISUS",
            "cabb_isus": "CROP + CABB + ISUS",
        },
        {"Table 1 and Figure 5": ("full", "crop", "cabb", "isus", "cabb_isus")},
        by_percentile=True,
    ),
    # YOLO-Based Panoptic Segmentation, whose first tables have mIoU alone, and whose PQ is not the standard one.
    "yolo": Evidence(
        "town_yolo_panoptic_",
        {
            "detector": "detector alone",
            "stride_4": "layer 12",
            "stride_8": "layer 37",
            "stride_16": "layer 62",
            "segnet": "Segnet multi-feature",
            "top_down": "FPN",
            "pyramid_pooling": "PPM",
            "shallow_early": "shallow [6, 13, 38]",
            "deep_early": "deep [6, 13, 38]",
            "shallow": "shallow [12, 37, 62]",
            "deep": "deep [12, 37, 62]",
            "trained": "deep, all trained",
        },
        {
            "Tables 3.2 and 3.4, without mask heads": (
                "stride_4",
                "stride_8",
                "stride_16",
                "top_down",
                "segnet",
                "pyramid_pooling",
            ),
            "Tables 3.6 and 3.8": ("shallow_early", "deep_early", "shallow", "deep"),
            "Frozen and trained": ("deep", "trained"),
        },
        start="detector",
    ),
}
SCORES = ("PQ", "PQ things", "PQ stuff", "SQ", "RQ", "mIoU", "PC")


def report(evidence: Evidence, scores: Mapping[str, Sequence[Sequence[float]]], objects: Mapping[str, int]) -> str:
    """Return Markdown: for each of the paper's tables the scores and the differences between its rows.

    Args:
        evidence: definition of the rows.
        scores: for each row and seed, values in 0..1: those of ``SCORES``, then those of objects by size.
        objects: number of ground-truth objects of each size.
    """
    columns = [*SCORES, *objects]
    size = "AP by percentiles of the area" if evidence.by_percentile else "PQ by the square root of the area"
    parts = [
        f"Percent, mean over seeds ± half the range. The last columns are those of objects by size: {size}; val has "
        + ", ".join(f"{count} of {name}" for name, count in objects.items())
        + ".",
    ]
    for title, rows in evidence.tables.items():
        found = {row: scores[row] for row in rows if row in scores}
        if found:
            parts += [f"### {title}", _means(evidence, found, columns)]
        if len(found) > 1:
            parts += [_differences(evidence, found, columns), _orders(evidence, found, columns)]
    return "\n\n".join(parts)


def _percent(runs: Sequence[Sequence[float]], column: int) -> list[float]:
    return [100 * run[column] for run in runs]


def _means(evidence: Evidence, found: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[str]) -> str:
    lines = []
    for row, runs in found.items():
        cells = []
        for i in range(len(columns)):
            values = _percent(runs, i)
            cells.append(f"{mean(values):.1f} ± {(max(values) - min(values)) / 2:.1f}")
        lines.append([evidence.names[row], str(len(runs)), str(evidence.paper.get(row, "")), *cells])
    return table(["row", "seeds", "PQ in the paper", *columns], lines)


def _differences(evidence: Evidence, found: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[str]) -> str:
    spreads = []
    for i in range(len(columns)):
        values = [_percent(runs, i) for runs in found.values()]
        spreads.append(max(max(v) - min(v) for v in values))
    lines = []
    for first, second in itertools.combinations(found, 2):
        cells = [
            _difference(mean(_percent(found[second], i)) - mean(_percent(found[first], i)), spreads[i])
            for i in range(len(columns))
        ]
        is_known = {first, second} <= evidence.paper.keys()
        published = f"{evidence.paper[second] - evidence.paper[first]:+.1f}" if is_known else ""
        lines.append([f"{evidence.names[second]} minus {evidence.names[first]}", published, *cells])
    lines.append(["spread", "", *(f"{spread:.1f}" for spread in spreads)])
    legend = "Differences; bold values exceed the spread, the largest difference between two seeds of one row."
    if min(len(runs) for runs in found.values()) < 2:
        legend = "Differences; a row has only one seed, so the spread is not known."
        lines = [[cell.replace("**", "") for cell in line] for line in lines[:-1]]
    return f"{legend}\n\n{table(['rows', 'PQ in the paper', *columns], lines)}"


def _difference(value: float, spread: float) -> str:
    return f"**{value:+.1f}**" if abs(value) > spread else f"{value:+.1f}"


def _orders(evidence: Evidence, found: Mapping[str, Sequence[Sequence[float]]], columns: Sequence[str]) -> str:
    lines = ["Orders, worst to best:", ""]
    if found.keys() <= evidence.paper.keys():
        lines.append(f"- PQ in the paper: {_order(evidence.names, {row: evidence.paper[row] for row in found})}")
    for i, column in enumerate(columns):
        lines.append(
            f"- {column}: {_order(evidence.names, {row: mean(_percent(runs, i)) for row, runs in found.items()})}"
        )
    return "\n".join(lines)


def _order(names: Mapping[str, str], values: Mapping[str, float]) -> str:
    ranked = sorted(values, key=lambda row: values[row])
    text = names[ranked[0]]
    for worse, better in itertools.pairwise(ranked):
        text += f" {'=' if round(values[worse], 1) == round(values[better], 1) else '<'} {names[better]}"
    return text
