import pytest
import torch
from torch import Tensor

from mocse_timm.data import cutout, random_crop, random_flip, to_float


def some_images(count: int = 64, dtype: torch.dtype = torch.uint8) -> Tensor:
    images = torch.randint(1, 256, (count, 3, 7, 9), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    return images if dtype == torch.uint8 else images / 255


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("padding", [1, 4])
def test_crop_equals_slicing_each_padded_image(padding: int, dtype: torch.dtype) -> None:
    images = some_images(dtype=dtype)
    cropped = random_crop(images, padding, generator())
    offsets = torch.randint(0, 2 * padding + 1, (2, 64), generator=generator()).tolist()
    for image, result, top, left in zip(images, cropped, *offsets, strict=True):
        canvas = torch.zeros(3, 7 + 2 * padding, 9 + 2 * padding, dtype=dtype)
        canvas[:, padding : padding + 7, padding : padding + 9] = image
        assert torch.equal(result, canvas[:, top : top + 7, left : left + 9])


def test_crop_uses_every_offset_about_equally_often() -> None:
    image = torch.zeros(8100, 1, 5, 5, dtype=torch.uint8)
    image[:, :, 2, 2] = 1
    places = random_crop(image, 2, generator()).flatten(1).argmax(1)
    counts = torch.bincount(places, minlength=25)
    assert counts.min() > 8100 / 25 * 0.8 and counts.max() < 8100 / 25 * 1.2


@pytest.mark.parametrize("probability", [0.25, 1.0])
def test_flip_mirrors_the_drawn_images_and_no_others(probability: float) -> None:
    images = some_images(400)
    flipped = random_flip(images, probability, generator())
    mirrored: list[bool] = []
    for before, after in zip(images, flipped, strict=True):
        mirrored.append(torch.equal(after, torch.stack(before.unbind(2)[::-1], 2)))
        assert mirrored[-1] != torch.equal(after, before)
    assert abs(sum(mirrored) / 400 - probability) < 0.07


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_cutout_blackens_one_square_and_leaves_the_rest(size: int, dtype: torch.dtype) -> None:
    images = some_images(500, dtype)
    result = cutout(images, size, generator())
    black = result == 0
    assert torch.equal(result[~black], images[~black])
    assert torch.equal(black.all(1), black.any(1))  # all channels alike
    rows, columns = black.any(1).any(2).sum(1), black.any(1).any(1).sum(1)
    assert torch.equal(black[:, 0].sum((1, 2)), rows * columns)  # a full rectangle
    assert int(rows.max()) == size and int(columns.max()) == size
    assert int(rows.min()) == size - size // 2  # its centre is always inside the image
    whole = (rows == size) & (columns == size)
    inside = ((7 - size + 1) / 7) * ((9 - size + 1) / 9)  # centres whose square does not reach over the edge
    assert abs(float(whole.float().mean()) - inside) < 0.08


def test_nothing_to_do_leaves_images_as_they_are() -> None:
    images = some_images()
    for unchanged in (
        random_crop(images, 0, generator()),
        random_flip(images, 0, generator()),
        cutout(images, 0, generator()),
    ):
        assert torch.equal(unchanged, images)


def test_arguments_are_not_changed_in_place() -> None:
    images = some_images()
    before = images.clone()
    cutout(random_flip(random_crop(images, 2, generator()), 1.0, generator()), 3, generator())
    to_float(images)
    assert torch.equal(images, before)


def test_to_float_maps_0_and_255_to_0_and_1() -> None:
    result = to_float(torch.tensor([0, 51, 255], dtype=torch.uint8))
    torch.testing.assert_close(result, torch.tensor([0.0, 0.2, 1.0]), rtol=0, atol=1e-7)
    assert result.dtype == torch.float32 and float(result[2]) == 1.0
