"""Colors in OKLab, a perceptually uniform space, as seen with normal and with deficient color vision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Colors = NDArray[np.uint8]  # [..., 3], sRGB: red, green, blue

# Ottosson, "A perceptual color space for image processing", 2020.
_RGB_TO_LMS = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_LMS_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)
# Machado, Oliveira and Fernandes, "A Physiologically-based Model for Simulation of Color Vision Deficiency",
# IEEE TVCG 2009, table 1, severity 1.0; for linear RGB.
_DEFICIENCIES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
VISIONS = {"normal": np.eye(3)} | {name: np.array(matrix) for name, matrix in _DEFICIENCIES.items()}
"""Matrices of linear RGB that simulate a color vision, by its name."""


def to_oklab(colors: Colors, vision: str = "normal") -> NDArray[np.float64]:
    """Convert colors to lightness (0..1) and two opponent axes, float64 [..., 3].

    Args:
        colors: uint8 [..., 3].
        vision: one of :data:`VISIONS`.
    """
    linear = (linear_rgb(colors) @ VISIONS[vision].T).clip(0, 1)
    lab: NDArray[np.float64] = np.cbrt(linear @ _RGB_TO_LMS.T) @ _LMS_TO_LAB.T
    return lab


def from_oklab(lab: NDArray[np.float64]) -> Colors:
    """Convert OKLab, float [..., 3], to colors; values outside sRGB are clipped."""
    linear = ((lab @ np.linalg.inv(_LMS_TO_LAB).T) ** 3 @ np.linalg.inv(_RGB_TO_LMS).T).clip(0, 1)
    value = np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)
    srgb: Colors = np.rint(value * 255).astype(np.uint8)
    return srgb


def linear_rgb(colors: Colors) -> NDArray[np.float64]:
    """Return light intensities in 0..1, float64 of the same shape."""
    value = colors / 255.0
    linear: NDArray[np.float64] = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return linear
