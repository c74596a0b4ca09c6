"""Training augmentation of an image together with its map.

A transform takes an image (uint8 [3, H, W]), its truth (a :class:`~panscape.panoptic.PanopticMap` of the same size)
and a :class:`torch.Generator`, and returns a new image and a new truth. All chance comes from the generator, so a
seed fixes the result whatever the process. Images are resampled bilinearly with anti-aliasing, maps to the nearest
pixel; void stays void, what lies outside the image is void, and segments that lose all their pixels lose their
description. :class:`CopyPaste` takes a second image and its truth besides.
"""

from panscape.transforms.checks import MEAN_COLOR, Color
from panscape.transforms.color_jitter import ColorJitter, adjust_color
from panscape.transforms.compose import Compose, Transform
from panscape.transforms.copy_paste import CopyPaste
from panscape.transforms.crop import CropTransform, RandomCrop, RareCategoryCrop
from panscape.transforms.resize import Resize, ResizeShortestEdge, ResizeTransform, ScaleJitter
from panscape.transforms.rotate_flip import RandomFlip, Rotation, RotationPolicy

__all__ = [
    "MEAN_COLOR",
    "Color",
    "ColorJitter",
    "Compose",
    "CopyPaste",
    "CropTransform",
    "RandomCrop",
    "RandomFlip",
    "RareCategoryCrop",
    "Resize",
    "ResizeShortestEdge",
    "ResizeTransform",
    "Rotation",
    "RotationPolicy",
    "ScaleJitter",
    "Transform",
    "adjust_color",
]
