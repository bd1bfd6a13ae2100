"""Which flags of train.py may be given, and which go together."""

import math
from dataclasses import fields

from mocse_timm.checkpoints.config_values import LARGEST_SIDE
from mocse_timm.checks import BadInput
from mocse_timm.training.config import TrainConfig

__all__ = ["check_flags"]

# flags that nothing looks at in other recipes
FLAGS_OF_RECIPES = {
    ("pgd", "trades", "advmoe"): ("epsilon", "attack_norm", "attack_steps", "step_size"),
    ("trades", "advmoe"): ("beta",),
    ("advmoe",): ("balance_weight", "router_lr", "router_clip_grad", "router_objective"),
}


def _check_numbers(config: TrainConfig) -> None:
    """Refuse numbers that are out of their ranges, each for itself."""
    for each in fields(config):
        value = getattr(config, each.name)
        if isinstance(value, float) and not math.isfinite(value):
            raise BadInput(f"{config.flag(each.name)} is {value}: give a finite number")
    counts = ("epochs", "batch_size", "grad_accum_steps", "val_interval", "log_interval", "lr_base_size")
    for name in (*counts, "checkpoint_hist", "validation_batch_size"):
        if getattr(config, name) is not None and getattr(config, name) < 1:
            raise BadInput(f"{config.flag(name)} is {getattr(config, name)}: give at least 1")
    for name in (
        "expert_loss_weight",
        "aggregate_loss_weight",
        "expert_positive_weight",
        "weight_decay",
        "warmup_epochs",
        "min_lr",
        "warmup_lr",
        "decay_rate",
        "workers",
        "beta",
        "balance_weight",
        "jsd_weight",
        "distill_loss_weight",
        "task_loss_weight",
    ):
        if getattr(config, name) is not None and getattr(config, name) < 0:
            raise BadInput(f"{config.flag(name)} is {getattr(config, name)}: give 0 or more")
    for name in (
        "lr",
        "lr_base",
        "clip_grad",
        "router_lr",
        "router_clip_grad",
        "decay_epochs",
        "kd_temperature",
        "layer_decay",
    ):
        if getattr(config, name) is not None and getattr(config, name) <= 0:
            raise BadInput(f"{config.flag(name)} is {getattr(config, name)}: give more than 0")
    if list(config.decay_milestones) != sorted(config.decay_milestones) or min(config.decay_milestones, default=1) < 1:
        given = " ".join(map(str, config.decay_milestones))
        raise BadInput(f"--decay-milestones is {given}: give epochs from 1 on, in ascending order")
    if config.img_size is not None and config.img_size > LARGEST_SIDE:  # config.json, which tells it, would be refused
        raise BadInput(f"--img-size is {config.img_size}: give at most {LARGEST_SIDE}")
    count, unit = config.save_every
    if not 0 < count < math.inf or (unit == "steps" and count != int(count)):
        raise BadInput(f"--save-every is {count:g} {unit}: give a number above 0, and whole steps")
    if not 0 <= config.smoothing < 1:
        raise BadInput(f"--smoothing is {config.smoothing}: give a number from 0 to below 1")
    if config.drop is not None and not 0 <= config.drop < 1:
        raise BadInput(f"--drop is {config.drop}: give a number from 0 to below 1")
    if not 0 < config.model_ema_decay < 1:
        raise BadInput(f"--model-ema-decay is {config.model_ema_decay}: give a number between 0 and 1")


def _check_teaching(config: TrainConfig) -> None:
    """Refuse a teacher where none can teach, and flags of one where there is none."""
    if config.kd_model_name is None:
        for name in ("kd_temperature", "distill_loss_weight", "task_loss_weight"):
            if getattr(config, name) != getattr(TrainConfig, name):
                given = f"{config.flag(name)} is {getattr(config, name)}"
                raise BadInput(f"{given} where there is no --kd-model-name: add that, or leave it out")
        return
    if config.recipe != "standard" or config.jsd_loss:
        other = "--jsd-loss" if config.jsd_loss else f"--recipe {config.recipe}"
        raise BadInput(f"--kd-model-name is for clean images, one version of each: leave it out of {other}")
    task, distill = config.teaching_weights()
    if distill < 0:
        raise BadInput(f"--task-loss-weight {task} leaves the teacher {distill:g}: give --distill-loss-weight, too")
    if task == distill == 0:
        raise BadInput("--task-loss-weight and --distill-loss-weight are both 0: nothing would be learned")


def _check_together(config: TrainConfig) -> None:
    """Refuse flags that do not go together."""
    if config.expert_loss_weight == config.aggregate_loss_weight == 0:
        raise BadInput("--expert-loss-weight and --aggregate-loss-weight are both 0: nothing would be learned")
    if config.recipe != "standard" and (config.mixup > 0 or config.cutmix > 0):
        raise BadInput(f"--recipe {config.recipe} needs one label an image: leave out --mixup and --cutmix")
    if config.jsd_loss != bool(config.aug_splits):
        raise BadInput("--jsd-loss and --aug-splits go together: give both, such as --aug-splits 3, or neither")
    if config.jsd_loss and config.recipe != "standard":
        raise BadInput(f"--jsd-loss is for clean images: leave it out of --recipe {config.recipe}")
    if not config.jsd_loss and config.jsd_weight != TrainConfig.jsd_weight:
        raise BadInput(f"--jsd-weight is {config.jsd_weight} where there is no --jsd-loss: add that, or leave it out")
    _check_teaching(config)
    for recipes, names in FLAGS_OF_RECIPES.items():
        idle = [n for n in names if config.recipe not in recipes and getattr(config, n) != getattr(TrainConfig, n)]
        if idle:
            meant, flag = " or ".join(recipes), config.flag(idle[0])
            raise BadInput(f"{flag} is for --recipe {meant}: leave it out of --recipe {config.recipe}")
    if config.layer_decay is not None and config.sched == "none":
        raise BadInput("--layer-decay needs a schedule, which applies it: give --sched constant instead of none")


def check_flags(config: TrainConfig) -> None:
    """Raise BadInput for a number out of its range, and for flags that do not go together or do nothing."""
    _check_numbers(config)
    _check_together(config)
    config.attack_budget()
