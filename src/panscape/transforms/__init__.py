"""Training augmentation of an image together with its map.

A transform takes an image (uint8 [3, H, W]), its ground truth (a :class:`~panscape.panoptic.PanopticMap` of the same
size) and a :class:`torch.Generator`, and returns a new image and a new ground truth. All randomness comes from the
generator, so the seed determines the result in every process. Images are resampled bilinearly with anti-aliasing, maps
to the nearest pixel. Void stays void, pixels outside the image are void, and segments without pixels are removed.
:class:`CopyPaste` additionally takes a second image with its ground truth.
"""

from panscape.transforms.blur import GaussianBlur
from panscape.transforms.checks import MEAN_COLOR, Color
from panscape.transforms.color_jitter import ColorJitter, adjust_color
from panscape.transforms.compose import Compose, Transform
from panscape.transforms.copy_paste import CopyPaste
from panscape.transforms.crop import CropTransform, RandomCrop, RandomSizeCrop, RareCategoryCrop, crop_around
from panscape.transforms.random_numbers import ScaleDistribution
from panscape.transforms.resize import Resize, ResizeShortestEdge, ResizeTransform, ScaleJitter
from panscape.transforms.rotate_flip import RandomFlip, Rotation, RotationPolicy

__all__ = [
    "MEAN_COLOR",
    "Color",
    "ColorJitter",
    "Compose",
    "CopyPaste",
    "CropTransform",
    "GaussianBlur",
    "RandomCrop",
    "RandomFlip",
    "RandomSizeCrop",
    "RareCategoryCrop",
    "Resize",
    "ResizeShortestEdge",
    "ResizeTransform",
    "Rotation",
    "RotationPolicy",
    "ScaleDistribution",
    "ScaleJitter",
    "Transform",
    "adjust_color",
    "crop_around",
]
