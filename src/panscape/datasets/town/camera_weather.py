"""Random cameras and weather of the town."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from panscape.datasets.town.scene import Camera, Color, Rng, Scene, turn


def street_camera(rng: Rng, size: tuple[int, int], half: float) -> tuple[Scene, float]:
    """Return an empty scene seen from a road of half-width ``half`` in metres, and the visible distance in metres."""
    height, width = size
    focal = height * rng.between(0.85, 1.25)
    above = rng.between(1.3, 2.4) if rng.chance(0.65) else rng.between(2.4, 6.5)
    pitch = rng.between(-0.06, 0.08) + 0.03 * (above - 1.3)
    center = (width * rng.between(0.4, 0.6), height * rng.between(0.42, 0.58))
    camera = Camera((half * rng.between(-0.9, 0.9), above, 0.0), rng.between(-0.28, 0.28), pitch, focal, center, size)
    # At larger distances even a bus is below the smallest extent.
    return Scene(rng, camera), min(focal * 3.2 / 8.0, 420.0)


def aerial_camera(rng: Rng, size: tuple[int, int]) -> tuple[Scene, float]:
    """Return an empty scene seen from above, and half the side of the visible square, in metres."""
    height, width = size
    # From a survey flight, where a car is twenty pixels long, down to a drone above the street.
    smallest, largest = 20.0, 110.0 * min(max(max(height, width) / 256.0, 1.0), 1.6)
    car = smallest * (largest / smallest) ** round(rng.draw(), 6)
    # Above all roofs.
    altitude = max(1.8 * max(height, width) * 4.4 / round(car, 6), 45.0)
    focal = altitude * round(car, 6) / 4.4
    tilt = rng.between(0.0, 0.5) if rng.chance(0.6) else 0.0
    yaw = rng.between(0.0, 2 * math.pi)
    c, s = turn(yaw)
    cp, sp = turn(math.pi / 2 - tilt)
    position = (-s * cp * altitude, sp * altitude, -c * cp * altitude)
    camera = Camera(position, yaw, math.pi / 2 - tilt, focal, (width / 2, height / 2), size)
    reach = round(0.6 * math.hypot(height, width) * 4.4 / round(car, 6) * (1 + 0.8 * tilt), 6)
    return Scene(rng, camera), reach


def draw_weather(rng: Rng, scene: Scene, is_street: bool) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the light table of the renderer and the air table of :mod:`panscape.datasets.town.image_effects`."""
    elevation, direction = rng.between(0.45, 1.15), rng.between(0.0, 2 * math.pi)
    (ce, se), (cd, sd) = turn(elevation), turn(direction)
    overcast = 0.0 if rng.chance(0.6) else rng.between(0.3, 0.95)
    strength = rng.between(0.55, 0.85) * (1 - 0.85 * overcast)
    warm = rng.between(0.0, 0.25) * (1 - overcast)
    sun = (strength, strength * (1 - 0.5 * warm), strength * (1 - warm))
    base = rng.between(0.38, 0.5) + 0.25 * overcast
    sky = (base * (1 - 0.3 * warm), base, base * (1.08 + 0.3 * warm))
    pale = rng.between(0.72, 0.92)
    horizon: Color = (pale * (1 - 0.1 * (1 - overcast)) + 0.3 * warm, pale, pale * (1.04 - 0.8 * warm))
    deep = rng.between(0.0, 0.35)
    zenith: Color = (
        0.5 - deep + 0.25 * overcast,
        0.66 - 0.6 * deep + 0.05 * overcast,
        0.88 - 0.25 * deep - 0.08 * overcast,
    )
    clouds: Color = (0.95 - 0.3 * overcast, 0.95 - 0.29 * overcast, 0.97 - 0.27 * overcast)
    shadow = 0.52 + 0.44 * overcast
    if scene.is_night:
        dim = rng.between(0.26, 0.42)
        sun, sky, shadow = (0.08, 0.09, 0.12), (dim, dim * 1.05, dim * 1.3), 0.8
        horizon, zenith, clouds = (0.16, 0.17, 0.25), (0.03, 0.04, 0.1), (0.12, 0.12, 0.17)
    haze = round(rng.draw() ** 3 * 0.02 + 0.0008, 9) if is_street else 0.0
    gain = rng.between(0.88, 1.12) if is_street else rng.between(1.05, 1.4)
    air = [*horizon, *zenith, *clouds]
    air += [rng.between(-0.25, 0.35), rng.between(1.5, 4.0), rng.between(0, 500), rng.between(0, 500), haze]
    air += [gain * rng.between(0.93, 1.07), gain, gain * rng.between(0.93, 1.07)]
    air += [rng.between(0.8, 0.95 if scene.is_night else 1.15), rng.between(-0.05, 0.05), rng.between(0.06, 0.15)]
    air += [rng.between(0.004, 0.03), float(int(rng.between(0, 65536))), 1.0, 0.0]
    light = [ce * sd, se, ce * cd, *sun, *sky, shadow]
    return np.array(light), np.array(air)
