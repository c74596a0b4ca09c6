from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from maps import SHAPES
from torch import Tensor

from panscape import create_model
from panscape.models.pisr_panels import capture_activations, class_similarity_map
from panscape.models.swiftnet import PanopticSwiftNet
from panscape.nn.pisr import PISR, RelationModule, Relations
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct
from panscape.ops.interpolate import upsample
from panscape.visualize import draw_heatmap

TINY = {"backbone": "residual_xs", "width": 8, "levels": 1}
SIZE = (70, 90)  # the network pads it to 96x96


@dataclass(frozen=True, slots=True)
class Nothing(Relations):
    """Features of which nothing is left."""

    def build(self, channels: int, num_categories: int) -> RelationModule:
        return _Nothing(self, channels, num_categories)


class _Nothing(RelationModule):
    def relate(self, features: Tensor, semantic_prob: Tensor, instances: Tensor, valid: Tensor | None) -> Tensor:
        return torch.zeros_like(features)


@dataclass(frozen=True, slots=True)
class Probability(Relations):
    """The probability of the second category in all channels."""

    def build(self, channels: int, num_categories: int) -> RelationModule:
        return _Probability(self, channels, num_categories)


class _Probability(RelationModule):
    def relate(self, features: Tensor, semantic_prob: Tensor, instances: Tensor, valid: Tensor | None) -> Tensor:
        return semantic_prob[:, 1:2].expand_as(features)


def a_model(relations: Relations | None, **options: object) -> PanopticSwiftNet:
    torch.manual_seed(0)
    model = create_model("swiftnet", SHAPES, relations=relations, **TINY, **options)
    assert isinstance(model, PanopticSwiftNet)
    return model.eval()


def an_image() -> Tensor:
    return torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def as_image(images: Tensor) -> Tensor:
    return (images[0] * 255).round().to(torch.uint8)


class TestSignal:
    def test_it_is_one_where_the_category_is_and_nothing_elsewhere(self) -> None:
        features = torch.tensor([[[1.0, 1, 0, 0, 0.5]], [[0, 0, 1, 1, 0.5]]]) + 7  # what all have plays no role
        prob = torch.tensor([[0.9, 0.9, 0.1, 0.1, 0.5]])
        torch.testing.assert_close(class_similarity_map(features, prob), torch.tensor([[1.0, 1, 0, 0, 0]]))
        torch.testing.assert_close(class_similarity_map(features, 1 - prob), torch.tensor([[0.0, 0, 1, 1, 0]]))

    def test_it_is_the_cosine_of_the_angle(self) -> None:
        # The mean is zero; the encoding points right; the second place lies 60 degrees from it.
        features = torch.tensor([[1.0, 0.5, 0, -1.5], [0, 3**0.5 / 2, 1, -1 - 3**0.5 / 2]])[:, None]
        prob = torch.tensor([[1.0, 0, 0, 0]])
        torch.testing.assert_close(class_similarity_map(features, prob), torch.tensor([[1.0, 0.5, 0, 0]]))

    def test_it_is_that_of_numpy(self) -> None:
        random = np.random.default_rng(0)
        features, prob = random.normal(size=(5, 4, 6)) ** 3, random.random((4, 6)) ** 4
        expected = np.zeros((4, 6))
        mean = features.mean((1, 2))
        encoding = sum(prob[y, x] * (features[:, y, x] - mean) for y in range(4) for x in range(6)) / prob.sum()
        for y in range(4):
            for x in range(6):
                here = features[:, y, x] - mean
                expected[y, x] = here @ encoding / np.sqrt((here @ here) * (encoding @ encoding))
        signal = class_similarity_map(torch.tensor(features), torch.tensor(prob))
        torch.testing.assert_close(signal.double(), torch.tensor(expected.clip(0, 1)), atol=1e-6, rtol=0)
        assert 0 < (signal > 0).float().mean() < 1

    def test_padding_has_no_influence(self) -> None:
        generator = torch.Generator().manual_seed(0)
        features, prob = torch.randn(3, 4, 5, generator=generator), torch.rand(4, 5, generator=generator)
        expected = class_similarity_map(features[:, :3, :4], prob[:3, :4])
        valid = torch.zeros(4, 5, dtype=torch.bool)
        valid[:3, :4] = True
        features[:, ~valid] = torch.nan
        signal = class_similarity_map(features, prob, valid)
        torch.testing.assert_close(signal[:3, :4], expected, atol=1e-6, rtol=0)
        assert not signal[~valid].any()

    @pytest.mark.parametrize("prob", [torch.full((2, 3), 0.25), torch.zeros(2, 3)], ids=["everywhere", "nowhere"])
    def test_a_category_that_is_everywhere_or_nowhere_has_none(self, prob: Tensor) -> None:
        features = torch.tensor([[[1.0, 2, 4], [8, 16, 32]]])
        assert class_similarity_map(features, prob).max() < 0.01

    @pytest.mark.parametrize("scale", [1e-6, 1e6])
    def test_the_scale_of_features_plays_no_role(self, scale: float) -> None:
        generator = torch.Generator().manual_seed(0)
        features, prob = torch.randn(3, 4, 5, generator=generator), torch.rand(4, 5, generator=generator)
        expected = class_similarity_map(features, prob)
        torch.testing.assert_close(class_similarity_map(features * scale, prob), expected, atol=1e-5, rtol=0)

    def test_half_precision_is_for_networks_alone(self) -> None:
        generator = torch.Generator().manual_seed(0)
        features, prob = torch.randn(3, 4, 5, generator=generator), torch.rand(4, 5, generator=generator)
        with torch.autocast("cpu", torch.bfloat16):
            signal = class_similarity_map(features, prob)
        assert torch.equal(signal, class_similarity_map(features, prob))

    def test_rounding_is_no_signal(self) -> None:
        features = torch.full((3, 8, 8), 0.1) * (1 + 1e-7 * torch.rand(3, 8, 8, generator=torch.Generator()))
        prob = torch.rand(8, 8, generator=torch.Generator().manual_seed(0))
        assert class_similarity_map(features, prob).max() < 0.01
        assert not class_similarity_map(torch.zeros(3, 8, 8), prob).any()


class TestPanels:
    def test_relations_that_add_nothing_change_no_signal(self) -> None:
        model, image = a_model(PISR(4, key_width=6)), an_image()  # they start so
        panels = model.visualize_features(image, SIZE, [2, 0])
        names = [SHAPES[c].name for c in (2, 0)]
        assert list(panels) == [f"{name} {when} relations" for name in names for when in ("before", "after")]
        assert all(p.dtype == torch.uint8 and p.shape == (3, *SIZE) for p in panels.values())
        for name in names:
            assert torch.equal(panels[f"{name} before relations"], panels[f"{name} after relations"])
        assert not torch.equal(panels[f"{names[0]} before relations"], panels[f"{names[1]} before relations"])

    def test_both_are_drawn_over_the_image_without_padding(self) -> None:
        model, image = a_model(Nothing(4)), an_image()
        panels = model.visualize_features(image, SIZE, [1])
        name = SHAPES[1].name
        assert torch.equal(panels[f"{name} after relations"], draw_heatmap(torch.zeros(SIZE), as_image(image)))
        with capture_activations(model.relations.related) as seen, torch.no_grad():
            model(image)
        (related,) = seen
        assert related.before.shape == (1, 8, 24, 24)
        assert related.valid.sum() == 18 * 23  # cells of 4x4 pixels that 70x90 pixels reach
        signal = class_similarity_map(related.before[0], related.semantic_prob[0, 1], related.valid[0, 0])
        heat = upsample(signal, (96, 96), SIZE, False)
        assert torch.equal(panels[f"{name} before relations"], draw_heatmap(heat, as_image(image)))
        assert heat.max() > 0.2

    def test_after_shows_what_relations_gave(self) -> None:
        model, image = a_model(Probability(4)), an_image()
        with capture_activations(model.relations.related) as seen, torch.no_grad():
            model(image)
        prob = seen[0].semantic_prob[0, 1]
        # With a single number, the angle is none or a straight one: above the mean or below.
        is_above = torch.zeros(24, 24)
        is_above[:18, :23] = (prob[:18, :23] > prob[:18, :23].mean()).float()
        panel = model.visualize_features(image, SIZE, [1])[f"{SHAPES[1].name} after relations"]
        expected = draw_heatmap(upsample(is_above, (96, 96), SIZE, False), as_image(image))
        assert (panel.int() - expected.int()).abs().max() <= 1

    def test_images_have_the_requested_size(self) -> None:
        panels = a_model(PISR(4, key_width=6)).visualize_features(an_image(), (140, 180), [0])
        assert {p.shape for p in panels.values()} == {(3, 140, 180)}

    @pytest.mark.parametrize(
        "part",
        [Concatenation(4), ElementwiseProduct(4), OCR(key_width=6), PISR(4, residual=False)],
        ids=lambda part: type(part).__name__,
    )
    def test_every_kind_of_relations_changes_signals(self, part: Relations) -> None:
        before, after = a_model(part).visualize_features(an_image(), SIZE, [1]).values()
        assert not torch.equal(before, after)

    @pytest.mark.parametrize(("part", "categories"), [(None, [0, 1]), (PISR(4), [])])
    def test_without_relations_or_categories_the_network_does_not_run(
        self, part: Relations | None, categories: list[int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = a_model(part)
        monkeypatch.setattr(model, "forward", None)
        assert model.visualize_features(an_image(), SIZE, categories) == {}

    def test_nothing_stays_behind_in_a_model_in_training(self) -> None:
        model = a_model(PISR(4, key_width=6)).train()
        state = {name: value.clone() for name, value in model.state_dict().items()}
        panels = model.visualize_features(an_image(), SIZE, [1])
        assert all(module.training for module in model.modules())
        assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
        assert not model.relations.related._forward_hooks
        expected = model.eval().visualize_features(an_image(), SIZE, [1])
        assert all(torch.equal(expected[name], panel) for name, panel in panels.items())
