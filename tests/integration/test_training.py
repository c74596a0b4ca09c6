"""Training really trains: two scenes are learnt by heart."""

from __future__ import annotations

import pytest
import torch
from maps import SHAPES, generated_map

from panscape import PanopticMap, create_model
from panscape.datasets.sample import Sample
from panscape.errors import InvalidArgumentError
from panscape.labels import LabelSpace
from panscape.metrics import PanopticQuality
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.loop import Progress, Training, train

SMALL = CenterRepresentation(
    sigma=3,
    small_area=1,
    center_loss_weight=100,
    offset_loss_weight=0.02,
    decoding=CenterDecoding(stuff_area=16),
)


class Scenes:
    """Two maps painted in the colours of their categories, each object a little differently."""

    labels = SHAPES

    def __init__(self, seeds: tuple[int, ...] = (1, 2)) -> None:
        self.truths = [generated_map(s, size=(64, 96), void=False, objects=3, smallest=20) for s in seeds]

    def __len__(self) -> int:
        return len(self.truths)

    def __getitem__(self, index: int) -> Sample:
        truth = self.truths[index]
        colors = torch.tensor([c.color for c in SHAPES])[truth.category] + torch.arange(truth.num_segments)[:, None] * 5
        image = colors[truth.ids.long() - 1].clamp(0, 255).to(torch.uint8).permute(2, 0, 1)
        return Sample(image, truth, str(index))


def unchanged(image: torch.Tensor, truth: PanopticMap, _: torch.Generator) -> tuple[torch.Tensor, PanopticMap]:
    return image, truth


def test_two_scenes_are_learnt_to_pq_90() -> None:
    torch.manual_seed(0)
    scenes = Scenes()
    model = create_model("swiftnet", SHAPES, backbone="residual_xs", width=32, levels=2, representation=SMALL)
    progress: list[Progress] = []
    averaged = train(
        model,
        scenes,
        unchanged,
        Training(steps=200, batch_size=2, learning_rate=4e-3, warmup_steps=20, ema_decay=0.95, bf16=False, workers=0),
        progress.append,
    )
    quality = PanopticQuality(SHAPES)
    for i in range(len(scenes)):
        quality.update(averaged.predict(scenes[i].image), scenes[i].truth)
    assert quality.compute().all.pq > 0.9
    assert [p.step for p in progress] == [50, 100, 150, 200]
    assert sum(progress[-1].losses.values()) < 0.1 * sum(progress[0].losses.values())


def test_the_seed_decides_the_result() -> None:
    results = []
    for _ in range(2):
        torch.manual_seed(0)
        model = create_model("swiftnet", SHAPES, backbone="residual_xs", width=8, levels=1, representation=SMALL)
        averaged = train(model, Scenes(), unchanged, Training(steps=3, batch_size=2, workers=1), lambda _: None)
        results.append(torch.cat([p.detach().flatten() for p in averaged.parameters()]))
    assert torch.equal(*results)


def test_what_cannot_be_trained() -> None:
    model = create_model("swiftnet", SHAPES, backbone="residual_xs", width=8)
    with pytest.raises(InvalidArgumentError, match="expected at least one sample"):
        train(model, Scenes(()), unchanged, Training(steps=1))
    other = create_model("swiftnet", LabelSpace("other", SHAPES.categories), backbone="residual_xs", width=8)
    with pytest.raises(InvalidArgumentError, match="expected a dataset of label space 'other' as the model's"):
        train(other, Scenes(), unchanged, Training(steps=1))
    with pytest.raises(InvalidArgumentError, match="expected at least one step"):
        Training(steps=0)


def test_more_workers_than_samples() -> None:
    model = create_model("swiftnet", SHAPES, backbone="residual_xs", width=8, levels=1, representation=SMALL)
    seen: list[int] = []
    train(model, Scenes((1,)), unchanged, Training(steps=5, batch_size=2, workers=2), lambda p: seen.append(p.step))
    assert seen == [5]


def test_a_loss_that_is_not_finite_stops_with_the_step() -> None:
    model = create_model("swiftnet", SHAPES, backbone="residual_xs", width=8, representation=SMALL)
    with torch.no_grad():
        next(model.parameters()).fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="the loss is nan at step 1"):
        train(model, Scenes(), unchanged, Training(steps=2, batch_size=2, workers=0))
