"""The demo: predicts synthetic scenes and shows the predictions beside the exact ground truth.

It uses synthetic scenes, and by default the model trained on them, because only their ground truth is exact and may
be shipped; annotations of photos are neither.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from time import perf_counter
from typing import Any, Literal

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
from panscape.metrics import PanopticQuality, PanopticQualityReport
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


@dataclass(frozen=True, slots=True, eq=False)
class SceneResult:
    """A section of the page: a scene with its measurements and figures.

    Attributes:
        title: camera position and number of the scene.
        size: height and width, pixels.
        num_segments: number of predicted segments.
        quality: panoptic quality of the scene.
        render_ms: milliseconds to render the scene.
        network_ms: milliseconds of the forward pass.
        postprocess_ms: milliseconds of post-processing.
        figures: images of the page.
    """

    title: str
    size: Size
    num_segments: int
    quality: PanopticQuality
    render_ms: float
    network_ms: float
    postprocess_ms: float
    figures: Sequence[Figure]

    @property
    def facts(self) -> dict[str, str]:
        """The measurements as text."""
        return {
            "size": f"{self.size.height}x{self.size.width}",
            "segments": str(self.num_segments),
            "PQ": format_percent(self.quality.compute().all.pq),
            "rendering": f"{self.render_ms:.0f} ms",
            "network": f"{self.network_ms:.0f} ms",
            "post-processing": f"{self.postprocess_ms:.0f} ms",
        }

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "name": self.title,
            "height": self.size.height,
            "width": self.size.width,
            "num_segments": self.num_segments,
            "pq": self.quality.compute().all.pq,
            "render_ms": round(self.render_ms, 3),
            "network_ms": round(self.network_ms, 3),
            "postprocess_ms": round(self.postprocess_ms, 3),
        }


@dataclass(frozen=True, slots=True, eq=False)
class DemoResult:
    """The measurements of a demo; ``str()`` returns tables.

    Attributes:
        model: name of the model.
        device: device it ran on.
        report: panoptic quality on all scenes.
        scenes: the scenes, in their order.
        page: path of the page.
    """

    model: str
    device: str
    report: PanopticQualityReport
    scenes: Sequence[SceneResult]
    page: Path

    @property
    def network_ms(self) -> float:
        """Mean milliseconds of the forward pass per scene."""
        return fmean(scene.network_ms for scene in self.scenes)

    @property
    def postprocess_ms(self) -> float:
        """Mean milliseconds of post-processing per scene."""
        return fmean(scene.postprocess_ms for scene in self.scenes)

    def __str__(self) -> str:
        facts = [scene.facts for scene in self.scenes]
        rows = [[scene.title, *each.values()] for scene, each in zip(self.scenes, facts, strict=True)]
        return f"{format_table([['scene', *facts[0]], *rows])}\n\n{self.report}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "model": self.model,
            "device": self.device,
            "images": len(self.scenes),
            "panoptic": self.report.to_dict(),
            "network_ms": round(self.network_ms, 3),
            "postprocess_ms": round(self.postprocess_ms, 3),
            "scenes": [scene.to_dict() for scene in self.scenes],
            "report": str(self.page),
        }


def run_demo(
    out: Path, *, model_name: str | Path = "town", device: str = "auto", scenes: Sequence[DemoScene] | None = None
) -> DemoResult:
    """Render scenes, predict them and write a page.

    Args:
        out: folder for the page; created if it does not exist.
        model_name: model for :func:`panscape.load`, with the label space of the synthetic scenes.
        device: see :class:`~panscape.inference.predictor.Predictor`.
        scenes: scenes to render; by default `SCENES`.

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
    result = DemoResult(str(model_name), str(predictor.device), report, played, out / "index.html")
    write_page(
        result.page,
        "demo.html.jinja",
        title="panscape demo",
        values={
            "model": result.model,
            "device": result.device,
            "scenes": str(len(played)),
            "PQ": format_percent(report.all.pq),
            "PQ of things": format_percent(report.things.pq),
            "PQ of stuff": format_percent(report.stuff.pq),
            "network, mean": f"{result.network_ms:.0f} ms",
            "post-processing, mean": f"{result.postprocess_ms:.0f} ms",
        },
        types=type_heads(),
        labels=labels,
        report=report,
        scenes=played,
    )
    return result


def _play(scene: DemoScene, predictor: Predictor, labels: LabelSpace) -> SceneResult:
    """Render a scene, predict it and compare it with the ground truth."""
    started = perf_counter()
    sample = Town(scene.index + 1, scene.size, scene.view, seed=_SEED)[scene.index]
    render_ms = 1000 * (perf_counter() - started)
    prediction = predictor.predict(sample.image)
    quality = PanopticQuality(labels)
    quality.update(prediction.map, sample.truth)
    return SceneResult(
        title=f"{scene.view} {scene.index + 1}",
        size=scene.size,
        num_segments=prediction.map.num_segments,
        quality=quality,
        render_ms=render_ms,
        network_ms=prediction.network_ms,
        postprocess_ms=prediction.postprocess_ms,
        figures=_figures(sample, prediction, predictor, labels),
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
