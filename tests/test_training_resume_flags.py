"""What is typed when a training is continued counts, and nothing of the state is lost by it."""

import csv
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from timm.scheduler import CosineLRScheduler

import mocse_timm.models  # noqa: F401  (registers our models)
import mocse_timm.training.run as run
from mocse_timm.checks import BadInput
from mocse_timm.training.build import build_model, build_trainer
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.loop import Trainer
from mocse_timm.training.progress import Progress
from mocse_timm.training.resume import _check_flags, _load, load_state
from mocse_timm.training.run_folder import RunFolder

SMALL = "--img-size 8 --model cifar_preact18 --model-kwargs width=0.125 --batch-size 256 --seed 3".split()
BY_EPOCHS = ["--no-sched-on-updates"]  # as plateau wants it
STEPS = 5  # an epoch, of 256 images
DENSE: dict[str, Any] = {"model": "cifar_preact18", "model_kwargs": {"width": 0.125}}
ADVMOE: dict[str, Any] = {"model": "advmoe_resnet18", "model_kwargs": {"width": 0.125}, "recipe": "advmoe"}


def planned(epochs: int, after: int, *, lr: float, warmup: int = 1, steps: int = STEPS) -> float:
    """Return the learning rate after so many of the ``epochs``, by timm."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    scheduler = CosineLRScheduler(
        optimizer, epochs * steps, warmup_t=warmup * steps, warmup_lr_init=1e-5, t_in_epochs=False
    )
    scheduler.step_update(after * steps)
    return optimizer.param_groups[0]["lr"]


def rates(folder: Path) -> list[float]:
    with (folder / "summary.csv").open() as file:
        return [float(row["lr"]) for row in csv.DictReader(file)]


def test_a_longer_training_follows_its_own_schedule_and_typed_flags_count(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    assert run.main([*SMALL, "--epochs", "2", "--output", str(tmp_path), "--experiment", "run", "--lr", "0.2"]) == 0
    expected = [planned(2, 1, lr=0.2), planned(2, 2, lr=0.2)]
    assert rates(folder) == expected and expected[-1] == 0

    assert run.main(["--resume", str(folder), "--epochs", "4"]) == 0
    expected += [planned(4, 3, lr=0.2), planned(4, 4, lr=0.2)]
    assert rates(folder) == expected and expected[2] > 0.02

    others = "--lr 0.05 --warmup-epochs 0.0 --weight-decay 0.1 --momentum 0.8".split()
    assert run.main(["--resume", str(folder), "--epochs", "5", *others]) == 0
    assert rates(folder) == [*expected, planned(5, 5, lr=0.05, warmup=0)]
    state = torch.load(folder / "states" / "epoch-0005-step-000000" / "optimizer.bin", weights_only=True)
    groups = state["param_groups"]
    assert {group["weight_decay"] for group in groups} == {0.0, 0.1}
    assert [(group["initial_lr"], group["momentum"]) for group in groups] == [(0.05, 0.8)] * len(groups)

    # steps of half the images: 11 an epoch, and the schedule counts in them, too
    assert run.main(["--resume", str(folder), "--epochs", "7", "--batch-size", "128"]) == 0
    assert rates(folder)[5:] == [planned(7, after, lr=0.05, warmup=0, steps=11) for after in (6, 7)]

    small = f"python train.py {' '.join(SMALL)}".split()
    told = json.loads((folder / "config.json").read_text())["mocse_timm"]
    expected = [
        (2, 0, [*small, "--epochs", "2", "--lr", "0.2"]),
        (4, 0, [*small, "--epochs", "4", "--lr", "0.2"]),
        (5, 0, [*small, "--epochs", "5", *others]),
    ]
    for part, (epochs, steps, words) in zip(told["earlier_commands"], expected, strict=True):
        assert (part["epochs"], part["steps"], sorted(shlex.split(part["command"]))) == (epochs, steps, sorted(words))
    assert "--epochs 7" in told["command"] and "--batch-size" not in told["command"]  # 128 is the default


def test_commands_are_kept_with_where_they_began_and_those_that_trained_nothing_are_not() -> None:
    progress = Progress()
    progress.follow("one")
    progress.follow("two")  # before the first step
    assert progress.commands == [(0, 0, "two")]
    progress.epoch = 1
    progress.follow("two")
    progress.step = 3
    progress.follow("three")
    progress.follow("four")  # the same state, continued again
    assert progress.commands == [(0, 0, "two"), (1, 3, "four")]
    again = Progress()
    again.load_state_dict(progress.state_dict())
    assert again.commands == progress.commands
    old = progress.state_dict()
    del old["commands"]
    again.load_state_dict(old)
    again.follow("five")
    assert again.commands == [(0, 0, "five")]


def built(accelerator: Accelerator, **flags: Any) -> Trainer:
    config = TrainConfig(**{"img_size": 32, "lr": 0.2, "epochs": 4, "warmup_epochs": 0} | flags)
    return build_trainer(config, build_model(config, num_classes=10), accelerator, STEPS)


def state_after(folder: Path, updates: int, **flags: Any) -> Trainer:
    """Save, in ``folder``, the state of a training that took so many steps down a made-up slope; return its trainer."""
    accelerator = Accelerator(cpu=True)
    trainer = built(accelerator, **flags)
    for _ in range(updates):
        for phase in trainer.phases:
            for group in phase.optimizer.param_groups:
                for parameter in group["params"]:
                    parameter.grad = torch.full_like(parameter, 0.1)
            phase.optimizer.step()
    trainer.progress.epoch, trainer.progress.step = divmod(updates, STEPS)
    accelerator.save_state(str(folder))
    return trainer


def continued(folder: Path, **flags: Any) -> Trainer:
    trainer = built(Accelerator(cpu=True), **flags)
    _load(trainer, folder)
    trainer.follow_schedules(STEPS)
    return trainer


def test_both_optimisers_of_advmoe_take_typed_flags_and_keep_their_momentum(tmp_path: Path) -> None:
    before = state_after(tmp_path, 2 * STEPS, **ADVMOE, router_lr=0.1)
    after = continued(tmp_path, **ADVMOE, router_lr=0.03, lr=0.06, weight_decay=0.1, momentum=0.8, epochs=8)
    for one, two, lr in zip(before.phases, after.phases, (0.06, 0.03), strict=True):
        for group, other in zip(one.optimizer.param_groups, two.optimizer.param_groups, strict=True):
            assert other["lr"] == planned(8, 2, lr=lr, warmup=0)
            assert (other["initial_lr"], other["momentum"]) == (lr, 0.8)
            assert other["weight_decay"] == (0.1 if group["weight_decay"] else 0.0)
            for parameter, its_own in zip(group["params"], other["params"], strict=True):
                momenta = one.optimizer.state[parameter], two.optimizer.state[its_own]
                assert torch.equal(momenta[0]["momentum_buffer"], momenta[1]["momentum_buffer"])
                assert torch.equal(parameter, its_own)


@pytest.mark.parametrize(("opt", "counter"), [("lookahead_sgd", "lookahead_step"), ("lamb", "step")])
def test_steps_that_an_optimiser_counts_are_kept(opt: str, counter: str, tmp_path: Path) -> None:
    state_after(tmp_path, 3, **DENSE, opt=opt)
    groups = continued(tmp_path, **DENSE, opt=opt).phases[0].optimizer.param_groups
    assert {int(group[counter]) for group in groups} == {3}


@pytest.mark.filterwarnings("ignore:PlateauLRScheduler is deprecated")
def test_what_plateau_has_brought_the_rate_down_to_is_kept_and_scaled(tmp_path: Path) -> None:
    plateau: dict[str, Any] = {"sched": "plateau"}
    before = state_after(tmp_path / "full", 2 * STEPS, **DENSE, **plateau)
    for group in before.phases[0].optimizer.param_groups:
        group["lr"] *= 0.1
    before.accelerator.save_state(str(tmp_path / "reduced"))
    for lr, expected in ((0.2, before.learning_rate), (0.4, 2 * before.learning_rate)):
        assert continued(tmp_path / "reduced", **DENSE, **plateau, lr=lr).learning_rate == expected


def test_an_option_that_changes_what_an_optimiser_keeps_is_refused(tmp_path: Path) -> None:
    adamw: dict[str, Any] = DENSE | {"opt": "adamw"}
    folder = RunFolder(tmp_path)
    state_after(folder.states.unfinished(1, 0), STEPS, **adamw)
    folder.states.complete(folder.states.unfinished(1, 0))
    folder.write_flags(TrainConfig(**adamw))
    trainer = built(Accelerator(cpu=True), **adamw, opt_kwargs={"amsgrad": True})
    with pytest.raises(BadInput, match="does not fit these flags .the optimiser's amsgrad was False.$"):
        load_state(trainer, folder, print)


def test_float16_has_no_scale_of_gradients_to_continue_with(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    state_after(folder.states.unfinished(1, 0), STEPS, **DENSE)
    folder.states.complete(folder.states.unfinished(1, 0))
    folder.write_flags(TrainConfig(**DENSE))
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu")  # as Accelerate makes one for float16 on a GPU
    with pytest.raises(BadInput, match="float16 needs it: continue with --amp-dtype bfloat16 or --no-amp$"):
        load_state(built(accelerator, **DENSE), folder, print)


def test_an_option_that_changes_nothing_of_what_an_optimiser_keeps_counts(tmp_path: Path) -> None:
    state_after(tmp_path, 1, **DENSE)
    groups = continued(tmp_path, **DENSE, opt_kwargs={"nesterov": False}).phases[0].optimizer.param_groups
    assert [group["nesterov"] for group in groups] == [False] * len(groups)


@pytest.mark.parametrize(("before", "after"), [("cosine", "none"), ("none", "cosine"), ("step", "plateau")])
@pytest.mark.filterwarnings("ignore:PlateauLRScheduler is deprecated")
def test_a_schedule_of_another_kind_is_refused(
    before: str, after: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--epochs", "1", "--sched", before, "--output", str(tmp_path), "--experiment", "run"]
    assert run.main([*SMALL, *flags]) == 0
    assert run.main(["--resume", str(tmp_path / "run"), "--epochs", "2", "--sched", after, *BY_EPOCHS]) == 2
    assert f"is a state of --sched {before}: continue with that" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("before", "typed", "named"),
    [
        ({}, {"model_ema": True}, "--no-model-ema"),
        ({"model_ema": True}, {}, "--model-ema"),
        ({"recipe": "standard"}, {"recipe": "advmoe"}, "--recipe standard"),
        ({"recipe": "advmoe"}, {"recipe": "pgd"}, "--recipe advmoe"),
        ({"layer_decay": 0.7}, {}, "--layer-decay 0.7"),
        ({}, {"filter_bias_and_bn": False}, "--filter-bias-and-bn"),
        ({"weight_decay": 0.0}, {}, "--weight-decay 0.0"),
    ],
)
def test_flags_of_another_kind_of_state_are_named(before: dict[str, Any], typed: dict[str, Any], named: str) -> None:
    then = vars(TrainConfig()) | before
    with pytest.raises(BadInput, match=f"^the state is a state of {named}: continue with that$"):
        _check_flags(then, TrainConfig(**typed), "the state")
    _check_flags(then, TrainConfig(**before), "the state")


@pytest.mark.parametrize(
    ("before", "typed"),
    [
        ({"recipe": "standard"}, {"recipe": "trades"}),
        ({"layer_decay": 0.7}, {"layer_decay": 0.8, "weight_decay": 0.0}),
        ({"filter_bias_and_bn": False}, {"filter_bias_and_bn": False, "weight_decay": 0.0}),
    ],
)
def test_flags_that_a_state_does_not_depend_on_may_change(
    before: dict[str, Any], typed: dict[str, Any], tmp_path: Path
) -> None:
    _check_flags(vars(TrainConfig()) | before, TrainConfig(**typed), "the state")
    state_after(tmp_path, 1, **DENSE, **before)
    continued(tmp_path, **DENSE, **typed)


def test_flags_that_lead_to_nothing_are_not_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    assert run.main([*SMALL, "--epochs", "2", "--output", str(tmp_path), "--experiment", "run"]) == 0
    before = (folder / "config.yaml").read_bytes()
    assert run.main(["--resume", str(folder), "--epochs", "1", "--lr", "0.7"]) == 0
    assert f"nothing left to train: {folder} has 2 epochs behind it" in capsys.readouterr().out
    assert (folder / "config.yaml").read_bytes() == before


def test_a_run_named_by_its_folder_keeps_its_place(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "moved")
    (folder.path / "states" / "epoch-0001-step-000000").mkdir(parents=True)
    folder.write_flags(TrainConfig(output="there", experiment="run"))
    config = run._parse(["--resume", str(folder.path), "--output", "elsewhere", "--experiment", "other", "--lr", "0.7"])
    assert (config.output, config.experiment, config.resume) == ("there", "run", str(folder.path))
    assert config.lr == 0.7
