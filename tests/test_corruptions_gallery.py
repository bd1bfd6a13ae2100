from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mocse_timm.checks import BadInput
from mocse_timm.corruptions import gallery
from mocse_timm.corruptions.corrupt import available, corrupt
from mocse_timm.corruptions.gallery import check_picture_path, draw_gallery
from mocse_timm.corruptions.names import SEVERITIES

IMAGE = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)


def packed(pixels: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 as (H, W) numbers, which are quicker to compare."""
    return pixels.astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return packed(np.asarray(image))


def places(page: np.ndarray, pixels: np.ndarray) -> int:
    """Return in how many places of the page ``pixels`` stand exactly; both packed."""
    height, width = pixels.shape
    first = page[:-height, :-width] == pixels[0, 0]
    last = page[height - 1 : -1, width - 1 : -1] == pixels[-1, -1]
    corners = np.argwhere(first & last)
    return sum(np.array_equal(page[y : y + height, x : x + width], pixels) for y, x in corners)


def test_every_corruption_and_severity_is_on_the_page_pixel_by_pixel(tmp_path: Path) -> None:
    notes = draw_gallery(IMAGE, tmp_path / "page.png", title="a title", index=3, seed=5)
    page = read(tmp_path / "page.png")
    for name in available():
        for severity in SEVERITIES:
            pixels = corrupt(IMAGE[None], name, severity, seed=5, indices=[3])[0]
            enlarged = pixels.repeat(3, axis=0).repeat(3, axis=1)  # 96 pixels: nearest neighbour
            assert places(page, packed(enlarged)) >= 1, (name, severity)
    assert places(page, packed(IMAGE.repeat(6, axis=0).repeat(6, axis=1))) == 1
    assert len(notes) == (0 if "frost" in available() else 1)
    assert [path.name for path in tmp_path.iterdir()] == ["page.png"]


def test_missing_photographs_are_said_on_the_page_and_in_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(gallery._Page, "text", lambda self, x, y, text, *rest: written.append(text))
    (note,) = draw_gallery(IMAGE, tmp_path / "page.png", title="a title", frost_dir=tmp_path)
    assert note.startswith("frost is left out: frost needs the photographs")
    assert {"18 of 19 common corruptions", "a title", "frost", "no photographs of frost here"} <= set(written)


def test_large_images_fit_the_page(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    draw_gallery(IMAGE, tmp_path / "small.png", title="")
    draw_gallery(image, tmp_path / "large.png", title="")
    assert read(tmp_path / "small.png").shape == read(tmp_path / "large.png").shape


def test_pictures_that_cannot_be_written_get_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="give a file that ends in .png"):
        check_picture_path(tmp_path / "page.jpg")
    with pytest.raises(BadInput, match="there is no folder"):
        check_picture_path(tmp_path / "nowhere/page.png")
    (tmp_path / "page.png").mkdir()
    with pytest.raises(BadInput, match="cannot write .*page.png"):
        draw_gallery(IMAGE, tmp_path / "page.png", title="")
    assert [path.name for path in tmp_path.iterdir()] == ["page.png"]
