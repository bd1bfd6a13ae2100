import numpy as np
import pytest

from mocse_timm.corruptions.names import BENCHMARK, CORRUPTIONS, GROUPS
from mocse_timm.corruptions.severities import TABLES, strength, table_side

GROWING = ["gaussian_noise", "impulse_noise", "speckle_noise", "gaussian_blur", "brightness", "motion_blur"]
SHRINKING = ["shot_noise", "contrast", "pixelate", "jpeg_compression"]


def test_there_are_nineteen_of_which_fifteen_are_the_benchmark() -> None:
    assert len(set(CORRUPTIONS)) == 19
    assert BENCHMARK == CORRUPTIONS[:15]
    assert BENCHMARK[-1] == "jpeg_compression"
    assert [len(names) for names in GROUPS.values()] == [3, 4, 4, 4, 4]


@pytest.mark.parametrize("side", TABLES)
def test_every_table_has_every_corruption_at_five_severities(side: int) -> None:
    assert TABLES[side].keys() == set(CORRUPTIONS)
    assert all(len(row) == 5 for row in TABLES[side].values())


@pytest.mark.parametrize("side", TABLES)
@pytest.mark.parametrize("name", GROWING + SHRINKING)
def test_tables_with_one_direction_keep_it(side: int, name: str) -> None:
    row = TABLES[side][name] if name in GROWING else TABLES[side][name][::-1]
    assert list(row) == sorted(row)
    assert len(set(row)) == 5


def test_larger_images_are_corrupted_more() -> None:
    for name in ("gaussian_noise", "impulse_noise", "speckle_noise", "gaussian_blur", "brightness"):
        assert all(tiny <= large for tiny, large in zip(TABLES[64][name], TABLES[224][name], strict=True))


def test_zoom_factors_end_where_floating_point_ends_them() -> None:
    """1.06 and 1.11 are reached, 1.16, 1.21 and 1.26 are not."""
    for side in (32, 64):
        assert [len(strength("zoom_blur", side, severity)) for severity in range(1, 6)] == [7, 12, 16, 21, 26]
    assert np.isclose(strength("zoom_blur", 32, 1)[-1], 1.06)
    assert np.isclose(strength("zoom_blur", 32, 2)[-1], 1.11)
    assert np.isclose(strength("zoom_blur", 32, 5)[-1], 1.25)


def test_elastic_is_in_pixels_of_its_own_table() -> None:
    assert strength("elastic_transform", 32, 2) == (32 * 0.05, 32 * 0.2, 32 * 0.07)
    assert strength("elastic_transform", 64, 5) == (64 * 0.16, 64 * 0.03, 64 * 0.02)
    assert strength("elastic_transform", 224, 1) == (488, 244 * 0.7, 244 * 0.1)


@pytest.mark.parametrize(("side", "table"), [(32, 32), (63, 32), (64, 64), (223, 64), (224, 224), (600, 224)])
def test_a_side_takes_the_largest_table_not_above_it(side: int, table: int) -> None:
    assert table_side(side) == table
    assert strength("jpeg_compression", side, 5) == TABLES[table]["jpeg_compression"][4]
