import math

import numpy as np
import pytest
from corruption_images import pictures

from mocse_timm.corruptions import blur, glass, motion, zoom
from mocse_timm.corruptions.severities import strength


@pytest.mark.parametrize(
    ("severity", "centre", "edge", "corner"),
    [
        (1, 0.845, 0.0371, 0.0016),
        (2, 0.6193, 0.0838, 0.0113),
        (3, 0.4452, 0.111, 0.0277),
        (4, 0.2, 0.2, 0.0),  # a plus
        (5, 1 / 9, 1 / 9, 1 / 9),  # a box
    ],
)
def test_defocus_kernels_are_those_measured(severity: int, centre: float, edge: float, corner: float) -> None:
    kernel = blur.defocus_kernel(*strength("defocus_blur", 32, severity))
    middle = len(kernel) // 2
    three = kernel[middle - 1 : middle + 2, middle - 1 : middle + 2]
    assert three == pytest.approx(
        np.array([[corner, edge, corner], [edge, centre, edge], [corner, edge, corner]]), abs=1e-4
    )
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    assert kernel.sum() - three.sum() < 1e-4


def test_gaussian_blur_of_a_point_is_the_gaussian() -> None:
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 16, 16] = 255
    blurred = blur.gaussian_blur(image, (), 5)  # sigma 1
    mass = sum(math.exp(-i * i / 2) for i in range(-4, 5)) ** 2
    assert blurred[0, 16, 16, 0] == int(255 / mass)
    assert blurred[0, 16, 18, 1] == int(255 * math.exp(-2) / mass)
    assert np.array_equal(blurred, blurred.transpose(0, 2, 1, 3))


def test_motion_blur_trails_one_way_with_half_a_gaussian() -> None:
    """At angle 0 a pixel is a mean of itself and those to its right: a white point leaves a trail to its left."""
    image = np.zeros((1, 32, 32, 3), np.uint8)
    image[0, 10, 20] = 255
    smeared = motion.motion_blur(image, (np.array([0.0]),), 3)  # 13 pixels, sigma 2
    weights = [math.exp(-(i**2) / 8) for i in range(13)]
    expected = [int(255 * weight / sum(weights)) for weight in weights]
    assert smeared[0, 10, 20:7:-1, 0].tolist() == expected
    assert smeared[0, 10, 21:].max() == 0
    assert np.delete(smeared[0], 10, axis=0).max() == 0


def test_motion_blur_follows_the_angle() -> None:
    """At 45 degrees the trail is a diagonal, every step sideways and down."""
    _, places = motion.trail(6, 2, np.array([45.0, -45.0, -90.0]))
    assert places[0].tolist() == [[math.ceil(i * math.sqrt(0.5) - 0.5)] * 2 for i in range(13)]
    assert places[1, :, 1].tolist() == places[0, :, 1].tolist()
    assert places[1, -1, 0] < 0
    assert places[2].tolist() == [[-i, 0] for i in range(13)]


def test_images_of_like_angles_are_smeared_as_if_alone() -> None:
    images = pictures(40)
    angles = np.random.default_rng(0).uniform(-45, 45, 40)
    angles[5:9] = angles[4]
    together = motion.smear(images, 9, 2.5, angles)
    for i, angle in enumerate(angles):
        assert np.array_equal(motion.smear(images[i : i + 1], 9, 2.5, angle[None])[0], together[i])


@pytest.mark.parametrize("factor", [1.0, 1.05, 1.25, 2.25, 4.5])
@pytest.mark.parametrize("side", [32, 50])
def test_zoom_keeps_the_side_and_even_areas(factor: float, side: int) -> None:
    matrix = zoom.zoom_matrix(side, factor)
    assert matrix.shape == (side, side)
    assert matrix.sum(axis=1) == pytest.approx(1)
    assert matrix.min() >= 0


def test_zoom_enlarges_the_centre() -> None:
    """A ramp, enlarged f times about the centre, is a ramp of 1/f the slope through the same centre."""
    enlarged = zoom.zoom_matrix(32, 2.0) @ np.arange(32.0)
    assert np.diff(enlarged) == pytest.approx(15 / 31)  # 16 pixels drawn over 32: their ends stay the ends
    assert enlarged.mean() == pytest.approx(15.5)


def test_zoom_blur_leaves_even_images_but_for_truncation() -> None:
    levels = np.arange(256, dtype=np.uint8)
    images = np.broadcast_to(levels[:, None, None, None], (256, 32, 32, 3))
    for severity in range(1, 6):
        change = images.astype(int) - zoom.zoom_blur(images, (), severity)
        assert change.min() >= 0
        assert change.max() <= 1


def test_glass_takes_each_pixel_from_where_its_step_points() -> None:
    """All steps one left and one up: pixels 2..31 move right and down by one, the rest stays."""
    steps = np.full((1, 1, 900, 2), -1, np.int8)
    image = pictures(1)
    moved = glass.glass_blur(image, (steps,), 1)  # sigma 0.05 blurs nothing
    through_floats = (np.arange(256) / 255.0 * 255).astype(np.uint8)
    twice = through_floats[through_floats]
    assert np.array_equal(moved[0, 2:, 2:], twice[image[0, 1:-1, 1:-1]])
    assert np.array_equal(moved[0, :2], twice[image[0, :2]])
    assert np.array_equal(moved[0, :, :2], twice[image[0, :, :2]])


def test_long_steps_of_glass_follow_pixels_that_moved_before() -> None:
    """With reach 2, a step right or down leads to a pixel visited earlier, so one value can travel along a row."""
    steps = np.zeros((1, 60 * 60, 2), np.int8)
    steps[:, :, 0] = 1  # dx: always the right neighbour, which took its own right neighbour before
    source = glass.sources(steps, 64, 2).reshape(64, 64)
    assert np.all(source[3:63, 3:63] == np.arange(64)[3:63, None] * 64 + 63)  # the first, at 62, took it from 63
    assert np.array_equal(source[:3], np.arange(3 * 64).reshape(3, 64))
