"""The demo: predicts synthetic scenes and shows the predictions beside the exact ground truth.

It uses synthetic scenes, and by default the model trained on them, because only their ground truth is exact and may
be shipped; annotations of photos are neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Literal

from panscape.datasets.base import Sample
from panscape.datasets.town import Town
from panscape.errors import InvalidArgumentError
from panscape.evaluation.report.figures import draw_case
from panscape.evaluation.report.html import Figure, figure, write_page
from panscape.evaluation.report.sections import type_heads
from panscape.geometry import Size
from panscape.inference.output_folder import make_folder
from panscape.inference.predictor import Prediction, Predictor
from panscape.labels import LabelSpace
from panscape.metrics import PanopticQuality
from panscape.metrics.protocol import get_protocol
from panscape.metrics.tables import format_percent, format_table
from panscape.visualize import PANEL_TITLES, draw
from panscape.zoo import load

_WARM_UP_SIZE = Size(64, 64)
_SEED = 7_000_000  # far from the seeds of all training scenes


@dataclass(frozen=True, slots=True)
class DemoScene:
    """A synthetic scene to render.

    Attributes:
        view: position of the camera.
        size: height and width, pixels.
        index: index of the scene in the endless sequence of scenes.
    """

    view: Literal["street", "above"]
    size: Size
    index: int


# As large as the training scenes of the bundled model, or a little larger.
SCENES = (
    DemoScene("street", Size(256, 448), 0),
    DemoScene("above", Size(320, 320), 0),
    DemoScene("street", Size(320, 320), 1),
    DemoScene("above", Size(256, 384), 1),
    DemoScene("street", Size(256, 512), 2),
    DemoScene("above", Size(256, 256), 2),
)


def run_demo(
    out: Path, *, model_name: str | Path = "town", device: str = "auto", scenes: Sequence[DemoScene] | None = None
) -> Path:
    """Render scenes, predict them, print a table and write a page.

    Args:
        out: folder for the page; created if it does not exist.
        model_name: model for :func:`panscape.load`, with the label space of the synthetic scenes.
        device: see :class:`~panscape.inference.predictor.Predictor`.
        scenes: scenes to render; by default `SCENES`.

    Returns:
        The path of the page.

    Raises:
        InvalidArgumentError: the model has another label space, or ``out`` is a file.
    """
    make_folder(out, "the page")
    predictor = Predictor(load(model_name), device=device)
    labels = Town(1).labels
    if [c.name for c in predictor.model.labels] != [c.name for c in labels]:
        raise InvalidArgumentError(
            f"the demo needs a model with the label space {labels.name!r}, "
            f"{str(model_name)!r} has {predictor.model.labels.name!r}"
        )
    predictor.warm_up()
    Town(1, _WARM_UP_SIZE)[0]  # compiles the renderer's kernels

    played = [_play(scene, predictor, labels) for scene in (SCENES if scenes is None else scenes)]
    quality = PanopticQuality(labels)
    for one in played:
        quality.merge(one.quality)
    report = quality.compute()
    print(format_table([["scene", *played[0].facts], *([one.title, *one.facts.values()] for one in played)]))
    print(f"\n{report}\n")
    page = out / "index.html"
    write_page(
        page,
        "demo.html.jinja",
        title="panscape demo",
        values={
            "model": str(model_name),
            "device": str(predictor.device),
            "scenes": str(len(played)),
            "PQ": format_percent(report.all.pq),
            "PQ of things": format_percent(report.things.pq),
            "PQ of stuff": format_percent(report.stuff.pq),
            "network, mean": f"{fmean(one.network_ms for one in played):.0f} ms",
            "post-processing, mean": f"{fmean(one.postprocess_ms for one in played):.0f} ms",
        },
        types=type_heads(),
        labels=labels,
        report=report,
        scenes=played,
    )
    return page


@dataclass(frozen=True, slots=True, eq=False)
class _Played:
    """A section of the page: a scene with its measurements, figures and scores."""

    title: str
    facts: Mapping[str, str]
    figures: Sequence[Figure]
    quality: PanopticQuality
    network_ms: float
    postprocess_ms: float


def _play(scene: DemoScene, predictor: Predictor, labels: LabelSpace) -> _Played:
    """Render a scene, predict it and compare it with the ground truth."""
    started = perf_counter()
    sample = Town(scene.index + 1, scene.size, scene.view, seed=_SEED)[scene.index]
    draw_ms = 1000 * (perf_counter() - started)
    prediction = predictor.predict(sample.image)
    quality = PanopticQuality(labels)
    quality.update(prediction.map, sample.truth)
    facts = {
        "size": f"{scene.size.height}x{scene.size.width}",
        "segments": str(prediction.map.num_segments),
        "PQ": format_percent(quality.compute().all.pq),
        "rendering": f"{draw_ms:.0f} ms",
        "network": f"{prediction.network_ms:.0f} ms",
        "post-processing": f"{prediction.postprocess_ms:.0f} ms",
    }
    return _Played(
        f"{scene.view} {scene.index + 1}",
        facts,
        _figures(sample, prediction, predictor, labels),
        quality,
        prediction.network_ms,
        prediction.postprocess_ms,
    )


def _figures(sample: Sample, prediction: Prediction, predictor: Predictor, labels: LabelSpace) -> list[Figure]:
    captions = {"semantic": "network: category", "centers": "network: centers", "offsets": "network: offset directions"}
    return [
        *draw_case(prediction.map, sample.truth, labels, get_protocol("coco"), sample.image),
        figure("prediction over the image", draw(sample.image, prediction.map, labels), is_photo=True),
        *(
            # Panels without an entry in PANEL_TITLES show features over the photo.
            figure(captions.get(name, name), image, is_photo=name == "offsets" or name not in PANEL_TITLES)
            for name, image in predictor.visualize(prediction).items()
        ),
    ]
