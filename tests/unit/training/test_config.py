"""A recipe rejects invalid values before a training starts."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from panscape.errors import InvalidArgumentError
from panscape.recipes import get_recipe
from panscape.training.config import Augmentation, Optimizer, Recipe, Sampling
from panscape.training.run_options import RunOptions
from panscape.training.schedule import Schedule


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (Augmentation, {"crop": (0, 64)}, r"crop\[0\] of 1 or more, got 0"),
        (Augmentation, {"crop": (64,)}, r"crop as 2 values, got \(64,\)"),
        (Augmentation, {"scale": (2.0, 0.5)}, "a scale as smallest and largest factor"),
        (Augmentation, {"scale": (0.0, 1.0)}, r"scale\[0\] above 0, got 0"),
        (Augmentation, {"scale": (0.5, float("nan"))}, r"scale\[1\] above 0, got nan"),
        (Augmentation, {"shortest_sides": (0, 64)}, r"shortest_sides\[0\] of 1 or more, got 0"),
        (Augmentation, {"longest_side": 0}, "longest_side of 1 or more, got 0"),
        (Augmentation, {"rotation": "left"}, 'rotation "none", "right_angles" or "any", got \'left\''),
        (
            Augmentation,
            {"rotation": "right_angles", "max_angle": 10},
            'max_angle 180 with rotation "right_angles", got 10; use rotation "any"',
        ),
        (Augmentation, {"max_angle": 10}, 'max_angle 180 with rotation "none", got 10; use rotation "any"'),
        (Augmentation, {"rotation": "any", "max_angle": 0}, r"max_angle in \(0, 180\], got 0"),
        (Augmentation, {"scale_distribution": "log"}, 'scale_distribution "uniform" or "log_uniform", got \'log\''),
        (Augmentation, {"blur": 2}, r"blur in 0\.\.1, got 2"),
        (Augmentation, {"blur_sigma": (2, 0.1)}, r"a blur_sigma as smallest and largest value, got \(2, 0\.1\)"),
        (Augmentation, {"multi_scale": (320, 0)}, r"multi_scale\[1\] of 1 or more, got 0"),
        (Augmentation, {"multi_scale_every": 0}, "multi_scale_every of 1 or more, got 0"),
        (
            Augmentation,
            {"rotation": "right_angles", "crop": (64, 96)},
            r"a square crop to rotate by right angles, got \(64, 96\)",
        ),
        (Augmentation, {"color_jitter_strength": -0.1}, "color_jitter_strength of 0 or more, got -0.1"),
        (
            Augmentation,
            {"color_jitter_hue": 0.6},
            r"color_jitter_hue in 0\.\.0\.5, got 0\.6",
        ),
        (Augmentation, {"flip": 1.5}, r"flip in 0..1, got 1\.5"),
        (Augmentation, {"copy_paste": float("nan")}, r"copy_paste in 0\.\.1, got nan"),
        (Sampling, {"repeat_threshold": -0.1}, r"repeat_threshold in 0\.\.1, got -0\.1"),
        (Sampling, {"kind": "scale"}, 'kind "images", "categories" or "scales", got \'scale\''),
        (Sampling, {"thing_scale": (2.0, 0.5)}, r"a thing_scale as smallest and largest factor, got \(2\.0, 0\.5\)"),
        (
            Sampling,
            {"shortest_side": 512},
            'shortest_side 0 with kind "images", got 512; use augmentation.shortest_sides',
        ),
        (
            Sampling,
            {"kind": "scales", "repeat_threshold": 0.1},
            'repeat_threshold 0 with kind "scales", which samples rare categories as often as others, got 0.1; use '
            'kind "images" or no threshold',
        ),
        (Optimizer, {"name": "lion"}, 'name "adam", "adamw" or "sgd", got \'lion\''),
        (Optimizer, {"learning_rate": 0.0}, "learning_rate above 0, got 0.0"),
        (Optimizer, {"betas": (0.9, 1.0)}, r"betas\[1\] in \[0, 1\), got 1"),
        (Optimizer, {"eps": float("inf")}, "eps above 0, got inf"),
        (Optimizer, {"momentum": 1.0}, r"momentum in \[0, 1\), got 1\.0"),
        (Optimizer, {"bias_lr_mult": -2.0}, "bias_lr_mult of 0 or more, got -2.0"),
        (Optimizer, {"grad_clip_norm": -1.0}, "grad_clip_norm of 0 or more"),
        (Schedule, {"kind": "step"}, 'kind "poly", "cosine", "steps" or "constant", got \'step\''),
        (Schedule, {"kind": "steps"}, "milestones \\(steps after which the learning rate drops\\) with kind"),
        (Schedule, {"milestones": (0, 5)}, r"milestones\[0\] of 1 or more, got 0"),
        (Schedule, {"milestones": (5, 5)}, "ascending milestones"),
        (Schedule, {"milestones": (7, 5)}, "ascending milestones"),
        (Schedule, {"gamma": 0.0}, r"gamma in \(0, 1\], got 0\.0"),
        (Schedule, {"power": 0.0}, "power above 0, got 0"),
        (Schedule, {"min_lr": -1.0}, "min_lr of 0 or more"),
        (Schedule, {"warmup_steps": -1}, "warmup_steps of 0 or more"),
        (Schedule, {"warmup_factor": 0.0}, r"warmup_factor in \(0, 1\]"),
        (RunOptions, {"out": "o", "log_every": 0}, "log_every of 1 or more, got 0"),
        (RunOptions, {"out": "o", "seed": -1}, "seed of 0 or more, got -1"),
    ],
)
def test_options_that_no_training_can_use(kind, values, message):
    with pytest.raises(InvalidArgumentError, match=f"^expected {message}"):
        kind(**values)


CATEGORIES = Sampling(kind="categories")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 0}, "steps of 1 or more, got 0"),
        ({"ema_decay": 1.0}, r"ema_decay in \[0, 1\), got 1\.0"),
        ({"eval_every": -1}, "eval_every of 0 or more"),
        (
            {"augmentation": Augmentation(rare_crop=0.5)},
            r"sampling\.repeat_threshold above 0, to define rare categories",
        ),
        (
            {"sampling": CATEGORIES, "augmentation": Augmentation(shortest_sides=(640,))},
            r'no augmentation\.shortest_sides with sampling\.kind "categories", got \(640,\); use sampling',
        ),
        (
            {"sampling": CATEGORIES, "augmentation": Augmentation(random_size_crop=0.5)},
            r'augmentation\.random_size_crop 0 with sampling\.kind "categories", which crops at',
        ),
        (
            {"sampling": CATEGORIES, "augmentation": Augmentation(rare_crop=0.5)},
            r'augmentation\.rare_crop 0 with sampling\.kind "categories", which crops at sampled segments, got 0\.5',
        ),
        (
            {"sampling": CATEGORIES, "augmentation": Augmentation(rotation="any")},
            r'augmentation\.rotation "none" or "right_angles" with sampling\.kind "categories", since others',
        ),
        ({"schedule": Schedule(min_lr=1e-3)}, "schedule.min_lr of at most the peak learning rate 0.0001"),
    ],
)
def test_values_that_no_recipe_can_have(values, message):
    town = get_recipe("town")
    with pytest.raises(InvalidArgumentError, match=f"^expected {message}"):
        Recipe("mine", town.model, town.data, **values)


def test_a_recipe_does_not_change():
    with pytest.raises(FrozenInstanceError):
        get_recipe("town").steps = 3
