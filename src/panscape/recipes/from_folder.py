"""The recipe for a folder of your own, with settings derived from its images."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, cast

from panscape.datasets.base import PanopticDataset
from panscape.datasets.folder import find_folder
from panscape.datasets.load import load_sample
from panscape.errors import BadSampleError, PanscapeError
from panscape.hub import cached_file
from panscape.recipes.data_options import FolderData
from panscape.recipes.model_options import FactoryOptions, SwiftNetOptions, options_of
from panscape.recipes.table import Row
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.training.config import Augmentation, Optimizer, Recipe
from panscape.training.schedule import Schedule
from panscape.zoo import load
from panscape.zoo.published.fetch import local_file

_NUM_INSPECTED = 20  # images whose median size is taken as the typical size
_LARGEST_CROP = 512
_LARGEST_IMAGE = 2048
_EPOCHS = 300
_STEPS = (1000, 40_000)
_CITYSCAPES_AREA = 1024 * 2048
_FEATURES = "tf_efficientnet_lite0.in1k"  # 3.4 million parameters; in timm's repository of this name


class DerivedRecipe(NamedTuple):
    """A recipe for a folder.

    Attributes:
        recipe: the recipe.
        notes: lines for the user about the data found and the settings chosen.
        start: the model whose network the recipe has; None if it is of no model.
    """

    recipe: Recipe
    notes: tuple[str, ...]
    start: str | None


def build(row: Row) -> Recipe:
    """Return the recipe for 1000 images of 480x640 pixels; :func:`derive` returns that of a folder."""
    return row.build(recipe_for(num_images=1000, height=480, width=640))


def derive(
    root: Path,
    data: FolderData | None = None,
    *,
    init_from: str | None = None,
    backbone_weights: Path | None = None,
) -> DerivedRecipe:
    """Return a recipe for the folder.

    Without a model to start from, the network starts from the ImageNet weights of its backbone if their file is given
    or in the cache of the Hugging Face hub; nothing is downloaded.

    Args:
        root: see :func:`panscape.datasets.folder.from_folder`.
        data: options for reading the folder.
        init_from: the model whose weights initialise the training; the network has its architecture.
        backbone_weights: ImageNet weights of the backbone.

    Raises:
        PanscapeError: as :func:`panscape.datasets.folder.from_folder`; or none of the inspected images can be used; or
            there is no such model.
    """
    data = data or FolderData()
    found = find_folder(root)
    train, val = data.load(root, "train"), data.load(root, "val")
    height, width = _size_of_images(train)
    weights = backbone_weights or cached_file(f"timm/{_FEATURES}", "model.safetensors")
    has_features = weights is not None and init_from is None
    recipe = replace(recipe_for(len(train), height, width, has_features=has_features), data=data)
    network = None if init_from is None else _network_of(init_from, cast(SwiftNetOptions, recipe.model))
    if network is not None:
        recipe = replace(recipe, model=network)
    labels = train.labels
    form = "COCO panoptic format" if found.kind == "coco" else "semantic masks"
    notes = [
        f"{root}: {form}, {len(labels)} categories ({len(labels.thing_ids)} things), "
        f"{len(train)} train and {len(val)} val images, typical size {height}x{width}"
    ]
    if not found.is_split:
        notes.append(f"no val split: every {data.hold_out}th image is held out for validation")
    if not found.is_named:
        notes.append(
            "no categories.json: categories are named by their ids and all are stuff; to set names and things, write "
            '[{"name": ..., "id": ..., "isthing": 0 or 1}, ...]'
        )
    elif found.kind == "masks" and not labels.things:
        notes.append("no category is a thing, so there are no objects; set isthing of countable categories to 1")
    if weights is not None and init_from is None:
        notes.append(f"the backbone starts from ImageNet weights, {weights}")
    elif init_from is None:
        notes.append(
            "all weights start at random, as the cache has no ImageNet weights; with them, 300 steps on 40 photos gave "
            f"twice the mIoU: --model.backbone {_FEATURES} --model.pretrained downloads them (18.6 MB), "
            "--backbone-weights FILE reads a file"
        )
    start = None if network is None else init_from
    notes.append(describe_settings(recipe, start))
    return DerivedRecipe(recipe, tuple(notes), start)


def recipe_for(num_images: int, height: int, width: int, *, has_features: bool = False) -> Recipe:
    """Return a recipe for images of about one size.

    Lengths and areas of the representation are those of Cityscapes, scaled by the ratio of the image sizes. Images are
    trained at half to twice the size at which they are predicted.

    Args:
        num_images: number of training images.
        height: height of a typical image, pixels.
        width: width of a typical image, pixels.
        has_features: whether the backbone starts from ImageNet weights, which change slowly.
    """
    shrunk = min(1.0, _LARGEST_IMAGE / max(height, width))
    crop = (_crop_side(height * shrunk), _crop_side(width * shrunk))
    share = min(1.0, height * width * shrunk**2 / _CITYSCAPES_AREA)
    batch_size = 8
    steps = round(min(max(_EPOCHS * num_images // batch_size, _STEPS[0]), _STEPS[1]), -2)
    representation = CenterRepresentation(
        sigma=round(max(4.0, 10 * share**0.5), 1),
        small_area=max(64, round(4096 * share)),
        hard_pixel_fraction=0.5,
        offset_loss_weight=round(min(0.01, 0.0025 / share**0.5), 4),  # offsets scale with the image size
        decoding=CenterDecoding(stuff_area=max(16, round(2048 * share))),
    )
    backbone = "residual_xs" if num_images < 30 else "residual_s"
    return Recipe(
        name="from_folder",
        model=SwiftNetOptions(
            backbone=_FEATURES if has_features else backbone,
            pretrained=has_features,
            levels=1 if has_features else None,
            width=64 if min(crop) <= 320 else 96,
            longest_side=min(_LARGEST_IMAGE, -(-max(height, width) * 4 // 96) * 32),  # 4/3 of the typical side
            representation=representation,
        ),
        data=FolderData(),
        augmentation=Augmentation(crop=crop, scale=(round(0.5 * shrunk, 3), round(2 * shrunk, 3)), color_jitter=1.0),
        optimizer=Optimizer(
            "adamw",
            learning_rate=2e-3,
            weight_decay=0.02,
            backbone_lr_mult=0.15 if has_features else 1.0,
            grad_clip_norm=10.0,
        ),
        schedule=Schedule("cosine", warmup_steps=200),
        steps=steps,
        batch_size=batch_size,
        ema_decay=0.998,
        eval_every=max(500, steps // 1000 * 100),
        eval_limit=200,
    )


def _network_of(name: str, derived: SwiftNetOptions) -> FactoryOptions | None:
    """Return the network of a model for other data; None for a file of a backbone, which describes none."""
    name = os.fspath(local_file(name))
    try:
        options = options_of(load(name))
    except PanscapeError:
        if name.endswith(".safetensors") or not Path(name).is_file():
            raise
        return None
    if options is None:
        return None
    mine, start = derived.representation, options.representation
    if isinstance(start, CenterRepresentation):
        decoding = replace(mine.decoding, resize=start.decoding.resize, compat=start.decoding.compat)
        representation: Any = replace(mine, boundary_alphas=start.boundary_alphas, decoding=decoding)
    elif hasattr(start, "category_weights"):
        representation = replace(start, category_weights=())  # its categories are others
    else:
        representation = start
    sizes = {"longest_side": derived.longest_side, "test_scale": derived.test_scale}
    network: FactoryOptions = replace(cast(Any, options), pretrained=False, representation=representation, **sizes)
    return network


def describe_settings(recipe: Recipe, start: str | None, what: str = "derived defaults") -> str:
    """Return a line on the network, the crops and the steps of a recipe for a folder.

    Args:
        recipe: the recipe.
        start: the model whose network it is; None if it is of no model.
        what: what the settings are.
    """
    model = cast(FactoryOptions, recipe.model)
    height, width = recipe.augmentation.crop
    network = f"the network of {start}, {model.factory} with backbone {model.backbone}"
    if start is None:
        network = f"Panoptic SwiftNet with backbone {model.backbone} and width {cast(SwiftNetOptions, model).width}"
    targets = ""
    if isinstance(model.representation, CenterRepresentation):
        sigma, area = model.representation.sigma, model.representation.small_area
        targets = f", targets with sigma {sigma} and small objects below {area} pixels"
    return f"{what}: {network}, crops of {height}x{width}, {recipe.steps} steps{targets}"


def _crop_side(length: float) -> int:
    return min(_LARGEST_CROP, max(64, int(length) // 32 * 32))


def _size_of_images(dataset: PanopticDataset) -> tuple[int, int]:
    step = -(-len(dataset) // _NUM_INSPECTED)
    sizes, bad = [], []
    for i in range(0, len(dataset), step):
        try:
            sizes.append(load_sample(dataset, i).truth.size)
        except BadSampleError as error:  # --on-error decides during training
            bad.append(error)
    if not sizes:
        raise bad[0]
    return int(median(size.height for size in sizes)), int(median(size.width for size in sizes))
