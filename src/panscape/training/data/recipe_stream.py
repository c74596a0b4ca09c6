"""Create the stream of training samples of a recipe."""

from __future__ import annotations

from panscape.datasets.base import PanopticDataset
from panscape.datasets.load import OnError, categories_of
from panscape.datasets.repeat_factor_sampling import category_repeat_factors, repeat_factors
from panscape.datasets.segment_index import SegmentTable, load_segment_index
from panscape.datasets.segment_sampling import SegmentSampler
from panscape.models import PanopticModel
from panscape.training.config import Recipe
from panscape.training.data.augmentation import build_augmentation
from panscape.training.data.stream import MultiScale, SampleStream


def segments_for(recipe: Recipe, dataset: PanopticDataset, *, on_error: OnError) -> SegmentTable | None:
    """Return the segments that a recipe samples, from the cache or by reading all maps; None if it samples images.

    Raises:
        BadSampleError: a map cannot be read, unless ``on_error`` is "skip".
    """
    return None if recipe.sampling.kind == "images" else load_segment_index(dataset, on_error=on_error)


def create_stream(
    recipe: Recipe,
    dataset: PanopticDataset,
    model: PanopticModel,
    segments: SegmentTable | None,
    *,
    seed: int,
    on_error: OnError,
) -> SampleStream:
    """Return the training samples of a recipe.

    Args:
        recipe: its sampling and augmentation.
        dataset: the training images.
        model: encodes the ground truth, and has the sizes of the levels.
        segments: see :func:`segments_for`.
        seed: see :class:`~panscape.training.data.stream.SampleStream`.
        on_error: likewise.

    Raises:
        InvalidArgumentError: the dataset is empty, or has no segment to sample.
        BadSampleError: a map cannot be read, for the categories of repeat factor sampling.
    """
    sampling, labels = recipe.sampling, dataset.labels
    repeats = rarity = sampler = None
    if segments is not None:
        sampler = SegmentSampler(
            segments,
            labels,
            by_scale=sampling.kind == "scales",
            shortest_side=sampling.shortest_side,
            scale=recipe.augmentation.scale,
            scale_distribution=recipe.augmentation.scale_distribution,
            thing_scale=sampling.thing_scale,
            level_side=model.level_side,
        )
    if sampling.repeat_threshold:
        categories = categories_of(dataset, on_error=on_error)
        repeats = repeat_factors(categories, sampling.repeat_threshold)
        rarity = tuple(category_repeat_factors(categories, sampling.repeat_threshold, len(labels)).tolist())
    augment, crops, copy_paste, appearance = build_augmentation(recipe.augmentation, labels, rarity, sampler)
    augmentation = recipe.augmentation
    multi_scale = MultiScale(augmentation.crop_sizes, augmentation.multi_scale_every * recipe.batch_size)
    return SampleStream(
        dataset,
        augment,
        model.encode,
        seed,
        crops=crops,
        repeats=repeats,
        copy_paste=copy_paste,
        multi_scale=multi_scale if augmentation.multi_scale else None,
        appearance=appearance,
        record_cut_off=model.needs_cut_off,
        on_error=on_error,
    )
