"""Several versions of every image and one answer to them: AugMix's loss, its batches, and ``--jsd-loss``."""

import csv
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.loss import JsdCrossEntropy
from torch import Tensor, nn

from mocse_timm.checks import BadInput
from mocse_timm.data import Augmentation, MemoryImages, PerImageLoader, build_loader
from mocse_timm.data.per_image_transforms import file_transform, small_image_transform
from mocse_timm.losses import consistency_loss
from mocse_timm.training import run
from mocse_timm.training.objectives import consistent_objective, cross_entropy_objective, mocse_objective

AUGMIX = {"aa": "augmix-m3-w3", "aug_splits": 3}
PIXELS = torch.randint(0, 256, (8, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
SPLIT = MemoryImages(PIXELS, torch.arange(8))


def versions(count: int = 3, shape: tuple[int, ...] = (4, 5)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(count)]


def test_divergence_is_zero_for_one_answer_and_ln_2_for_two_opposite_ones() -> None:
    sure = torch.tensor([[1000.0, 0.0]])
    torch.testing.assert_close(consistency_loss([sure, sure, sure]), torch.tensor(0.0))
    torch.testing.assert_close(consistency_loss([sure, sure.flip(1)]), torch.tensor(math.log(2)))
    even = torch.zeros(1, 2)  # m is (3/4, 1/4): KL(sure || m) = ln 4/3, KL(even || m) = ln 2/3 / 2 + ln 2 / 2
    expected = (math.log(4 / 3) + math.log(2 / 3) / 2 + math.log(2) / 2) / 2
    torch.testing.assert_close(consistency_loss([sure, even]), torch.tensor(expected))


def test_with_cross_entropy_it_is_timms_loss() -> None:
    logits, labels = versions(), torch.tensor([0, 4, 2, 1])
    theirs = JsdCrossEntropy(num_splits=3, alpha=12, smoothing=0.1)(torch.cat(logits), labels.repeat(3))
    ours = F.cross_entropy(logits[0], labels, label_smoothing=0.1) + 12 * consistency_loss(logits)
    torch.testing.assert_close(ours, theirs)


def test_divergences_of_several_questions_are_added_up() -> None:
    logits = versions(shape=(4, 3, 2))
    each = [consistency_loss([version[:, question] for version in logits]) for question in range(3)]
    torch.testing.assert_close(consistency_loss(logits), torch.stack(each).sum())


def test_missing_answers_change_nothing_and_gradients_stay_finite() -> None:
    logits = [version.requires_grad_() for version in versions(2, (4, 3, 2))]
    padded = [F.pad(version, [0, 1], value=-math.inf) for version in logits]
    torch.testing.assert_close(consistency_loss(padded), consistency_loss(logits))
    found = torch.autograd.grad(consistency_loss(padded), logits)
    torch.testing.assert_close(found, torch.autograd.grad(consistency_loss(logits), logits))


@pytest.mark.parametrize(
    ("logits", "message"),
    [
        (versions(1), "needs two or more versions of the images, got 1"),
        ([*versions(1), *versions(1, (3, 5))], r"one shape, got \(4, 5\) and \(3, 5\)"),
        (versions(2, (0, 5)), "for at least one image"),
        (versions(2, (5,)), "for at least one image"),
    ],
)
def test_what_cannot_be_compared_is_refused(logits: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        consistency_loss(logits)


def batches(transform: Any, **options: Any) -> tuple[Tensor, Tensor]:
    loader = PerImageLoader(SPLIT, transform, batch_size=4, training=True, seed=3, **options)
    loader.set_epoch(1)
    images, labels = zip(*loader, strict=True)
    return torch.stack(images), torch.stack(labels)


@pytest.mark.parametrize("kind", ["in memory", "from files"])
def test_the_first_version_is_the_image_without_the_policy(kind: str) -> None:
    def transform(augmentation: Augmentation) -> Any:
        if kind == "in memory":
            return small_image_transform(16, augmentation)
        return file_transform(16, augmentation, training=True)

    alone, order = batches(transform(Augmentation(padding=2, color_jitter=0)))  # (2, 4, 3, 16, 16)
    images, labels = batches(transform(Augmentation(padding=2, **AUGMIX)))  # (2, 3 * 4, 3, 16, 16)
    first, second, third = images.chunk(3, dim=1)
    assert torch.equal(labels, order)
    assert torch.equal(first, alone)
    distances = [(a - b).abs().mean(dim=(2, 3, 4)) for a, b in ((first, second), (first, third), (second, third))]
    assert all((distance > 0).float().mean() > 0.5 for distance in distances)


def test_versions_are_made_by_the_loader_that_is_chosen_and_never_in_validation() -> None:
    options: dict[str, Any] = {"image_size": 16, "in_chans": 3, "batch_size": 4}
    training = build_loader(SPLIT, training=True, augmentation=Augmentation(**AUGMIX), num_workers=2, **options)
    images, labels = next(iter(training))
    assert (images.shape, labels.shape) == ((12, 3, 16, 16), (4,))
    validation = build_loader(SPLIT, training=False, augmentation=Augmentation(**AUGMIX), **options)
    assert next(iter(validation))[0].shape == (4, 3, 16, 16)


@pytest.mark.parametrize(
    "settings", [{"aug_splits": 1}, {"aa": None}, {"no_aug": True}, {"mixup": 0.2}, {"aug_splits": -3}]
)
def test_versions_that_cannot_be_told_apart_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match="aug_splits is .*: give 0, or 2 and more with an aa"):
        Augmentation(**(AUGMIX | settings))


class Counted(nn.Module):
    """A linear network that knows what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * 4, 5, dtype=torch.float64)
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return self.linear(x.flatten(1))


def test_the_objective_is_on_the_first_versions_and_all_run_as_one_batch() -> None:
    torch.manual_seed(0)
    model, labels = Counted(), torch.tensor([0, 4])
    images = torch.rand(6, 3, 2, 2, dtype=torch.float64)
    result = consistent_objective(cross_entropy_objective(0.1), 3, 12.0)(model, images, labels)
    assert model.sizes == [6]
    logits = model.linear(images.flatten(1)).float()
    expected = JsdCrossEntropy(num_splits=3, alpha=12, smoothing=0.1)(logits, labels.repeat(3))
    torch.testing.assert_close(result.loss, expected)
    torch.testing.assert_close(result.logits, logits[:2])


def test_every_class_expert_is_to_agree_with_itself() -> None:
    torch.manual_seed(0)
    model: Any = timm.create_model("mocse", num_classes=5, num_experts=2, expert_width=0.125).eval()
    images, labels = torch.rand(4, 3, 32, 32), torch.tensor([0, 3])
    objective = mocse_objective(0.0, 1.0, 1.0, 1.0)
    result = consistent_objective(objective, 2, 3.0)(model, images, labels)
    natural = objective(model, images[:2], labels)
    experts = [model.experts[e](model.trunk(images)).chunk(2) for e in range(2)]
    expected = natural.loss + 3 * sum(consistency_loss(answers) for answers in experts)
    torch.testing.assert_close(result.loss, expected)
    result.loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


FLAGS = ["--dataset", "digits", "--img-size", "8", "--workers", "0", "--warmup-epochs", "0", "--epochs", "2"]
SMALL = [*FLAGS, "--model", "cifar_preact18", "--model-kwargs", "width=0.125", "--batch-size", "64"]
JSD = ["--aa", "augmix-m3-w3", "--aug-splits", "3", "--jsd-loss"]


def test_a_training_counts_images_and_not_their_versions(tmp_path: Path) -> None:
    assert run.main([*SMALL, *JSD, "--output", str(tmp_path), "--experiment", "run"]) == 0
    with (tmp_path / "run" / "summary.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        natural, consistency = float(row["train_natural_loss"]), float(row["train_consistency_loss"])
        assert float(row["train_loss"]) == pytest.approx(natural + 12 * consistency, rel=1e-5)
        assert 0 < consistency < math.log(3)
    assert float(rows[1]["train_loss"]) < float(rows[0]["train_loss"])


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (JSD[:-1], "--jsd-loss and --aug-splits go together"),
        (JSD[-1:], "--jsd-loss and --aug-splits go together"),
        ([*JSD[2:]], "aug_splits is 3: give 0, or 2 and more with an aa"),
        ([*JSD, "--recipe", "pgd"], "--jsd-loss is for clean images: leave it out of --recipe pgd"),
        (["--jsd-weight", "3"], "--jsd-weight is 3.0 where there is no --jsd-loss: add that, or leave it out"),
        ([*JSD, "--jsd-weight", "-1"], "--jsd-weight is -1.0: give 0 or more"),
    ],
)
def test_flags_that_do_not_go_together_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    assert run.main([*SMALL, *flags, "--output", str(tmp_path / "runs")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
