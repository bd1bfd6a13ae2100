"""Scores under attack, and the checks that keep a hidden gradient from passing for robustness."""

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from routers import bright_and_dark, spread
from torch import Tensor, nn

from mocse_timm.checks import BadInput
from mocse_timm.data import load_data
from mocse_timm.evaluation import run as evaluation_run
from mocse_timm.evaluation.image_answers import unpack
from mocse_timm.evaluation.report import render_robustness, robust_row
from mocse_timm.evaluation.robustness import parse_attacks, score_robustness
from mocse_timm.evaluation.run import main
from mocse_timm.evaluation.sanity import check_gradients
from mocse_timm.models.saving import save_model

WEIGHT = torch.tensor([[1.0, -1.0], [-2.0, 2.0], [0.5, -0.5], [-1.0, 1.0]])


class Linear(nn.Module):
    """Two classes; an image within sum|w| * epsilon / 2 of the border can be fooled."""

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ WEIGHT


def images_at(*margins: float) -> Tensor:
    """Images (N, 1, 2, 2) of class 0 whose logits differ by 2 * margin."""
    direction = WEIGHT[:, 0] / WEIGHT[:, 0].square().sum()
    zero = 0.5 - WEIGHT[:, 0].sum() * 0.5 * direction  # on the border
    return torch.stack([zero + margin * direction for margin in margins]).reshape(-1, 1, 2, 2)


def test_robust_accuracy_of_a_linear_model_is_the_share_beyond_reach() -> None:
    images, labels = images_at(0.02, 0.3, 0.5, 0.6, -0.1), torch.zeros(5, dtype=torch.int64)
    # linf 0.1 moves the first logit by 0.1 * (1 + 2 + 0.5 + 1) = 0.45: three are in reach or wrong already
    scores = score_robustness(
        Linear(), images, labels, ["pgd10", "pgd1"], epsilon=0.1, batch_size=2
    )  # pgd1 crosses the ball, too
    assert (scores.num_images, scores.clean_top1) == (5, 80)
    assert scores.robust_top1["pgd10"] == 40
    assert scores.robust_top1["pgd1"] == 40
    assert unpack(scores.correct["none"], 5).tolist() == [True, True, True, True, False]
    assert unpack(scores.correct["pgd10"], 5).tolist() == [False, False, True, True, False]
    assert all(check.passed for check in scores.checks), scores.checks
    row = robust_row(scores)
    assert (row["robust_pgd10"], row["checks_failed"]) == (40, "")
    assert "pgd10        40.00" in render_robustness(scores)


class Rounding(nn.Module):
    """Gradients of zero almost everywhere, and no robustness at all."""

    def forward(self, x: Tensor) -> Tensor:
        return ((x * 4).round() / 4).flatten(1) @ WEIGHT


class Noisy(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 0.01 * torch.randn(len(x), 2)


class Misled(torch.autograd.Function):
    """The identity, with a gradient that points the wrong way for small changes and the right way at first."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return -gradient


class Wrong(Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(Misled.apply(x))


@pytest.mark.parametrize(
    ("model", "failing"),
    [
        (Rounding(), ["gradients are not zero", "a large epsilon leaves nothing"]),
        (Noisy(), ["outputs are deterministic"]),
        (Wrong(), ["a larger epsilon never helps", "a large epsilon leaves nothing"]),
    ],
    ids=["hidden", "noisy", "misled"],
)
def test_each_way_to_look_robust_is_caught(model: nn.Module, failing: list[str]) -> None:
    torch.manual_seed(0)
    images, labels = images_at(0.3, 0.5, 0.6, -0.1), torch.zeros(4, dtype=torch.int64)
    checks = check_gradients(model, images, labels, epsilon=0.1, norm="linf")
    assert [check.name for check in checks if not check.passed] == failing, checks


def test_the_checks_see_images_of_all_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def checks(model: nn.Module, images: Tensor, labels: Tensor, **options: Any) -> list[Any]:
        assert torch.equal(images.flatten(1)[:, 0], labels / 10)
        seen.append(labels)
        return []

    monkeypatch.setattr("mocse_timm.evaluation.robustness.check_gradients", checks)
    for count in (1000, 10):
        labels = torch.arange(10).repeat_interleave(count // 10)  # sorted by class, as folders of images are
        score_robustness(Linear(), (labels / 10).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2), labels, [], epsilon=0.1)
    assert [len(labels) for labels in seen] == [64, 10]
    assert all(labels.bincount(minlength=10).min() >= len(labels) // 10 for labels in seen)


def advmoe() -> Any:
    torch.manual_seed(0)
    return spread(timm.create_model("advmoe_resnet18", width=0.125, num_experts=3)).eval()


def test_use_of_experts_is_counted_by_class_and_flips_by_attack() -> None:
    model, images = advmoe(), bright_and_dark(12, 8)
    labels = torch.arange(12) % 2
    chosen = model.route(images).argmax(dim=1)
    names = ["even", "odd"]
    scores = score_robustness(model, images, labels, ["pgd2", "router"], epsilon=0.1, class_names=names, batch_size=5)
    routing = scores.routing
    assert routing is not None
    for index, name in enumerate(names):
        counts = [int(((chosen == e) & (labels == index)).sum()) for e in range(3)]
        assert routing.use_by_class[name] == pytest.approx([100 * count / 6 for count in counts])
    assert routing.use == pytest.approx([100 * float((chosen == e).float().mean()) for e in range(3)])
    probabilities = model.route(images).detach().softmax(dim=1).double()
    assert routing.entropy == pytest.approx(float(-(probabilities * probabilities.log()).sum(1).mean()), rel=1e-4)
    assert 0 <= routing.entropy <= math.log(3)
    # 0.1 moves the brightness of all pixels by 0.1: who is nearer to a border than that changes the expert
    brightness = (images[:, 0].mean(dim=(1, 2)) - 0.4914) / 0.2470 * 2.5
    in_reach = ((brightness.abs() - 1).abs() < 0.1 / 0.2470 * 2.5 * 0.98).float().mean()
    assert routing.flipped["router"] == pytest.approx(100 * float(in_reach), abs=9)
    assert routing.flipped["router"] > 0


def test_a_class_without_images_has_no_shares() -> None:
    labels = torch.zeros(4, dtype=torch.int64)
    scores = score_robustness(advmoe(), bright_and_dark(4, 8), labels, [], epsilon=0.1, class_names=["ant", "bee"])
    assert scores.routing is not None
    assert scores.routing.use_by_class == {"ant": scores.routing.use, "bee": None}
    assert [line.split() for line in render_robustness(scores).splitlines() if "bee" in line] == [["bee", *"---"]]


def fingerprint_of_twenty_digits() -> str:
    """Worked out from the set itself: every fifth image of each class, twenty of them by chance."""
    labels = load_data("digits", model_size=8).validation.labels
    assert isinstance(labels, Tensor)
    places = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))[:20].sort().values
    return hashlib.sha256(places.numpy().tobytes() + labels[places].numpy().tobytes()).hexdigest()[:16]


def test_validate_attacks_a_fixed_subset_and_writes_all_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = timm.create_model("cifar_preact18", width=0.125)
    save_model(model, tmp_path)
    flags = [str(tmp_path), "--dataset", "digits", "--img-size", "8", "--device", "cpu", "--attack", "pgd2,pgd3"]
    rows = []
    for file in ("first.json", "second.json"):
        assert main([*flags, "--attack-images", "20", "--results-file", str(tmp_path / file)]) == 0
        rows.append(json.loads((tmp_path / file).read_text()))
    for row in rows:
        row["row"].pop("images_per_second")
        row["computation"].pop("images_per_second")
    assert rows[0] == rows[1]
    assert len(unpack(rows[0]["robustness"]["correct"]["pgd3"], 20)) == 20
    assert rows[0]["robustness"]["images"] == fingerprint_of_twenty_digits()
    assert rows[0]["row"]["attack_images"] == rows[0]["robustness"]["num_images"] == 20
    assert rows[0]["robustness"]["options"]["pgd3"] == {"steps": 3, "step_size": 2.5 * 8 / 255 / 3}
    assert "under attack: 20 images, linf, epsilon 0.03137 (8/255)" in capsys.readouterr().out


def test_bad_attacks_are_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_model(timm.create_model("cifar_preact18", width=0.125), tmp_path)
    cases = {
        "--attack pgd0": "--attack pgd0: unknown; give pgd20",
        "--attack fgsm": "--attack fgsm: unknown",
        "--attack router": "--attack router: CifarPreAct has no router",
        "--attack pgd2 --epsilon 8": "divide by 255",
        "--attack pgd2 --attack-images 0": "--attack-images must be at least 1, got 0",
        "--attack ,": "--attack ',' names no attack; give pgd20",
        "--attack-images 3": "--attack-images is about attacks; add --attack pgd50",
        "--epsilon 0.1": "--epsilon is about attacks; add --attack pgd50",
        "--attack-norm l2": "--attack-norm is about attacks; add --attack pgd50",
    }
    for flags, message in cases.items():
        assert main([str(tmp_path), "--dataset", "digits", "--img-size", "8", *flags.split()]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_autoattack_on_too_few_classes_is_refused_before_anything_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_model(timm.create_model("cifar_preact18", width=0.125, num_classes=3), tmp_path)
    assert main([str(tmp_path), "--dataset", "folder:nowhere", "--attack", "pgd2,autoattack"]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err == ("error: --attack autoattack needs at least 4 classes, the model has 3; use pgd50 instead\n")


def interrupted(*arguments: Any, **options: Any) -> Any:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("attack", "code", "sentence"),
    [
        (lambda *_, **__: torch.empty(1 << 50), 2, "error: 9 images a step do not fit on cpu; lower --batch-size\n"),
        (interrupted, 130, "stopped by the keyboard\n"),
    ],
    ids=["memory", "keyboard"],
)
def test_scores_made_before_an_attack_that_fails_are_kept_under_another_name(
    attack: Any,
    code: int,
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    save_model(timm.create_model("cifar_preact18", width=0.125), tmp_path)
    whole, kept = tmp_path / "results.json", tmp_path / "results-without-attacks.json"
    flags = [str(tmp_path), "--dataset", "digits", "--img-size", "8", "--device", "cpu", "-b", "9", "--attack", "pgd1"]
    with monkeypatch.context() as patched:
        patched.setattr(evaluation_run, "score_robustness", attack)
        assert main([*flags, "--results-file", str(whole)]) == code
    printed = capsys.readouterr()
    assert printed.err == sentence
    assert f"until the attacks are done, all other scores are in {kept}" in printed.out
    assert not whole.exists()
    before = json.loads(kept.read_text())
    assert "robustness" not in before
    assert main([*flags, "--attack-images", "5", "--results-file", str(whole)]) == 0
    assert not kept.exists()
    after = json.loads(whole.read_text())
    assert before["scores"] == after["scores"] and after["robustness"]["num_images"] == 5


def test_attacks_are_named_once_and_autoattack_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    assert parse_attacks("pgd20, router,pgd20") == ["pgd20", "router"]
    assert parse_attacks("") == []
    monkeypatch.setitem(__import__("sys").modules, "pyautoattack", None)
    with pytest.raises(BadInput, match="AutoAttack needs pyautoattack"):
        parse_attacks("pgd20,autoattack")


def test_steps_cross_the_ball_and_are_a_quarter_of_it_where_there_are_ten() -> None:
    images, labels = images_at(0.3, 0.5), torch.zeros(2, dtype=torch.int64)
    scores = score_robustness(Linear(), images, labels, ["pgd1", "pgd5", "pgd10", "pgd50"], epsilon=0.1)
    found = [options["step_size"] for options in scores.options.values()]
    assert found == [pytest.approx(0.25), pytest.approx(0.05), 0.025, 0.025]


def test_robust_accuracy_in_l2() -> None:
    images, labels = images_at(0.02, 0.2, 0.3, 0.5), torch.zeros(4, dtype=torch.int64)
    # 0.1 moves the first logit by 0.1 * sqrt(1 + 4 + 0.25 + 1) = 0.25: two are in reach
    assert score_robustness(Linear(), images, labels, ["pgd20"], epsilon=0.1, norm="l2").robust_top1 == {"pgd20": 50}


def test_models_are_scored_as_they_answer_and_not_as_they_learn() -> None:
    model = nn.Sequential(nn.Dropout(0.9), Linear()).train()
    images, labels = images_at(*[0.3] * 40), torch.zeros(40, dtype=torch.int64)
    assert score_robustness(model, images, labels, [], epsilon=0.1).clean_top1 == 100
    assert model.training and model[0].training
