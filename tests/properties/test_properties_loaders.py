"""Data sets and their batches: whole batches of finite images in [0, 1], or one sentence."""

import math
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from answers import answer_or_sentence, drawn, odd_numbers, one_odd, some
from hypothesis import example, given
from hypothesis import strategies as st
from images_on_disk import write_folder
from PIL import Image

from mocse_timm.data import Augmentation, DataSplits, FileImages, MemoryImages, Resizing, build_loader, load_data


@dataclass
class Drawings:
    """``count`` pictures of one size, made when asked for."""

    count: int
    height: int
    width: int

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        pixels = np.random.default_rng(index).integers(0, 256, (self.height, self.width, 3), dtype=np.uint8)
        return Image.fromarray(pixels), index % 3


augmentations = st.fixed_dictionaries(
    {},
    optional={
        "padding": st.integers(-2, 12),
        "hflip": odd_numbers,
        "cutout": st.integers(-2, 12),
        "aa": drawn(None, "", "rand-m9-mstd0.5", "augmix-m3-w3", "original", "v0", "nonsense", "rand-m", "rand-mx"),
        "mixup": odd_numbers,
        "cutmix": odd_numbers,
        "smoothing": odd_numbers,
        "scale": st.tuples(odd_numbers, odd_numbers),
        "color_jitter": odd_numbers,
        "reprob": odd_numbers,
        "no_aug": st.booleans(),
    },
)


PROCESSES = [(0, 1), (0, 2), (1, 2), (1, 1), (-1, 2), (0, 0), (2, 3)]
SETTINGS = [[20, 0, 1, 7], [4, 1, 40, 0, -2], [8, 1, 0, -3, 9], [3, 1, 2, 0], [3, None, 1, 0], PROCESSES]
CROPS = [None, 1.0, 0.875, 0.0, -1.0, 2.0, 1e30, float("nan"), float("inf")]
few = augmentations.flatmap(lambda changes: st.just({}) | st.just(dict(list(changes.items())[:1])) | st.just(changes))


@some(3)
@given(st.booleans(), st.booleans(), one_odd(*SETTINGS, CROPS), few, st.integers(-5, 2**63))
@example(True, True, (20, 4, 8, 3, 3, (0, 1), None), {"mixup": math.nan}, 0)
@example(False, True, (20, 4, 8, 3, 3, (0, 1), None), {"color_jitter": math.inf}, 0)
def test_build_loader(memory, training, numbers, changes, seed) -> None:
    count, batch_size, size, channels, classes, process, crop = numbers
    if memory:
        images = torch.randint(0, 256, (count, 3, 8, 8), dtype=torch.uint8)
        split: Any = MemoryImages(images, torch.arange(count) % 3)
    else:
        split = FileImages(Drawings(count, 21, 13))

    def passes() -> list[tuple[torch.Tensor, torch.Tensor]]:
        loader = build_loader(
            split, training=training, batch_size=batch_size, image_size=size, in_chans=channels, num_classes=classes,
            augmentation=Augmentation(**changes), process_index=process[0], num_processes=process[1],
            resizing=Resizing(crop), seed=seed,
        )  # fmt: skip
        batches = list(loader)
        assert len(batches) == len(loader) and sum(len(images) for images, _ in batches) == loader.num_images
        return batches

    batches = answer_or_sentence(passes)
    if not changes and process == (0, 1) and count and batch_size > 0 and size == 8 and channels == 3 and crop is None:
        assert batches is not None
    if any(isinstance(value, float) and math.isnan(value) for value in changes.values()) and training:
        assert batches is None, "a setting that is no number"
    for images, labels in batches or []:
        assert images.shape[1:] == (channels, size, size) and images.dtype == torch.float32 and len(images) > 0
        assert images.isfinite().all() and 0 <= images.min() and images.max() <= 1
        assert len(labels) == len(images)
        assert ((labels >= 0) & (labels < 3)).all() if labels.ndim == 1 else labels.shape[1] == classes
        assert labels.ndim == 1 or torch.allclose(labels.sum(dim=1), torch.ones(len(labels)), atol=1e-4)


@some()
@given(
    st.lists(st.integers(-3, 6), max_size=6), drawn("long", "long", "int", "float"), st.integers(0, 4), st.booleans()
)
def test_splits_know_their_labels(labels, kind, classes, short) -> None:
    tensor = torch.tensor(labels, dtype={"long": torch.int64, "int": torch.int32, "float": torch.float32}[kind])
    images = torch.zeros(max(0, len(labels) - short), 3, 8, 8, dtype=torch.uint8)

    def splits() -> DataSplits:
        part = MemoryImages(images, tensor)
        return DataSplits("drawn", part, part, tuple(f"class {index}" for index in range(classes)))

    good = kind == "long" and labels and not short and classes >= 2 and 0 <= min(labels) and max(labels) < classes
    assert (answer_or_sentence(splits) is not None) == bool(good)


@cache
def folder() -> Path:
    root = Path(tempfile.mkdtemp())
    write_folder(root)
    return root


names = st.one_of(
    drawn(
        "digits", "cifar10", "cifar100", "torch/cifar10", "torch/", "torch/nothing", "torch/mnist", "hfids/x", "wds/x"
    ),
    drawn(
        "", "folder", "folder:", "folder:~nobody/x", "folder:/dev/null", "folder:\0", "folder:.", "digit", "/", "tfds/"
    ),
    st.text(max_size=20).filter(lambda text: not text.lower().startswith("hfds/")),
    st.text(max_size=20).map("folder:".__add__),
    st.text(max_size=10).map("torch/".__add__),
)


@some(0.6)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@given(
    names, drawn(8, 8, 32, 0, -1), st.none() | drawn(8, 16, 0, -5), drawn(3, 3, 1, 2, -1), drawn(0, 1, 2), st.booleans()
)
def test_load_data(name, model_size, image_size, channels, workers, real) -> None:
    data_dir = folder() if real else folder() / "nothing here"
    with patch.dict(os.environ, {"HF_HUB_OFFLINE": "1"}):
        splits = answer_or_sentence(
            lambda: load_data(
                name,
                model_size=model_size,
                image_size=image_size,
                in_chans=channels,
                data_dir=data_dir,
                num_workers=workers,
            )  # fmt: skip
        )
    good = model_size == 8 and image_size in (None, 8, 16) and channels in (1, 3)
    if good and (name == "digits" or (name in ("", "folder") and real)):
        assert splits is not None
    if splits is not None:
        for part in (splits.train, splits.validation):
            assert len(part) > 0
            if isinstance(part, MemoryImages):  # torch/ImageFolder and others are read when needed
                assert part.images.shape[1:] == (channels, image_size or model_size, image_size or model_size)
