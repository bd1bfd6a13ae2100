#!/usr/bin/env python3
"""What saving the state of a training costs at one save a minute: ``python benchmarks/saving.py``.

For a small and a large model, by the function that train.py calls: the seconds of a save as a share of a minute, how
many of them this process computed or wrote (and did not wait for a core or the disk), how much of a save is checksums,
and its ratio to a bare write of as many bytes. What is compared runs in turns, so a drifting machine hurts all alike.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path
from unittest.mock import patch

import torch
from accelerate import Accelerator
from timing import alternate, at_least_one

from mocse_timm.training.build import build_model, build_trainer
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.run_folder import RunFolder
from mocse_timm.training.saver import Saver
from mocse_timm.training.signals import StopSignals

MINUTE = 60  # seconds from the start of one save to that of the next
GOAL = 3  # percent of it


def saver_after_a_step(config: TrainConfig, run: Path) -> Saver:
    """Return what saves a training into ``run``, after one step on random images, which leaves momentum to save."""
    accelerator = Accelerator(cpu=not torch.cuda.is_available())
    trainer = build_trainer(config, build_model(config, num_classes=10), accelerator, batches=10)
    images = torch.rand(2, 3, 32, 32, device=accelerator.device)
    labels = torch.arange(2, device=accelerator.device)
    (phase,) = trainer.phases
    loss, _, _ = trainer.task(phase.name, images, labels)
    accelerator.backward(loss)
    phase.optimizer.step()
    phase.optimizer.zero_grad()
    trainer.progress.sums.add({"loss": loss}, len(images))
    return Saver(trainer, RunFolder(run), StopSignals())


def measure(config: TrainConfig, work: Path, repeats: int) -> None:
    """Print what a save of this training costs."""
    saver = saver_after_a_step(config, work / "run")
    progress, files = saver.trainer.progress, saver.folder.states

    busy: list[float] = []

    def save() -> None:
        progress.step += 1
        start = time.process_time()
        saver.save()
        busy.append(time.process_time() - start)

    def save_unchecked() -> None:
        with patch("mocse_timm.training.state_files.sha256", lambda file: "unknown"):
            progress.step += 1
            saver.save()

    save()
    size = sum(path.stat().st_size for path in files.states()[0].iterdir())
    content = bytes(size)
    steps = {
        "save": save,
        "unchecked": save_unchecked,
        "bare": lambda: (work / "bare").write_bytes(content),
    }
    seconds = alternate(steps, repeats)
    share = 100 * seconds["save"] / MINUTE
    checksums = 100 * (1 - seconds["unchecked"] / seconds["save"])
    parameters = sum(parameter.numel() for parameter in saver.trainer.model.parameters()) / 1e6
    print(f"{config.model}, {parameters:.2f} M parameters: a state of {size / 1e6:.1f} MB in {seconds['save']:.3f} s")
    print(f"  share of training at a save a minute: {share:.2f} % (goal {GOAL} %)")
    print(f"  of it on a core: {statistics.median(busy):.3f} s, {100 * statistics.median(busy) / MINUTE:.2f} %")
    print(f"  checksums, share of a save: {checksums:.0f} %")
    print(f"  save over a bare write, seconds: {seconds['save'] / seconds['bare']:.1f}")


def main() -> None:
    """Measure both models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=at_least_one, default=5)
    parser.add_argument("--model-ema", action="store_true", help="save averaged weights, too")
    flags = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    models = {"mocse_preact18": 0.125, "mocse_wrn28_10": 0.5}
    for model, width in models.items():
        config = TrainConfig(model=model, model_kwargs={"expert_width": width}, model_ema=flags.model_ema)
        with tempfile.TemporaryDirectory() as work:
            measure(config, Path(work), flags.repeats)


if __name__ == "__main__":
    main()
