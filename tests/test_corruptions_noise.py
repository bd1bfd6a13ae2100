import numpy as np
import pytest
from scipy import stats

from mocse_timm.corruptions import noise
from mocse_timm.corruptions.corrupt import corrupt
from mocse_timm.corruptions.poisson import poisson_quantile
from mocse_timm.corruptions.severities import strength


def flat(value: int, count: int = 1) -> np.ndarray:
    return np.full((count, 32, 32, 3), value, np.uint8)


def everywhere(number: float) -> tuple[np.ndarray]:
    return (np.full((1, 32, 32, 3), number),)


@pytest.mark.parametrize(
    ("byte", "normal", "expected"),
    [
        (51, 1.0, 76),  # 0.2 + 0.1 = 0.3, and 76.5 is cut, not rounded
        (51, -3.0, 0),  # below black is black
        (250, 1.0, 255),  # above white is white
    ],
)
def test_gaussian_noise_by_hand(byte: int, normal: float, expected: int) -> None:
    assert np.all(noise.gaussian_noise(flat(byte), everywhere(normal), 5) == expected)


def test_speckle_noise_by_hand() -> None:
    assert np.all(noise.speckle_noise(flat(51), everywhere(1.0), 5) == 61)  # 0.2 + 0.2 * 0.2 = 0.24: 61.2
    assert np.all(noise.speckle_noise(flat(0), everywhere(3.0), 5) == 0)  # none on black


def test_impulse_noise_by_hand() -> None:
    replaced, white = np.zeros((2, 1, 32, 32, 3), np.bool_)
    replaced[0, 0, 0, 1] = replaced[0, 0, 1, 2] = True
    white[0, 0, 1, 2] = white[0, 1] = True  # white counts only where a value is replaced
    noisy = noise.impulse_noise(flat(51), (replaced, white), 1)
    assert noisy[0, 0, :2].tolist() == [[51, 0, 51], [51, 51, 255]]
    assert np.all(noisy[0, 1:] == 51)


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_noise_has_the_deviation_of_the_table(severity: int) -> None:
    """On mid-grey nothing is clipped; 12,288 values estimate a deviation to 0.64 %, so 4 % is six sigma."""
    for name, scale in (("gaussian_noise", 1.0), ("speckle_noise", 0.5)):
        changes = corrupt(flat(127, 4), name, severity) / 255.0 - 127 / 255
        assert changes.std() == pytest.approx(scale * strength(name, 32, severity), rel=0.04)


def test_shot_noise_has_the_variance_of_counting() -> None:
    """N photons of mean N have variance N: of N / c, that is value / c."""
    for severity in (1, 5):
        changes = corrupt(flat(127, 4), "shot_noise", severity) / 255.0
        photons = strength("shot_noise", 32, severity)
        assert changes.mean() == pytest.approx(127 / 255, abs=0.01)
        assert changes.var() == pytest.approx(127 / 255 / photons, rel=0.08)


def test_impulses_hit_single_values_at_the_rate_of_the_table() -> None:
    noisy = corrupt(flat(127, 8), "impulse_noise", 5)
    white, black = (noisy == 255).mean(), (noisy == 0).mean()
    assert white == pytest.approx(0.035, abs=0.005)
    assert black == pytest.approx(0.035, abs=0.005)
    in_a_pixel = (noisy != 127).any(axis=3).mean()
    assert in_a_pixel == pytest.approx(1 - 0.93**3, abs=0.01)  # not 0.07: channels are hit one by one


@pytest.mark.parametrize("photons", [3, 60, 500])
def test_counts_are_the_quantiles_of_poisson(photons: int) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, 20_000, dtype=np.uint8)
    images[:100] = 0
    uniform = rng.random(20_000)
    uniform[:200:2], uniform[1:200:2] = 0.0, 1 - 1e-9
    expected = stats.poisson.ppf(uniform, photons * (images / 255))
    expected = np.maximum(expected, 0)  # at u = 0 SciPy says -1, the count below the first
    assert np.array_equal(poisson_quantile(uniform, images, photons), expected)


def test_any_counts_can_be_asked_for() -> None:
    """The middle of a count's step in the distribution function gives that count."""
    images = np.random.default_rng(1).integers(1, 256, (1, 32, 32, 3), dtype=np.uint8)
    means = images / 255 * 50
    counts = np.random.default_rng(2).poisson(means)
    uniform = (stats.poisson.cdf(counts - 1, means) + stats.poisson.cdf(counts, means)) / 2
    expected = (np.clip(counts / 50, 0, 1) * 255).astype(np.uint8)
    assert np.array_equal(noise.shot_noise(images, (uniform,), 5), expected)
