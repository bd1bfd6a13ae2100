import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from images_on_disk import random_pixels, write_folder, write_image
from PIL import Image
from timm.data.auto_augment import RandAugment
from torch import Tensor

from mocse_timm.checks import BadInput
from mocse_timm.data import (
    Augmentation,
    FileImages,
    MemoryImages,
    MemoryLoader,
    PerImageLoader,
    Resizing,
    build_loader,
    load_data,
)
from mocse_timm.data.loaders import Loader
from mocse_timm.data.per_image_transforms import file_transform
from mocse_timm.data.policies import build_policy
from mocse_timm.data.seeds import drawing_from

POLICY = "rand-m9-mstd0.5-inc1"


def small_set(count: int = 12, in_chans: int = 3) -> MemoryImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, in_chans, 16, 16), generator=generator, dtype=torch.uint8)
    return MemoryImages(images, torch.arange(count))


def train_loader(split: MemoryImages | FileImages, *, image_size: int = 16, **changes: Any) -> Loader:
    augmentation = Augmentation(**changes.pop("augmentation", {}))
    return build_loader(split, training=True, batch_size=4, image_size=image_size, augmentation=augmentation, **changes)


def one_epoch(loader: Loader, epoch: int = 0) -> tuple[Tensor, Tensor]:
    loader.set_epoch(epoch)
    images, labels = zip(*loader, strict=True)
    return torch.cat(images), torch.cat(labels)


@pytest.fixture
def on_disk(tmp_path: Path) -> FileImages:
    write_folder(tmp_path, height=80, width=100)
    train = load_data(f"folder:{tmp_path}", model_size=32).train
    assert isinstance(train, FileImages)
    return train


def test_the_batchwise_loader_is_used_where_it_can_be() -> None:
    assert isinstance(train_loader(small_set()), MemoryLoader)
    settings: list[dict[str, Any]] = [{"aa": POLICY}, {"reprob": 0.5}]
    for setting in settings:
        assert isinstance(train_loader(small_set(), augmentation=setting), PerImageLoader)
        assert isinstance(train_loader(small_set(), augmentation=setting | {"no_aug": True}), MemoryLoader)
        held_out = build_loader(
            small_set(), training=False, batch_size=4, image_size=16, augmentation=Augmentation(**setting)
        )
        assert isinstance(held_out, MemoryLoader)


def test_no_aug_gives_the_stored_pixels() -> None:
    split = small_set()
    images, labels = one_epoch(train_loader(split, augmentation={"no_aug": True, "cutout": 4, "mixup": 1.0}))
    assert torch.equal(images, split.images[labels] / 255)


def test_one_by_one_without_random_steps_gives_the_stored_pixels() -> None:
    """aa with probability 0 applies no operation, so only the way through PIL and back is left."""
    for in_chans in (3, 1):
        split = small_set(in_chans=in_chans)
        still = {"aa": "rand-m9-p0", "padding": 0, "hflip": 0.0}
        images, labels = one_epoch(train_loader(split, in_chans=in_chans, augmentation=still))
        assert torch.equal(images, split.images[labels] / 255)


@pytest.mark.parametrize("aa", [POLICY, "augmix-m3-w3", "original-mstd0.5", "v0", "3a"])
@pytest.mark.parametrize("in_chans", [3, 1])
def test_policies_change_images_and_stay_in_range(aa: str, in_chans: int) -> None:
    split = small_set(in_chans=in_chans)
    setting = {"aa": aa, "padding": 0, "hflip": 0.0}
    images, labels = one_epoch(train_loader(split, in_chans=in_chans, augmentation=setting))
    assert images.shape == (12, in_chans, 16, 16) and images.dtype == torch.float32
    assert 0 <= float(images.min()) and float(images.max()) <= 1
    assert not torch.equal(images, split.images[labels] / 255)


def test_both_loaders_put_images_in_the_same_order() -> None:
    one_by_one, batchwise = train_loader(small_set(), augmentation={"aa": POLICY}), train_loader(small_set())
    for epoch in (0, 3):
        assert torch.equal(one_epoch(one_by_one, epoch)[1], one_epoch(batchwise, epoch)[1])
    assert len(one_by_one) == len(batchwise) == 3 and one_by_one.num_images == batchwise.num_images == 12


@pytest.mark.filterwarnings("ignore:This DataLoader will create 2 worker processes")  # torch's advice on one core
def test_workers_change_nothing_and_epochs_repeat_exactly() -> None:
    def run(num_workers: int, epochs: tuple[int, ...]) -> list[Tensor]:
        loader = train_loader(small_set(), num_workers=num_workers, augmentation={"aa": POLICY, "reprob": 0.5})
        runs = [one_epoch(loader, epoch) for epoch in epochs]
        return [images[labels.argsort()] for images, labels in runs]  # the order of epochs differs as well

    here = run(0, (0, 1, 2))
    in_workers = run(2, (0, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(here, in_workers, strict=True))
    assert torch.equal(run(0, (2,))[0], here[2])
    assert not torch.equal(here[0], here[1])


def test_transforms_do_not_disturb_the_global_generators() -> None:
    states = (random.getstate(), str(np.random.get_state()), torch.get_rng_state())
    with drawing_from(1, 2):
        inside = (random.random(), np.random.rand(), torch.rand(1))
    after = (random.getstate(), str(np.random.get_state()), torch.get_rng_state())
    assert states[:2] == after[:2] and torch.equal(states[2], after[2])
    with drawing_from(1, 2):
        assert inside == (random.random(), np.random.rand(), torch.rand(1))


def test_erasing_fills_with_black() -> None:
    split = MemoryImages(torch.full((12, 3, 16, 16), 200, dtype=torch.uint8), torch.arange(12))
    images, _ = one_epoch(train_loader(split, augmentation={"reprob": 1.0, "padding": 0}))
    assert set(images.unique().tolist()) == {0.0, float(torch.tensor(200 / 255))}
    assert bool((images == 0).flatten(1).any(1).all())


def test_validation_of_files_equals_pillows_resize_and_centre_crop(on_disk: FileImages) -> None:
    for size, resized_to in ((32, 32), (70, 80)):  # crop_pct 1 up to 64 pixels, 0.875 above
        loader = build_loader(on_disk, training=False, batch_size=4, image_size=size)
        images, labels = one_epoch(loader)
        assert labels.tolist() == [0, 0, 0, 1, 1, 1]
        picture = on_disk.dataset[0][0]
        width = int(100 * resized_to / 80)
        picture = picture.resize((width, resized_to), Image.Resampling.BILINEAR)
        left, top = round((width - size) / 2), round((resized_to - size) / 2)
        expected = np.asarray(picture.crop((left, top, left + size, top + size))) / np.float32(255)
        assert np.array_equal(images[0].permute(1, 2, 0).numpy(), expected)


def test_training_on_files_gives_random_parts_in_range(on_disk: FileImages) -> None:
    loader = train_loader(on_disk, image_size=32, augmentation={"reprob": 0.3, "aa": POLICY})
    images, labels = one_epoch(loader)
    assert images.shape == (4, 3, 32, 32) and labels.shape == (4,)  # 6 images, the last two are dropped
    assert 0 <= float(images.min()) < float(images.max()) <= 1
    assert not torch.equal(images, one_epoch(loader, 1)[0])
    assert torch.equal(images, one_epoch(loader, 0)[0])


def test_two_loaders_may_share_one_data_set(on_disk: FileImages) -> None:
    """timm's create_loader would put a second transform in the same object and scale pixels twice."""
    first = build_loader(on_disk, training=False, batch_size=8, image_size=32)
    before = one_epoch(first)[0]
    train_loader(on_disk, image_size=24)
    build_loader(on_disk, training=False, batch_size=8, image_size=24)
    assert torch.equal(one_epoch(first)[0], before)


def test_processes_share_files_like_memory(on_disk: FileImages) -> None:
    shares = [
        build_loader(on_disk, training=False, batch_size=2, image_size=32, process_index=rank, num_processes=2)
        for rank in (0, 1)
    ]
    assert [one_epoch(share)[1].tolist() for share in shares] == [[0, 0, 1], [0, 1, 1]]
    assert [share.num_images for share in shares] == [3, 3]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_broken_file_is_one_sentence_even_from_a_worker(tmp_path: Path, num_workers: int) -> None:
    write_folder(tmp_path, height=80)
    split = load_data(f"folder:{tmp_path}", model_size=32).train
    (tmp_path / "train/ant/2.png").write_text("broken")
    loader = build_loader(split, training=False, batch_size=2, image_size=32, num_workers=num_workers)
    with pytest.raises(BadInput, match=r"^image file [^\n]*ant/2.png cannot be read [^\n]*\Z"):
        list(loader)


class ColourPictures:
    """A data set that gives colour whatever the model takes, as torchvision's do."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.fromarray(random_pixels(index, 80, 80)), index


@pytest.mark.parametrize("training", [False, True])
def test_gray_is_pillows_gray_from_files_and_from_colour_sets(tmp_path: Path, training: bool) -> None:
    for index in range(4):
        for part in ("train", "val"):
            write_image(tmp_path / f"{part}/{index}/0.png", random_pixels(index, 80, 80))
    from_files = load_data(f"folder:{tmp_path}", model_size=80, in_chans=1).train
    still = Augmentation(scale=(1.0, 1.0), hflip=0.0, color_jitter=0.0)  # the whole picture: nothing is random
    for split in (from_files, FileImages(ColourPictures())):
        images, labels = one_epoch(
            build_loader(
                split,
                training=training,
                batch_size=4,
                image_size=80,
                in_chans=1,
                resizing=Resizing(1.0),
                augmentation=still,
            )
        )
        assert images.shape == (4, 1, 80, 80)
        for image, label in zip(images, labels.tolist(), strict=True):
            expected = np.asarray(Image.fromarray(random_pixels(label, 80, 80)).convert("L")) / np.float32(255)
            assert np.array_equal(image[0].numpy(), expected)


@pytest.mark.parametrize("setting", [{}, {"aa": POLICY}])
@pytest.mark.parametrize(
    ("batch_size", "processes", "message"),
    [
        (128, 1, "got 17, since the set's 17 images are one batch: give --batch-size 16"),
        (128, 3, "got 5, since the set's 17 images are one batch of 3 processes: give --batch-size 4"),
        (5, 1, "got 5: give --batch-size 4"),
        (1, 1, "got 1: give --batch-size 2"),
        (128, 17, "17 are one a process: leave out --mixup and --cutmix"),
    ],
)
def test_batches_without_pairs_are_refused_with_advice(
    setting: dict, batch_size: int, processes: int, message: str
) -> None:
    split = MemoryImages(torch.zeros(17, 3, 16, 16, dtype=torch.uint8), torch.arange(17))
    arguments: dict = {"training": True, "image_size": 16, "num_classes": 17, "num_processes": processes}
    arguments["augmentation"] = Augmentation(mixup=0.2, **setting)
    with pytest.raises(BadInput, match=f"{message}$"):
        build_loader(split, batch_size=batch_size, **arguments)
    for advised in message.split("--batch-size ")[1:]:
        assert len(build_loader(split, batch_size=int(advised), **arguments)) >= 1


@pytest.mark.parametrize("setting", [{}, {"aa": POLICY}])
def test_cutout_and_mixup_reach_both_loaders(setting: dict) -> None:
    split = MemoryImages(torch.full((12, 3, 16, 16), 200, dtype=torch.uint8), torch.arange(12))
    plain = {"padding": 0, "hflip": 0.0, **({"aa": "rand-m9-p0"} if setting else {})}
    images, _ = one_epoch(train_loader(split, augmentation=plain | {"cutout": 4}))
    black = (images == 0).sum((1, 2, 3))
    assert int(black.min()) >= 3 * 2 * 2 and int(black.max()) == 3 * 4 * 4
    _, labels = one_epoch(train_loader(split, num_classes=12, augmentation=plain | {"mixup": 0.5, "smoothing": 0.1}))
    assert labels.shape == (12, 12)
    assert float(labels.min()) == pytest.approx(0.1 / 12)


@pytest.mark.parametrize("aa", ["rand-m10-n1-p1-inc1", "v0"])
def test_posterizing_to_no_bits_gives_black_as_old_pillow_did(aa: str) -> None:
    """timm asks for 0 bits; Pillow 13 raises on it."""
    policy = build_policy(aa, image_size=16)
    groups = [policy.ops] if isinstance(policy, RandAugment) else policy.policy  # type: ignore[union-attr]
    operations = [op for group in groups for op in group if op.name.startswith("Posterize")]
    picture = Image.fromarray(random_pixels(0))
    for operation in operations:
        operation.prob = 1.0
    results = [np.asarray(operation(picture)) for operation in operations]
    bits = [operation.level_fn(operation.magnitude, {})[0] for operation in operations]
    assert 0 in bits
    for keep, result in zip(bits, results, strict=True):
        assert np.array_equal(result, np.asarray(picture, dtype=int) // 2 ** (8 - keep) * 2 ** (8 - keep))


def test_policies_inside_timms_own_transform_are_repaired_too() -> None:
    transform: Any = file_transform(32, Augmentation(aa="rand-m10-inc1"), training=True)
    steps = [step for step in transform.transforms if isinstance(step, RandAugment)]
    picture = Image.fromarray(random_pixels(0))
    posterizing = [op for op in steps[0].ops if op.name == "PosterizeIncreasing"]
    posterizing[0].prob = 1.0
    assert not np.asarray(posterizing[0](picture)).any()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"aa": "ran-m9"}, "unknown policy 'ran' .did you mean 'rand'"),
        ({"aa": "rand-m9-zzz"}, "section 'zzz' has no number"),
        ({"aa": "rand-q9"}, "timm cannot read it"),
        ({"aa": "rand-m9x"}, "timm cannot read it"),
        ({"hflip": 1.5}, "hflip is 1.5: give a number from 0 to 1"),
        ({"cutout": -1}, "cutout is -1: give 0 or more"),
        ({"scale": (0.5, 0.2)}, "scale is"),
    ],
)
def test_unusable_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Augmentation(**settings)


def test_memory_of_another_shape_and_mixup_without_classes_are_refused() -> None:
    with pytest.raises(BadInput, match=r"images in memory are \(3, 16, 16\) but batches of \(3, 32, 32\)"):
        train_loader(small_set(), image_size=32)
    with pytest.raises(BadInput, match="give num_classes"):
        train_loader(small_set(), augmentation={"cutmix": 1.0})
