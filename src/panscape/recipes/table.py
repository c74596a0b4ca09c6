"""The table of recipes: one row per recipe, with the fields in which it differs from its family's base recipe.

Importing it imports nothing heavy. Published results are in ``published.json``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from panscape.training.config import Recipe

DATASETS = {
    "cityscapes": "Cityscapes",
    "coco": "COCO panoptic",
    "ade20k": "ADE20K",
    "vistas": "Mapillary Vistas",
    "idd": "India Driving Dataset",
    "bsb": "BSB Aerial",
    "street": "CamVid (street scenes)",
    "aerial": "Satellite images of Dubai",
    "town": "Synthetic scenes",
    "folder": "A folder of your own",
}
"""Names of the datasets in the order of listing; a recipe's dataset is the first part of its name found here."""


@dataclass(frozen=True, slots=True)
class Row:
    """A recipe as data.

    Attributes:
        name: name of the recipe.
        summary: what it trains, without a final dot and without the tables of the paper.
        changes: fields that differ from the base recipe, by their path with dots: the names of command-line options.
            The value of ``model.relations`` is the name of a class.
        hours: estimated hours on the devices of the family; None if they are not estimated.
        ablation_of: for an ablation on synthetic scenes, name of the recipe whose published row it repeats.
    """

    name: str
    summary: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    hours: int | None = None
    ablation_of: str | None = None

    @property
    def data(self) -> str:
        """Name of the dataset, a key of ``DATASETS``."""
        return next(part for part in self.name.split("_") if part in DATASETS)

    def build(self, base: Recipe) -> Recipe:
        """Return the base recipe with the name and the changes of the row."""
        recipe: Recipe = replace_fields(base, {"name": self.name, **self.changes})
        return recipe


def replace_fields(value: Any, changes: Mapping[str, Any]) -> Any:
    """Return a dataclass with some fields replaced.

    Args:
        value: the dataclass.
        changes: new values by path; ``"model.levels"`` is the field ``levels`` of the field ``model``. They are
            applied in order.
    """
    for path, new in changes.items():
        name, _, rest = path.partition(".")
        value = replace(value, **{name: replace_fields(getattr(value, name), {rest: new}) if rest else new})
    return value


@dataclass(frozen=True, slots=True)
class Family:
    """Rows that one function builds.

    Attributes:
        system: name of the panoptic system.
        builder: module in ``panscape.recipes`` and its function from a row to a recipe.
        rows: the rows.
        paper: short name of the paper in ``published.json``; None if the rows are ours.
        num_devices: number of RTX 3090 for which hours are estimated.
    """

    system: str
    builder: str
    rows: tuple[Row, ...]
    paper: str | None = None
    num_devices: int = 0


_ALPHAS, _RELATIONS = "model.representation.boundary_alphas", "model.relations"
_NO_MASK_LOSS = {"model.representation.mask_loss_weight": 0.0}
_NO_LEVELNESS = {"model.levelness": False, **_NO_MASK_LOSS}
_FROM_BOXES = {**_NO_MASK_LOSS, "model.representation.supervision": "boxes"}
_R103 = {"model.backbone": "resnet103"}
_HRNET48 = {"model.backbone": "hrnet_w48.ms_in1k", "model.output_stride": 32}
_PISR = {_RELATIONS: "PISR"}
_LITE0 = {
    "model.backbone": "tf_efficientnet_lite0.in1k",
    "model.pretrained": True,
    "model.levels": 1,
    "model.width": 96,
    "optimizer.backbone_lr_mult": 0.15,
    "steps": 3000,
}
_LITE0_STREET = {
    "model.representation.decoding.threshold": 0.25,  # the card of the bundled model tells how it was chosen
    "augmentation.scale": (0.5, 2.0),
    "augmentation.scale_distribution": "log_uniform",
    "augmentation.color_jitter_strength": 0.5,
    "augmentation.blur": 0.2,
}
_NO_WEIGHTS = {**_PISR, "model.relations.reweighting": False}


def _rows(prefix: str, subject: str, *rows: tuple[str, str, Mapping[str, Any], int]) -> tuple[Row, ...]:
    """Return rows from the ends of their names and summaries, their changes and hours."""
    return tuple(
        Row(_join("_", prefix, end), _join(", ", subject, what), changes, hours) for end, what, changes, hours in rows
    )


def _join(separator: str, *parts: str) -> str:
    return separator.join(part for part in parts if part)


def _numbers(end: str, what: str, changes: Mapping[str, Any], *hours: int) -> list[tuple[str, str, Any, int]]:
    """Return rows for :func:`_rows` of the numbers of instances of Figure 9 other than 50."""
    return [
        (f"{end}_k{k}", f"{what} {k} instances", {**changes, "model.relations.num_instances": k}, h)
        for k, h in zip((10, 20, 100), hours, strict=True)
    ]


_SWIFTNET = (
    *_rows(
        "swiftnet_r18_cityscapes",
        "Cityscapes",
        ("pyrx1", "one level", {"model.levels": 1}, 11),
        ("spp", "one level with spatial pyramid pooling", {"model.levels": 1, "model.context": "spp"}, 11),
        ("pyrx2", "two levels", {"model.levels": 2}, 12),
        ("pyrx3", "three levels", {}, 12),
        ("l1", "plain L1 offset loss", {_ALPHAS: ()}, 12),
        ("regions3", "offset weights in three regions", {_ALPHAS: (8.0, 4.0, 1.0)}, 12),
        ("regions8", "offset weights in eight regions", {_ALPHAS: (8.0, 7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0)}, 12),
    ),
    Row("swiftnet_r18_coco", "COCO panoptic", {}, 32),
    Row("swiftnet_r18_vistas", "Mapillary Vistas, rare categories sampled more often", {}, 28),
    *_rows(
        "swiftnet_r18_bsb",
        "BSB Aerial",
        ("", "no rotation", {}, 6),
        ("right_angles", "rotation by right angles", {"augmentation.rotation": "right_angles"}, 6),
        ("any_angle", "rotation by any angle", {"augmentation.rotation": "any"}, 6),
    ),
)
_DENSE = (
    *_rows(
        "dense_r50_cityscapes",
        "Cityscapes, dense detections",
        ("", "complete method", {}, 9),
        ("one_tower", "one tower, no levelness, no mask loss", {"model.towers": 1, **_NO_LEVELNESS}, 8),
        ("two_towers", "two towers, no levelness, no mask loss", _NO_LEVELNESS, 8),
        ("levelness", "two towers and levelness, no mask loss", _NO_MASK_LOSS, 9),
        ("weak", "trained on boxes instead of instance masks", _FROM_BOXES, 9),
    ),
    *_rows(
        "dense_r50_coco",
        "COCO panoptic, dense detections",
        ("", "", {}, 51),
        ("weak", "trained on boxes instead of instance masks", _FROM_BOXES, 51),
    ),
)
_DEEPLAB = (
    *_rows(
        "deeplab",
        "Cityscapes",
        ("r52_cityscapes", "Panoptic-DeepLab", {}, 6),
        ("r103_cityscapes", "Panoptic-DeepLab on ResNet-101", _R103, 9),
        ("hrnet48_cityscapes", "Panoptic-DeepLab on HRNet-W48", _HRNET48, 11),
        ("r52_cityscapes_relations", "PISR with 50 instances", _PISR, 9),
        ("r103_cityscapes_relations", "PISR on ResNet-101", {**_R103, **_PISR}, 11),
        ("hrnet48_cityscapes_relations", "PISR on HRNet-W48", {**_HRNET48, **_PISR}, 13),
    ),
    *_rows(
        "deeplab_r52_cityscapes",
        "Cityscapes",
        *_numbers("relations", "PISR with", _PISR, 8, 9, 9),
        ("relations_key64", "PISR with keys of 64 channels", {**_PISR, "model.relations.key_width": 64}, 7),
        ("relations_key128", "PISR with keys of 128 channels", {**_PISR, "model.relations.key_width": 128}, 8),
        ("relations_key512", "PISR with keys of 512 channels", {**_PISR, "model.relations.key_width": 512}, 10),
        ("concatenation", "scores and instances concatenated to the features", {_RELATIONS: "Concatenation"}, 7),
        ("product", "features multiplied by scores and instances", {_RELATIONS: "ElementwiseProduct"}, 7),
        ("ocr", "OCR, object context of categories", {_RELATIONS: "OCR"}, 7),
        ("without_reweighting", "PISR without reweighting", _NO_WEIGHTS, 9),
        *_numbers("without_reweighting", "PISR without reweighting with", _NO_WEIGHTS, 8, 9, 9),
    ),
    *_rows(
        "deeplab",
        "COCO panoptic",
        ("r52_coco", "Panoptic-DeepLab", {}, 22),
        ("hrnet48_coco", "Panoptic-DeepLab on HRNet-W48", _HRNET48, 38),
        ("r52_coco_relations", "PISR with 50 instances", _PISR, 31),
        ("hrnet48_coco_relations", "PISR on HRNet-W48", {**_HRNET48, **_PISR}, 48),
        ("r52_coco_ocr", "OCR, object context of categories", {_RELATIONS: "OCR"}, 27),
    ),
    *_rows(
        "deeplab_r52_coco",
        "COCO panoptic",
        *_numbers("relations", "PISR with", _PISR, 30, 31, 32),
        ("without_reweighting", "PISR without reweighting", _NO_WEIGHTS, 31),
        *_numbers("without_reweighting", "PISR without reweighting with", _NO_WEIGHTS, 30, 31, 32),
    ),
)
_CABB, _ISUS = {"model.representation.box_loss": "crop_aware"}, {"sampling.kind": "scales"}


def _scales(body: str, what: str, data: str, full_hours: int, hours: int) -> tuple[Row, ...]:
    """Return rows of a body and a dataset: whole images, crops, and crops with one or both of the paper's parts."""
    return _rows(
        f"seamless_{body}_{data}",
        f"{DATASETS[data]}, {what}",
        ("full", "whole images", {}, full_hours),
        ("crop", "crops", {}, hours),
        ("cabb", "crops, crop-aware box loss", _CABB, hours),
        ("isus", "crops, scale-uniform sampling", _ISUS, hours),
        ("cabb_isus", "crops, crop-aware box loss and scale-uniform sampling", {**_CABB, **_ISUS}, hours),
    )


_SCALES = (
    *_scales("hrnet48", "HRNet-W48", "vistas", 38, 18),
    *_scales("r50", "ResNet-50", "vistas", 16, 9),
    *_scales("hrnet48", "HRNet-W48", "idd", 19, 3),
    *_scales("r50", "ResNet-50", "idd", 8, 3),
    *_scales("hrnet48", "HRNet-W48", "cityscapes", 9, 1),
    *_scales("r50", "ResNet-50", "cityscapes", 4, 1),
)
_R101, _SWIN_T, _SWIN_S, _SWIN_B, _SWIN_L = (
    {"model.backbone": name}
    for name in (
        "resnet101.tv_in1k",
        "swin_tiny_patch4_window7_224.ms_in1k",
        "swin_small_patch4_window7_224.ms_in1k",
        "swin_base_patch4_window12_384.ms_in22k",
        "swin_large_patch4_window12_384.ms_in22k",
    )
)
_THREE_TIMES = {"steps": 270_000, "schedule.milestones": (210_000, 250_000)}
_FPN = _rows(
    "fpn",
    "COCO panoptic, Panoptic FPN",
    ("r50_coco", "", {}, 10),
    ("r50_coco_3x", "three times as long", _THREE_TIMES, 29),
    ("r101_coco_3x", "ResNet-101, three times as long", {**_R101, **_THREE_TIMES}, 31),
)
_MASKFORMER = (
    *_rows(
        "maskformer",
        "COCO panoptic, MaskFormer",
        ("r50_coco", "", {}, 166),
        ("r101_coco", "ResNet-101", _R101, 231),
        ("swin_t_coco", "Swin-T", _SWIN_T, 161),
        ("swin_s_coco", "Swin-S", _SWIN_S, 237),
        ("swin_b_coco", "Swin-B", _SWIN_B, 374),
        ("swin_l_coco", "Swin-L", _SWIN_L, 727),
    ),
    *_rows(
        "maskformer",
        "ADE20K, MaskFormer",
        ("r50_ade20k", "", {}, 19),
        ("r101_ade20k", "ResNet-101", _R101, 26),
    ),
)
_UPERNET = _rows(
    "upernet_swin_l",
    "COCO panoptic, UPerNet on Swin-L",
    ("coco", "queries", {}, 1360),
    ("coco_centers", "centres and offsets", {}, 1422),
)
_UPERNET_SEMANTIC = _rows(
    "upernet_semantic",
    "ADE20K, semantic UPerNet",
    ("swin_t_ade20k", "Swin-T", _SWIN_T, 13),
    ("swin_s_ade20k", "Swin-S", _SWIN_S, 14),
    ("swin_b_ade20k", "Swin-B", {"model.backbone": "swin_base_patch4_window7_224.ms_in1k"}, 16),
)
_FPN_PISR = (Row("fpn_r50_coco_relations", "COCO panoptic, PISR on Panoptic FPN", {}, 13),)
_MASKFORMER_PISR = _rows(
    "maskformer",
    "ADE20K, PISR on MaskFormer",
    ("r50_ade20k_relations", "", {}, 23),
    ("r101_ade20k_relations", "ResNet-101", _R101, 29),
)
_UPERNET_PISR = (Row("upernet_swin_l_coco_relations", "COCO panoptic, PISR on UPerNet on Swin-L", {}, 1388),)
_EARLY = {"model.layers": (6, 13, 38)}
_SHALLOW = {"model.masks": "shallow"}


def _yolo(end: str, what: str, changes: Mapping[str, Any], hours: int) -> tuple[Row, ...]:
    """Return the rows of both sizes."""
    return tuple(
        Row(f"yolo_panoptic_d53_cityscapes_{end}_{size}", f"Cityscapes, {what}, height {size}", changes, hours)
        for size in (640, 1024)
    )


_YOLO = (
    *_yolo("stride_4", "semantic segmentation from layer 12", {"model.semantic": "stride_4"}, 1),
    *_yolo("stride_8", "semantic segmentation from layer 37", {"model.semantic": "stride_8"}, 1),
    *_yolo("stride_16", "semantic segmentation from layer 62", {"model.semantic": "stride_16"}, 1),
    *_yolo("segnet", "semantic segmentation from three layers", {"model.semantic": "segnet"}, 2),
    *_yolo("top_down", "semantic segmentation from a feature pyramid", {"model.semantic": "top_down"}, 1),
    *_yolo("pyramid_pooling", "semantic segmentation by pyramid pooling", {"model.semantic": "pyramid_pooling"}, 2),
    *_yolo("deep", "deep masks", {}, 3),
    *_yolo("shallow", "shallow masks", _SHALLOW, 3),
    *_yolo("deep_early", "deep masks, layers 6, 13 and 38", _EARLY, 3),
    *_yolo("shallow_early", "shallow masks, layers 6, 13 and 38", {**_SHALLOW, **_EARLY}, 3),
)
_CHANGES = {row.name: row.changes for row in (*_SWIFTNET, *_DENSE, *_DEEPLAB, *_SCALES, *_YOLO)}


def _ablations(prefix: str, repeated: str, *rows: tuple[str, str, str]) -> tuple[Row, ...]:
    """Return rows with the changes of published ones, from the ends of names, of summaries and of repeated names."""

    def ablation(end: str, what: str, repeated_end: str) -> Row:
        name = _join("_", repeated, repeated_end)
        return Row(f"{prefix}_{end}", f"Ablation on synthetic scenes: {what}", _CHANGES[name], ablation_of=name)

    return tuple(ablation(*row) for row in rows)


_CENTER_ABLATIONS = _ablations(
    "town",
    "swiftnet_r18_cityscapes",
    ("pyrx1", "one level", "pyrx1"),
    ("spp", "one level with spatial pyramid pooling", "spp"),
    ("pyrx2", "two levels", "pyrx2"),
    ("pyrx3", "three levels, offset weights in four regions", "pyrx3"),
    ("l1", "plain L1 offset loss", "l1"),
    ("regions3", "offset weights in three regions", "regions3"),
    ("regions8", "offset weights in eight regions", "regions8"),
)
_BOX_ABLATIONS = (
    *_ablations(
        "town_boxes",
        "dense_r50_cityscapes",
        ("one_tower", "dense detections with one tower", "one_tower"),
        ("two_towers", "dense detections with two towers", "two_towers"),
        ("levelness", "dense detections with two towers and levelness", "levelness"),
        ("mask_loss", "dense detections with two towers, levelness and the mask loss", ""),
        ("weak", "dense detections trained on boxes instead of instance masks", "weak"),
    ),
    Row(
        "town_boxes_light",
        "Ablation on synthetic scenes: the light network of dense detections, one tower at half the width",
        # As dense_detections_light: one tower as wide as the semantic one, on an FPN with as many channels.
        {"model.towers": 1, "model.box_width": 24, "model.fpn_width": 24},
    ),
)
_RELATION_ABLATIONS = (
    *_ablations(
        "town_relations",
        "deeplab_r52_cityscapes",
        ("base", "Panoptic-DeepLab alone", ""),
        ("concatenation", "scores and instances concatenated to the features", "concatenation"),
        ("product", "features multiplied by scores and instances", "product"),
        ("ocr", "OCR, object context of categories", "ocr"),
        ("without_reweighting", "PISR with 20 instances without reweighting", "without_reweighting"),
        ("pisr", "PISR with 20 instances", "relations"),
        ("k10", "PISR with 10 instances", "relations_k10"),
    ),
    Row(
        "town_relations_k50",
        "Ablation on synthetic scenes: PISR with 50 instances",
        {**_PISR, "model.relations.num_instances": 50},
    ),
)


def _small_hosts(name: str, system: str) -> tuple[Row, ...]:
    return tuple(
        Row(f"town_hosts_{name}{end}", f"Ablation on synthetic scenes: {system}{what}")
        for end, what in (("", " alone"), ("_pisr", " with PISR"))
    )


_BUNDLED = (
    Row("town", "Synthetic scenes, street and aerial view; needs no data"),
    Row("street", "CamVid (street scenes)"),
    Row("aerial", "Satellite images of Dubai"),
)
_BUNDLED_LITE0 = (
    Row("street_lite0", "CamVid (street scenes), EfficientNet-Lite0 with ImageNet weights", _LITE0 | _LITE0_STREET),
    Row("aerial_lite0", "Satellite images of Dubai, EfficientNet-Lite0 with ImageNet weights", _LITE0),
)
_BUNDLED_BOXES = tuple(Row(f"{row.name}_boxes", f"{DATASETS[row.name]}, dense detections") for row in _BUNDLED)
_BUNDLED_DEEPLAB = (
    Row("town_deeplab", "Synthetic scenes, Panoptic-DeepLab"),
    Row("town_deeplab_relations", "Synthetic scenes, Panoptic-DeepLab with PISR", _PISR),
    Row("street_deeplab", "CamVid (street scenes), Panoptic-DeepLab"),
    Row("street_deeplab_relations", "CamVid (street scenes), Panoptic-DeepLab with PISR", _PISR),
)
_SCALE_ABLATIONS = _ablations(
    "town_scales",
    "seamless_hrnet48_vistas",
    ("full", "two stages on whole images of 0.4 of the size", "full"),
    ("crop", "two stages on crops", "crop"),
    ("cabb", "two stages on crops with the crop-aware box loss", "cabb"),
    ("isus", "two stages on crops with scale-uniform sampling", "isus"),
    ("cabb_isus", "two stages on crops with both", "cabb_isus"),
)
_BUNDLED_SCALES = tuple(Row(f"{row.name}_scales", f"{DATASETS[row.name]}, two stages") for row in _BUNDLED)
_YOLO_ABLATIONS = (
    *_ablations(
        "town_yolo_panoptic",
        "yolo_panoptic_d53_cityscapes",
        ("stride_4", "YOLO-based, semantic segmentation from layer 12", "stride_4_1024"),
        ("stride_8", "YOLO-based, semantic segmentation from layer 37", "stride_8_1024"),
        ("stride_16", "YOLO-based, semantic segmentation from layer 62", "stride_16_1024"),
        ("segnet", "YOLO-based, semantic segmentation from three layers", "segnet_1024"),
        ("top_down", "YOLO-based, semantic segmentation from a feature pyramid", "top_down_1024"),
        ("pyramid_pooling", "YOLO-based, semantic segmentation by pyramid pooling", "pyramid_pooling_1024"),
        ("deep", "YOLO-based, deep masks", "deep_1024"),
        ("shallow", "YOLO-based, shallow masks", "shallow_1024"),
        ("deep_early", "YOLO-based, deep masks, layers 6, 13 and 38", "deep_early_1024"),
        ("shallow_early", "YOLO-based, shallow masks, layers 6, 13 and 38", "shallow_early_1024"),
    ),
    Row(
        "town_yolo_panoptic_trained",
        "Ablation on synthetic scenes: YOLO-based, deep masks, backbone and detector trained, too",
        {"model.representation.train_detector": True},
    ),
    Row(
        "town_yolo_panoptic_detector",
        "Ablation on synthetic scenes: YOLO-based, backbone and detector alone, from which the others start",
        {
            "model.representation.train_detector": True,
            "model.representation.mask_loss_weight": 0.0,
            "model.representation.semantic_loss_weight": 0.0,
        },
    ),
)
_BUNDLED_YOLO = tuple(Row(f"{row.name}_yolo_panoptic", f"{DATASETS[row.name]}, YOLO-based") for row in _BUNDLED)
_BUNDLED_LIGHT = tuple(Row(f"{row.name}_yolo", f"{DATASETS[row.name]}, light YOLO-based network") for row in _BUNDLED)
_BUNDLED_MASKFORMER = (
    Row("town_maskformer", "Synthetic scenes, MaskFormer"),
    Row("street_maskformer", "CamVid (street scenes), MaskFormer"),
)
_BUNDLED_UPERNET = (
    Row("town_upernet", "Synthetic scenes, UPerNet with queries"),
    Row("street_upernet", "CamVid (street scenes), UPerNet with queries"),
)
_FOLDER = (Row("from_folder", "A folder of your own; defaults are derived from its images"),)

TABLE = (
    Family("Panoptic SwiftNet", "panoptic_swiftnet.build", _SWIFTNET, paper="Panoptic SwiftNet", num_devices=2),
    Family("Panoptic SwiftNet", "bundled.centers", _BUNDLED),
    Family("Panoptic SwiftNet", "bundled.centers", _BUNDLED_LITE0),
    Family("Panoptic SwiftNet", "ablations.centers", _CENTER_ABLATIONS),
    Family("Panoptic SwiftNet", "from_folder.build", _FOLDER),
    Family("Dense detections", "dense_detections.build", _DENSE, paper="Dense detections", num_devices=2),
    Family("Dense detections", "bundled.boxes", _BUNDLED_BOXES),
    Family("Dense detections", "ablations.boxes", _BOX_ABLATIONS),
    Family("Panoptic-DeepLab and PISR", "panoptic_deeplab.build", _DEEPLAB, paper="PISR", num_devices=8),
    Family("Panoptic-DeepLab and PISR", "bundled.deeplab", _BUNDLED_DEEPLAB),
    Family("Panoptic-DeepLab and PISR", "ablations.relations", _RELATION_ABLATIONS),
    Family("Seamless, all scales", "seamless.build", _SCALES, paper="All scales", num_devices=8),
    Family("Seamless, all scales", "bundled.scales", _BUNDLED_SCALES),
    Family("Seamless, all scales", "ablations.scales", _SCALE_ABLATIONS),
    Family("YOLO-based", "yolo_panoptic.build", _YOLO, paper="YOLO-based", num_devices=2),
    Family("YOLO-based", "bundled.yolo", _BUNDLED_YOLO),
    Family("YOLO-based", "ablations.yolo", _YOLO_ABLATIONS),
    Family("YOLO-based", "bundled.light", _BUNDLED_LIGHT),
    Family("Panoptic FPN", "panoptic_fpn.build", _FPN, paper="Panoptic FPN", num_devices=8),
    Family("MaskFormer", "maskformer.build", _MASKFORMER, paper="MaskFormer", num_devices=8),
    Family("MaskFormer", "maskformer.small", _BUNDLED_MASKFORMER),
    Family("UPerNet", "upernet.build", _UPERNET, paper="PISR", num_devices=8),
    Family("UPerNet", "upernet.semantic", _UPERNET_SEMANTIC, paper="UPerNet", num_devices=8),
    Family("UPerNet", "upernet.small", _BUNDLED_UPERNET),
    Family("MaskFormer", "pisr_hosts.build", _MASKFORMER_PISR, paper="PISR", num_devices=8),
    Family("MaskFormer", "pisr_hosts.small", _small_hosts("maskformer", "MaskFormer")),
    Family("UPerNet", "pisr_hosts.build", _UPERNET_PISR, paper="PISR", num_devices=8),
    Family("UPerNet", "pisr_hosts.small", _small_hosts("upernet", "UPerNet")),
    Family("Panoptic FPN", "pisr_hosts.build", _FPN_PISR, paper="PISR", num_devices=8),
    Family("Panoptic FPN", "pisr_hosts.small", _small_hosts("panoptic_fpn", "Panoptic FPN")),
)
