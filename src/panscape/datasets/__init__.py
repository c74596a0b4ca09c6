"""Datasets: each reads or renders samples; none depends on a model.

Each name is imported on first use, so that the synthetic dataset does not wait for the import of scipy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from panscape.lazy_names import lazy_names

if TYPE_CHECKING:
    from panscape.datasets.ade20k import Ade20k as Ade20k
    from panscape.datasets.base import PanopticDataset as PanopticDataset
    from panscape.datasets.base import Sample as Sample
    from panscape.datasets.bsb_aerial import bsb as bsb
    from panscape.datasets.cityscapes import Cityscapes as Cityscapes
    from panscape.datasets.coco_panoptic import CocoPanoptic as CocoPanoptic
    from panscape.datasets.folder import from_folder as from_folder
    from panscape.datasets.in_memory import InMemoryDataset as InMemoryDataset
    from panscape.datasets.india_driving import IndiaDriving as IndiaDriving
    from panscape.datasets.mapillary_vistas import vistas as vistas
    from panscape.datasets.segment_index import load_segment_index as load_segment_index
    from panscape.datasets.segment_sampling import SegmentSampler as SegmentSampler
    from panscape.datasets.semantic_masks import SemanticMaskDataset as SemanticMaskDataset
    from panscape.datasets.semantic_masks import aerial as aerial
    from panscape.datasets.semantic_masks import camvid as camvid
    from panscape.datasets.town import Town as Town

_HOME = {
    "Ade20k": "ade20k",
    "SemanticMaskDataset": "semantic_masks",
    "Cityscapes": "cityscapes",
    "CocoPanoptic": "coco_panoptic",
    "InMemoryDataset": "in_memory",
    "IndiaDriving": "india_driving",
    "PanopticDataset": "base",
    "Sample": "base",
    "SegmentSampler": "segment_sampling",
    "Town": "town",
    "aerial": "semantic_masks",
    "bsb": "bsb_aerial",
    "camvid": "semantic_masks",
    "from_folder": "folder",
    "load_segment_index": "segment_index",
    "vistas": "mapillary_vistas",
}

__all__ = sorted(_HOME)
__getattr__, __dir__ = lazy_names(__name__, _HOME)
