from pathlib import Path

import numpy as np
import pytest
from corruption_images import freeze

from mocse_timm.checks import BadInput
from mocse_timm.corruptions import fog, frost, hsv, motion, snow
from mocse_timm.corruptions.frost import find_frost_textures, missing_frost, read_textures


def colours(*pixels: tuple[int, int, int]) -> np.ndarray:
    return np.array(pixels, np.uint8).reshape(1, 1, len(pixels), 3).repeat(32, axis=1)


def test_brightness_scales_colours_and_lifts_grey_by_hand() -> None:
    """V + 0.1 at a fixed hue and saturation multiplies a colour by (V + 0.1) / V."""
    changed = hsv.brightness(colours((100, 100, 100), (200, 100, 50), (255, 90, 9), (0, 0, 0)), (), 2)
    dark, brown, bright, black = changed[0, 0]
    assert dark.tolist() == [125, 125, 125]  # 100 + 25.5
    assert brown.tolist() == [225, 112, 56]  # 225.5 / 200 of 200, 100, 50
    assert bright == pytest.approx([255, 90, 9], abs=1)  # no brighter than this
    assert black.tolist() == [25, 25, 25]


def test_saturate_by_hand() -> None:
    """S * 0.3 draws the other channels to 0.7 of the way up to the largest; grey stays grey unless S is added to."""
    red, olive, grey = hsv.saturate(colours((255, 0, 0), (200, 101, 1), (90, 90, 90)), (), 1)[0, 0]
    assert red.tolist() == [255, 178, 178]
    assert olive.tolist() == [200, 170, 140]
    assert np.ptp(grey) == 0
    assert hsv.saturate(colours((90, 90, 90)), (), 5)[0, 0, 0].tolist() == [90, 72, 72]  # S 0.2 at hue 0: red


def test_fog_spans_its_range_and_leaves_black_images() -> None:
    draws = fog.sample_fog(np.random.default_rng(0), 5, 32, 1)
    clouds = fog.cloud(draws[0], 3.0)
    assert np.all(clouds.min(axis=(1, 2)) == 0)
    assert np.all(clouds.max(axis=(1, 2)) == 1)
    assert fog.fog(np.zeros((5, 32, 32, 3), np.uint8), draws, 5).max() == 0
    white = fog.fog(np.full((5, 32, 32, 3), 255, np.uint8), draws, 4)  # (1 + cloud) / 2 of white
    assert np.array_equal(white[..., 0], ((1 + fog.cloud(draws[0], 2)) / 2 * 255).astype(np.uint8))


def test_a_cloud_of_two_by_two_by_hand() -> None:
    """One round from 0: the centre, then two edges: a mean of four, plus 100 * (200 u - 100)."""
    cloud = fog.cloud(np.array([[0.50005, 0.5, 0.4999]]), 3.0)[0]
    centre = 1.0  # 100 * (100.01 - 100); corners are 0
    above = (2 * centre + 0) / 4  # the centre above and below, the corner left and right
    left = 2 * centre / 4 - 2  # 100 * (99.98 - 100) = -2
    expected = np.array([[0, above], [left, centre]])
    assert cloud == pytest.approx((expected - left) / (centre - left), abs=1e-6)


def test_without_flakes_snow_only_whitens() -> None:
    """At severity 5, 0.8 x + 0.2 max(x, 1.5 grey + 0.5)."""
    draws = (np.full((1, 32, 32), -9.0), np.array([-90.0]))
    image = colours((100, 100, 100), (255, 0, 0))
    grey, red = snow.snow(np.repeat(image, 16, axis=2), draws, 5)[0, 0, [0, 16]]
    assert grey.tolist() == [int(0.8 * 100 + 0.2 * (150 + 127.5))] * 3
    light = 0.2 * (1.5 * 0.299 * 255 + 127.5)
    assert red.tolist() == [255, int(light), int(light)]  # 0.8 * 255 + light exceeds 255


def test_snow_falls_twice_the_second_time_turned_around() -> None:
    draws = snow.sample_snow(np.random.default_rng(0), 2, 32, 3)
    layer = snow.flakes(draws, 3)
    assert layer.shape == (2, 32, 32)
    assert 0 < layer.mean() < 0.5
    black = np.zeros((2, 32, 32, 3), np.uint8)
    expected = np.clip(0.1 * 0.5 + layer + np.rot90(layer, 2, (1, 2)), 0, 1) * 255
    assert np.abs(snow.snow(black, draws, 3)[..., 1] - expected.astype(int)).max() <= 1


def test_frost_adds_a_piece_of_a_photograph_by_hand(tmp_path: Path) -> None:
    textures = read_textures(freeze(tmp_path), 32)
    assert [texture.shape for texture in textures] == [(52, 60, 3)] * 5  # a fifth of 260 x 300
    image = np.full((1, 32, 32, 3), 100, np.uint8)
    draws = (np.array([3]), np.array([[0.5, 0.999]]))
    frozen = frost.frost(image, draws, 5, tmp_path)
    piece = textures[3][10:42, 27:59]  # 0.5 of 20 rows of room, 0.999 of 28 columns: the last start is never drawn
    assert np.array_equal(frozen[0], (75 + 0.45 * piece).astype(np.uint8))


def test_frost_is_looked_for_in_a_folder_or_in_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "imagecorruptions"
    (package / "frost").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('must not be imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_frost_textures() is None  # the package is there, its pictures are not
    assert find_frost_textures(tmp_path) is None
    freeze(package / "frost")
    assert find_frost_textures() == package / "frost"
    assert find_frost_textures(package / "frost") == package / "frost"
    assert "frost1.png" in missing_frost() and "--frost-dir" in missing_frost()
    assert "/nowhere" in missing_frost("/nowhere")


def test_frost_refuses_what_is_no_picture_or_too_small(tmp_path: Path) -> None:
    freeze(tmp_path, height=160)
    with pytest.raises(BadInput, match="frost1.png is too small for images of 32 pixels"):
        read_textures(tmp_path, 32)
    (tmp_path / "frost1.png").write_text("not a picture")
    with pytest.raises(BadInput, match="frost1.png is not a picture"):
        read_textures(tmp_path, 33)


def test_photographs_are_read_once(tmp_path: Path) -> None:
    read = read_textures(freeze(tmp_path), 32)
    (tmp_path / "frost1.png").unlink()
    assert read_textures(tmp_path, 32) is read


def test_angles_are_uniform_in_their_range() -> None:
    rng = np.random.default_rng(0)
    for angles, low in ((motion.sample_angles(rng, 4000, 32, 1)[0], -45), (snow.sample_snow(rng, 4000, 2, 1)[1], -135)):
        assert low <= angles.min() < low + 1 and low + 89 < angles.max() < low + 90
        assert abs(angles.mean() - (low + 45)) < 2  # one standard error is 0.41
