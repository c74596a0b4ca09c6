"""The documentation holds: links lead somewhere, lines of code run and print what is said, tables agree with the code.

Every ``python`` block runs, in the order of its page and in one namespace, in a folder of generated images; a
``text`` block right after it is what it prints. So does every ``$ panscape`` line of a ``console`` block. A block below
``<!-- not run: REASON -->`` does not run.
"""

from __future__ import annotations

import importlib.util
import inspect
import re
import shlex
from collections.abc import Callable
from dataclasses import MISSING, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import griffe
import pytest
import yaml
from maps import SHAPES, generated_map
from markdown.extensions.toc import slugify
from PIL import Image

from panscape import list_weights
from panscape.cli import main
from panscape.inference.video_writer import VideoWriter
from panscape.models.dense_detections import dense_detections
from panscape.models.panoptic_deeplab import panoptic_deeplab
from panscape.models.panoptic_fpn import panoptic_fpn
from panscape.models.seamless import seamless
from panscape.models.swiftnet import swiftnet
from panscape.models.yolo_panoptic import yolo_panoptic
from panscape.nn.pisr import PISR
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.ops.yolo_boxes import ANCHORS
from panscape.recipes import list_recipes
from panscape.recipes.published import PublishedResult, published_results
from panscape.representations.centers import CENTER_ORACLES, CenterDecoding, CenterRepresentation
from panscape.representations.dense_boxes import DENSE_BOX_ORACLES, DenseBoxDecoding, DenseBoxRepresentation
from panscape.representations.fusion import FusionConfig
from panscape.representations.masked_boxes import (
    MASKED_BOX_ORACLES,
    MaskedBoxDecoding,
    MaskedBoxRepresentation,
    MaskSampling,
)
from panscape.representations.regions import (
    REGION_ORACLES,
    Anchors,
    DetectionSelection,
    ProposalSelection,
    RegionDecoding,
    RegionRepresentation,
    StageSampling,
)
from panscape.training.config import Augmentation, Optimizer, Recipe, Sampling
from panscape.training.run_options import RunOptions
from panscape.training.schedule import Schedule
from panscape.visualize import draw_segments
from panscape.zoo import list_published
from panscape.zoo.published.catalogue import catalogue

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
SOURCE = ROOT / "src" / "panscape"
PAGES = {str(p.relative_to(DOCS)): p.read_text(encoding="utf-8") for p in sorted(DOCS.rglob("*.md"))}
OUTSIDE = {"contributing.md": "CONTRIBUTING.md", "changelog.md": "CHANGELOG.md"}  # as in docs/plugins/pages.py
OTHERS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")}

# Links and headings


def without_code(text: str) -> str:
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def anchors(text: str) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE)
    return {slugify(re.sub(r"[`*]", "", title), "-") for title in titles}


@pytest.mark.parametrize(
    ("folder", "name", "text"),
    [*((DOCS, *item) for item in PAGES.items()), *((ROOT, *item) for item in OTHERS.items())],
    ids=[*PAGES, *OTHERS],
)
def test_links_lead_to_files_and_headings(folder: Path, name: str, text: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", without_code(text)):
        if target.startswith(("https://", "http://")):
            continue
        path, _, anchor = target.partition("#")
        file = (folder / name).parent / path if path else folder / name
        if path in OUTSIDE:
            file = ROOT / OUTSIDE[path]
        assert file.is_file(), f"{name} links to {target}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{name} links to {target}"


def test_where_is_what_names_files_and_what_is_in_them() -> None:
    rows = re.findall(r"^\| (.*\?) \| (.*) \|$", PAGES["where_is_what.md"], re.MULTILINE)
    assert len(rows) >= 20
    for question, answer in rows:
        words = re.findall(r"`([^`]+)`", answer)
        paths = [ROOT / "src" / "panscape" / word for word in words if "." in word or word.endswith("/")]
        assert paths, question
        assert all(path.exists() for path in paths), question
        content = "".join(path.read_text(encoding="utf-8") for path in paths if path.is_file())
        for name in (word for word in words if word.isidentifier()):
            assert re.search(rf"^(class|def) {name}\b", content, re.MULTILINE), name


def leaves(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [leaf for part in (nav.values() if isinstance(nav, dict) else nav) for leaf in leaves(part)]


def test_the_navigation_lists_every_page_once() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    by_index = {page for page in PAGES if page.startswith("decisions/0")}
    assert sorted(leaves(nav)) == sorted({*PAGES, *OUTSIDE} - by_index)
    assert all(f"]({page.removeprefix('decisions/')})" in PAGES["decisions/index.md"] for page in by_index)


# The API reference


def loaded(source: str, tmp_path: Path, **modules: str) -> griffe.Module:
    (tmp_path / "house").mkdir()
    for name, text in {"__init__": source, **modules}.items():
        (tmp_path / "house" / f"{name}.py").write_text(text)
    extensions = griffe.load_extensions(str(DOCS / "plugins" / "docstrings.py"))
    package = griffe.load("house", search_paths=[tmp_path], extensions=extensions)
    assert isinstance(package, griffe.Module)
    return package


def linked(identifier: str, title: str) -> str:
    return f'<autoref optional identifier="{identifier}"><code>{title}</code></autoref>'


def test_roles_become_links_to_where_the_target_is_defined(tmp_path: Path) -> None:
    source = 'from house.rooms import Room as Room\n\ndef build():\n    """%s"""\n'
    package = loaded(
        source % "A :class:`Room`, :meth:`~house.Room.clean`, :meth:`it <house.rooms.Room.clean>`, :mod:`os.path`.",
        tmp_path,
        rooms='class Room:\n    """See :meth:`clean`."""\n    def clean(self): ...\n',
    )
    clean = "house.rooms.Room.clean"
    docstring = package["build"].docstring.value
    assert docstring.split(", ") == [
        f"A {linked('house.rooms.Room', 'Room')}",
        linked(clean, "clean"),
        linked(clean, "it"),
        f"{linked('os.path', 'os.path')}.",
    ]
    assert package["rooms.Room"].docstring.value == f"See {linked(clean, 'clean')}."


def test_a_literal_block_becomes_a_block_of_code(tmp_path: Path) -> None:
    package = loaded('"""For example::\n\n    a = b[::2]\n\nEnd.\n"""\n', tmp_path)
    assert package.docstring is not None
    assert package.docstring.value == "For example:\n\n    a = b[::2]\n\nEnd."


def test_public_names_of_a_package_are_what_it_imports_as_itself(tmp_path: Path) -> None:
    source = """if TYPE_CHECKING:
    from house.rooms import Room as Room
from house.rooms import Door
__all__ = [*names]
def build(): ...
def _hidden(): ...
"""
    package = loaded(source, tmp_path, rooms="class Room: ...\nclass Door: ...\n")
    assert package.exports == ["Room", "build"]


# Code


class Block(NamedTuple):
    language: str
    line: int  # of its first line in the page
    code: str
    printed: str | None  # what it must print


def blocks(text: str) -> list[Block]:
    found: list[Block] = []
    lines = text.splitlines()
    above, start, language, last_end = "", 0, "", -2
    for number, line in enumerate(lines):
        if line.startswith("```") and not language:
            language, start = line[3:].strip() or "text", number + 1
            above = next((before for before in reversed(lines[:number]) if before.strip()), "")
        elif line == "```":
            code = "\n".join(lines[start:number])
            if language == "text" and found and above == "```" and lines[last_end] == above and start - last_end <= 3:
                found[-1] = found[-1]._replace(printed=code)
            elif language in ("python", "console") and not above.startswith("<!-- not run: "):
                found.append(Block(language, start + 1, code, None))
                last_end = number
            language = ""
    return found


@pytest.fixture
def folder_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    def image(seed: int) -> Any:
        return draw_segments(generated_map(seed, size=(96, 144)), SHAPES)

    names = ["photo.jpg", "shots/a.jpg", "shots/b.png", "more/deep/c.jpg"]
    for seed, name in enumerate(names):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image(seed).permute(1, 2, 0).numpy()).save(path)
    with VideoWriter(tmp_path / "clip.mp4", Fraction(10)) as writer:
        for seed in range(3):
            writer.write(image(seed))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(block: Block, name: str, namespace: dict[str, Any]) -> None:
    if block.language == "python":
        exec(compile("\n" * (block.line - 1) + block.code, name, "exec"), namespace)
        return
    for line in re.findall(r"^\$ panscape (.*)$", block.code.replace("\\\n", ""), re.MULTILINE):
        assert main(shlex.split(line)) == 0, line


@pytest.mark.parametrize("name", [name for name, text in (PAGES | OTHERS).items() if blocks(text)])
def test_code_runs_and_prints_the_stated_output(
    name: str, folder_of_images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = blocks((PAGES | OTHERS)[name])
    namespace: dict[str, Any] = {"__name__": "documentation"}
    for block in page:
        run(block, name, namespace)
        printed = capsys.readouterr().out
        if block.printed is not None:
            assert printed.strip() == block.printed.strip(), f"{name}:{block.line}"


def test_the_page_of_bundled_models_has_the_numbers_of_their_cards() -> None:
    page = (DOCS / "bundled_models.md").read_text(encoding="utf-8")
    assert re.findall(r"^## (.+)$", page, re.MULTILINE) == [w.name for w in list_weights()]
    for weights in list_weights():
        assert weights.card["recipe"] in list_recipes()
        section = page.split(f"\n## {weights.name}\n")[1].split("\n## ")[0]
        for group, suffix in (("all", ""), ("things", " things"), ("stuff", " stuff")):
            scores = [weights.card["val"][f"{kind}{suffix}"] for kind in ("PQ", "SQ", "RQ")]
            assert f"| {group} | " + " | ".join(map(str, scores)) + " |" in section
        for name, values in weights.card["per category"].items():
            assert f"| {name} | " + " | ".join("-" if v is None else str(v) for v in values.values()) + " |" in section
        assert weights.path.stat().st_size < 12e6


def test_the_guide_to_models_has_the_facts_of_the_catalogue() -> None:
    bundled = {
        weights.name: (weights.card["val"]["PQ"], weights.path.stat().st_size / 1e6) for weights in list_weights()
    }
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+), (\w+) \| (\S+) \| ([^|]+) \|", PAGES["which_model.md"], re.MULTILINE)
    assert len(rows) == 10
    for name, quality, data, megabytes, licence in rows:
        entry = catalogue()[name]
        pq, size = bundled.get(name) or (entry.metrics["PQ"], entry.megabytes)
        expected = (
            f"{pq:.1f}",
            entry.data,
            "-" if size is None else f"{size:.0f}",
            entry.publisher.licence or "not stated",
        )
        assert (quality, data, megabytes, licence) == expected, name


def test_the_page_of_published_models_is_that_of_the_catalogue() -> None:
    table = PAGES["published_models.md"].split("## All published models")[1].split("## Cards")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line.startswith("| `")
    ]
    expected = []
    for entry in list_published():
        metrics, licence = entry.metrics, entry.publisher.licence or "not stated"
        quality = f"{metrics['PQ']:.1f}" if "PQ" in metrics else f"mIoU {metrics['mIoU']:.1f}" if metrics else "-"
        size = "-" if entry.megabytes is None else f"{entry.megabytes:.0f}"
        expected.append([f"`{entry.name}`", entry.system, entry.data, quality, size, licence])
        expected[-1] += [entry.publisher.name, entry.access]
    assert rows == expected
    assert f"| {len(rows)} models by name" in OTHERS["README.md"]
    spec = importlib.util.spec_from_file_location("catalogue_hook", DOCS / "plugins" / "catalogue.py")
    assert spec is not None
    assert spec.loader is not None
    hook = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hook)
    page = hook.on_page_markdown(PAGES["published_models.md"])
    assert re.findall(r"^### (.+)$", page, re.MULTILINE) == [entry.name for entry in list_published()]
    assert "| digest of that file | md5 begins with 5e6da2 |" in page


def test_blocks_are_found() -> None:
    page = "# A\n```python\nx = 1\n```\n\n```text\n1\n```\n<!-- not run: no -->\n```python\ny\n```\n\n```text\nz\n```\n"
    assert blocks(page) == [Block("python", 3, "x = 1", "1")]


# Tables of options

_REGIONS = (Anchors, DetectionSelection, ProposalSelection, RegionDecoding, StageSampling)
_MASKED_BOXES = (MaskedBoxDecoding, MaskSampling)
PARTS: dict[str, Any] = {
    kind.__name__: kind for kind in (CenterDecoding, DenseBoxDecoding, FusionConfig, *_REGIONS, *_MASKED_BOXES)
}
PARTS["ANCHORS"] = ANCHORS


def defaults_of(kind: Callable[..., Any]) -> dict[str, Any]:
    return {p.name: p.default for p in inspect.signature(kind).parameters.values() if p.default is not p.empty}


def fields_of(kind: type) -> dict[str, Any]:
    return {f.name: f.default for f in fields(kind) if f.default is not MISSING}


@pytest.mark.parametrize(
    ("page", "heading", "expected"),
    [
        ("models/panoptic_swiftnet", '`create_model("swiftnet", labels, ...)` takes:', defaults_of(swiftnet)),
        (
            "models/panoptic_swiftnet",
            "`CenterRepresentation` takes:",
            {f.name: getattr(CenterRepresentation(), f.name) for f in fields(CenterRepresentation)},
        ),
        (
            "models/panoptic_swiftnet",
            "`CenterDecoding` takes:",
            {f.name: getattr(CenterDecoding(), f.name) for f in fields(CenterDecoding)},
        ),
        (
            "models/dense_detections",
            '`create_model("dense_detections", labels, ...)` takes:',
            defaults_of(dense_detections),
        ),
        *(
            (
                "models/dense_detections",
                f"`{kind.__name__}` takes:",
                {f.name: getattr(kind(), f.name) for f in fields(kind)},
            )
            for kind in (DenseBoxRepresentation, DenseBoxDecoding, FusionConfig)
        ),
        (
            "models/panoptic_deeplab",
            '`create_model("panoptic_deeplab", labels, ...)` takes:',
            defaults_of(panoptic_deeplab),
        ),
        ("models/all_scales", '`create_model("seamless", labels, ...)` takes:', defaults_of(seamless)),
        *(
            (
                "models/all_scales",
                f"`{kind.__name__}` takes:",
                {f.name: getattr(kind(), f.name) for f in fields(kind)},
            )
            for kind in (RegionRepresentation, RegionDecoding)
        ),
        ("models/yolo_panoptic", '`create_model("yolo_panoptic", labels, ...)` takes:', defaults_of(yolo_panoptic)),
        *(
            (
                "models/yolo_panoptic",
                f"`{kind.__name__}` takes:",
                {f.name: getattr(kind(), f.name) for f in fields(kind)},
            )
            for kind in (MaskedBoxRepresentation, *_MASKED_BOXES)
        ),
        ("models/panoptic_fpn", '`create_model("panoptic_fpn", labels, ...)` takes:', defaults_of(panoptic_fpn)),
        ("models/relations", "`PISR` takes:", fields_of(PISR)),
        ("models/relations", "how centres become heatmaps:", fields_of(CenterInstanceMaps)),
        ("training", "`RunOptions` takes:", fields_of(RunOptions)),
        ("recipes", "and these fields:", fields_of(Recipe)),
        ("recipes", "`Augmentation` has the random transforms, in this order:", fields_of(Augmentation)),
        (
            "recipes",
            "`Sampling` sets what is drawn, images or their segments ([how](training.md#sampling)):",
            fields_of(Sampling),
        ),
        ("recipes", "`Optimizer` has the settings of the optimiser:", fields_of(Optimizer)),
        ("recipes", "`Schedule` is the learning-rate schedule:", fields_of(Schedule)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_documented_defaults_are_those_of_the_code(page: str, heading: str, expected: dict[str, Any]) -> None:
    table = PAGES[f"{page}.md"].split(heading)[1].strip().split("\n\n")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| `(.+?)` \|", table, re.MULTILINE))
    documented = {name: eval(text, PARTS) for name, text in rows.items()}
    assert documented == expected


def test_every_recipe_is_on_its_page() -> None:
    assert [name for name in list_recipes() if f"`{name}`" not in PAGES["recipes.md"]] == []


# Published results

METRICS = {metric for result in published_results() for metric in result.metrics}


class PublishedRow(NamedTuple):
    paper: str
    cells: list[str]
    columns: list[str]  # metrics of the table
    numbers: dict[str, float]  # by metric


def cells_of(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def published_rows(text: str) -> list[PublishedRow]:
    """Return the rows with numbers of all tables below ``<!-- published: PAPER -->``."""
    rows = []
    for paper, table in re.findall(r"<!-- published: (.+?) -->\n\n((?:\|.*\n)+)", text + "\n"):
        header, _, *lines = table.splitlines()
        names, suffix = cells_of(header), " in the paper"
        if any(name.endswith(suffix) for name in names):  # the other columns are measured here
            names = [name.removesuffix(suffix) if name.endswith(suffix) else "" for name in names]
        names = [name if name in METRICS else name.split(",")[0] for name in names]
        columns = [name for name in names if name in METRICS]
        for line in lines:
            cells = cells_of(line)
            found = {name: re.match(r"\d+(\.\d+)?(?= |$)", cell) for name, cell in zip(names, cells, strict=True)}
            numbers = {name: float(number[0]) for name, number in found.items() if number and name in METRICS}
            if numbers:
                rows.append(PublishedRow(paper, cells, columns, numbers))
    return rows


def repeats(row: PublishedRow, result: PublishedResult) -> bool:
    """Whether a row shows a result: by its recipe or the start of its label, and in all its columns."""
    label, recipe = row.cells[0], f"`{result.recipe}`"
    is_named = recipe == label if label.startswith("`") else label.split(",")[0] == result.row.split(",")[0]
    shown = {metric: value for metric, value in result.metrics.items() if metric in row.columns}
    return row.paper == result.paper and is_named and shown == row.numbers


PUBLISHED_ROWS = {page: rows for page, text in PAGES.items() if (rows := published_rows(text))}


@pytest.mark.parametrize("page", PUBLISHED_ROWS)
def test_published_numbers_are_those_of_the_file(page: str) -> None:
    for row in PUBLISHED_ROWS[page]:
        assert any(repeats(row, result) for result in published_results()), row


def test_every_published_result_is_on_a_page() -> None:
    rows = [row for of_page in PUBLISHED_ROWS.values() for row in of_page]
    shown = [result for result in published_results() if any(repeats(row, result) for row in rows)]
    assert shown == [result for result in published_results() if result.metrics]


def test_every_table_of_published_results_is_compared_with_the_file() -> None:
    sections = [PAGES["recipes.md"], PAGES["performance.md"].split("### Ablation sensitivity")[1]]
    for page, text in PAGES.items():
        if page.startswith("models/"):
            sections += re.findall(r"^## (?:Results reported|Cost).*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(sections) == 12
    for section in sections:
        tables = re.findall(r"^\|.*\b(?:PQ|mIoU)\b.*\n\|[-:|]+\n", section, re.MULTILINE)
        assert len(tables) == len(re.findall("<!-- published: ", section)), tables


PAPERS = {
    "Panoptic SwiftNet": "Panoptic SwiftNet",
    "Dense detections": "Dense detections",
    "PISR": "Panoptic, Instance and Semantic Relations",
    "All scales": "Improving Panoptic Segmentation at All Scales",
    "YOLO-based": "YOLO-Based Panoptic Segmentation",
}


def test_every_table_with_published_results_is_listed_by_paper() -> None:
    sections = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGES["papers.md"], re.MULTILINE | re.DOTALL))
    assert list(sections) == list(PAPERS.values())
    for paper, title in PAPERS.items():
        listed = set()
        for kind, numbers in re.findall(r"^\| (Table|Figure)s? ([^|]+) \|", sections[title], re.MULTILINE):
            listed |= {f"{kind} {number}" for number in re.findall(r"[AB]?[\d.]+", numbers)}
        needed = {table for result in published_results() if result.paper == paper for table in result.tables}
        assert needed
        assert needed <= listed, paper


def test_recipes_of_the_papers_exist() -> None:
    found = set(
        re.findall(
            r"`((?:swiftnet|dense|deeplab|fpn|maskformer|upernet|seamless|yolo_panoptic)_\w+)`", PAGES["papers.md"]
        )
    )
    assert len(found) > 30
    assert found <= set(list_recipes())


def test_a_wrong_published_number_is_found() -> None:
    table = "<!-- published: PISR -->\n\n| network | PQ | FPS, A100 |\n|---|---|---|\n| PISR, R52 | 62.2 | 6.8 |\n"
    (result,) = (result for result in published_results() if result.metrics.get("PQ") == 62.2)
    (row,) = published_rows(table)
    assert row.numbers == {"PQ": 62.2, "FPS": 6.8}
    assert repeats(row, result)
    for wrong in (table.replace("62.2", "62.3"), table.replace("6.8", ""), table.replace("PISR, R52", "OCR")):
        assert not repeats(published_rows(wrong)[0], result)


# Paths in the glossary and in "Where is what"


def places(page: str) -> list[tuple[str, str]]:
    """Return the first cell and the cell of paths of each row."""
    column = {"glossary.md": "where", "where_is_what.md": "file"}[page]
    header, _, *rows = [line for line in PAGES[page].splitlines() if line.startswith("|")]
    number = cells_of(header).index(column)
    return [(cells_of(row)[0], cells_of(row)[number]) for row in rows]


@pytest.mark.parametrize("page", ["glossary.md", "where_is_what.md"])
def test_every_row_names_paths_that_exist_and_names_that_are_in_them(page: str) -> None:
    assert len(places(page)) > 30
    for word, cell in places(page):
        codes = re.findall(r"`([^`]+)`", cell)
        paths = [code for code in codes if "/" in code or code.endswith(".py")]
        assert paths, word
        assert [path for path in paths if not (SOURCE / path).exists()] == [], word
        text = "".join((SOURCE / path).read_text(encoding="utf-8") for path in paths if not path.endswith("/"))
        for name in set(codes) - set(paths):
            assert re.search(rf"^ *(?:def|class) {name}\b|^{name}\b.* = ", text, re.MULTILINE), f"{word}: {name}"


# Names of oracles


@pytest.mark.parametrize(
    ("oracles", "start", "page"),
    [
        (CENTER_ORACLES, "`--oracle` replaces", "training.md"),
        (DENSE_BOX_ORACLES, "Dense detections have `semantic`", "training.md"),
        (REGION_ORACLES, "Seamless and\nPanoptic FPN have `semantic`", "training.md"),
        (DENSE_BOX_ORACLES, "**Oracles.**", "models/dense_detections.md"),
        (REGION_ORACLES, "**Oracles.**", "models/all_scales.md"),
        (MASKED_BOX_ORACLES, "YOLO-based networks have `semantic`", "training.md"),
        (MASKED_BOX_ORACLES, "**Oracles.**", "models/yolo_panoptic.md"),
    ],
)
def test_pages_name_the_oracles(oracles: tuple[str, ...], start: str, page: str) -> None:
    paragraphs = PAGES[page][PAGES[page].index(start) :].partition("\n#")[0]
    assert [name for name in oracles if f"`{name}`" not in paragraphs] == []
