"""Conversion between annotation formats and :class:`panscape.PanopticMap`.

Only this package contains the numbering of segments and categories in files: COCO's colours, Cityscapes' thousands, the
number of void, and the ``source_id`` of categories. Dataset classes pass such numbers on; everything else uses maps.

Each name is imported on first use: drawing and writing maps need no torch, which takes seconds to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panscape.lazy_names import lazy_names

if TYPE_CHECKING:
    from panscape.formats.ade20k import decode_ade20k as decode_ade20k
    from panscape.formats.cityscapes import decode_cityscapes as decode_cityscapes
    from panscape.formats.cityscapes import encode_cityscapes as encode_cityscapes
    from panscape.formats.coco import bundled_if_same as bundled_if_same
    from panscape.formats.coco import coco_ids as coco_ids
    from panscape.formats.coco import decode_coco as decode_coco
    from panscape.formats.coco import encode_coco as encode_coco
    from panscape.formats.coco import labels_from_coco as labels_from_coco
    from panscape.formats.coco import parse_coco_segments as parse_coco_segments
    from panscape.formats.coco_arrays import coco_categories as coco_categories
    from panscape.formats.coco_boxes import encode_coco_boxes as encode_coco_boxes
    from panscape.formats.coco_files import load_coco as load_coco
    from panscape.formats.coco_files import load_coco_png as load_coco_png
    from panscape.formats.coco_files import save_coco as save_coco
    from panscape.formats.coco_json import load_coco_json as load_coco_json
    from panscape.formats.coco_writer import CocoPanopticWriter as CocoPanopticWriter
    from panscape.formats.detectron2 import to_detectron2 as to_detectron2
    from panscape.formats.geojson import to_geojson as to_geojson
    from panscape.formats.idd import decode_idd as decode_idd
    from panscape.formats.label_divisor import decode_label_divisor as decode_label_divisor
    from panscape.formats.label_divisor import encode_label_divisor as encode_label_divisor
    from panscape.formats.label_images import load_label_image as load_label_image
    from panscape.formats.segments_info import SegmentInfo as SegmentInfo
    from panscape.formats.segments_info import map_from_id_image as map_from_id_image
    from panscape.formats.segments_info import unique_ids as unique_ids
    from panscape.formats.semantic_masks import from_semantic_mask as from_semantic_mask
    from panscape.formats.supervision import to_supervision as to_supervision
    from panscape.formats.tables import to_pandas as to_pandas
    from panscape.formats.transformers import from_transformers as from_transformers
    from panscape.formats.transformers import merge_stuff_segments as merge_stuff_segments
    from panscape.formats.transformers import parse_segments_info as parse_segments_info
    from panscape.formats.transformers import to_integer_ids as to_integer_ids
    from panscape.formats.transformers import to_transformers as to_transformers

_HOME = {
    "CocoPanopticWriter": "coco_writer",
    "SegmentInfo": "segments_info",
    "bundled_if_same": "coco",
    "coco_categories": "coco_arrays",
    "coco_ids": "coco",
    "decode_ade20k": "ade20k",
    "decode_cityscapes": "cityscapes",
    "decode_coco": "coco",
    "decode_idd": "idd",
    "decode_label_divisor": "label_divisor",
    "encode_cityscapes": "cityscapes",
    "encode_coco": "coco",
    "encode_coco_boxes": "coco_boxes",
    "encode_label_divisor": "label_divisor",
    "from_semantic_mask": "semantic_masks",
    "from_transformers": "transformers",
    "labels_from_coco": "coco",
    "load_coco": "coco_files",
    "load_coco_json": "coco_json",
    "load_coco_png": "coco_files",
    "load_label_image": "label_images",
    "map_from_id_image": "segments_info",
    "merge_stuff_segments": "transformers",
    "parse_coco_segments": "coco",
    "parse_segments_info": "transformers",
    "save_coco": "coco_files",
    "to_detectron2": "detectron2",
    "to_geojson": "geojson",
    "to_integer_ids": "transformers",
    "to_pandas": "tables",
    "to_supervision": "supervision",
    "to_transformers": "transformers",
    "unique_ids": "segments_info",
}

__all__ = sorted(_HOME)
__getattr__, __dir__ = lazy_names(__name__, _HOME)
