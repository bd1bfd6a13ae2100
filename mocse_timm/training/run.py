"""Train a model from flags: the story of train.py, in order."""

import dataclasses
import logging
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedDataParallelKwargs, set_seed
from tqdm.contrib.logging import logging_redirect_tqdm

import mocse_timm.models  # noqa: F401  (registers our models)
from mocse_timm.checks import BadInput, command
from mocse_timm.data.loaders import Loader
from mocse_timm.data.splits import DataSplits
from mocse_timm.evaluation.gather import gather_rows
from mocse_timm.evaluation.metrics import Scores, score
from mocse_timm.evaluation.predictions import NotFinite, predict
from mocse_timm.flags import changed_flags, parse_flags
from mocse_timm.models.normalized import normalized
from mocse_timm.models.saving import save_model
from mocse_timm.provenance import hardware, versions
from mocse_timm.training.build import build_data, build_loaders, build_model, build_trainer, image_size
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.loop import Trainer, train_epoch
from mocse_timm.training.run_folder import RunFolder, read_run_flags

__all__ = ["main", "train"]

log = logging.getLogger("mocse_timm.train")

# flags that say where and how the run is watched, not what is learned
WHERE = ("data_dir", "output", "experiment", "resume", "workers", "log_interval", "log_with")
LARGEST_SHARE = 0.95  # of an epoch's images that one expert may get before a warning


def _parse(arguments: Sequence[str] | None) -> TrainConfig:
    """Read the flags; with ``--resume RUN`` that run's flags come first and typed ones win."""
    description = "Train a timm model, on one process or, by 'accelerate launch train.py', on many."
    typed = list(sys.argv[1:] if arguments is None else arguments)
    config = parse_flags(TrainConfig, typed, description=description)
    if not config.resume:
        return config
    folder = Path(config.resume)
    read_run_flags(folder)
    return parse_flags(TrainConfig, ["--config", str(folder / "config.yaml"), *typed], description=description)


def _accelerator(config: TrainConfig, output: Path) -> Accelerator:
    precision = {"bfloat16": "bf16", "float16": "fp16"}[config.amp_dtype] if config.amp else "no"
    # the turns of AdvMoE leave half of the parameters without gradients
    exchange = DistributedDataParallelKwargs(find_unused_parameters=config.recipe == "advmoe")
    try:
        return Accelerator(
            mixed_precision=precision,
            log_with=config.log_with,
            project_dir=str(output),
            kwargs_handlers=[exchange],
        )
    except (ValueError, ImportError) as error:
        raise BadInput(f"Accelerate refuses these flags: {' '.join(str(error).split())}") from None


@contextmanager
def _logging_to(folder: RunFolder, main_process: bool) -> Iterator[None]:
    """Send the log to the screen and to the run's log.txt inside the block, from the main process only."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if main_process:
        file = logging.FileHandler(folder.log, encoding="utf-8")
        file.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        handlers.append(file)
    log.propagate = False
    log.setLevel(logging.INFO if main_process else logging.ERROR)
    for handler in handlers:
        log.addHandler(handler)
    try:
        with logging_redirect_tqdm(loggers=[log]):
            yield
    finally:
        for handler in handlers:
            log.removeHandler(handler)
            handler.close()


def _evaluate(trainer: Trainer, loader: Loader, class_names: Sequence[str]) -> Scores:
    config, accelerator = trainer.config, trainer.accelerator
    model = normalized(trainer.ema.module if trainer.ema else trainer.model)
    try:
        predictions = predict(
            model,
            loader,
            device=accelerator.device,
            amp_dtype=getattr(torch, config.amp_dtype) if config.amp else None,
            channels_last=config.channels_last,
            progress=accelerator.is_main_process,
            gather=partial(gather_rows, accelerator=accelerator),
        )
    except NotFinite:
        raise BadInput(
            f"after epoch {trainer.progress.epoch} the model gives NaN or infinite class scores: "
            f"{trainer.divergence_advice}"
        ) from None
    return score(predictions, class_names)


def _summary_row(scores: Scores) -> dict[str, float]:
    """Return the columns of summary.csv: timm's, then calibration and the means over the experts."""
    row = {"loss": scores.loss, "top1": scores.top1, "top5": scores.top5, "ece": scores.ece}
    for name in ("precision", "recall", "auroc"):
        values = [getattr(expert, name) for expert in scores.experts or ()]
        known = [value for value in values if value is not None]
        if values:
            row[f"expert_{name}"] = sum(known) / len(known) if known else float("nan")
    return row


def _command(config: TrainConfig, data: DataSplits) -> str:
    """Return the command that trains the same model again, without private paths."""
    public = dataclasses.replace(config, dataset=data.public_name)
    return f"python train.py {changed_flags(public, leave_out=WHERE)}".strip()


def _facts(trainer: Trainer, data: DataSplits, scores: Scores) -> dict[str, Any]:
    """Return what config.json says about how the weights came to be; it is public where the weights are."""
    config = trainer.config
    known = {name: value for name, value in _summary_row(scores).items() if math.isfinite(value)}  # JSON has no NaN
    return {
        "recipe": config.recipe,
        "command": _command(config, data),
        "dataset": data.public_name,
        "epochs": trainer.progress.epoch,
        "seed": config.seed,
        "weights": "average" if trainer.ema else "last",
        "validation": known | {"num_images": scores.num_images},
        "hardware": hardware(trainer.accelerator.device, trainer.accelerator.num_processes),
        "versions": versions(),
    }


def _train_epochs(
    trainer: Trainer, folder: RunFolder, train_loader: Loader, validation_loader: Loader, data: DataSplits
) -> Scores | None:
    config, accelerator, progress = trainer.config, trainer.accelerator, trainer.progress
    scores, warned = None, False
    for epoch in range(progress.epoch, config.epochs):
        means = train_epoch(trainer, train_loader, epoch)
        progress.epoch = epoch + 1
        warned = warned or _warn_of_one_expert(means, epoch)
        row: dict[str, float] = {}
        if progress.epoch % config.val_interval == 0 or progress.epoch == config.epochs:
            scores = _evaluate(trainer, validation_loader, data.class_names)
            row = _summary_row(scores)
            if accelerator.is_main_process:
                _write_results(trainer, folder, epoch, means, scores, data)
        for scheduler in trainer.schedulers:
            scheduler.step(progress.epoch, row.get("top1"))
        accelerator.log({f"train_{k}": v for k, v in means.items()} | {f"eval_{k}": v for k, v in row.items()}, epoch)
        folder.save_state(accelerator)
    return scores


def _warn_of_one_expert(means: dict[str, float], epoch: int) -> bool:
    """Say so, and return True, if a router sent nearly all images of an epoch to one expert."""
    shares = {name: mean for name, mean in means.items() if name.endswith("_share")}
    largest = max(shares, key=shares.__getitem__, default="")
    if len(shares) < 2 or shares[largest] <= LARGEST_SHARE:
        return False
    log.warning(
        f"in epoch {epoch + 1} the router sent {100 * shares[largest]:.1f} % of the images to "
        f"{largest.removesuffix('_share')}: the others learn little; try --balance-weight 0.1 or another --router-lr"
    )
    return True


def _write_results(
    trainer: Trainer,
    folder: RunFolder,
    epoch: int,
    means: dict[str, float],
    scores: Scores,
    data: DataSplits,
) -> None:
    folder.append_summary(epoch, means, _summary_row(scores), trainer.learning_rate)
    model = trainer.ema.module if trainer.ema else trainer.model
    save_model(model, folder.path, facts=_facts(trainer, data, scores), class_names=data.class_names)
    log.info(
        f"epoch {epoch + 1}/{trainer.config.epochs}: loss {means['loss']:.3f}, train {means['top1']:.2f} %, "
        f"validation {scores.top1:.2f} %, {means['images_per_second']:.0f} images/s"
    )


def train(config: TrainConfig) -> Path:
    """Train as ``config`` says and return the run's folder.

    Everything is built and checked before the folder is made.

    Raises:
        BadInput: if a flag, the data or the model cannot be used, or the loss stops being finite.
    """
    config.check()
    folder = RunFolder.for_run(config, image_size(config))
    accelerator = _accelerator(config, folder.path)
    set_seed(config.seed)  # the same first weights in every process
    with accelerator.main_process_first():  # one downloads, the others find
        data = build_data(config, progress=accelerator.is_main_process)
    model = build_model(config, data.num_classes)
    train_loader, validation_loader = build_loaders(config, data, accelerator)
    trainer = build_trainer(config, model, accelerator, len(train_loader))
    set_seed(config.seed, device_specific=True)  # other dropout and mixing in every process
    if accelerator.is_main_process:
        folder.create(config)
    accelerator.wait_for_everyone()
    with _logging_to(folder, accelerator.is_main_process):
        _start(trainer, folder, data)
        scores = _train_epochs(trainer, folder, train_loader, validation_loader, data)
        accelerator.end_training()
        if scores is None:
            log.info(f"nothing left to train: {folder.path} has its {config.epochs} epochs; give more --epochs")
            return folder.path
        log.info(f"validation accuracy {scores.top1:.2f} % on {scores.num_images} images")
        log.info(f"everything is in {folder.path}; to load it:")
        log.info(f'    import mocse_timm, timm; timm.create_model("local-dir:{folder.path}", pretrained=True)')
    return folder.path


def _start(trainer: Trainer, folder: RunFolder, data: DataSplits) -> None:
    """Load the state of a resumed run, start the trackers and say what is about to happen."""
    config, accelerator = trainer.config, trainer.accelerator
    if config.resume:
        folder.load_state(accelerator)
        if accelerator.is_main_process:
            folder.drop_summary_from(trainer.progress.epoch)
    if config.log_with:
        flags = dataclasses.asdict(config).items()
        accelerator.init_trackers("logs", {name: v for name, v in flags if isinstance(v, int | float | str)})
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters()) / 1e6
    log.info(
        f"{config.model} ({parameters:.2f} M parameters) on {data.name}: {len(data.train)} images to train, "
        f"{len(data.validation)} to validate, {data.num_classes} classes, {accelerator.num_processes} process(es) "
        f"on {accelerator.device.type}"
    )


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run train.py with ``arguments``, by default those of the process."""
    train(_parse(arguments))
