"""From attenuation to the grey levels of a digitised film."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
from numpy.typing import NDArray

from anomalib_xray.phantom.attenuation import Plane

_GRAIN = 1.8  # restores the noise's spread after its blur


@dataclasses.dataclass(frozen=True)
class Film:
    """How an exposure turns into grey levels.

    Attributes:
        contrast: Steepness of the response.
        black: Grey level of the unattenuated beam.
        white: Grey level that dense metal comes close to.
        photons: Mean count of photons a pixel where nothing is in the way; fewer are noisier.
        scatter: Share of the attenuation that scattered light spreads around.
        vignette: Loss of brightness in the corners, 0 to 1.
        vignette_centre: Brightest place (x, y) as shares of width and height.
    """

    contrast: float
    black: float
    white: float
    photons: float
    scatter: float
    vignette: float
    vignette_centre: tuple[float, float]


def sample_film(rng: np.random.Generator, *, prepared: bool) -> Film:
    """An exposure drawn at random; prepared ones vary less, as their contrast was evened out."""
    dull = not prepared and rng.random() < 0.15
    black = float(rng.uniform(4, 12)) if prepared else float(rng.uniform(1, 45))
    return Film(
        contrast=float(rng.uniform(0.85, 1.25)),
        black=black,
        white=float(rng.uniform(95, 140)) if dull else float(rng.uniform(238, 255)),
        photons=float(np.exp(rng.uniform(np.log(6e3), np.log(4e4)))),
        scatter=float(rng.uniform(0.02, 0.07)),
        vignette=float(rng.uniform(0.02, 0.14)),
        vignette_centre=(float(rng.uniform(0.35, 0.65)), float(rng.uniform(0.35, 0.65))),
    )


def expose(attenuation: Plane, film: Film, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The 8-bit picture (H, W) of an attenuation (H, W), with photon noise, scatter, blur and vignetting.

    Args:
        attenuation: Line integrals of the attenuation, at least 0.
        film: The exposure.
        rng: Source of the noise.

    Returns:
        Grey levels, dense matter bright.
    """
    height, width = attenuation.shape
    coarse = cv2.resize(attenuation, (max(width // 8, 1), max(height // 8, 1)), interpolation=cv2.INTER_AREA)
    haze = cv2.resize(cv2.GaussianBlur(coarse, (0, 0), 5), (width, height), interpolation=cv2.INTER_LINEAR)
    beam = np.asarray(cv2.GaussianBlur(attenuation, (0, 0), 0.55) + np.float32(film.scatter) * haze, np.float32)
    # With N photons left, log N is off by 1/sqrt(N): Poisson noise in the Gaussian limit, seen through the logarithm.
    noise = rng.standard_normal(attenuation.shape, dtype=np.float32)
    grain = cv2.GaussianBlur(noise, (0, 0), 0.6) * np.float32(_GRAIN)
    beam = beam + grain * np.sqrt(np.exp(np.minimum(beam, 4)) / np.float32(film.photons))
    x = np.linspace(0, 1, width, dtype=np.float32) - np.float32(film.vignette_centre[0])
    y = np.linspace(0, 1, height, dtype=np.float32)[:, None] - np.float32(film.vignette_centre[1])
    falloff = 1 - np.float32(film.vignette) * (x**2 + y**2) / np.float32(0.5)
    response = 1 - np.exp(-np.float32(film.contrast) * np.maximum(beam, 0))
    grey = (film.black + (film.white - film.black) * response) * falloff
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
