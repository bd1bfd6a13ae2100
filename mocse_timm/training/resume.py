"""Which run is continued, and from which of its states."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate.utils import SCALER_NAME
from safetensors import SafetensorError

from mocse_timm.checks import BadInput
from mocse_timm.data.seeds import mixed_seed
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.loop import Trainer
from mocse_timm.training.processes import agreed
from mocse_timm.training.run_folder import RunFolder, differing_flag
from mocse_timm.training.state_files import StateFiles

__all__ = ["AUTO", "find_run", "load_state"]

AUTO = "auto"

# in an optimiser's groups of parameters: what does not follow from the flags; the second counts Lookahead's steps
STATE = ("params", "lookahead_step")
SWITCHES = ("amsgrad", "centered")
# What a state holds that follows from flags, by the flag that is named where it differs. Of most schedules and recipes
# that is the same; the optimiser's groups of parameters are one, one with and one without decay, or one a layer.
HELD: dict[str, Callable[[Mapping[str, Any]], Any]] = {
    "opt": lambda flags: flags["opt"],
    "sched": lambda flags: flags["sched"] if flags["sched"] in ("none", "plateau") else "a function of time",
    "recipe": lambda flags: flags["recipe"] == "advmoe",
    "model_ema": lambda flags: flags["model_ema"],
    "layer_decay": lambda flags: flags["layer_decay"] is None,
    "filter_bias_and_bn": lambda flags: flags["filter_bias_and_bn"],
    "weight_decay": lambda flags: (
        flags["filter_bias_and_bn"] and flags["layer_decay"] is None and flags["weight_decay"] == 0
    ),
}


def find_run(config: TrainConfig) -> Path | None:
    """Return the run that ``--resume auto`` continues, or None if a new one is to begin.

    With ``--experiment`` only that run counts. Without, the newest unfinished one of the same model and data does.
    """
    output = Path(config.output)
    if config.experiment:
        return output / config.experiment if RunFolder(output / config.experiment).can_be_continued() else None
    folders = [path.parent for path in output.glob("*/config.yaml")]
    for folder in sorted(folders, key=lambda folder: (folder / "config.yaml").stat().st_mtime, reverse=True):
        run = RunFolder(folder)
        if not run.can_be_continued():
            continue
        flags = run.flags()
        epochs, _ = StateFiles.reached(run.states.states()[0])
        if epochs < flags.get("epochs", 0) and differing_flag(flags, config) is None:
            return folder
    return None


@contextmanager
def _reading_no_code() -> Iterator[None]:
    """Let torch read files as plain tensors and numbers only inside the block, whatever its caller asks for.

    Accelerate reads what is registered for its checkpoints with ``weights_only=False``, which executes a pickle.
    """
    name = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})


@contextmanager
def _flags_kept(trainer: Trainer) -> Iterator[None]:
    """Load a state inside the block and keep what follows from the flags: typed ones win over those of the state.

    That is all of timm's schedulers, which are functions of the progress, and the options of the optimisers. Only the
    learning rate of ``plateau`` depends on the past; it is scaled where the rate it began with has changed.

    Raises:
        ValueError: if an option is switched on or off on which hangs what an optimiser keeps.
    """
    schedules = [dict(vars(scheduler)) for scheduler in trainer.schedulers]
    built = [[dict(group) for group in phase.optimizer.param_groups] for phase in trainer.phases]
    yield
    for scheduler, attributes in zip(trainer.schedulers, schedules, strict=True):
        vars(scheduler).update(attributes)
    for phase, groups in zip(trainer.phases, built, strict=True):
        for group, before in zip(phase.optimizer.param_groups, groups, strict=True):
            options: dict[str, Any] = {k: v for k, v in before.items() if k not in STATE}
            for name in SWITCHES:
                if options.get(name) != group.get(name):
                    raise ValueError(f"the optimiser's {name} was {group.get(name)}")
            if trainer.config.sched == "plateau" and trainer.progress.epoch:
                options["lr"] = group["lr"] * (options["initial_lr"] / group["initial_lr"])
            group.update(options)


def _load(trainer: Trainer, state: Path) -> bool:
    """Load ``state``; return whether this process's random states were among it, whose lack Accelerate passes over."""
    accelerator = trainer.accelerator
    torch.manual_seed(mixed_seed("continued", trainer.config.seed, accelerator.process_index))
    last_set = torch.cuda.get_rng_state if torch.cuda.is_available() else torch.get_rng_state
    before = last_set()
    with _reading_no_code(), _flags_kept(trainer):
        accelerator.load_state(str(state))
    return not torch.equal(before, last_set())


def _check_flags(before: Mapping[str, Any], config: TrainConfig, where: str) -> None:
    """Refuse ``config`` where a state of the flags ``before`` is of another kind than its own; ``where`` names it."""
    now = vars(config)
    then = {**now, **before}
    for name, held in HELD.items():
        if held(then) != held(now):
            value = then[name]
            switch = isinstance(value, bool)
            flag = f"--no-{config.flag(name)[2:]}" if value is False else config.flag(name)
            raise BadInput(f"{where} is a state of {flag if switch else f'{flag} {value}'}: continue with that")


def load_state(trainer: Trainer, folder: RunFolder, warn: Callable[[str], None]) -> Path:
    """Take up the newest state of the run that is as it was written, and return its path; every process takes part.

    Args:
        trainer: built from the run's flags, nothing trained.
        folder: of the run.
        warn: told in a sentence what cannot be used.

    Raises:
        BadInput: if there is no such state, or it does not fit the trainer or the number of processes.
    """
    accelerator, progress = trainer.accelerator, trainer.progress

    def damaged(state: Path, reason: str) -> None:
        warn(f"{state} is damaged ({reason}) and is not used")

    state = agreed(lambda: folder.states.newest_whole(damaged), accelerator)
    if state is None:
        raise BadInput(f"--resume {folder.path}: none of its saved states can be used; start a new run")
    if not state.is_dir():
        raise BadInput(f"--resume {folder.path}: {state} is not on this machine; all must share the folder --output")
    processes = len(list(state.glob("random_states_*.pkl")))
    epoch, step = StateFiles.reached(state)
    if step and processes != accelerator.num_processes:
        raise BadInput(
            f"--resume {folder.path}: it stands in the middle of epoch {epoch + 1}, which {processes} process(es) had "
            f"shared out, not {accelerator.num_processes}: continue with as many"
        )
    before = folder.flags()
    _check_flags(before, trainer.config, f"--resume {folder.path}: {state.name}")
    if accelerator.scaler is not None and not (state / SCALER_NAME).is_file():
        raise BadInput(
            f"--resume {folder.path}: {state.name} is of a training whose gradients were not scaled, as --amp-dtype "
            "float16 needs it: continue with --amp-dtype bfloat16 or --no-amp"
        )
    for name in ("batch_size", "grad_accum_steps", "seed"):
        if step and before.get(name) != getattr(trainer.config, name):
            raise BadInput(
                f"--resume {folder.path}: it stands in the middle of epoch {epoch + 1}, which was begun with "
                f"{trainer.config.flag(name)} {before.get(name)}: continue with that"
            )
    try:
        restored = _load(trainer, state)
    except (ValueError, KeyError, RuntimeError, UnpicklingError, SafetensorError) as error:
        raise BadInput(
            f"--resume {folder.path}: {state.name} does not fit these flags ({' '.join(str(error).split())})"
        ) from None
    if not restored:
        warn(f"{state} holds no random states for this process: dropout and attacks draw anew from here on")
    if step:
        progress.sums.restore(progress.saved_sums, accelerator)
    return state
