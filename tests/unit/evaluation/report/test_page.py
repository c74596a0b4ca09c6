"""The page: whole, self-contained, complete, and safe from what names contain."""

import base64
import hashlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from maps import SHAPES, a_map, generated_map
from PIL import Image

from panscape import Category, LabelSpace, PanopticMap
from panscape.cli import main
from panscape.errors import InvalidArgumentError, UnreadableFileError
from panscape.evaluation.compare import Difference, compare
from panscape.evaluation.evaluators import create_evaluator
from panscape.evaluation.options import EvaluationOptions
from panscape.evaluation.records import ImageRecord, record_of
from panscape.evaluation.report.comparison import comparison_values
from panscape.evaluation.report.figures import TYPE_COLORS, choose, draw_case, draw_errors, find_images, image_of
from panscape.evaluation.report.page import write_report
from panscape.evaluation.results import write_results
from panscape.formats.issues import Issue, IssueKind
from panscape.metrics import PROTOCOLS, Evaluator
from panscape.metrics.error_types import ErrorType, find_errors
from panscape.metrics.matching import match_segments
from panscape.ops.cropped_masks import CroppedMasks, Detections

EVIL = "<script>alert('x')</script>\"&{{style}}"
LABELS = LabelSpace("evil <b>", (*SHAPES.categories[:3], Category(EVIL, True, 26, (0, 0, 142))))
_VOID = {"meta", "link", "img", "input", "br"}


@dataclass(frozen=True)
class FakeScores:
    predictions: Path
    truth: Path
    labels: LabelSpace
    records: tuple[ImageRecord, ...]
    issues: tuple[Issue, ...]
    summary: dict[str, Any]
    maps_of: Callable[[str], tuple[PanopticMap, PanopticMap]] | None = None

    def to_dict(self) -> dict[str, Any]:
        return self.summary


def scores_of(shift: int = 3, num: int = 6, *, maps: bool = True) -> FakeScores:
    evaluator, pairs = Evaluator(LABELS), {}
    for seed in range(num):
        truth = generated_map(seed, crowd=True, objects=9)
        prediction = PanopticMap(truth.ids, truth.category).pad(96, 128 + shift).crop(0, shift, 96, 128)
        name = f"{seed}.png" if seed else f"{EVIL}.png"
        pairs[name] = (prediction, truth)
        evaluator.update(prediction, truth)
    return FakeScores(
        Path("runs/<i>"),
        Path("truth"),
        LABELS,
        tuple(record_of(name, *pair, LABELS) for name, pair in pairs.items()),
        (Issue(EVIL, IssueKind.SIZE, f"what {EVIL}"), Issue("b", IssueKind.SIZE, "too large")),
        evaluator.compute().to_dict(),
        pairs.__getitem__ if maps else None,
    )


class Page(HTMLParser):
    """Reads a page and complains about what is not closed in order."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.texts: list[str] = []
        self.scripts: dict[str | None, str] = {}
        self._script: str | None = None
        self.feed(path.read_text(encoding="utf-8"))
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names))
        if tag == "script":
            self._script = dict(attrs).get("id")
            self.scripts[self._script] = ""
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[self._script] += data
        elif not self.open or self.open[-1] != "style":
            self.texts.append(data)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(path, scores_of(), samples=50)
    return path


def test_page_is_whole_and_loads_nothing(path: Path) -> None:
    page = Page(path)
    assert page.tags["html"] == page.tags["body"] == page.tags["main"] == page.tags["title"] == 1
    ids = [value for _, name, value in page.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for tag, name, value in page.attributes:
        if name in ("src", "href"):
            assert value.startswith("data:image/" if name == "src" else "#"), (tag, value)
        if name == "href":
            assert value[1:] in ids
        assert not name.startswith("on")
    assert page.tags["link"] == page.tags["iframe"] == 0
    assert "http://" not in path.read_text()
    assert "https://" not in path.read_text()
    assert "url(" not in path.read_text()


def test_names_cannot_run(path: Path) -> None:
    page = Page(path)
    assert set(page.scripts) == {None, "confusion-data"}  # ours, and data
    assert "alert(" not in page.scripts[None]
    assert json.loads(page.scripts["confusion-data"])["names"][3] == EVIL
    assert sum(EVIL in text for text in page.texts) >= 4  # category, image, file, issue: as plain text
    digest = base64.b64encode(hashlib.sha256(page.scripts[None].encode()).digest()).decode()
    policy = next(v for tag, name, v in page.attributes if tag == "meta" and name == "content" and "default-src" in v)
    assert policy.startswith("default-src 'none'")
    assert f"script-src 'sha256-{digest}'" in policy


def test_everything_is_there(path: Path) -> None:
    page, scores = Page(path), scores_of()
    text = "".join(page.texts)
    report = scores.summary
    for value in (
        report["panoptic"]["all"]["pq"],
        report["panoptic"]["things"]["pq"],
        report["panoptic"]["stuff"]["pq"],
        report["panoptic"]["all"]["sq"],
        report["semantic"]["mean_iou"],
        report["dagger"]["all"]["pq"],
        report["covering"]["all"]["covering"],
        *(c["pq"] for c in report["panoptic"]["per_category"].values()),
    ):
        assert f"{100 * value:.1f}" in page.texts
    assert "Fix first: localization" in text
    assert all(kind.title in page.texts for kind in ErrorType)
    assert all(record.name in page.texts for record in scores.records)
    assert "wrong size 2" in text
    data = json.loads(page.scripts["confusion-data"])
    pixels = sum(number for _, _, number in data["cells"])
    assert pixels == sum(n for record in scores.records for _, _, n in record.confusion)


def test_tables_scroll_and_bars_have_their_numbers_beside_them(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    container = re.compile(r'<div class="scroll[^"]*" tabindex="0" role="region" aria-label="[^"]+">\s*<table')
    assert len(container.findall(text)) == Page(path).tags["table"] == 6
    bars = re.findall(
        r'<i style="--share:([\d.]+)%" aria-hidden="true"></i><span>([\d.]+|\N{EN DASH})</span></td>', text
    )
    assert len(bars) == text.count('<td class="bar"') >= len(LABELS) + 5
    for share, number in bars:
        assert float(share) == pytest.approx(0 if number == "\N{EN DASH}" else float(number), abs=0.051)


def test_images_are_embedded(path: Path) -> None:
    page = Page(path)
    sources = [value for tag, name, value in page.attributes if tag == "img" and name == "src"]
    assert len(sources) == 6 * 3  # truth, prediction and errors of each image, once
    for source in sources:
        kind, content = source.removeprefix("data:image/").split(";base64,")
        image = Image.open(io.BytesIO(base64.b64decode(content)))
        assert image.format == kind.upper()
        assert image.size == (128, 96)


def test_without_maps_there_are_no_images(tmp_path: Path) -> None:
    write_report(tmp_path / "a.html", scores_of(maps=False), samples=20)
    assert Page(tmp_path / "a.html").tags["img"] == 0


def test_other_means_are_reported(tmp_path: Path) -> None:
    scores = scores_of(maps=False)
    scores.summary["panoptic"]["all"]["pq"] = 0.1234
    write_report(tmp_path / "a.html", scores, samples=20)
    assert "summarizes categories in another way: PQ 12.3." in "".join(Page(tmp_path / "a.html").texts)


def test_requested_metrics_are_there(tmp_path: Path) -> None:
    scores = scores_of(maps=False)
    options = EvaluationOptions(ap_sizes=True, iiou=True, boundary=True)
    evaluator = create_evaluator(LABELS, options, has_head=True, has_detections=True)
    for seed in range(6):
        truth = generated_map(seed, crowd=True, objects=9)
        score = torch.linspace(0.2, 0.9, truth.num_segments)
        prediction = PanopticMap(truth.ids, truth.category, score).pad(96, 131).crop(0, 3, 96, 128)
        things = torch.isin(truth.category, torch.tensor(LABELS.thing_ids))
        detections = Detections(CroppedMasks.from_masks(truth.masks()[things]), truth.category[things], score[things])
        evaluator.update(prediction, truth, semantic=prediction.semantic(void=0), detections=detections)
    scores.summary.update({**evaluator.compute().to_dict(), "protocol": "coco"})
    write_report(tmp_path / "a.html", scores, samples=20)
    texts = Page(tmp_path / "a.html").texts
    report = evaluator.compute()
    for value in (
        report.instances.ap,
        report.instances_before_fusion.ap,
        report.instance_iou.mean_iou,
        report.instance_iou_head.mean_iou,
        report.boundary.all.pq,
        *(category.ap for category in report.instances.per_category.values()),
        *(category.iou for category in report.instance_iou.per_category.values()),
        *(size.ap for size in report.instances.by_size.values() if size.num_objects),
        *(size.recall for size in report.instances.by_size.values() if size.num_objects),
    ):
        assert f"{100 * value:.1f}" in texts
    assert report.instances_before_fusion.ap > report.instances.ap
    assert {"AP of the map's things", "AP of things before fusion", "iIoU of the semantic head's things"} <= set(texts)
    assert {"head IoU", "head iIoU", "AP before fusion"} <= set(texts)
    assert {"Objects by size", "iIoU of the map's things", "small", "25-50%", "99-100%"} <= set(texts)
    assert "protocol coco" in "".join(texts)


def test_few_images_are_reported(tmp_path: Path) -> None:
    write_report(tmp_path / "few.html", scores_of(maps=False), samples=20)
    assert "Caution: only 6 images." in "".join(Page(tmp_path / "few.html").texts)
    write_report(tmp_path / "enough.html", scores_of(num=20, maps=False), samples=20)
    assert "Caution" not in "".join(Page(tmp_path / "enough.html").texts)


def test_size_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("panscape.evaluation.report.page._MOST_IMAGE_BYTES", 12_000)
    write_report(tmp_path / "a.html", scores_of(), samples=20)
    page = Page(tmp_path / "a.html")
    assert 0 < page.tags["img"] < 18
    assert "left out to keep this page small" in "".join(page.texts)
    sources = [value for tag, name, value in page.attributes if tag == "img" and name == "src"]
    assert sum(map(len, sources)) <= 12_000


def test_photos_are_found_and_shown(tmp_path: Path) -> None:
    folder = tmp_path / "photos" / "city"
    folder.mkdir(parents=True)
    for name in ("1.jpg", "a_000001_000002_leftImg8bit.png"):
        Image.new("RGB", (256, 192), (10, 200, 30)).save(folder / name)
    images = find_images(tmp_path / "photos")
    assert image_of("1.png", images) == folder / "1.jpg"
    assert image_of("city/1", images) == folder / "1.jpg"
    assert image_of("a_000001_000002", images) == folder / "a_000001_000002_leftImg8bit.png"
    assert image_of("2.png", images) is None
    write_report(tmp_path / "a.html", scores_of(), images=tmp_path / "photos", samples=20)
    page = Page(tmp_path / "a.html")
    photos = [
        v for tag, name, v in page.attributes if tag == "img" and name == "src" and v.startswith("data:image/jpeg")
    ]
    assert len(photos) == 2  # one image, and its errors over it
    with pytest.raises(UnreadableFileError, match="expected a folder of images"):
        write_report(tmp_path / "a.html", scores_of(), images=tmp_path / "nowhere")


def test_comparison_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path / "a.json", scores_of(9))
    write_results(tmp_path / "b.json", scores_of(2))
    paths = [str(tmp_path / name) for name in ("a.json", "b.json", "c.html")]
    assert main(["evaluate", "--compare", *paths[:2], "--report", paths[2]]) == 0
    text = "".join(Page(tmp_path / "c.html").texts)
    sentence = compare(scores_of(9), scores_of(2)).sentence
    assert sentence in text
    assert "Most improved" in text
    assert "From a.json to b.json, on 6 images that both have. All other sections are about b.json." in text
    assert "AP" not in text
    assert "report: " in capsys.readouterr().out


def test_a_category_of_one_run_alone_is_not_comparable() -> None:
    both = compare(scores_of(9), scores_of(2))
    nan = math.nan
    categories = {"one run": Difference(0.5, nan, nan, nan), "unclear": Difference(0.5, 0.6, -0.1, 0.3)}
    categories |= {"equal": Difference(0.5, 0.5, 0, 0), "clear": Difference(0.5, 0.4, -0.2, -0.05)}
    rows = comparison_values(replace(both, categories=categories))["categories"]
    verdicts = {row["name"][0]: row["verdict"] for row in rows}
    assert verdicts == {"one run": "not comparable", "unclear": "could be noise", "equal": "same", "clear": "worse"}


def test_nothing_at_all_can_be_reported(tmp_path: Path) -> None:
    empty = a_map("....", {})
    scores = FakeScores(Path("p"), Path("t"), SHAPES, (record_of("x", empty, empty, SHAPES),), (), {})
    write_report(tmp_path / "a.html", scores, samples=5)
    assert "There are no segments" in "".join(Page(tmp_path / "a.html").texts)
    with pytest.raises(InvalidArgumentError, match="does not exist"):
        write_report(tmp_path / "b" / "a.html", scores, samples=5)


def test_chosen_images() -> None:
    scores = scores_of()
    chosen = choose(scores.records, 2)
    worst = sorted(scores.records, key=lambda r: r.pq)[:2]
    assert [c.record for c in chosen[:2]] == worst
    assert len({c.record.name for c in chosen}) == len(chosen)
    assert all("most errors of type" in c.reason for c in chosen[2:])
    assert choose(scores.records, 0) == []
    truth = generated_map(0)
    perfect = record_of("perfect", truth, truth, SHAPES)
    assert [c.record for c in choose([*scores.records[:1], perfect], 8)] == [scores.records[0]]


def test_errors_are_painted_in_their_colours() -> None:
    categories = {"G": 1, "D": 2, "E": 2, "P": 2, "B": 3}
    truth = a_map("GGGGGGDDDDEE..", categories)
    prediction = a_map("GGGGGPBBB.GG..", categories)
    errors, matches = find_errors(prediction, truth), match_segments(prediction, truth)
    ground = torch.full((3, 1, 14), 100, dtype=torch.uint8)
    drawn = draw_errors(ground, prediction, truth, errors, matches)[:, 0].T.tolist()
    grey, dark = [130] * 3, [46] * 3  # 100 * 0.6 + 70, and of that 0.35 where the truth is void
    assert drawn[:5] == [grey] * 5
    assert drawn[12:] == [dark] * 2

    def painted(kind: ErrorType) -> list[int]:
        return [round(130 * 0.25 + 0.75 * value) for value in TYPE_COLORS[kind]]

    assert drawn[5] == painted(ErrorType.BACKGROUND)
    assert drawn[6:10] == [painted(ErrorType.CLASSIFICATION)] * 4
    assert drawn[10:12] == [painted(ErrorType.MISSED)] * 2


def test_the_truth_itself_has_no_errors() -> None:
    truth = generated_map(3)
    ground = torch.full((3, *truth.size), 100, dtype=torch.uint8)
    drawn = draw_errors(ground, truth, truth, find_errors(truth, truth), match_segments(truth, truth))
    assert torch.equal(drawn, torch.where(truth.ids > 0, 130, 46).to(torch.uint8).expand(3, -1, -1))


def test_errors_are_drawn_by_the_rules() -> None:
    """Stuff in two pieces is one by the rules of deeplab2, and a crowd is void by those of seamseg."""
    categories = {"G": 1, "H": 1, "D": 2, "E": 2}
    truth = a_map("GGGGGGGGDD", categories, crowd="D")
    prediction = a_map("GGGGHHHHEE", {**categories, "E": 3})

    def drawn(protocol: str) -> np.ndarray:
        *_, figure = draw_case(prediction, truth, SHAPES, PROTOCOLS[protocol], None)
        content = base64.b64decode(figure.uri.split(",")[1])
        return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)[0]

    def is_painted(pixels: np.ndarray, kind: ErrorType) -> bool:
        grey = pixels - 0.75 * np.array(TYPE_COLORS[kind])  # a quarter of 70 to 223
        return bool(((grey > 15) & (grey < 58)).all())

    assert is_painted(drawn("coco")[:8], ErrorType.OVERSEGMENTATION)
    assert is_painted(drawn("coco")[8:], ErrorType.VOID)
    for protocol in ("deeplab2", "seamseg"):
        assert (drawn(protocol)[8:] < 60).all()  # dark
    assert is_painted(drawn("seamseg")[:8], ErrorType.OVERSEGMENTATION)
    assert (np.ptp(drawn("deeplab2")[:8], axis=1) < 8).all()  # grey: no error
