"""The picture page: one image under every corruption and severity.

Two columns of rows; a row is a corruption, its five pictures are severities 1 to 5.
"""

from os.path import expanduser
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.corrupt import available, corrupt
from mocse_timm.corruptions.frost import missing_frost
from mocse_timm.corruptions.names import CORRUPTIONS, GROUPS, SEVERITIES

__all__ = ["check_picture_path", "draw_gallery"]

# pixels, and colours as red, green, blue
TILE = 96
GAP = 6
MARGIN = 36
COLUMN_GAP = 48
LABEL = 216
GROUP_HEIGHT = 40
TITLE_HEIGHT = 64
BACKGROUND, INK, FAINT, EMPTY = (255, 255, 255), (24, 28, 36), (118, 126, 138), (238, 240, 243)
COLUMNS = (("noise", "blur", "weather"), ("digital", "extra"))


def check_picture_path(path: str | Path) -> None:
    """Raise BadInput if ``path`` is not a .png in a folder that is there."""
    path = Path(expanduser(path))
    if path.suffix.lower() != ".png":
        raise BadInput(f"--gallery {path}: give a file that ends in .png")
    if not path.parent.is_dir():
        raise BadInput(f"--gallery {path}: there is no folder {path.parent}; make it first")


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size=size)


def _tile(pixels: np.ndarray, size: int = TILE) -> Image.Image:
    """Enlarge by a whole number with hard pixel edges, or shrink what is larger than a tile."""
    image = Image.fromarray(pixels)
    if image.width > size:
        return image.resize((size, size), Image.Resampling.LANCZOS)
    side = size // image.width * image.width
    return image.resize((side, side), Image.Resampling.NEAREST)


class _Page:
    """A white picture to put things on."""

    def __init__(self, width: int, height: int) -> None:
        self.image = Image.new("RGB", (width, height), BACKGROUND)
        self.draw = ImageDraw.Draw(self.image)

    def text(self, x: int, y: int, text: str, size: int, ink: tuple[int, int, int] = INK, anchor: str = "lm") -> None:
        """Write ``text``; the anchor is Pillow's, by default the middle of the left edge."""
        self.draw.text((x, y), text, fill=ink, font=_font(size), anchor=anchor)

    def picture(self, x: int, y: int, tile: Image.Image, size: int = TILE) -> None:
        """Put ``tile`` into the middle of a square whose upper left corner is (x, y)."""
        self.image.paste(tile, (x + (size - tile.width) // 2, y + (size - tile.height) // 2))

    def blank(self, x: int, y: int, width: int, why: str) -> None:
        """Put a gray band where pictures would be, with the reason in it."""
        self.draw.rectangle((x, y, x + width - 1, y + TILE - 1), fill=EMPTY)
        self.text(x + width // 2, y + TILE // 2, why, 18, FAINT, "mm")


def _column_height(groups: tuple[str, ...]) -> int:
    return sum(GROUP_HEIGHT + len(GROUPS[group]) * (TILE + GAP) for group in groups)


def draw_gallery(
    image: np.ndarray,
    path: str | Path,
    *,
    title: str,
    index: int = 0,
    seed: int = 0,
    frost_dir: str | Path | None = None,
) -> tuple[str, ...]:
    """Write a .png with ``image`` under 19 corruptions at 5 severities; return a sentence for what is not shown.

    Pictures up to 96 pixels wide are enlarged by whole numbers without smoothing, so that single pixels can be seen.

    Args:
        image: (side, side, 3) uint8.
        path: of the .png, which is written beside and renamed.
        title: of the page.
        index: the image's place in its set, on which its draws depend.
        seed: of all draws.
        frost_dir: folder of frost's photographs.

    Raises:
        BadInput: if the image cannot be corrupted or the file not written.
    """
    possible = available(frost_dir)
    path = Path(expanduser(path))
    row_width = LABEL + len(SEVERITIES) * (TILE + GAP)
    height = 2 * MARGIN + TITLE_HEIGHT + max(map(_column_height, COLUMNS))
    page = _Page(2 * MARGIN + 2 * row_width + COLUMN_GAP, height)
    page.text(MARGIN, MARGIN + 12, f"{len(possible)} of {len(CORRUPTIONS)} common corruptions", 30)
    page.text(MARGIN, MARGIN + 46, title, 18, FAINT)
    for column, groups in enumerate(COLUMNS):
        left, y = MARGIN + column * (row_width + COLUMN_GAP), MARGIN + TITLE_HEIGHT
        for group in groups:
            page.text(left, y + GROUP_HEIGHT // 2 + 4, group, 20, FAINT)
            for position, severity in enumerate(SEVERITIES):
                x = left + LABEL + position * (TILE + GAP) + TILE // 2
                page.text(x, y + GROUP_HEIGHT // 2 + 4, str(severity), 18, FAINT, "mm")
            y += GROUP_HEIGHT
            for name in GROUPS[group]:
                page.text(left, y + TILE // 2, name.replace("_", " "), 22)
                if name in possible:
                    for position, severity in enumerate(SEVERITIES):
                        pixels = corrupt(image[None], name, severity, seed=seed, indices=[index], frost_dir=frost_dir)
                        page.picture(left + LABEL + position * (TILE + GAP), y, _tile(pixels[0]))
                else:
                    page.blank(left + LABEL, y, len(SEVERITIES) * (TILE + GAP) - GAP, "no photographs of frost here")
                y += TILE + GAP
    _draw_original(page, image, MARGIN + row_width + COLUMN_GAP, MARGIN + TITLE_HEIGHT + _column_height(COLUMNS[1]))
    _save(page.image, path)
    missing = [name for name in CORRUPTIONS if name not in possible]
    return tuple(f"{name} is left out: {missing_frost(frost_dir)}" for name in missing)


def _draw_original(page: _Page, image: np.ndarray, left: int, top: int) -> None:
    """Show the clean image, twice as large, in the room below the shorter column."""
    size = 2 * TILE
    page.text(left, top + GROUP_HEIGHT // 2 + 4, "clean", 20, FAINT)
    page.text(left, top + GROUP_HEIGHT + size // 2, "the image itself", 22)
    page.picture(left + LABEL, top + GROUP_HEIGHT, _tile(image, size), size)


def _save(picture: Image.Image, path: Path) -> None:
    beside = path.with_name(f"{path.name}.part")
    try:
        picture.save(beside, format="PNG")
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise BadInput(f"cannot write {path} ({error.strerror or error}): give another --gallery") from None
