"""Training augmentation of a picture together with its map.

A transform takes a picture (uint8 [3, H, W]), its truth (a :class:`~panscape.panoptic.PanopticMap` of the same size)
and a :class:`torch.Generator`, and returns a new picture and a new truth. All chance comes from the generator, so a
seed fixes the result whatever the process. Pictures are resampled bilinearly with anti-aliasing, maps to the nearest
pixel; void stays void, what lies outside the picture is void, and segments that lose all their pixels lose their
description. :class:`CopyPaste` takes a second picture and its truth besides.
"""

from panscape.transforms.checks import MEAN_COLOR, Color
from panscape.transforms.composing import Compose, Transform
from panscape.transforms.cropping import Cropping, RandomCrop, RareCategoryCrop
from panscape.transforms.pasting import CopyPaste
from panscape.transforms.photometric import Photometric, recolored
from panscape.transforms.resizing import Resize, Resizing, ScaleJitter, ShortestSideChoice
from panscape.transforms.turning import RandomFlip, Rotation, RotationPolicy

__all__ = [
    "MEAN_COLOR",
    "Color",
    "Compose",
    "CopyPaste",
    "Cropping",
    "Photometric",
    "RandomCrop",
    "RandomFlip",
    "RareCategoryCrop",
    "Resize",
    "Resizing",
    "Rotation",
    "RotationPolicy",
    "ScaleJitter",
    "ShortestSideChoice",
    "Transform",
    "recolored",
]
