"""Corrupting anything: uint8 images of the same shape, the same each time, or one sentence."""

from typing import Any

import numpy as np
from answers import answer_or_sentence, drawn, odd_numbers, one_odd, some
from hypothesis import given
from hypothesis import strategies as st

from mocse_timm.corruptions import corrupt
from mocse_timm.corruptions.names import CORRUPTIONS

SHAPES = [(2, 32, 32, 3), (1, 33, 33, 3), (0, 32, 32, 3), (1, 31, 31, 3), (1, 32, 40, 3), (1, 32, 32, 1), (1, 0, 0, 3),
          (32, 32, 3), (), (1, 3, 32, 32)]  # fmt: skip
KINDS = ["uint8", "uint8", "uint8", "float32", "float64", "int64", "bool", "list"]
fine = st.tuples(drawn(*(name for name in CORRUPTIONS if name != "frost")), st.integers(1, 5), st.integers(0, 5))
names = st.one_of(
    drawn(*(name for name in CORRUPTIONS if name != "frost")), drawn("frost", "", "Fog", "all"), st.text()
)
severities = st.one_of(st.integers(1, 5), drawn(0, 6, -1, 2.5, True, None, "3", float("nan")), odd_numbers)
seeds = st.one_of(st.integers(0, 5), st.integers(), drawn(1.5, None, "a", float("nan")))


@some(2)
@given(one_odd(SHAPES, KINDS), fine | st.tuples(names, severities, seeds), st.data())
def test_corrupt(faults, words, data) -> None:
    (shape, kind), (name, severity, seed) = faults, words
    images: Any = np.random.default_rng(3).integers(0, 256, shape, dtype=np.uint8)
    if kind.startswith("float"):
        images = (images / 255).astype(kind)
        if images.size:
            images.flat[0] = np.nan
    images = images.tolist() if kind == "list" else images.astype(kind)
    count = shape[0] if shape else 0
    indices: Any = data.draw(
        st.one_of(
            st.none(),
            st.lists(st.integers(0, 10**6), min_size=count, max_size=count),
            st.lists(st.one_of(st.integers(-(10**20), 10**20), st.floats()), max_size=3),
            drawn(np.arange(count, dtype=np.uint64), np.zeros((count, 1), dtype=int), "ab", 7),
        )
    )
    before = np.array(images, copy=True)
    corrupted = answer_or_sentence(lambda: corrupt(images, name, severity, seed=seed, indices=indices))
    assert np.array_equal(np.asarray(images), before, equal_nan=kind.startswith("float"))
    good = kind == "uint8" and shape in SHAPES[:3] and name in CORRUPTIONS and name != "frost"
    if good and isinstance(severity, int) and severity in range(1, 6) and isinstance(seed, int) and indices is None:
        assert corrupted is not None or severity is True
    if corrupted is not None:
        assert corrupted.shape == shape and corrupted.dtype == np.uint8 and kind == "uint8"
        assert isinstance(seed, int), "a seed of 1.5 is no seed"
        if not isinstance(severity, int):
            assert float(severity) in range(1, 6)
        again = corrupt(images, name, severity, seed=seed, indices=indices)
        assert np.array_equal(again, corrupted)
