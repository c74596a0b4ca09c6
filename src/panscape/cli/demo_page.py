"""A self-contained HTML page of predictions beside the ground truth, without scripts or external fonts and images."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image
from torch import Tensor

from panscape.atomic_io import atomic_write
from panscape.labels import LabelSpace
from panscape.metrics import PanopticQualityReport
from panscape.metrics.tables import format_percent
from panscape.visualize import category_colors


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """An image with its caption.

    Attributes:
        caption: text below the image.
        image: uint8 [3, H, W].
        is_photo: embed as JPEG, for continuous tones; otherwise as PNG, for flat areas.
    """

    caption: str
    image: Tensor
    is_photo: bool


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """A section of the page: one scene with its measurements and figures.

    Attributes:
        title: heading of the section.
        facts: measurements by name.
        figures: figures in display order.
    """

    title: str
    facts: Mapping[str, str]
    figures: Sequence[Figure]


def write_page(
    path: Path,
    *,
    title: str,
    introduction: str,
    facts: Mapping[str, str],
    labels: LabelSpace,
    report: PanopticQualityReport,
    scenes: Sequence[Scene],
) -> None:
    """Write the page atomically.

    Args:
        path: path of the page; its folder must exist.
        title: title of the page; plain text, as all text here.
        introduction: paragraph below the title.
        facts: facts about the whole run, by name.
        labels: label space with the colours of the legend.
        report: quality over all scenes.
        scenes: scenes in display order.
    """
    body = "\n".join(
        [
            f"<header><h1>{escape(title)}</h1><p>{escape(introduction)}</p>{_facts(facts)}</header>",
            f"<section><h2>Quality by category</h2>{_quality(report, labels)}</section>",
            *(_scene(s) for s in scenes),
            f"<footer>{escape(_EXPLANATION)}</footer>",
        ]
    )
    page = (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )
    with atomic_write(path) as temporary:
        temporary.write_text(page, encoding="utf-8")


def _facts(facts: Mapping[str, str]) -> str:
    items = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in facts.items())
    return f'<dl class="facts">{items}</dl>'


def _scene(scene: Scene) -> str:
    figures = "".join(
        f'<figure tabindex="0"><img src="{_embedded(f)}" alt="{escape(f.caption)} of {escape(scene.title)}" '
        f'width="{f.image.shape[2]}" height="{f.image.shape[1]}" loading="lazy">'
        f"<figcaption>{escape(f.caption)}</figcaption></figure>"
        for f in scene.figures
    )
    return f'<section><h2>{escape(scene.title)}</h2>{_facts(scene.facts)}<div class="figures">{figures}</div></section>'


def _quality(report: PanopticQualityReport, labels: LabelSpace) -> str:
    head = "".join(f"<th>{name}</th>" for name in ("PQ", "SQ", "RQ", "TP", "FP", "FN"))
    rows = []
    for name, group in (("all", report.all), ("things", report.things), ("stuff", report.stuff)):
        shares = "".join(f"<td>{format_percent(v)}</td>" for v in (group.pq, group.sq, group.rq))
        rows.append(
            f'<tr class="group"><th>{name} <small>{group.num_categories} categories</small></th>{shares}'
            "<td></td><td></td><td></td></tr>"
        )
    for category, color in zip(labels, category_colors(labels).tolist(), strict=True):
        quality = report.per_category[category.name]
        bar = f' class="bar" style="--share:{0 if math.isnan(quality.pq) else 100 * quality.pq:.1f}%"'
        numbers = [f"<td{bar}>{format_percent(quality.pq)}</td>", f"<td>{format_percent(quality.sq)}</td>"]
        numbers += [f"<td>{format_percent(quality.rq)}</td>"]
        numbers += [f"<td>{count}</td>" for count in (quality.tp, quality.fp, quality.fn)]
        swatch = f'<i style="background:rgb{tuple(color)}"></i>'
        kind = "thing" if category.is_thing else "stuff"
        rows.append(f"<tr><th>{swatch}{escape(category.name)} <small>{kind}</small></th>{''.join(numbers)}</tr>")
    return (
        f'<div class="wide"><table><thead><tr><th></th>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
    )


def _embedded(figure: Figure) -> str:
    """Return the image as a data URI."""
    image = Image.fromarray(figure.image.cpu().permute(1, 2, 0).contiguous().numpy())
    buffer = io.BytesIO()
    if figure.is_photo:
        image.save(buffer, "JPEG", quality=88, subsampling=0)
    else:
        image.save(buffer, "PNG", optimize=True)
    kind = "jpeg" if figure.is_photo else "png"
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


_EXPLANATION = (
    "PQ (panoptic quality) is the product of SQ (mean IoU of matched segments) and RQ (F1 score of the matching); 100 "
    "is perfect. A predicted segment matches a ground-truth segment of its category if their IoU is above 0.5: TP "
    "counts matches, FP unmatched predictions, FN unmatched ground truth. Click an image to enlarge it; click beside "
    "it to close it."
)

_STYLE = """
:root { color-scheme: light dark; --ground: #fbfbfa; --card: #fff; --ink: #1d2127; --soft: #667080; --line: #e3e5e8;
  --bar: #cfe3ff; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14171b; --card: #1c2026; --ink: #e7e9ec; --soft: #98a1ae; --line: #2e343c; --bar: #274a77; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--ground); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 1500px; margin: 0 auto; padding: 2rem clamp(1rem, 3vw, 3rem) 4rem; }
h1 { font-size: 2rem; line-height: 1.2; margin: 0 0 .5rem; letter-spacing: -.02em; }
h2 { font-size: 1.15rem; margin: 0 0 .75rem; }
header p { max-width: 46rem; color: var(--soft); margin: 0 0 1.25rem; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 14px; padding: 1.25rem;
  margin-top: 1.25rem; }
.facts { display: flex; flex-wrap: wrap; gap: .5rem 2rem; margin: 0 0 1rem; }
.facts dt { color: var(--soft); font-size: .8rem; }
.facts dd { margin: 0; font-weight: 600; font-variant-numeric: tabular-nums; }
.figures { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 300px), 1fr)); }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; border-radius: 8px; background: var(--line); cursor: zoom-in; }
figure:focus { outline: none; }
figure:focus-visible img { outline: 2px solid var(--soft); }
figure:focus img { position: fixed; inset: 0; z-index: 1; width: 100vw; height: 100vh; object-fit: contain;
  border-radius: 0; background: #000d; cursor: default; image-rendering: auto; }
figcaption { color: var(--soft); font-size: .85rem; margin-top: .3rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; max-width: 60rem; }
th, td { text-align: right; padding: .3rem .75rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
thead th { color: var(--soft); font-weight: 500; font-size: .85rem; }
tbody th { text-align: left; font-weight: 500; }
.group th { font-weight: 700; }
small { color: var(--soft); font-weight: 400; }
i { display: inline-block; width: .9em; height: .9em; border-radius: 3px; margin-right: .5em; vertical-align: -.08em;
  outline: 1px solid #8885; }
.bar { background: linear-gradient(to right, var(--bar) var(--share), transparent var(--share)); min-width: 8rem; }
footer { color: var(--soft); font-size: .85rem; max-width: 46rem; margin-top: 1.5rem; }
"""
