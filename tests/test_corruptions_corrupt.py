"""One stream for every image, refusals, and strength that grows with severity."""

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corruption_images import freeze, natural_spectra, pictures

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.corrupt import available, corrupt, corruption
from mocse_timm.corruptions.names import CORRUPTIONS, check_names
from mocse_timm.corruptions.streams import ImageStreams


@pytest.fixture(scope="module")
def frost_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return freeze(tmp_path_factory.mktemp("frost"))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_is_corrupted_alike_in_any_batch_and_order(
    name: str, frost_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = pictures(50)
    whole = corrupt(images, name, 3, frost_dir=frost_dir)
    assert whole.shape == images.shape and whole.dtype == np.uint8
    order = np.random.default_rng(0).permutation(50)
    assert np.array_equal(corrupt(images[order], name, 3, indices=order, frost_dir=frost_dir), whole[order])
    one_by_one = [corrupt(images[i : i + 1], name, 3, indices=[i], frost_dir=frost_dir)[0] for i in range(20)]
    assert np.array_equal(np.stack(one_by_one), whole[:20])
    flipped_layout = np.asfortranarray(images)  # the same numbers, otherwise laid out
    monkeypatch.setattr(sys.modules["mocse_timm.corruptions.corrupt"], "_CHUNK_VALUES", 7 * 32 * 32 * 3)
    assert np.array_equal(corrupt(flipped_layout, name, 3, frost_dir=frost_dir), whole)


def test_images_are_left_as_they_are(frost_dir: Path) -> None:
    images = pictures(2)
    images.flags.writeable = False
    for name in CORRUPTIONS:
        corrupt(images, name, 5, frost_dir=frost_dir)
    assert np.array_equal(images, pictures(2))


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name != "frost" and corruption(name).sample])
def test_chance_depends_on_seed_index_and_severity(name: str) -> None:
    image = pictures(1)
    once = corrupt(image, name, 3, seed=1)
    assert np.array_equal(corrupt(image, name, 3, seed=1), once)
    assert not np.array_equal(corrupt(image, name, 3, seed=2), once)
    assert not np.array_equal(corrupt(image, name, 3, seed=1, indices=[1]), once)


def test_streams_are_philox_at_the_counter_of_the_image() -> None:
    key = hashlib.blake2b(b"(7, 'snow', 2)", digest_size=16).digest()
    for index in (0, 3, 10**9):
        counter = np.array([0, 0, 0, index], np.uint64)
        bits = np.random.Philox(key=int.from_bytes(key, "little"), counter=counter)
        streams = ImageStreams(7, "snow", 2)
        streams[5].random(3, dtype=np.float32)  # half a word is left over, and must not be used
        assert np.array_equal(streams[index].random(9), np.random.Generator(bits).random(9))


def test_numpy_numbers_are_as_good_as_python_s() -> None:
    image = pictures(1)
    expected = corrupt(image, "fog", 2, seed=3, indices=[4])
    seed: Any = np.int64(3)
    severity: Any = np.int8(2)
    assert np.array_equal(corrupt(image, "fog", severity, seed=seed, indices=np.array([4], np.uint8)), expected)


STEADY = [
    name for name in CORRUPTIONS if name not in ("glass_blur", "frost", "elastic_transform", "spatter", "saturate")
]


@pytest.mark.parametrize("name", STEADY)
def test_severity_makes_it_worse(name: str) -> None:
    """Left out: those whose tables go up in one number and down in another, or change from less colour to more."""
    images = natural_spectra(100)
    changes = [np.abs(corrupt(images, name, severity).astype(int) - images).mean() for severity in range(1, 6)]
    assert changes == sorted(changes)
    assert changes[4] > 1.2 * changes[0]


def test_frost_is_left_out_and_refused_without_photographs(tmp_path: Path, frost_dir: Path) -> None:
    assert available(tmp_path) == tuple(name for name in CORRUPTIONS if name != "frost")
    assert available(frost_dir) == CORRUPTIONS
    with pytest.raises(BadInput, match="frost needs the photographs frost1.png to frost5.jpg"):
        corrupt(pictures(1), "frost", 1, frost_dir=tmp_path)


def with_images(change: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    return {"images": change(pictures(2))}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"severity": 0}, "severity must be 1, 2, 3, 4 or 5, got 0"),
        ({"severity": 6}, "severity must be 1, 2, 3, 4 or 5, got 6"),
        ({"severity": True}, "got True"),
        ({"name": "gausian_noise"}, "no corruption 'gausian_noise' .did you mean 'gaussian_noise'"),
        ({"name": "rain of frogs"}, "no corruption 'rain of frogs'; there are gaussian_noise, shot_noise"),
        (with_images(lambda images: images / 255), "uint8, 0 to 255, got float64"),
        (with_images(lambda images: images.tolist()), "numpy array of uint8, 0 to 255, got list"),
        (with_images(lambda images: images[..., 0]), "must be RGB, .* got shape .2, 32, 32.; convert grey"),
        (with_images(lambda images: images[..., [0, 1, 2, 2]]), "must be RGB, .* got shape .2, 32, 32, 4.; convert"),
        (with_images(lambda images: images[0]), "must be RGB, .B, H, W, 3., got shape .32, 32, 3."),
        (with_images(lambda images: images[:, :31, :31]), "sides of 32 pixels or more, got 31"),
        (with_images(lambda images: images[:, :, :16]), "square, got 32 x 16"),
        ({"indices": [0]}, "indices must be 2 whole numbers"),
        ({"indices": [0, -1]}, "indices must be 2 whole numbers"),
        ({"indices": [0.0, 1.0]}, "indices must be 2 whole numbers"),
    ],
)
def test_bad_input_is_refused_in_one_sentence(arguments: dict[str, Any], sentence: str) -> None:
    good: dict[str, Any] = {"images": pictures(2), "name": "fog", "severity": 1}
    with pytest.raises(BadInput, match=sentence) as caught:
        corrupt(**(good | arguments))
    assert "\n" not in str(caught.value)


def test_no_images_give_no_images() -> None:
    assert corrupt(pictures(1)[:0], "spatter", 1).shape == (0, 32, 32, 3)


def test_names_are_checked_and_kept_in_order() -> None:
    assert check_names(["fog", "snow"]) == ("fog", "snow")
    with pytest.raises(BadInput, match="did you mean 'snow'"):
        check_names(["fog", "snwo"])


@pytest.mark.parametrize(("module", "name"), [("cv2", "defocus_blur"), ("scipy.ndimage", "gaussian_blur")])
def test_missing_packages_are_named_with_the_command(module: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(BadInput, match=r'pip install "mocse_timm\[corruptions\]"'):
        corrupt(pictures(1), name, 1)
