"""The parts of a training, each built from the flags and checked before anything is written."""

from dataclasses import asdict, replace
from typing import Any

import timm
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from timm.models import PretrainedCfg
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3
from torch import nn

from mocse_timm.checks import BadInput, nearest
from mocse_timm.data.augmentation import Augmentation
from mocse_timm.data.check_images import check_images
from mocse_timm.data.loaders import Loader, build_loader
from mocse_timm.data.resizing import Resizing
from mocse_timm.data.sources import load_data
from mocse_timm.data.splits import DataSplits, MemoryImages
from mocse_timm.models.normalized import normalized
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.loop import Progress, Trainer
from mocse_timm.training.phases import Phase, TrainingTask
from mocse_timm.training.recipes import build_recipe

__all__ = [
    "build_data",
    "build_loaders",
    "build_model",
    "build_trainer",
    "check_data",
    "image_facts",
    "image_size",
]

LICENSE = "apache-2.0"  # of weights that began at random
FIRST_WEIGHTS = ("backbone_pretrained", "checkpoint_path")  # options by which a model reads weights that are named


def _cfg(config: TrainConfig) -> PretrainedCfg:
    """Return timm's facts on the model, or on the backbone that a generic wrapper is told to use."""
    if not timm.is_model(config.model):
        known = timm.list_models()
        raise BadInput(f"--model {config.model}: no such model{nearest(config.model, known)}; see timm.list_models()")
    backbone = config.model_kwargs.get("backbone", config.model)
    if not isinstance(backbone, str) or not timm.is_model(backbone):
        raise BadInput(
            f"--model-kwargs backbone={backbone}: timm has no such model{nearest(str(backbone), timm.list_models())}"
        )
    return timm.get_pretrained_cfg(backbone) or PretrainedCfg()


def image_size(config: TrainConfig) -> int:
    """Return the side in pixels of the images that training uses."""
    return config.img_size or _cfg(config).input_size[-1]


def _resizing(config: TrainConfig, data: DataSplits) -> Resizing:
    """Return how the images in memory became squares, or how the model is to be shown those from files."""
    if isinstance(data.validation, MemoryImages):
        return data.validation.resizing
    return Resizing.of_cfg(asdict(_cfg(config)))


def image_facts(config: TrainConfig, data: DataSplits) -> dict[str, Any]:
    """Return what timm's facts on the trained model have to say of its images: their size, and how they became so."""
    size = image_size(config)
    return {"input_size": (config.in_chans, size, size)} | asdict(_resizing(config, data))


def build_data(config: TrainConfig, *, progress: bool) -> DataSplits:
    """Return the data set, its images in memory at the model's size if they are small."""
    return load_data(
        config.dataset,
        model_size=_cfg(config).input_size[-1],
        image_size=config.img_size,
        data_dir=config.data_dir,
        download=config.dataset_download,
        in_chans=config.in_chans,
        num_workers=config.workers,
        progress=progress,
        train_split=config.train_split,
        val_split=config.val_split,
    )


def check_data(config: TrainConfig, data: DataSplits, accelerator: Accelerator) -> None:
    """Decode every image file once, unless the flags say not to or the run was begun on the same files.

    Raises:
        BadInput: in every process, naming files that cannot be decoded.
    """
    if config.check_images and not config.resume:
        check_images(
            data,
            num_workers=config.workers,
            progress=accelerator.is_main_process,
            process_index=accelerator.process_index,
            num_processes=accelerator.num_processes,
            gather=gather_object,
        )


def _model_options(config: TrainConfig) -> dict[str, Any]:
    """Return ``--model-kwargs``; for a resumed run without the weights it began with, which its state replaces.

    Those may be gone by now. Only names of weights are left out, on which nothing else of the model depends:
    ``backbone_pretrained=True`` stays, as ``--pretrained`` does, since some of timm's models are built otherwise by it
    (fbnetc_100 with another epsilon).
    """
    if not config.resume:
        return config.model_kwargs
    return {k: v for k, v in config.model_kwargs.items() if k not in FIRST_WEIGHTS or not isinstance(v, str)}


def build_model(config: TrainConfig, num_classes: int) -> nn.Module:
    """Return the model for ``num_classes``; for a resumed run its weights may be any, for its state replaces them.

    Raises:
        BadInput: if timm or the model refuses the options.
    """
    if "img_size" in config.model_kwargs:  # the images would keep the model's usual size
        raise BadInput(
            f"--model-kwargs img_size={config.model_kwargs['img_size']}: give --img-size instead, which sets the size "
            "of the images, too"
        )
    options: dict[str, Any] = {"num_classes": num_classes, "in_chans": config.in_chans, "drop_rate": config.drop}
    if config.img_size and _cfg(config).fixed_input_size:
        options["img_size"] = config.img_size
    clash = sorted(set(options) & set(config.model_kwargs))
    if clash:
        given = config.model_kwargs[clash[0]]
        raise BadInput(f"--model-kwargs {clash[0]}={given}: this follows from the data or has a flag of its own")
    try:
        model: Any = timm.create_model(config.model, pretrained=config.pretrained, **options, **_model_options(config))
        if not config.pretrained and not any(config.model_kwargs.get(name) for name in FIRST_WEIGHTS):
            model.pretrained_cfg["license"] = LICENSE  # not that of timm's weights, of which there are none here
        if config.grad_checkpointing:  # a model that cannot refuses by an assertion
            model.set_grad_checkpointing()
    except Exception as error:  # of any class: wherever an option of the wrong kind happens to be used first
        raise BadInput(f"--model {config.model}: {' '.join(str(error).split()) or type(error).__name__}") from error
    return model


def build_loaders(config: TrainConfig, data: DataSplits, accelerator: Accelerator) -> tuple[Loader, Loader]:
    """Return the training and the validation batches of this process."""
    augmentation = Augmentation(
        padding=config.padding,
        hflip=config.hflip,
        cutout=config.cutout,
        aa=config.aa,
        mixup=config.mixup,
        cutmix=config.cutmix,
        smoothing=config.smoothing,
        scale=config.scale,
        color_jitter=config.color_jitter,
        aug_splits=config.aug_splits,
        reprob=config.reprob,
        no_aug=config.no_aug,
    )
    common: dict[str, Any] = {
        "image_size": image_size(config),
        "resizing": _resizing(config, data),
        "in_chans": config.in_chans,
        "num_classes": data.num_classes,
        "seed": config.seed,
        "num_workers": config.workers,
        "device": accelerator.device,
        "process_index": accelerator.process_index,
        "num_processes": accelerator.num_processes,
    }
    validation_size = config.validation_batch_size or 2 * config.batch_size
    return (
        build_loader(data.train, training=True, batch_size=config.batch_size, augmentation=augmentation, **common),
        build_loader(data.validation, training=False, batch_size=validation_size, **common),
    )


def _build_scheduler(config: TrainConfig, phase: Phase, updates_per_epoch: int) -> Any:
    try:
        scheduler, _ = create_scheduler_v2(
            phase.optimizer,
            sched=config.sched,
            num_epochs=config.epochs,
            decay_epochs=config.decay_epochs,
            decay_milestones=list(config.decay_milestones),
            decay_rate=config.decay_rate,
            min_lr=config.min_lr,
            warmup_lr=config.warmup_lr,
            warmup_epochs=config.warmup_epochs,  # pyright: ignore[reportArgumentType]  (fractions work: they are counted in updates)
            step_on_epochs=not config.sched_on_updates or config.sched == "plateau",  # which looks at validations
            updates_per_epoch=updates_per_epoch,
        )
    except (AssertionError, ValueError) as error:
        raise BadInput(f"--sched {config.sched}: {' '.join(str(error).split())}") from None
    return scheduler


def _check_backend(name: str) -> None:
    known = torch.compiler.list_backends(exclude_tags=())
    if name not in known:
        raise BadInput(f"--torchcompile {name}: no such backend{nearest(name, known)}; give one of {', '.join(known)}")


def build_trainer(
    config: TrainConfig, model: nn.Module, accelerator: Accelerator, batches: int, teacher: nn.Module | None = None
) -> Trainer:
    """Return the trainer with everything prepared by Accelerate and registered for its checkpoints."""
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    model = model.to(accelerator.device, memory_format=layout)  # pyright: ignore[reportCallIssue]  (not in torch's stubs)
    phases = build_recipe(config, model, accelerator.num_processes, teacher)
    updates_per_epoch = -(-batches // config.grad_accum_steps)
    schedulers = [_build_scheduler(config, phase, updates_per_epoch) for phase in phases]
    schedulers = [scheduler for scheduler in schedulers if scheduler is not None]
    ema = None
    if config.model_ema:
        ema = ModelEmaV3(model, decay=config.model_ema_decay, use_warmup=config.model_ema_warmup)
    task: nn.Module = TrainingTask(normalized(model), {phase.name: phase.loss for phase in phases})
    if config.torchcompile:
        _check_backend(config.torchcompile)
        task.compile(backend=config.torchcompile)
    task, *optimizers = accelerator.prepare(task, *[phase.optimizer for phase in phases])
    phases = tuple(replace(phase, optimizer=o) for phase, o in zip(phases, optimizers, strict=True))
    progress = Progress(license=getattr(model, "pretrained_cfg", {}).get("license"))
    accelerator.register_for_checkpointing(progress, *schedulers, *([ema] if ema else []))
    return Trainer(config, accelerator, task, model, phases, schedulers, progress, ema)
