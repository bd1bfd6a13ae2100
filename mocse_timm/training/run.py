"""Train a model from flags: the story of train.py, in order."""

import dataclasses
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from accelerate import Accelerator
from accelerate.tracking import get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, LoggerType, set_seed
from tqdm.contrib.logging import logging_redirect_tqdm

import mocse_timm.models  # noqa: F401  (registers our models)
from mocse_timm.checks import BadInput, command
from mocse_timm.data.loaders import Loader
from mocse_timm.data.splits import DataSplits
from mocse_timm.evaluation.metrics import Scores
from mocse_timm.flags import parse_flags
from mocse_timm.training.build import build_data, build_loaders, build_model, build_trainer, check_data, image_size
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.loop import Trainer, train_epoch
from mocse_timm.training.out_of_memory import out_of_memory_advice
from mocse_timm.training.precision import bfloat16_is_emulated
from mocse_timm.training.processes import agreed, check_launch, check_same_folder, precision, use_main_statistics
from mocse_timm.training.results import evaluate, public_command, summary_row, write_results
from mocse_timm.training.resume import AUTO, find_run, load_state
from mocse_timm.training.run_folder import RunFolder
from mocse_timm.training.saver import Saver
from mocse_timm.training.settings import check_flags
from mocse_timm.training.signals import StopSignals
from mocse_timm.training.teacher import build_teacher

__all__ = ["main", "train"]

log = logging.getLogger("mocse_timm.train")

LARGEST_SHARE = 0.95  # of an epoch's images that one expert may get before a warning


def _parse(arguments: Sequence[str] | None) -> TrainConfig:
    """Read the flags; those of a resumed run come first, typed ones win."""
    description = "Train a timm model, on one process or, by 'accelerate launch train.py', on many."
    config = parse_flags(TrainConfig, arguments, description=description)
    folder = find_run(config) if config.resume == AUTO else Path(config.resume) if config.resume else None
    if folder is None:
        return replace(config, resume="")
    before = RunFolder(folder).flags()
    typed = config.resume
    config = parse_flags(TrainConfig, arguments, description=description, defaults=(before, folder / "config.yaml"))
    if typed != AUTO:  # the folder alone says where the run is: config.yaml keeps what it says of that
        config = replace(config, **{name: str(before[name]) for name in ("output", "experiment") if name in before})
    return replace(config, resume=str(folder))


def _check_tracker(name: str) -> None:
    """Refuse a tracker that Accelerate knows but cannot import, of which it only warns; others it refuses itself."""
    available = [str(tracker) for tracker in get_available_trackers()]
    if name in LoggerType.list() and not (available if name == "all" else name in available):
        package = "tensorboard" if name == "all" else name
        raise BadInput(f"--log-with {name}: no such tracker is installed here: pip install {package}")


def _accelerator(config: TrainConfig) -> Accelerator:
    if config.log_with:
        _check_tracker(config.log_with)
    # the turns of AdvMoE leave half of the parameters without gradients
    exchange = DistributedDataParallelKwargs(find_unused_parameters=config.recipe == "advmoe")
    try:
        accelerator = Accelerator(
            mixed_precision=precision(config),
            log_with=config.log_with,
            project_dir=config.output,
            kwargs_handlers=[exchange],
        )
    except (ValueError, ImportError) as error:
        raise BadInput(f"Accelerate refuses these flags: {' '.join(str(error).split())}") from None
    on_cpu = accelerator.device.type == "cpu"
    if on_cpu and precision(config) == "fp16":  # Accelerate would train in 32 bits and not say so
        raise BadInput("--amp-dtype float16 needs a GPU: use bfloat16 here")
    largest = 2**32 - accelerator.num_processes  # NumPy's seeds have 32 bits, and each process adds its number
    if not 0 <= config.seed <= largest:
        raise BadInput(f"--seed is {config.seed}: give a number from 0 to {largest}")
    return accelerator


class _LogFile(logging.FileHandler):
    """log.txt, which loses lines where the disk is full: the next save says so, in one sentence."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Pass over a refusal by the disk."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)

    def close(self) -> None:
        """Close the file, which writes what could not be written before."""
        with suppress(OSError):
            super().close()


@contextmanager
def _logging_to(folder: RunFolder, main_process: bool) -> Iterator[None]:
    """Send the log to the screen and to the run's log.txt inside the block, from the main process only."""
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stdout)]
    if main_process:
        file = _LogFile(folder.log, encoding="utf-8")
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


def _train_epochs(
    trainer: Trainer, folder: RunFolder, saver: Saver, train_loader: Loader, validation_loader: Loader, data: DataSplits
) -> Scores | None:
    config, accelerator, progress = trainer.config, trainer.accelerator, trainer.progress
    scores = None
    while progress.epoch < config.epochs:
        epoch = progress.epoch
        with out_of_memory_advice(config, trainer.model):
            means = train_epoch(trainer, train_loader, saver.after_step)
        progress.warned = progress.warned or _warn_of_one_expert(means, epoch)
        row: dict[str, float] = {}
        if (epoch + 1) % config.val_interval == 0 or epoch + 1 == config.epochs:
            for model in (trainer.model, *([trainer.ema.module] if trainer.ema else [])):
                use_main_statistics(model, accelerator)
            with out_of_memory_advice(config, trainer.model, validating=True):
                scores = evaluate(trainer, saver.watched(validation_loader), data.class_names)
            saver.before_results()
            row = summary_row(scores)
            if accelerator.is_main_process:
                write_results(trainer, folder, means, scores, data)
            progress.best_top1 = max(progress.best_top1, scores.top1)
            log.info(
                f"epoch {epoch + 1}/{config.epochs}: loss {means['loss']:.3f}, train {means['top1']:.2f} %, "
                f"validation {scores.top1:.2f} %, {means['images_per_second']:.0f} images/s"
            )
        for scheduler in trainer.schedulers:
            scheduler.step(epoch + 1, row.get("top1"))
        accelerator.log({f"train_{k}": v for k, v in means.items()} | {f"eval_{k}": v for k, v in row.items()}, epoch)
        progress.complete_epoch()
        saver.save()
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


def train(config: TrainConfig) -> Path:
    """Train as ``config`` says and return the run's folder.

    Everything is built and checked before the folder is made.

    Raises:
        BadInput: if a flag, the data or the model cannot be used, or the loss stops being finite.
        Stopped: after Ctrl-C or SIGTERM; once training goes on, its state is saved first.
    """
    check_flags(config)
    check_launch(config)
    with StopSignals() as signals:
        accelerator = _accelerator(config)
        folder = agreed(lambda: RunFolder.for_run(config, image_size(config)), accelerator)
        set_seed(config.seed)  # the same first weights in every process
        with accelerator.main_process_first():  # one downloads, the others find
            data = build_data(config, progress=accelerator.is_main_process)
        check_data(config, data, accelerator)
        model = build_model(config, data.num_classes)
        train_loader, validation_loader = build_loaders(config, data, accelerator)
        with accelerator.main_process_first():
            teacher = build_teacher(config, data, accelerator.device)
        trainer = build_trainer(config, model, accelerator, len(train_loader), teacher)
        set_seed(config.seed, device_specific=True)  # other dropout and mixing in every process
        with folder.held() if accelerator.is_main_process else nullcontext():
            accelerator.wait_for_everyone()
            check_same_folder(folder.path, accelerator)
            with _logging_to(folder, accelerator.is_main_process):
                _start(trainer, folder, data)
                saver = Saver(trainer, folder, signals)
                signals.defer()
                scores = _train_epochs(trainer, folder, saver, train_loader, validation_loader, data)
                accelerator.end_training()
                _finish(folder, trainer.progress.epoch, scores)
    return folder.path


def _start(trainer: Trainer, folder: RunFolder, data: DataSplits) -> None:
    """Load the state of a resumed run, write the flags, start the trackers and say what is about to happen."""
    config, accelerator = trainer.config, trainer.accelerator
    parameters = sum(parameter.numel() for parameter in trainer.model.parameters()) / 1e6
    log.info(
        f"{config.model} ({parameters:.2f} M parameters) on {data.name}: {len(data.train)} images to train, "
        f"{len(data.validation)} to validate, {data.num_classes} classes, {accelerator.num_processes} process(es) "
        f"on {accelerator.device.type}"
    )
    if config.amp and config.amp_dtype == "bfloat16" and bfloat16_is_emulated(accelerator.device):
        log.warning("--amp: this processor only emulates bfloat16, which is slow; leave the flag out here")
    if accelerator.is_main_process:
        folder.remove_unfinished()
    if config.resume:
        state = load_state(trainer, folder, log.warning)
        log.info(f"continuing from {state}")
    trainer.progress.follow(public_command(trainer, data))
    if accelerator.is_main_process and trainer.progress.epoch < config.epochs:  # else they lead to nothing
        folder.write_flags(config)
    if config.log_with:
        flags = dataclasses.asdict(config).items()
        accelerator.project_configuration.logging_dir = str(folder.path)
        accelerator.init_trackers("logs", {name: v for name, v in flags if isinstance(v, int | float | str)})


def _finish(folder: RunFolder, epochs: int, scores: Scores | None) -> None:
    if scores is None:
        log.info(f"nothing left to train: {folder.path} has {epochs} epochs behind it; give more --epochs")
        return
    log.info(f"validation accuracy {scores.top1:.2f} % on {scores.num_images} images")
    log.info(f"everything is in {folder.path}; to load it:")
    log.info(f'    import mocse_timm, timm; timm.create_model("local-dir:{folder.path}", pretrained=True)')


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Run train.py with ``arguments``, by default those of the process."""
    train(_parse(arguments))
