"""Recipes of the bundled models, and of other networks on the same images.

``town``, ``aerial`` and ``street_lite0`` train the bundled models of Panoptic SwiftNet, whose results are in
docs/bundled_models.md; ``street`` is smaller and needs no weights to start from. Their variants with dense detections
(``_boxes``; ``street_boxes`` is bundled, too), with Panoptic-DeepLab (``_deeplab``, and ``_deeplab_relations`` with
PISR), with two stages (``_scales``: Seamless with the crop-aware box loss) and with YOLO-based networks have the same
images and schedule. All commands use ``--precision bf16``.

Images have at most a twelfth of the pixels of Cityscapes images. Therefore dense detections have four levels at strides
4 to 32: each has half the stride and half the largest distance of the published level in its place, and the last level
takes all larger distances. Towers have two layers of 48 channels (the paper: four of 256 and 128), and the mask loss
uses at most 20 objects per image.

Widths of Panoptic-DeepLab are an eighth to a fifth of the published ones. Convolutions are ordinary ones, because
separable ones train more slowly on a CPU. Panoptic-DeepLab has no boundary weights, so the offset loss has four times
the weight of the SwiftNet recipes, as in ``town_l1``. Synthetic street scenes have 8 objects on average and rarely more
than 16 (Cityscapes: 18 on average), so PISR uses 20 instances instead of 50.

YOLO-based networks (``_yolo_panoptic``) have a small Darknet with a trained detector. Sums over the boxes of an image
are about ten times means over pixels, so the detector's losses have a tenth of their weight; as there are fewer steps,
masks have more.

Two stages have a quarter of the published widths. Regions take their features from stride 4 below 32 pixels, not below
112, and from twice the stride for each doubling; anchors have half the published size in strides. Fewer regions are
proposed and sampled: 300 and 64 per image instead of 1000 and 512.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from panscape.models.yolo_panoptic_light import LIGHT
from panscape.nn.pisr import PISR
from panscape.nn.pisr_baselines import OCR, Concatenation, ElementwiseProduct
from panscape.nn.pisr_instances import CenterInstanceMaps
from panscape.ops.yolo_boxes import ANCHORS
from panscape.recipes.data_options import AerialData, CamVidData, TownData
from panscape.recipes.model_options import (
    DenseDetectionsOptions,
    PanopticDeepLabOptions,
    SeamlessOptions,
    SwiftNetOptions,
    YoloPanopticLightOptions,
    YoloPanopticOptions,
)
from panscape.recipes.panoptic_deeplab import build_with_relations
from panscape.recipes.table import Row
from panscape.representations.centers import CenterDecoding, CenterRepresentation
from panscape.representations.dense_boxes import DenseBoxDecoding, DenseBoxRepresentation
from panscape.representations.fusion import FusionConfig
from panscape.representations.masked_boxes import MaskedBoxDecoding, MaskedBoxRepresentation
from panscape.representations.regions import (
    Anchors,
    ProposalSelection,
    RegionDecoding,
    RegionRepresentation,
    StageSampling,
)
from panscape.training.config import Augmentation, Optimizer, Recipe
from panscape.training.schedule import Schedule

# The values for Cityscapes, scaled to images with a twelfth of the pixels: lengths by 1/3.5, areas by 1/12.
_STREET_REPRESENTATION = CenterRepresentation(
    sigma=4.0,
    small_area=340,
    hard_pixel_fraction=0.5,
    offset_loss_weight=0.01,
    # Without weights, poles are never predicted. Order: sky, building, pole, road, pavement, tree, sign, fence, car,
    # pedestrian, bicyclist.
    category_weights=(1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 3.0, 1.5, 1.0, 2.0, 2.0),
    loss_stride=2,
    # Photos are larger than CamVid's images; edges of resized outputs are smooth, those of resized maps are stairs.
    # Largest parts raise PQ on training images by 0.9 and on a drive without training images by 0.6.
    decoding=CenterDecoding(threshold=0.2, stuff_area=100, thing_area=50, resize="outputs", largest_part=True),
)
_TOWN_SCALE = 2.0  # objects of 8 pixels and bicycle frames vanish in stride-4 outputs at the scenes' own size
_TOWN_REPRESENTATION = CenterRepresentation(
    sigma=8.7,
    small_area=1800,
    hard_pixel_fraction=0.5,
    offset_loss_weight=0.01,
    # More weight for rare, thin or easily confused categories: person, animal, bus, bicycle, boat, parasol.
    category_weights=(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.5, 1.0, 1.5, 2.5, 2.0, 1.0, 3.0),
    loss_stride=2,
    # The bundled model's best threshold and thing area on 300 scenes of the training distribution; largest parts raise
    # PQ on 40 of its scenes and on val by 0.9.
    decoding=CenterDecoding(
        threshold=0.25, nms_kernel=15, stuff_area=800, thing_area=330, resize="outputs", largest_part=True
    ),
)
_AERIAL_REPRESENTATION = CenterRepresentation(
    sigma=6.0,
    small_area=500,
    hard_pixel_fraction=0.5,
    offset_loss_weight=0.01,
    category_weights=(1.5, 1.0, 2.0, 1.5, 1.5),  # building, land, road, vegetation, water
    loss_stride=2,
    # 19 of 20 stuff regions in the training images cover more than this share of their image. Of 100, 300, 600 and
    # 1000 pixels, 600 is the best thing area on every third training image, and so are largest parts with a leftover
    # area of 2400.
    decoding=CenterDecoding(
        nms_kernel=41, stuff_area=4096, thing_area=600, stuff_share=0.0115, largest_part=True, leftover_area=2400
    ),
)
# Half the size of YOLOv3's, for images of at most half its side.
_YOLO_ANCHORS = tuple(tuple((width / 2, height / 2) for width, height in stride) for stride in ANCHORS)
OPTIMIZER = Optimizer("adamw", learning_rate=2e-3, weight_decay=0.02, grad_clip_norm=10.0)
SCHEDULE = Schedule("cosine", warmup_steps=200)

_TOWN = Recipe(
    name="town",
    model=SwiftNetOptions(
        backbone="residual_s",
        levels=3,
        width=64,
        longest_side=1024,  # no upsampled scene is larger
        test_scale=_TOWN_SCALE,
        representation=_TOWN_REPRESENTATION,
    ),
    data=TownData(length=1_000_000),
    augmentation=Augmentation(crop=(384, 384), scale=(_TOWN_SCALE, _TOWN_SCALE)),
    optimizer=OPTIMIZER,
    schedule=SCHEDULE,
    steps=14_000,
    batch_size=8,
    ema_decay=0.999,
    eval_every=2000,
)
_STREET = Recipe(
    name="street",
    model=SwiftNetOptions(
        backbone="residual_s", levels=3, width=64, longest_side=640, representation=_STREET_REPRESENTATION
    ),
    data=CamVidData(),
    augmentation=Augmentation(crop=(256, 320), scale=(0.6, 1.8), color_jitter=1.0, copy_paste=0.5),
    optimizer=OPTIMIZER,
    schedule=SCHEDULE,
    steps=6000,
    batch_size=8,
    ema_decay=0.998,
    eval_every=2000,
)
_AERIAL = Recipe(
    name="aerial",
    model=SwiftNetOptions(backbone="residual_s", width=64, longest_side=1800, representation=_AERIAL_REPRESENTATION),
    data=AerialData(),
    augmentation=Augmentation(
        crop=(256, 256),
        scale=(0.6, 1.5),
        rotation="right_angles",
        color_jitter=1.0,
        color_jitter_strength=0.3,
        color_jitter_hue=0.0,  # a slight green separates vegetation from asphalt
    ),
    optimizer=OPTIMIZER,
    schedule=SCHEDULE,
    steps=4500,
    batch_size=8,
    ema_decay=0.999,
    eval_every=2000,
)
BASES = {"town": _TOWN, "street": _STREET, "aerial": _AERIAL}

_KEY_WIDTH = 32  # channels of the keys that compare pixels with categories and instances; 256 as published
RELATIONS = (
    PISR(num_instances=20, key_width=_KEY_WIDTH),
    Concatenation(num_instances=20),
    ElementwiseProduct(num_instances=20),
    OCR(num_instances=20, key_width=_KEY_WIDTH),
)


def centers(row: Row) -> Recipe:
    """Return a recipe of Panoptic SwiftNet."""
    return row.build(BASES[row.data])


def boxes(row: Row) -> Recipe:
    """Return a recipe of dense detections; images, schedule and minimum stuff area are those of the SwiftNet recipe."""
    base = BASES[row.data]
    swiftnet = cast(SwiftNetOptions, base.model)
    stuff = swiftnet.representation.decoding
    network = box_network("residual_s", 48, 48, stuff.stuff_area, stuff.stuff_share)
    model = replace(network, longest_side=swiftnet.longest_side, test_scale=swiftnet.test_scale)
    return row.build(replace(base, model=model))


def deeplab(row: Row) -> Recipe:
    """Return a recipe of Panoptic-DeepLab; all but the network is that of the SwiftNet recipe."""
    base = BASES[row.data]
    swiftnet = cast(SwiftNetOptions, base.model)
    model = replace(
        deeplab_network("residual_s", 48),
        context_size=base.augmentation.crop,
        longest_side=swiftnet.longest_side,
        test_scale=swiftnet.test_scale,
        representation=replace(swiftnet.representation, boundary_alphas=(), offset_loss_weight=0.04),
    )
    return build_with_relations(row, replace(base, model=model), RELATIONS, CenterInstanceMaps())


def scales(row: Row) -> Recipe:
    """Return a recipe of two stages; images, schedule and minimum stuff area are those of the SwiftNet recipe."""
    base = BASES[row.data]
    swiftnet = cast(SwiftNetOptions, base.model)
    stuff = swiftnet.representation.decoding
    network = region_network("residual_s", 64, base.augmentation.crop, stuff.stuff_area, stuff.stuff_share)
    representation = replace(network.representation, box_loss="crop_aware")
    model = replace(
        network, longest_side=swiftnet.longest_side, test_scale=swiftnet.test_scale, representation=representation
    )
    return row.build(replace(base, model=model))


def yolo(row: Row) -> Recipe:
    """Return a YOLO-based recipe; images, schedule and minimum stuff area are those of the SwiftNet recipe."""
    base = BASES[row.data]
    swiftnet = cast(SwiftNetOptions, base.model)
    stuff = swiftnet.representation.decoding
    network = yolo_network(stuff.stuff_area, stuff.stuff_share)
    model = replace(network, longest_side=swiftnet.longest_side, test_scale=swiftnet.test_scale)
    return row.build(replace(base, model=model))


def light(row: Row) -> Recipe:
    """Return a recipe of the light YOLO-based network; all but the network is that of the SwiftNet recipe."""
    base = BASES[row.data]
    swiftnet = cast(SwiftNetOptions, base.model)
    centers = swiftnet.representation
    fusion = FusionConfig(
        min_score=0.2,
        stuff_area=centers.decoding.stuff_area,
        stuff_share=centers.decoding.stuff_share,
        stuff_on_uncovered=True,
    )
    model = YoloPanopticLightOptions(
        longest_side=swiftnet.longest_side,
        test_scale=swiftnet.test_scale,
        representation=replace(
            LIGHT,
            category_weights=centers.category_weights,
            hard_pixel_fraction=centers.hard_pixel_fraction,
            decoding=MaskedBoxDecoding(fusion=fusion),
        ),
    )
    return row.build(replace(base, model=model))


def box_network(
    backbone: str, width: int, semantic_width: int, stuff_area: int, stuff_share: float = 0.0
) -> DenseDetectionsOptions:
    """Return a small network of dense detections for images of about 400 pixels.

    Args:
        backbone: name of the backbone.
        width: channels of the FPN and the localisation tower.
        semantic_width: channels of the semantic tower.
        stuff_area: minimum area of stuff in pixels.
        stuff_share: minimum area of stuff as a fraction of the image.
    """
    # Scores and mask probabilities are products of numbers below 1, which are low after an hour of training, and the
    # boxes of a small object agree less. Both thresholds are the best on training images of CamVid.
    fusion = FusionConfig(min_score=0.25, stuff_area=stuff_area, stuff_share=stuff_share)
    return DenseDetectionsOptions(
        backbone=backbone,
        box_width=width,
        semantic_width=semantic_width,
        fpn_width=width,
        tower_depth=2,
        initial_distance=16.0,
        representation=DenseBoxRepresentation(
            level_ends=(32.0, 64.0, 128.0),
            finest_stride=4,
            max_mask_queries=20,
            decoding=DenseBoxDecoding(mask_threshold=0.15, resize="outputs", fusion=fusion),
        ),
    )


def region_network(
    backbone: str, width: int, window: tuple[int, int], stuff_area: int, stuff_share: float = 0.0
) -> SeamlessOptions:
    """Return a small network of two stages for images of about 400 pixels.

    Args:
        backbone: name of the backbone.
        width: channels of the FPN; other widths are in proportion.
        window: height and width of training crops in pixels.
        stuff_area: minimum area of stuff in pixels.
        stuff_share: minimum area of stuff as a fraction of the image.
    """
    return SeamlessOptions(
        backbone=backbone,
        width=width,
        window=window,
        representation=RegionRepresentation(
            anchors=Anchors(strides=(4, 8, 16, 32), scale=4.0),
            first_stage=StageSampling(128),
            second_stage=StageSampling(64, 0.25, 0.5, 0.5, 1.0),
            proposals=ProposalSelection(1000, 1000, 300, 300),
            level_side=32.0,
            hard_pixel_fraction=0.5,
            decoding=RegionDecoding(fusion=FusionConfig(stuff_area=stuff_area, stuff_share=stuff_share)),
        ),
    )


def yolo_network(stuff_area: int, stuff_share: float = 0.0) -> YoloPanopticOptions:
    """Return a small YOLO-based network for images of about 400 pixels.

    Args:
        stuff_area: minimum area of stuff in pixels.
        stuff_share: minimum area of stuff as a fraction of the image.
    """
    fusion = FusionConfig(min_score=0.25, max_overlap=1.0, stuff_area=stuff_area, stuff_share=stuff_share)
    return YoloPanopticOptions(
        representation=MaskedBoxRepresentation(
            anchors=_YOLO_ANCHORS,
            box_loss_weight=0.1,
            objectness_loss_weight=0.1,
            category_loss_weight=0.1,
            mask_loss_weight=0.5,
            hard_pixel_fraction=0.5,
            decoding=MaskedBoxDecoding(fusion=fusion),
        )
    )


def deeplab_network(backbone: str, width: int) -> PanopticDeepLabOptions:
    """Return a small Panoptic-DeepLab whose widths have the published proportions."""
    return PanopticDeepLabOptions(
        backbone=backbone,
        separable=False,
        decoder_width=width,
        instance_width=width // 2,
        pyramid_width=width,
        head_width=width // 2,
        projections=(width // 2, width // 4),
    )
