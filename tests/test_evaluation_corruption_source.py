"""Where corrupted images come from, and what a model with known answers scores on them."""

import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from multiprocessing import active_children
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image
from small_archives import pixels_of, write_class_folders
from torch import Tensor, nn

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.archive import open_archive
from mocse_timm.corruptions.corrupt import corrupt
from mocse_timm.data import FileImages, MemoryImages, Resizing, build_loader
from mocse_timm.evaluation.corruption_scoring import answer_cells, score_answers
from mocse_timm.evaluation.corruption_source import ArchiveSource, GeneratedSource, Share, choose_images
from mocse_timm.evaluation.corruption_worker import Task, corrupted
from mocse_timm.evaluation.predictions import NotFinite, Predictions

CPU = torch.device("cpu")
NAMES = ("gaussian_noise", "defocus_blur", "glass_blur")


def noise_images(count: int, side: int = 32) -> MemoryImages:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=generator)
    return MemoryImages(images, torch.arange(count) % 4)


def make_loader(split: Any, share: Share = Share(), batch_size: int = 4, side: int = 32) -> Any:  # noqa: B008
    return build_loader(split, training=False, batch_size=batch_size, image_size=side, **vars(share))


at_64 = partial(make_loader, side=64)


def generated(split: Any, **changes: Any) -> GeneratedSource:
    options: dict[str, Any] = {
        "corruptions": NAMES,
        "severities": (2, 4),
        "chosen": choose_images(len(split), None),
        "share": Share(),
        "make_loader": make_loader,
        "device": CPU,
        "side": 32,
        "resizing": Resizing(1.0),
        "workers": 0,
    }
    return GeneratedSource(split, **(options | changes))


def cells_of(source: Any) -> np.ndarray:
    """Return every corrupted image, (K, S, N_here, 3, 32, 32) uint8, each placed once."""
    count = len(source.share.of(source.chosen))
    cells = np.zeros((len(source.corruptions), len(source.severities), count, 3, 32, 32), dtype=np.uint8)
    seen: Counter[tuple[int, int, int]] = Counter()
    for part in source.parts():
        cells[part.row, part.column, part.places] = (part.images * 255).round().byte().numpy()
        seen.update((part.row, part.column, place) for place in range(count)[part.places])
    assert set(seen.values()) == {1} and len(seen) == cells.shape[0] * cells.shape[1] * count
    return cells


def expected(split: MemoryImages, indices: Any, seed: int = 0) -> np.ndarray:
    pixels = split.images[indices].permute(0, 2, 3, 1).numpy()
    made = [[corrupt(pixels, name, s, seed=seed, indices=np.asarray(indices)) for s in (2, 4)] for name in NAMES]
    return np.array(made).transpose(0, 1, 2, 5, 3, 4)


def test_chosen_images_are_fixed_spread_and_nested() -> None:
    few, many = choose_images(1000, 20), choose_images(1000, 100)
    assert few.tolist() == sorted(few.tolist()) == choose_images(1000, 20).tolist()
    assert set(few.tolist()) < set(many.tolist())
    assert (torch.bincount(many // 250, minlength=4) > 15).all()
    assert choose_images(5, None).tolist() == choose_images(5, 9).tolist() == [0, 1, 2, 3, 4]


def test_generated_cells_are_those_of_corrupt() -> None:
    split = noise_images(10)
    np.testing.assert_array_equal(cells_of(generated(split, seed=3)), expected(split, range(10), seed=3))


def test_a_subset_has_the_pixels_that_the_whole_set_has() -> None:
    split, chosen = noise_images(10), choose_images(10, 5)
    whole = cells_of(generated(split))
    np.testing.assert_array_equal(cells_of(generated(split, chosen=chosen)), whole[:, :, chosen])


def test_shares_of_processes_make_up_the_whole() -> None:
    split = noise_images(7)
    whole = cells_of(generated(split))
    for index in range(3):
        share = Share(index, 3)
        part = cells_of(generated(split, share=share, make_loader=partial(make_loader, share=share)))
        np.testing.assert_array_equal(part, whole[:, :, index::3])


def test_a_worker_process_makes_the_same_pixels_and_leaves_no_trace() -> None:
    split = noise_images(10)
    wanted = expected(split, range(10))  # first, since loading OpenCV changes the environment, too
    main = vars(sys.modules["__main__"])
    environment, main_before = dict(os.environ), dict(main)
    np.testing.assert_array_equal(cells_of(generated(split, workers=1)), wanted)
    assert dict(os.environ) == environment
    assert vars(sys.modules["__main__"]) is main and main == main_before
    assert not active_children()


def test_what_goes_wrong_in_a_worker_is_one_sentence() -> None:
    small = np.zeros((1, 8, 8, 3), dtype=np.uint8)
    with pytest.raises(BadInput, match="sides of 32 pixels or more, got 8"):
        list(corrupted([Task(small, np.arange(1), "fog", 1)], workers=1, seed=0, frost_dir=None))


def test_tasks_come_back_in_order_from_several_workers() -> None:
    images = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    tasks = [Task(images, np.arange(1), "contrast", 1, tag) for tag in range(30)]
    done = corrupted(tasks, workers=2, seed=0, frost_dir=None)
    assert [task.tag for task, _ in done] == list(range(30))


def test_a_killed_worker_is_one_sentence() -> None:
    images = np.zeros((1, 32, 32, 3), dtype=np.uint8)

    def tasks() -> Iterator[Task]:
        for number in range(100):
            yield Task(images, np.arange(1), "fog", 1)
            if number == 10:
                for child in active_children():
                    child.kill()

    with pytest.raises(BadInput, match="the process that makes the corrupted images was stopped"):
        list(corrupted(tasks(), workers=1, seed=0, frost_dir=None))


def test_images_from_files_are_corrupted_as_the_loader_gives_them(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 48, 40, 3), dtype=np.uint8)
    dataset = [(Image.fromarray(image), label) for label, image in enumerate(pixels)]
    split = FileImages(dataset)  # type: ignore[arg-type]
    resized = torch.cat([images for images, _ in make_loader(split)])
    memory = MemoryImages((resized * 255).round().byte(), torch.arange(3))
    np.testing.assert_array_equal(cells_of(generated(split)), expected(memory, range(3)))
    subset = generated(split, chosen=torch.tensor([0, 2]))
    np.testing.assert_array_equal(cells_of(subset), expected(memory, [0, 2]))


class Planted(nn.Module):
    """Answers what the first pixel says, surer the brighter the second is."""

    def __init__(self) -> None:
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Tensor:
        named = (images[:, 0, 0, 0] * 255).round().long()
        return nn.functional.one_hot(named, 4) * (1 + 9 * images[:, 0, 0, 1:2])


def planted_archive(folder: Path, right: np.ndarray) -> np.ndarray:
    """Write cells (K, 5, N) in which the model names the first right[k, s] images right; return the labels."""
    folder.mkdir()
    labels = np.arange(8) % 4
    for name, counts in zip(NAMES, right, strict=True):
        images = np.zeros((5, 8, 32, 32, 3), dtype=np.uint8)
        for cell, count in zip(images, counts, strict=True):
            cell[:, 0, 0, 0] = np.where(np.arange(8) < count, labels, (labels + 1) % 4)
        np.save(folder / f"{name}.npy", images.reshape(40, 32, 32, 3))
    np.save(folder / "labels.npy", np.tile(labels, 5))
    return labels


RIGHT = np.array([[8, 6, 4, 2, 0], [7, 7, 7, 7, 7], [1, 2, 3, 4, 5]])


def planted(folder: Path, **changes: Any) -> ArchiveSource:
    archive = open_archive(folder)
    assert archive is not None
    options: dict[str, Any] = {
        "corruptions": NAMES,
        "severities": (1, 2, 3, 4, 5),
        "chosen": choose_images(8, None),
        "labels": torch.arange(8) % 4,
        "stems": None,
        "side": 32,
        "share": Share(),
        "make_loader": make_loader,
    }
    return ArchiveSource(archive, **(options | changes))


def scored(source: Any, clean_labels: np.ndarray, model: nn.Module | None = None, **options: Any) -> Any:
    labels = torch.from_numpy(clean_labels)
    clean = Predictions(nn.functional.one_hot(labels.roll(2), 4).float(), labels)
    answers = answer_cells(model or Planted(), source, device=CPU, accelerator=Accelerator())
    return score_answers(answers, clean, source, dataset="cifar10", split="validation", mixture=False, **options)


def test_accuracies_of_planted_answers_are_known(tmp_path: Path) -> None:
    labels = planted_archive(tmp_path / "CIFAR-10-C", RIGHT)
    scores = scored(planted(tmp_path / "CIFAR-10-C"), labels)
    np.testing.assert_allclose(scores.top1, 100 * RIGHT / 8)
    np.testing.assert_array_equal(scores.correct, np.arange(8) < RIGHT[..., None])
    # the model is equally sure of every image: exp(1) of exp(1) + 3
    confidence = np.e / (np.e + 3)
    np.testing.assert_allclose(scores.ece, 100 * np.abs(RIGHT / 8 - confidence), atol=1e-4)
    assert scores.source == "CIFAR-10-C"
    assert scores.clean_images == 8


def test_fewer_images_are_the_chosen_ones_clean_and_corrupted(tmp_path: Path) -> None:
    labels = planted_archive(tmp_path / "CIFAR-10-C", RIGHT)
    chosen = choose_images(8, 3)
    scores = scored(planted(tmp_path / "CIFAR-10-C", chosen=chosen, severities=(3,)), labels)
    np.testing.assert_array_equal(scores.correct[:, 0], chosen.numpy() < RIGHT[:, 2:3])
    clean = np.roll(labels, 2) == labels
    np.testing.assert_array_equal(scores.clean_correct, clean[chosen])
    other = scored(planted(tmp_path / "CIFAR-10-C", chosen=choose_images(8, 4)), labels)
    assert scores.images != other.images


@pytest.mark.parametrize(
    ("clean_stems", "known"),
    [(tuple("abcdefgh"), True), (tuple("abcdefgi"), False), (tuple("abcdefg"), False), (None, False)],
)
def test_clean_files_of_other_names_are_counted_whole(
    clean_stems: tuple[str, ...] | None, known: bool, tmp_path: Path
) -> None:
    """Sorted by class, any two folders with as many images a class have the same labels."""
    labels = planted_archive(tmp_path / "CIFAR-10-C", RIGHT)
    source = planted(tmp_path / "CIFAR-10-C", stems=tuple("abcdefgh"), chosen=choose_images(8, 3))
    scores = scored(source, labels, clean_stems=clean_stems)
    assert (scores.clean_correct is not None) == known
    assert scores.clean_images == (3 if known else 8)


def test_scores_say_side_and_how_images_became_squares(tmp_path: Path) -> None:
    labels = planted_archive(tmp_path / "CIFAR-10-C", RIGHT)
    read = scored(planted(tmp_path / "CIFAR-10-C", severities=(3,)), labels)
    assert (read.side, read.crop_pct, read.crop_mode, read.interpolation) == (32, None, None, None)
    black = MemoryImages(torch.zeros(8, 3, 32, 32, dtype=torch.uint8), torch.arange(8) % 4)
    made = scored(generated(black, corruptions=("contrast",), resizing=Resizing(0.875, "squash", "bicubic")), labels)
    assert (made.side, made.crop_pct, made.crop_mode, made.interpolation) == (32, 0.875, "squash", "bicubic")


def test_clean_images_in_another_order_are_counted_whole(tmp_path: Path) -> None:
    labels = planted_archive(tmp_path / "CIFAR-10-C", RIGHT)
    scores = scored(planted(tmp_path / "CIFAR-10-C", chosen=choose_images(8, 3)), np.sort(labels))
    assert scores.clean_correct is None
    assert scores.clean_images == 8


def test_scores_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    labels = planted_archive(tmp_path / "CIFAR-10-C", RIGHT)
    model = Planted()
    model.forward = lambda images: images[:, 0, 0, :4] / 0  # type: ignore[method-assign]
    with pytest.raises(NotFinite, match="on 8 of 8 images"):
        scored(planted(tmp_path / "CIFAR-10-C"), labels, model)


def test_a_cell_of_another_length_is_refused(tmp_path: Path) -> None:
    planted_archive(tmp_path / "CIFAR-10-C", RIGHT)
    with pytest.raises(BadInput, match="has 8 images of gaussian_noise at severity 1, and 9 in another cell"):
        list(replace(planted(tmp_path / "CIFAR-10-C"), labels=torch.arange(9)).parts())


def test_a_cell_with_other_images_of_a_class_is_refused(tmp_path: Path) -> None:
    """Eight images in each cell, but one more of class b and one fewer of class c in the last."""
    folder = write_class_folders(tmp_path / "set-C", ("fog", "pixelate"), ("a", "b", "c", "d"))
    (folder / "pixelate/5/c/1.JPEG").rename(folder / "pixelate/5/b/2.JPEG")
    source = planted(folder, corruptions=("fog", "pixelate"), labels=torch.arange(8) // 2, side=64, make_loader=at_64)
    with pytest.raises(BadInput, match="another number of images of class 1 in pixelate at severity 5 than in another"):
        list(source.parts())


def test_files_of_an_archive_are_read_as_they_are_and_none_of_another_size(tmp_path: Path) -> None:
    folder = write_class_folders(tmp_path / "set-C", ("fog",), ("a", "b", "c", "d"))
    Image.fromarray(np.zeros((64, 65, 3), dtype=np.uint8)).save(folder / "fog/5/d/1.JPEG", format="PNG")
    options = {"corruptions": ("fog",), "labels": torch.arange(8) // 2, "side": 64, "make_loader": at_64}
    for part in planted(folder, severities=(1, 2), **options).parts():
        written = pixels_of("fog", part.column + 1, 8, side=64)[part.places]
        np.testing.assert_array_equal((part.images * 255).round().byte().permute(0, 2, 3, 1), written)
    with pytest.raises(BadInput, match="image 7 of fog at severity 5 in .*set-C is 64x65 pixels, the first .* 64x64"):
        list(planted(folder, severities=(5,), **options).parts())
