"""The trainings that faults are tried on: a second or two long, of 10 steps in 2 epochs, on images of 8x8 pixels."""

import signal
from pathlib import Path

import numpy as np
from images_on_disk import random_pixels, write_image
from run_results import states
from trainings import Trainings, wait_until

__all__ = ["SMALL", "SmallTrainings", "write_images"]

SMALL = {
    "standard": "--model cifar_preact18 --model-kwargs width=0.125 -b 128 --grad-accum-steps 2 --model-ema --mixup 0.2",
    "mocse": "--model mocse_preact18 --model-kwargs expert_width=0.125 num_experts=3 -b 256",
    "advmoe": "--model advmoe_resnet18 --model-kwargs width=0.0625 -b 32 --recipe advmoe --attack-steps 1",
}
OFTEN = ("--save-every", "1", "steps")
KEPT = 4  # states that a stopped training has


def write_images(folder: Path, *, training: int = 40, validation: int = 10, side: int = 8) -> str:
    """Write so many random images for each of 4 classes, and return the value of --dataset that names them."""
    for part, count in (("train", training), ("val", validation)):
        for label in range(4):
            for number in range(count):
                pixels = random_pixels(1000 * label + number + 500 * (part == "val"), side, side)
                pixels = np.minimum(pixels, 64 * label + 63).astype(np.uint8)  # brighter classes: something to learn
                write_image(folder / part / f"class{label}" / f"{number}.png", pixels)
    return f"folder:{folder}"


class SmallTrainings:
    """The flags of small trainings, and what comes of them, trained once.

    AdvMoE, which attacks every image, learns few images from a folder; the others the embedded digits.

    Args:
        trainings: starts them.
        folder: where the images and the runs are written.
    """

    def __init__(self, trainings: Trainings, folder: Path) -> None:
        self.trainings = trainings
        self.folder = folder
        self.images = write_images(folder / "images")

    def flags(self, kind: str, run: Path, *more: str) -> list[str]:
        """Return the flags of the training ``kind`` into the folder ``run``, which it continues if it can."""
        where = ["--output", str(run.parent), "--experiment", run.name, "--resume", "auto"]
        data = ["--dataset", self.images] if kind == "advmoe" else []
        return [*SMALL[kind].split(), *where, *data, "--img-size", "8", "--epochs", "2", "--seed", "3", *more]

    def uninterrupted(self, kind: str, *more: str) -> Path:
        """Return the folder of a training that nothing happened to, with as few saves as there can be."""
        run = self.folder / "-".join(["whole", kind, *more])
        if not run.exists():
            training = self.trainings.run(*self.flags(kind, run, *more))
            assert training.code == 0, training.said
        return run

    def stopped(self, kind: str) -> Path:
        """Return the folder of a training killed in its second epoch, with several states. Copy it before use."""
        run = self.folder / f"stopped-{kind}"
        if not run.exists():
            training = self.trainings.start(*self.flags(kind, run, *OFTEN, "--checkpoint-hist", str(KEPT)))
            second = run / "states" / "epoch-0001-step-000002"
            wait_until(lambda: second.exists() or training.ended(), "a state of the second epoch")
            training.send(signal.SIGKILL)
            assert training.wait() == -signal.SIGKILL and len(states(run)) >= KEPT, training.said
        return run
