"""The parts of a training, each built from the flags alone."""

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from accelerate import Accelerator

import mocse_timm.models  # noqa: F401  (registers our models)
from mocse_timm.checks import BadInput
from mocse_timm.flags import parse_flags
from mocse_timm.models.saving import save_model
from mocse_timm.training.build import _build_scheduler, build_model, build_trainer
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.recipes import learning_rate
from mocse_timm.training.results import public_command
from mocse_timm.training.settings import check_flags


def config_of(model: str, source: Path | str, **flags: Any) -> TrainConfig:
    width = {"width" if model.startswith("advmoe") else "expert_width": 0.125}
    return TrainConfig(model=model, model_kwargs=width | {"backbone_pretrained": f"local-dir:{source}"}, **flags)


@pytest.mark.parametrize(("model", "backbone"), [("mocse", "cifar_preact18"), ("advmoe", "cifar_resnet18")])
def test_a_resumed_run_is_built_the_same_without_the_weights_it_began_with(
    model: str, backbone: str, tmp_path: Path
) -> None:
    save_model(timm.create_model(backbone, width=0.125), tmp_path)
    begun: Any = build_model(config_of(model, tmp_path), 3)
    resumed: Any = build_model(config_of(model, "/gone", resume="run"), 3)
    assert str(resumed) == str(begun)
    assert resumed._model_args == begun._model_args
    assert resumed.pretrained_cfg == begun.pretrained_cfg
    resumed.eval().load_state_dict(begun.eval().state_dict())  # as a state does
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(resumed(images), begun(images))
    with pytest.raises(BadInput, match="backbone_pretrained: 'local-dir:/gone' cannot be loaded"):
        build_model(config_of(model, "/gone"), 3)


def test_weights_that_began_at_random_are_not_under_the_licence_of_timms(tmp_path: Path) -> None:
    theirs = timm.get_pretrained_cfg("convnextv2_atto")
    assert theirs is not None and theirs.license == "cc-by-nc-4.0"
    begun: Any = build_model(TrainConfig(model="convnextv2_atto"), 3)
    assert begun.pretrained_cfg["license"] == "apache-2.0"
    first: Any = timm.create_model("cifar_preact18", width=0.125)
    first.pretrained_cfg["license"] = "mit"
    save_model(first, tmp_path)
    config = config_of("mocse", tmp_path)
    begun = build_model(config, 3)
    assert begun.pretrained_cfg["license"] == "mit"
    trainer = build_trainer(config, begun, Accelerator(cpu=True), 10)
    resumed_config = config_of("mocse", "/gone", resume="run")
    resumed = build_trainer(resumed_config, build_model(resumed_config, 3), Accelerator(cpu=True), 10)
    resumed.progress.load_state_dict(trainer.progress.state_dict())
    assert resumed.progress.license == trainer.progress.license == "mit"


@pytest.mark.parametrize("options", [{"model": "test_vit"}, {"model": "mocse", "backbone": "test_vit"}])
def test_the_images_size_has_a_flag_of_its_own(options: dict[str, Any]) -> None:
    kwargs = {name: value for name, value in options.items() if name != "model"} | {"img_size": 32}
    with pytest.raises(BadInput, match="^--model-kwargs img_size=32: give --img-size instead"):
        build_model(TrainConfig(model=options["model"], model_kwargs=kwargs), 3)


@pytest.mark.parametrize(
    ("opt", "expected"),
    [("sgd", 0.2 * 4), ("lion", 0.2 * 4), ("adamw", 0.2 * 2), ("lookahead_Lamb", 0.2 * 2)],
)
def test_the_rate_for_larger_steps_is_timms(opt: str, expected: float) -> None:
    """64 images, twice accumulated, by 3 processes are 384: four times those that --lr-base is for."""
    flags: dict[str, Any] = {"opt": opt, "batch_size": 64, "grad_accum_steps": 2}
    assert learning_rate(TrainConfig(**flags, lr_base=0.2, lr_base_size=96), 3) == pytest.approx(expected)
    assert learning_rate(TrainConfig(**flags, lr=0.3), 3) == 0.3


def test_milestones_bring_the_rate_down() -> None:
    arguments = "--sched multistep --decay-milestones 2 3 --warmup-epochs 0 --epochs 4 --lr 1".split()
    config = parse_flags(TrainConfig, arguments, description="test")
    check_flags(config)
    phase: Any = SimpleNamespace(optimizer=torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0))
    scheduler = _build_scheduler(config, phase, updates_per_epoch=10)
    rates = []
    for update in (0, 18, 19, 28, 29, 39):  # timm's milestones come one step early
        scheduler.step_update(update)
        rates.append(phase.optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("local-dir:/home/me/secret/RUN", "local-dir:RUN"),
        ("local-dir:../me/RUN/", "local-dir:RUN"),
        ("local-dir:output/zoo/RUN", "local-dir:output/zoo/RUN"),
        ("hf-hub:me/RUN", "hf-hub:me/RUN"),
        ("/home/me/RUN.safetensors", "RUN.safetensors"),
    ],
)
def test_the_command_that_is_published_tells_no_private_path(source: str, told: str) -> None:
    options = {"expert_width": 0.125, "backbone_pretrained": source}
    trainer: Any = SimpleNamespace(config=TrainConfig(model_kwargs=options), accelerator=Accelerator(cpu=True))
    data: Any = SimpleNamespace(public_name="digits")
    command = f"python train.py --model-kwargs expert_width=0.125 backbone_pretrained={told}"
    assert shlex.split(public_command(trainer, data)) == command.split()
    assert trainer.config.model_kwargs["backbone_pretrained"] == source
