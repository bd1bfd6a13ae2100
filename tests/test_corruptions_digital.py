import numpy as np
import pytest
from corruption_images import pictures

from mocse_timm.corruptions import digital, elastic, spatter


def test_contrast_by_hand() -> None:
    """Half black, half white: the mean is a half, and 0.75 of the distance to it is kept."""
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[:, :16] = 255
    kept = digital.contrast(image, (), 1)
    assert np.all(kept[:, :16] == 223)  # 0.875 * 255 = 223.1
    assert np.all(kept[:, 16:] == 31)  # 0.125 * 255 = 31.9


def test_contrast_is_by_channel_and_by_image() -> None:
    images = pictures(5)
    assert np.array_equal(digital.contrast(images[2:3], (), 4)[0], digital.contrast(images, (), 4)[2])
    only_red = images.copy()
    only_red[..., 1:] = 0
    faded = digital.contrast(only_red, (), 4)
    assert np.array_equal(faded[..., 0], digital.contrast(images, (), 4)[..., 0])
    assert faded[..., 1:].max() == 0


@pytest.mark.parametrize(("severity", "pixels"), [(1, 30), (2, 28), (3, 27), (4, 24), (5, 20)])
def test_pixelate_leaves_so_many_pixels(severity: int, pixels: int) -> None:
    """Of noise, rows of the result that equal their neighbour are copies: as many are new as pixels are left."""
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), dtype=np.uint8)
    pixelated = digital.pixelate(noise, (), severity)[0].astype(int)
    assert 1 + np.any(np.diff(pixelated, axis=0), axis=(1, 2)).sum() == pixels
    assert 1 + np.any(np.diff(pixelated, axis=1), axis=(0, 2)).sum() == pixels


def test_jpeg_loses_more_at_lower_quality_and_nothing_on_grey() -> None:
    images = pictures(4)
    losses = [
        np.abs(images.astype(int) - digital.jpeg_compression(images, (), severity)).mean() for severity in range(1, 6)
    ]
    assert losses == sorted(losses) and losses[0] > 0
    grey = np.full((1, 32, 32, 3), 128, np.uint8)
    assert np.array_equal(digital.jpeg_compression(grey, (), 5), grey)


def test_elastic_without_any_push_keeps_the_image() -> None:
    images = pictures(2)
    still = (np.full((2, 3, 2), 0.5), np.full((2, 2, 32, 32), 0.5))
    for severity in range(1, 6):
        assert np.abs(elastic.elastic_transform(images, still, severity).astype(int) - images).max() <= 1


def test_elastic_moves_the_image_by_whole_pixels_as_asked() -> None:
    """All three points moved by the most, 2.56 pixels, times 1 / 2.56: the image moves right and down by one."""
    images = pictures(1)
    draws = (np.full((1, 3, 2), 0.5 + 0.5 / 2.56), np.full((1, 2, 32, 32), 0.5))
    moved = elastic.elastic_transform(images, draws, 1)
    assert np.abs(moved[0, 1:, 1:].astype(int) - images[0, :-1, :-1]).max() <= 1
    assert np.abs(moved[0, 0, 1:].astype(int) - images[0, 1, :-1]).max() <= 1  # mirrored about the edge


def test_pull_takes_between_pixels_and_mirrors_beyond_the_border() -> None:
    ramp = np.broadcast_to(np.arange(32.0)[:, None], (1, 32, 32, 3))  # grows to the right
    field = np.zeros((1, 2, 32, 32))
    field[:, 0] = 1.25
    pulled = elastic.pull(ramp, field)[0, 5, :, 0]
    assert pulled[:30] == pytest.approx(np.arange(30) + 1.25)
    assert pulled[30:] == pytest.approx([31, 30.75])  # 31.25 is between 31 and its mirror image, 32.25 beyond it
    field[:, 0] = -200.0  # the mirror images repeat every 64 pixels, and -8 is that of 7
    assert elastic.pull(ramp, field)[0, 5, :3, 0] == pytest.approx([7, 6, 5])


def test_smoothing_keeps_even_fields_and_mirrors() -> None:
    matrix = elastic.smoothing_matrix(32, 6.4)
    assert matrix.sum(axis=1) == pytest.approx(1)
    assert matrix[0, 0] > matrix[16, 16]  # the edge counts twice there


@pytest.mark.parametrize("severity", [1, 4])
def test_without_drops_spatter_keeps_the_image(severity: int) -> None:
    images = pictures(2)
    dry = (np.full((2, 32, 32), -9.0),)
    assert np.abs(spatter.spatter(images, dry, severity).astype(int) - images).max() <= 1


def test_mud_is_brown_and_water_pale() -> None:
    """Mud everywhere is its colour; water only adds light, most where the drop's relief is highest."""
    images = pictures(1)
    mud = spatter.spatter(images, (np.full((1, 32, 32), 9.0),), 5)
    assert np.all(mud[0, :, :, 0] == 63) and np.all(mud[0, :, :, 2] == 20)
    wet = spatter.spatter(np.zeros_like(images), spatter.sample_spatter(np.random.default_rng(0), 1, 32, 1), 1)[0]
    brightest = wet.reshape(-1, 3).max(axis=0)
    assert brightest.tolist() == [87, 119, 119]  # half of 175, 238, 238
    assert np.array_equal(wet[..., 1], wet[..., 2])
