"""A teacher: its loss, the questions it is asked, and ``--kd-model-name``."""

import csv
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from fitted_digits import fitted
from timm.task import LogitDistillationTask
from torch import Tensor, nn

from mocse_timm.checkpoints.by_name import load_model
from mocse_timm.data import load_data
from mocse_timm.flags import parse_flags
from mocse_timm.losses import distillation_loss
from mocse_timm.models.aggregation import expert_answers
from mocse_timm.models.saving import save_model
from mocse_timm.training import run
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.objectives import (
    Objective,
    cross_entropy_objective,
    ensemble_objective,
    mocse_objective,
    taught_objective,
)
from mocse_timm.training.teacher import build_teacher


def some_logits(shape: tuple[int, ...] = (4, 5), seed: int = 1) -> Tensor:
    return 3 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bernoulli(p: float, q: float) -> float:
    """Return KL(p || q) of two coins."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_divergence_of_two_coins(temperature: float) -> None:
    even, odds = torch.zeros(1, 2), torch.tensor([[math.log(3), 0.0]])
    softened = 3 ** (1 / temperature) / (1 + 3 ** (1 / temperature))  # 3/4 at temperature 1
    expected = torch.tensor(temperature**2 * bernoulli(softened, 0.5))
    torch.testing.assert_close(distillation_loss(even, odds, temperature=temperature), expected)
    torch.testing.assert_close(distillation_loss(odds, odds + 7, temperature=temperature), torch.tensor(0.0))


def test_several_questions_are_added_up_and_missing_answers_change_nothing() -> None:
    logits, taught = some_logits((4, 3, 2)).requires_grad_(), some_logits((4, 3, 2), seed=2)
    each = [distillation_loss(logits[:, question], taught[:, question], temperature=2) for question in range(3)]
    loss = distillation_loss(logits, taught, temperature=2)
    torch.testing.assert_close(loss, torch.stack(each).sum())
    padded = [nn.functional.pad(answers, [0, 1], value=-math.inf) for answers in (logits, taught)]
    of_padded = distillation_loss(*padded, temperature=2)
    torch.testing.assert_close(of_padded, loss)
    torch.testing.assert_close(torch.autograd.grad(of_padded, logits), torch.autograd.grad(loss, logits))


@pytest.mark.parametrize(
    ("logits", "taught", "temperature", "message"),
    [
        (some_logits(), some_logits(), 0.0, "temperature must be above 0, got 0"),
        (some_logits(), some_logits(), math.nan, "temperature must be above 0, got nan"),
        (some_logits(), some_logits((4, 6)), 1.0, r"the model's shape, \(4, 5\), got \(4, 6\): do both tell"),
        (some_logits((0, 5)), some_logits((0, 5)), 1.0, "for at least one image"),
    ],
)
def test_what_cannot_be_compared_is_refused(logits: Tensor, taught: Tensor, temperature: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        distillation_loss(logits, taught, temperature=temperature)


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1, 1], [3, 2], [5]])
def test_each_experts_question_is_answered_from_the_classes_probabilities(sizes: list[int]) -> None:
    probabilities = some_logits().softmax(dim=1)
    answers = expert_answers(some_logits(), sizes)
    assert answers.shape == (4, len(sizes), max(sizes) + 1)
    for image, each in enumerate(probabilities.tolist()):
        start = 0
        for expert, size in enumerate(sizes):
            own = each[start : start + size]
            expected = [sum(each) - sum(own), *own] + [0.0] * (max(sizes) - size)
            assert answers[image, expert].exp().tolist() == pytest.approx(expected, abs=1e-12)
            start += size
    with pytest.raises(ValueError, match=r"class logits must be \(B, 2\) for groups of \[2\], got \(4, 5\)"):
        expert_answers(some_logits(), [2])


def test_a_sure_teachers_doubt_is_not_lost() -> None:
    """1 - p of a class that is likelier than all floats below 1, from the others' logits."""
    answers = expert_answers(torch.tensor([[40.0, 0.0, 0.0]]), [1, 1, 1])
    assert answers[0, 0].tolist() == pytest.approx([math.log(2) - 40, 0.0])


def test_on_class_scores_it_is_timms_task() -> None:
    torch.manual_seed(0)
    model, teacher = (timm.create_model("cifar_preact18", width=0.125, num_classes=5) for _ in range(2))
    images, labels = torch.rand(4, 3, 16, 16), torch.tensor([0, 4, 2, 2])
    options: dict[str, Any] = {"temperature": 3.0, "task_loss_weight": 0.4, "distill_loss_weight": 2.0}
    theirs = LogitDistillationTask(model, teacher, nn.CrossEntropyLoss(), verbose=False, **options).train()
    found = theirs(images, labels)
    expected = torch.autograd.grad(found["loss"], list(model.parameters()))
    result = taught_objective(cross_entropy_objective(0.0), teacher, 3.0, 0.4, 2.0)(model, images, labels)
    torch.testing.assert_close(result.loss, found["loss"])
    torch.testing.assert_close(result.parts["distill_loss"], found["kd_loss"])
    torch.testing.assert_close(torch.autograd.grad(result.loss, list(model.parameters())), expected)
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("sizes", [[1, 1, 1, 1, 1], [3, 2]])
def test_class_experts_that_answer_as_the_teacher_have_nothing_to_learn(sizes: list[int]) -> None:
    model: Any = timm.create_model("mocse", num_classes=5, num_experts=len(sizes), expert_width=0.125)
    objective, taught = mocse_objective(0.0, 0.7, 1.3, 9.0), some_logits()
    same = expert_answers(taught, sizes).requires_grad_()
    nothing = objective.learn(model, same, taught, 1.0)
    torch.testing.assert_close(nothing, torch.zeros_like(nothing))
    (gradients,) = torch.autograd.grad(nothing, same)
    torch.testing.assert_close(gradients, torch.zeros_like(gradients))


def test_each_class_expert_learns_the_teachers_answer_to_its_own_question() -> None:
    """The slow twin: coins, one an expert, and the aggregate beside them."""
    model: Any = timm.create_model("mocse", num_classes=3, expert_width=0.125)
    expert_logits, taught = some_logits((4, 3, 2)), some_logits((4, 3), seed=2)
    found = mocse_objective(0.0, 0.7, 1.3, 9.0).learn(model, expert_logits, taught, 2.0)
    coins = 0.0
    for image in range(4):
        for expert in range(3):
            theirs = float(taught[image].softmax(dim=0)[expert])
            theirs = math.sqrt(theirs) / (math.sqrt(theirs) + math.sqrt(1 - theirs))  # softened at temperature 2
            ours = float(torch.sigmoid((expert_logits[image, expert, 1] - expert_logits[image, expert, 0]) / 2))
            coins += 4 * bernoulli(theirs, ours) / 4  # temperature squared, mean over four images
    aggregate = distillation_loss(model.aggregate(expert_logits), taught, temperature=2.0)
    torch.testing.assert_close(found, 1.3 * aggregate + 0.7 * coins)


def test_every_network_of_an_ensemble_is_taught() -> None:
    model: Any = timm.create_model("ensemble", num_classes=5, num_experts=2, expert_width=0.125)
    said, taught = some_logits((4, 2, 5)), some_logits(seed=2)
    each = [distillation_loss(said[:, network], taught, temperature=2) for network in range(2)]
    torch.testing.assert_close(ensemble_objective(0.0).learn(model, said, taught, 2.0), torch.stack(each).sum())


@pytest.mark.parametrize(
    ("task", "distill", "expected"),
    [(None, None, (1, 1)), (0.25, None, (0.25, 0.75)), (None, 2.0, (1, 2)), (0.5, 3.0, (0.5, 3)), (0.0, None, (0, 1))],
)
def test_weights_follow_timms_rule(task: float | None, distill: float | None, expected: tuple[float, float]) -> None:
    config = TrainConfig(kd_model_name="x", task_loss_weight=task, distill_loss_weight=distill)
    theirs = LogitDistillationTask(
        timm.create_model("cifar_preact18", width=0.125),
        timm.create_model("cifar_preact18", width=0.125),
        nn.CrossEntropyLoss(),
        task_loss_weight=task,
        distill_loss_weight=distill,
        verbose=False,
    )
    assert config.teaching_weights() == (theirs.task_loss_weight, theirs.distill_loss_weight) == expected


FLAGS = ["--dataset", "digits", "--img-size", "8", "--workers", "0", "--warmup-epochs", "0", "--batch-size", "64"]
DENSE = ["--model", "cifar_preact18", "--model-kwargs", "width=0.125"]
EXPERTS = ["--model", "mocse_preact18_shared", "--model-kwargs", "width=0.125", "expert_width=0.125"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a network that knows the digits a little."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("teacher")
    model = fitted(timm.create_model("cifar_preact18", width=0.25))
    save_model(model, folder, facts={}, class_names=load_data("digits", model_size=32).class_names)
    return folder


def rows_of(folder: Path) -> list[dict[str, float]]:
    with (folder / "summary.csv").open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_a_teacher_is_asked_and_stays_as_it_is(teacher: Path) -> None:
    config = parse_flags(TrainConfig, [*FLAGS, "--kd-model-name", str(teacher)], description="")
    data = load_data("digits", model_size=32, image_size=8)
    built: Any = build_teacher(config, data, torch.device("cpu"))
    before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    model: Any = timm.create_model("cifar_preact18", width=0.125)
    objective: Objective = cross_entropy_objective(0.0)
    task = taught_objective(objective, built, 4.0, 0.0, 1.0)
    task(model.train(), torch.rand(4, 3, 8, 8), torch.arange(4)).loss.backward()
    assert not built.training and not any(parameter.requires_grad for parameter in built.parameters())
    torch.testing.assert_close(dict(built.state_dict()), before, rtol=0, atol=0)
    torch.testing.assert_close(before, dict(load_model(str(teacher)).state_dict()), rtol=0, atol=0)


@pytest.mark.parametrize("model", [DENSE, EXPERTS], ids=["dense", "experts"])
def test_what_is_taught_alone_comes_nearer_to_its_teacher(tmp_path: Path, teacher: Path, model: list[str]) -> None:
    flags = [*FLAGS, *model, "--epochs", "3", "--no-aug", "--task-loss-weight", "0"]
    where = ["--output", str(tmp_path), "--experiment", "run"]
    assert run.main([*flags, "--kd-model-name", f"local-dir:{teacher}", *where]) == 0
    rows = rows_of(tmp_path / "run")
    assert rows[-1]["train_distill_loss"] < 0.75 * rows[0]["train_distill_loss"]
    assert rows[-1]["train_loss"] == pytest.approx(rows[-1]["train_distill_loss"])


def test_a_taught_run_goes_on_with_its_teacher_and_not_without(
    tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kept = tmp_path / "kept"
    shutil.copytree(teacher, kept)
    flags = [*FLAGS, *DENSE, "--kd-model-name", str(kept), "--distill-loss-weight", "2", "--output", str(tmp_path)]
    assert run.main([*flags, "--epochs", "1", "--experiment", "run"]) == 0
    assert run.main(["--resume", str(tmp_path / "run"), "--epochs", "2"]) == 0
    for row in rows_of(tmp_path / "run"):
        expected = row["train_task_loss"] + 2 * row["train_distill_loss"]
        assert row["train_loss"] == pytest.approx(expected, rel=1e-5)
    config = (tmp_path / "run" / "config.json").read_text()
    assert "--kd-model-name kept" in config and str(tmp_path) not in config
    shutil.rmtree(kept)
    capsys.readouterr()
    assert run.main(["--resume", str(tmp_path / "run"), "--epochs", "3"]) == 2
    assert f"--kd-model-name {kept}: " in capsys.readouterr().err


def test_a_teacher_that_does_not_fit_is_one_sentence(
    tmp_path: Path, teacher: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    others, large = tmp_path / "others", tmp_path / "large"
    others.mkdir()
    large.mkdir()
    save_model(timm.create_model("cifar_preact18", width=0.125, num_classes=7), others, facts={}, class_names=())
    save_model(timm.create_model("vit_tiny_patch16_224", num_classes=10), large, facts={}, class_names=())
    gray = ["--in-chans", "1"]
    for name, flags, sentence in (
        (str(others), [], "data set 'digits' has 10 classes, the model 7"),
        (str(large), [], "it cannot read images of 8x8 (Input height (8) doesn't match model (224)"),
        (str(teacher), gray, "it reads images of 3 channels, --in-chans is 1"),
        ("cifar_preact18", [], "model 'cifar_preact18' has no published weights; give a run's folder"),
        ("resnet19", [], "unknown model 'resnet19' (did you mean"),
        (str(tmp_path / "nothing"), [], "nothing"),
    ):
        arguments = [*FLAGS, *DENSE, *flags, "--kd-model-name", name, "--output", str(tmp_path / "runs")]
        assert run.main(arguments) == 2
        said = capsys.readouterr().err
        assert f"--kd-model-name {name}: " in said and sentence in said, said
    assert not (tmp_path / "runs").exists()


TEACHER = ["--kd-model-name", "resnet18"]


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (["--kd-temperature", "2"], "--kd-temperature is 2.0 where there is no --kd-model-name: add that"),
        (["--distill-loss-weight", "0"], "--distill-loss-weight is 0.0 where there is no --kd-model-name"),
        (["--task-loss-weight", "0.5"], "--task-loss-weight is 0.5 where there is no --kd-model-name"),
        ([*TEACHER, "--kd-temperature", "0"], "--kd-temperature is 0.0: give more than 0"),
        ([*TEACHER, "--distill-loss-weight", "-1"], "--distill-loss-weight is -1.0: give 0 or more"),
        ([*TEACHER, "--task-loss-weight", "3"], "--task-loss-weight 3.0 leaves the teacher -2"),
        ([*TEACHER, "--task-loss-weight", "0", "--distill-loss-weight", "0"], "are both 0: nothing would be learned"),
        ([*TEACHER, "--recipe", "trades"], "one version of each: leave it out of --recipe trades"),
        (
            [*TEACHER, "--aa", "augmix-m3-w3", "--aug-splits", "3", "--jsd-loss"],
            "one version of each: leave it out of --jsd-loss",
        ),
    ],
)
def test_flags_that_do_not_go_together_are_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], sentence: str
) -> None:
    assert run.main([*FLAGS, *DENSE, *flags, "--output", str(tmp_path / "runs")]) == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
