from typing import Any

import pytest
import torch
from timm.data.mixup import Mixup
from torch import Tensor

from mocse_timm.checks import BadInput
from mocse_timm.data import MemoryImages, MemoryLoader
from mocse_timm.data.seeds import mixed_seed


def numbered(count: int, size: int = 6) -> MemoryImages:
    """Image i is filled with the value i, and its label is i."""
    values = torch.arange(count)
    return MemoryImages(values.to(torch.uint8)[:, None, None, None].repeat(1, 3, size, size), values)


def loader(count: int, batch_size: int, *, training: bool = True, **changes: Any) -> MemoryLoader:
    plain = {"padding": 0, "hflip": 0.0}
    return MemoryLoader(numbered(count), batch_size=batch_size, training=training, **(plain | changes))


def labels_of(batches: MemoryLoader) -> list[int]:
    return torch.cat([labels for _, labels in batches]).tolist()


def images_of(batches: MemoryLoader) -> Tensor:
    return torch.cat([images for images, _ in batches])


def test_every_pixel_is_the_stored_value_over_255_beside_its_label() -> None:
    for training in (True, False):
        for images, labels in loader(20, 6, training=training):
            assert images.dtype == torch.float32 and labels.dtype == torch.int64
            expected = (labels.double() / 255).float()[:, None, None, None].expand_as(images)
            torch.testing.assert_close(images, expected, rtol=0, atol=1e-7)


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_training_processes_share_an_epoch_without_overlap(num_processes: int) -> None:
    shares = [loader(37, 4, process_index=rank, num_processes=num_processes, seed=7) for rank in range(num_processes)]
    seen = [labels_of(share) for share in shares]
    assert {len(labels) for labels in seen} == {37 // (4 * num_processes) * 4}
    together = sum(seen, [])
    assert len(set(together)) == len(together)
    assert all(len(share) == len(list(share)) and share.num_images == len(labels_of(share)) for share in shares)


def test_global_batches_do_not_depend_on_the_number_of_processes() -> None:
    """Two processes with batches of 4 see together what one process with batches of 8 sees."""
    alone = [sorted(labels.tolist()) for _, labels in loader(37, 8, seed=3)]
    halves = [loader(37, 4, seed=3, process_index=rank, num_processes=2) for rank in (0, 1)]
    together = [sorted([*a.tolist(), *b.tolist()]) for (_, a), (_, b) in zip(*halves, strict=True)]
    assert together == alone


@pytest.mark.parametrize("num_processes", [1, 2, 3])
def test_validation_gives_every_image_once_in_order(num_processes: int) -> None:
    for rank in range(num_processes):
        share = loader(20, 6, training=False, process_index=rank, num_processes=num_processes)
        assert labels_of(share) == list(range(20))[rank::num_processes]
        assert share.num_images == len(range(rank, 20, num_processes)) and len(share) == len(list(share))


def test_validation_images_are_never_augmented() -> None:
    split = MemoryImages(torch.randint(0, 256, (9, 3, 8, 8), dtype=torch.uint8), torch.zeros(9, dtype=torch.int64))
    held_out = MemoryLoader(split, batch_size=4, training=False, padding=4, hflip=1.0, cutout=3)
    assert torch.equal(images_of(held_out), split.images / 255)


def test_a_resumed_epoch_repeats_order_and_augmentation_exactly() -> None:
    settings = {"padding": 2, "hflip": 0.5, "cutout": 2, "seed": 11}
    straight = loader(50, 8, **settings)
    for epoch in range(3):
        straight.set_epoch(epoch)
        last = list(straight)
    resumed = loader(50, 8, **settings)
    resumed.set_epoch(2)
    for (images, labels), (images_again, labels_again) in zip(last, resumed, strict=True):
        assert torch.equal(images, images_again) and torch.equal(labels, labels_again)


def test_seed_epoch_and_process_each_change_the_augmentation() -> None:
    def first_images(seed: int, epoch: int, rank: int) -> Tensor:
        share = loader(200, 100, padding=3, seed=seed, process_index=rank, num_processes=2)
        share.set_epoch(epoch)
        share.images.fill_(255)  # so that only the offsets of the crop can be seen
        return images_of(share)

    draws = [first_images(*parts) for parts in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))]
    for i, one in enumerate(draws):
        assert torch.equal(one, one.clone()) and not any(torch.equal(one, other) for other in draws[:i])


def test_seed_and_epoch_each_change_the_order() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        batches = loader(40, 8, seed=seed)
        batches.set_epoch(epoch)
        return labels_of(batches)

    assert len({tuple(order(*parts)) for parts in ((0, 0), (1, 0), (0, 1), (1, 1))}) == 4
    assert sorted(order(0, 0)) == list(range(40)) != order(0, 0)


def test_global_random_state_is_neither_read_nor_moved() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    first = images_of(loader(50, 8, padding=2))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(1)
    assert torch.equal(images_of(loader(50, 8, padding=2)), first)


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    assert sorted(labels_of(loader(5, 64))) == [0, 1, 2, 3, 4] and len(loader(5, 64)) == 1
    shares = [labels_of(loader(5, 64, process_index=rank, num_processes=2)) for rank in (0, 1)]
    assert [len(share) for share in shares] == [2, 2] and not set(shares[0]) & set(shares[1])


def test_mixup_gets_float_batches_and_gives_soft_labels_in_training_only() -> None:
    mixup = Mixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=20)
    images, labels = next(iter(loader(20, 4, mixup=mixup)))
    assert labels.shape == (4, 20)
    torch.testing.assert_close(labels.sum(1), torch.ones(4))
    # Image i has pixels i / 255 and label i, so mixing both alike keeps: pixel = expected label / 255.
    torch.testing.assert_close(images[:, 0, 0, 0], labels @ torch.arange(20.0) / 255)
    assert next(iter(loader(20, 4, mixup=mixup, training=False)))[1].dtype == torch.int64


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "--batch-size is 0"),
        ({"batch_size": 3, "mixup": Mixup(num_classes=20)}, "batches must be even, got 3"),
        ({"batch_size": 4, "process_index": 2, "num_processes": 2}, "process 2 of 2 does not exist"),
        ({"batch_size": 4, "process_index": 0, "num_processes": 30}, "cannot be shared among 30 processes"),
    ],
)
def test_impossible_sharing_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        loader(20, **arguments)


def test_seeds_do_not_collide_where_sums_would() -> None:
    seeds = {mixed_seed("x", seed, epoch, rank) for seed in range(10) for epoch in range(10) for rank in range(10)}
    assert len(seeds) == 1000 and all(0 <= seed < 2**63 for seed in seeds)
