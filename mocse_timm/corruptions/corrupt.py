"""Any of the 19 corruptions by name, every image from its own stream of random numbers."""

import operator
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mocse_timm.checks import BadInput
from mocse_timm.corruptions import blur, digital, elastic, fog, frost, glass, hsv, motion, noise, snow, spatter, zoom
from mocse_timm.corruptions.names import CORRUPTIONS, check_names, check_severity
from mocse_timm.corruptions.pixels import Bytes, Draws
from mocse_timm.corruptions.severities import SMALLEST_SIDE
from mocse_timm.corruptions.streams import ImageStreams

__all__ = ["Corruption", "available", "corrupt", "corruption"]


class Corruption(NamedTuple):
    """Chance and its effect, apart.

    Attributes:
        sample: (rng, n, side, severity) -> draws for n images; None where nothing is left to chance.
        apply: (images, draws, severity) -> corrupted images.
    """

    sample: Callable[[np.random.Generator, int, int, int], Draws] | None
    apply: Callable[[Bytes, Draws, int], Bytes]


_ALL_BUT_FROST = {
    "gaussian_noise": Corruption(noise.sample_normal, noise.gaussian_noise),
    "shot_noise": Corruption(noise.sample_uniform, noise.shot_noise),
    "impulse_noise": Corruption(noise.sample_impulses, noise.impulse_noise),
    "defocus_blur": Corruption(None, blur.defocus_blur),
    "glass_blur": Corruption(glass.sample_shuffles, glass.glass_blur),
    "motion_blur": Corruption(motion.sample_angles, motion.motion_blur),
    "zoom_blur": Corruption(None, zoom.zoom_blur),
    "snow": Corruption(snow.sample_snow, snow.snow),
    "fog": Corruption(fog.sample_fog, fog.fog),
    "brightness": Corruption(None, hsv.brightness),
    "contrast": Corruption(None, digital.contrast),
    "elastic_transform": Corruption(elastic.sample_elastic, elastic.elastic_transform),
    "pixelate": Corruption(None, digital.pixelate),
    "jpeg_compression": Corruption(None, digital.jpeg_compression),
    "speckle_noise": Corruption(noise.sample_normal, noise.speckle_noise),
    "gaussian_blur": Corruption(None, blur.gaussian_blur),
    "spatter": Corruption(spatter.sample_spatter, spatter.spatter),
    "saturate": Corruption(None, hsv.saturate),
}

_CHUNK_VALUES = 2**17
"""Images are corrupted so many values at a time: what a processor's cache and a modest memory hold."""


def available(frost_dir: str | Path | None = None) -> tuple[str, ...]:
    """Return the corruptions that can be made here: 19, or 18 where the photographs of frost are missing."""
    has_frost = frost.find_frost_textures(frost_dir) is not None
    return tuple(name for name in CORRUPTIONS if has_frost or name != "frost")


def corruption(name: str, frost_dir: str | Path | None = None) -> Corruption:
    """Return the two halves of a corruption, or raise BadInput for an unknown name or missing photographs."""
    check_names([name])
    if name != "frost":
        return _ALL_BUT_FROST[name]
    folder = frost.find_frost_textures(frost_dir)
    if folder is None:
        raise BadInput(frost.missing_frost(frost_dir))
    return Corruption(frost.sample_frost, partial(frost.frost, folder=folder))


def _check_images(images: np.ndarray) -> None:
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = images.dtype if isinstance(images, np.ndarray) else type(images).__name__
        raise BadInput(f"images must be a numpy array of uint8, 0 to 255, got {kind}; convert them first")
    if images.ndim != 4 or images.shape[3] != 3:
        raise BadInput(f"images must be RGB, (B, H, W, 3), got shape {images.shape}; convert grey or RGBA images first")
    if images.shape[1] != images.shape[2]:
        raise BadInput(f"images must be square, got {images.shape[1]} x {images.shape[2]} pixels; crop them first")
    if images.shape[1] < SMALLEST_SIDE:
        raise BadInput(f"images must have sides of {SMALLEST_SIDE} pixels or more, got {images.shape[1]}; enlarge them")


def _check_seed(seed: int) -> int:
    try:
        return operator.index(seed)
    except TypeError:
        raise BadInput(f"seed must be a whole number, got {seed!r}") from None


def _check_indices(indices: Sequence[int] | NDArray[np.integer] | None, count: int) -> list[int]:
    if indices is None:
        return list(range(count))
    places = np.asarray(indices)
    if places.shape != (count,) or (count and (places.dtype.kind not in "iu" or places.min() < 0)):
        raise BadInput(
            f"indices must be {count} whole numbers from 0, one for each image, got {places.dtype} {places.shape}"
        )
    return places.tolist()


def corrupt(
    images: Bytes,
    name: str,
    severity: int,
    *,
    seed: int = 0,
    indices: Sequence[int] | NDArray[np.integer] | None = None,
    frost_dir: str | Path | None = None,
) -> Bytes:
    """Return corrupted images (B, side, side, 3) uint8; ``images`` stay as they are.

    What chance decides about an image depends on (seed, name, severity, its index) and on nothing else: not on the
    other images of the batch, their order, or the process.

    Args:
        images: (B, side, side, 3), uint8, RGB, sides of at least 32 pixels. The side picks the table of strengths:
            CIFAR-C's from 32, Tiny-ImageNet-C's from 64, ImageNet-C's from 224.
        name: one of :data:`~mocse_timm.corruptions.names.CORRUPTIONS`.
        severity: 1 to 5.
        seed: any whole number.
        indices: (B,), the place of each image in its data set; 0, 1, 2 ... if None.
        frost_dir: folder of the photographs that frost needs; those of an installed ``imagecorruptions`` if None.

    Raises:
        BadInput: if any of these cannot be used.

    Source:
        Hendrycks and Dietterich 2019, arXiv:1903.12261, and the generator of CIFAR-10-C.
    """
    sample, apply = corruption(name, frost_dir)
    severity = check_severity(severity)
    _check_images(images)
    places = _check_indices(indices, len(images))
    side = images.shape[1]
    streams = ImageStreams(_check_seed(seed), name, severity)
    corrupted = np.empty_like(images)
    chunk = max(1, _CHUNK_VALUES // (side * side * 3))
    for start in range(0, len(images), chunk):
        part = slice(start, start + chunk)
        draws: Draws = ()
        if sample:
            each = [sample(streams[place], 1, side, severity) for place in places[part]]
            draws = tuple(np.concatenate(arrays) for arrays in zip(*each, strict=True))
        corrupted[part] = apply(np.ascontiguousarray(images[part]), draws, severity)
    return corrupted
