"""What a training leaves after an epoch: its row, the model, and the best model so far."""

import dataclasses
import math
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mocse_timm.checks import BadInput
from mocse_timm.data.splits import DataSplits
from mocse_timm.evaluation.gather import gather_rows
from mocse_timm.evaluation.metrics import Scores, score
from mocse_timm.evaluation.predictions import NotFinite, predict
from mocse_timm.flags import changed_flags
from mocse_timm.models.normalized import normalized
from mocse_timm.models.saving import save_model
from mocse_timm.provenance import hardware, versions
from mocse_timm.training.build import image_facts
from mocse_timm.training.loop import Trainer
from mocse_timm.training.processes import launcher
from mocse_timm.training.run_folder import RunFolder

__all__ = ["evaluate", "public_command", "summary_row", "write_results"]

# flags that say where and how the run is watched and saved, not what is learned
WHERE = (
    "data_dir",
    "output",
    "experiment",
    "resume",
    "save_every",
    "checkpoint_hist",
    "workers",
    "check_images",
    "log_interval",
    "log_with",
)
LOCAL = "local-dir:"


def evaluate(trainer: Trainer, batches: Iterable[tuple[Tensor, Tensor]], class_names: tuple[str, ...]) -> Scores:
    """Return the scores on the validation images of all processes, of the averaged weights where there are any.

    Raises:
        BadInput: if weights or class scores are not finite.
    """
    config, accelerator = trainer.config, trainer.accelerator
    model = normalized(trainer.ema.module if trainer.ema else trainer.model)
    trainer.check_weights(model.state_dict().items())
    try:
        predictions = predict(
            model,
            batches,
            device=accelerator.device,
            amp_dtype=getattr(torch, config.amp_dtype) if config.amp else None,
            channels_last=config.channels_last,
            progress=accelerator.is_main_process,
            gather=partial(gather_rows, accelerator=accelerator),
        )
    except NotFinite:
        raise BadInput(
            f"after epoch {trainer.progress.epoch + 1} the model gives NaN or infinite class scores: "
            f"{trainer.divergence_advice}"
        ) from None
    return score(predictions, class_names)


def summary_row(scores: Scores) -> dict[str, float]:
    """Return the columns of summary.csv: timm's, then calibration and the means over the experts."""
    row = {"loss": scores.loss, "top1": scores.top1, "top5": scores.top5, "ece": scores.ece}
    for name in ("precision", "recall", "auroc"):
        values = [getattr(expert, name) for expert in scores.experts or ()]
        known = [value for value in values if value is not None]
        if values:
            row[f"expert_{name}"] = sum(known) / len(known) if known else float("nan")
    return row


def _public(option: Any) -> Any:
    """Return an option of the model; of a path that leads out of the working directory only its last part."""
    if not isinstance(option, str):
        return option
    source = option[: len(LOCAL)] if option.lower().startswith(LOCAL) else ""  # timm takes it in any case
    path = Path(option.removeprefix(source))
    return f"{source}{path.name}" if path.is_absolute() or ".." in path.parts else option


def public_command(trainer: Trainer, data: DataSplits) -> str:
    """Return the command that trains as ``trainer`` does, without private paths and addresses."""
    options = {name: _public(option) for name, option in trainer.config.model_kwargs.items()}
    public = dataclasses.replace(
        trainer.config,
        dataset=data.public_name,
        model_kwargs=options,
        kd_model_name=_public(trainer.config.kd_model_name),
    )
    start = launcher(trainer.accelerator, public=True)
    return f"{start} train.py {changed_flags(public, leave_out=WHERE)}".strip()


def _facts(trainer: Trainer, data: DataSplits, scores: Scores) -> dict[str, Any]:
    """Return what config.json says about how the weights came to be; it is public where the weights are."""
    config = trainer.config
    known = {name: value for name, value in summary_row(scores).items() if math.isfinite(value)}  # JSON has no NaN
    begun = trainer.progress.commands
    earlier = [
        {"command": command, "epochs": epoch, "steps": step}
        for (_, _, command), (epoch, step, _) in zip(begun, begun[1:], strict=False)
    ]
    return {
        "recipe": config.recipe,
        "command": public_command(trainer, data),
        **({"earlier_commands": earlier} if earlier else {}),
        "dataset": data.public_name,
        "train_images": len(data.train),
        "epochs": trainer.progress.epoch + 1,
        "seed": config.seed,
        "weights": "average" if trainer.ema else "last",
        "validation": known | {"num_images": scores.num_images},
        "hardware": hardware(trainer.accelerator.device, trainer.accelerator.num_processes),
        "versions": versions(),
    }


def _correct_timm_facts(model: Any, images: dict[str, Any]) -> None:
    """Replace what timm's facts on ``model``, which go into config.json, say of ``images``."""
    cfg, size = model.pretrained_cfg, images["input_size"][-1]
    if cfg.get("pool_size"):  # side of the last feature map
        cfg["pool_size"] = tuple(-(-side * size // cfg["input_size"][-1]) for side in cfg["pool_size"])
    cfg.update(images, test_input_size=None, test_crop_pct=None, test_pool_size=None)


def write_results(
    trainer: Trainer, folder: RunFolder, means: dict[str, float], scores: Scores, data: DataSplits
) -> None:
    """Write the row and the model of the epoch under way, and keep the model as the best if it is; main process only.

    Raises:
        BadInput: if the folder cannot be written.
    """
    epoch = trainer.progress.epoch
    model: Any = trainer.ema.module if trainer.ema else trainer.model
    facts = _facts(trainer, data, scores)
    _correct_timm_facts(model, image_facts(trainer.config, data))
    model.pretrained_cfg["license"] = trainer.progress.license
    folder.write_summary(epoch, means, summary_row(scores), trainer.learning_rate)
    with folder.writing():
        save_model(model, folder.path, facts=facts, class_names=data.class_names)
        if scores.top1 > trainer.progress.best_top1:
            folder.best.mkdir(exist_ok=True)
            best = facts | {"weights": "best average" if trainer.ema else "best"}
            save_model(model, folder.best, facts=best, class_names=data.class_names)
