"""Frost: photographs of ice over the image. The photographs are not ours to hand on; they are looked for."""

import hashlib
import importlib.util
from functools import lru_cache
from os.path import expanduser
from pathlib import Path

import numpy as np

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.extra import import_cv2
from mocse_timm.corruptions.pixels import Bytes, Draws
from mocse_timm.corruptions.severities import strength, table_side

__all__ = ["TEXTURES", "find_frost_textures", "frost", "frost_digest", "missing_frost", "read_textures", "sample_frost"]

TEXTURES = ("frost1.png", "frost2.png", "frost3.png", "frost4.jpg", "frost5.jpg")
"""The photographs in use. The generator lists a sixth, frost6.jpg, and never draws it."""

SCALES = {32: 0.2, 64: 0.3, 224: 1.0}
"""How much the photographs are shrunk for each table's images."""


def _is_complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in TEXTURES)


def find_frost_textures(frost_dir: str | Path | None = None) -> Path | None:
    """Return the folder that holds the photographs, or None.

    It is ``frost_dir`` or, without one, that of an installed package ``imagecorruptions`` (``imagecorruptions-imaug``
    installs the same), which is not imported.
    """
    if frost_dir is not None:
        folder = Path(expanduser(frost_dir))
        return folder if _is_complete(folder) else None
    package = importlib.util.find_spec("imagecorruptions")
    folders = [Path(place) / "frost" for place in (package.submodule_search_locations or ())] if package else []
    return next((folder for folder in folders if _is_complete(folder)), None)


def missing_frost(frost_dir: str | Path | None = None) -> str:
    """Return the sentence that says which photographs are missing and where to get them."""
    where = "an installed package imagecorruptions" if frost_dir is None else str(frost_dir)
    return (
        f"frost needs the photographs {TEXTURES[0]} to {TEXTURES[-1]}, which {where} does not have; give their folder "
        "(--frost-dir), or install them with: pip install --no-deps imagecorruptions-imaug"
    )


def frost_digest(folder: Path | None) -> str | None:
    """Return the sha256 of the photographs in ``folder``, one after the other; None without a folder.

    Raises:
        BadInput: if one cannot be read.
    """
    if folder is None:
        return None
    digest = hashlib.sha256()
    for name in TEXTURES:
        try:
            digest.update((folder / name).read_bytes())
        except OSError as error:
            raise BadInput(f"{folder / name} cannot be read ({error.strerror or error})") from None
    return digest.hexdigest()


@lru_cache(maxsize=4)
def read_textures(folder: Path, side: int) -> tuple[Bytes, ...]:
    """Return the photographs, RGB (H, W, 3), shrunk for images of ``side`` pixels.

    For sides between those of the tables the scale grows with the side, so a photograph is always larger than it.
    """
    cv2 = import_cv2()
    scale = SCALES[table_side(side)] * side / table_side(side)
    textures = []
    for name in TEXTURES:
        photograph = cv2.imread(str(folder / name))
        if photograph is None:
            raise BadInput(f"{folder / name} is not a picture that OpenCV can read; fetch the frost photographs anew")
        if scale != 1:
            photograph = cv2.resize(photograph, (0, 0), fx=scale, fy=scale)
        if min(photograph.shape[:2]) <= side:
            raise BadInput(f"{folder / name} is too small for images of {side} pixels; is it the original photograph?")
        textures.append(np.ascontiguousarray(photograph[..., ::-1]))
    return tuple(textures)


def sample_frost(rng: np.random.Generator, n: int, side: int, severity: int) -> Draws:
    """Return which photograph (n,), and where in it (n, 2), as shares of the room there is, in [0, 1)."""
    return rng.integers(0, len(TEXTURES), n), rng.random((n, 2))


def frost(images: Bytes, draws: Draws, severity: int, folder: Path) -> Bytes:
    """Mix in a piece of a photograph from ``folder``; draws are those of :func:`sample_frost`.

    The table gives the weights of the image and of the ice; what exceeds 255 is clipped.
    """
    side = images.shape[1]
    image_weight, ice_weight = strength("frost", side, severity)
    textures = read_textures(folder, side)
    ice = np.empty_like(images)
    for piece, which, place in zip(ice, *draws, strict=True):
        texture = textures[which]
        top, left = (place * (np.array(texture.shape[:2]) - side)).astype(int)
        piece[:] = texture[top : top + side, left : left + side]
    mixed = image_weight * images.astype(np.float64)
    mixed += ice_weight * ice
    return np.clip(mixed, 0, 255, out=mixed).astype(np.uint8)
