#!/usr/bin/env python3
"""What running all experts as one grouped network saves on a GPU: ``python benchmarks/grouped.py``.

Steps of training and inference of MoCSE with its experts as one network of as many groups, and one after the other, and
of the dense PreAct-18; ratios measured in one run, in which what is compared takes turns.
"""

import argparse
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import timm
import torch
from timing import alternate, at_least_one
from torch import Tensor
from train_speed import training_step

import mocse_timm  # noqa: F401  (registers the models)
from mocse_timm.models import mixture

MODELS: dict[str, dict[str, Any]] = {
    "mocse_preact18": {},
    "mocse_preact18_shared": {},
    "mocse_preact18 at expert_width 0.125": {"expert_width": 0.125},
    "mocse_preact18_shared at width 0.375, expert_width 0.125": {"width": 0.375, "expert_width": 0.125},
}


def inference(model: Any, images: Tensor) -> Callable[[], None]:
    """Return a function that runs the model without gradients, in bfloat16."""

    def run() -> None:
        model.eval()
        with torch.inference_mode(), torch.autocast(images.device.type, dtype=torch.bfloat16):
            model(images)

    return run


def in_turn(run: Callable[[], None]) -> Callable[[], None]:
    """Return ``run`` with the experts one after the other."""

    def alone() -> None:
        with patch.object(mixture, "grouped", lambda *_: None):
            run()

    return alone


def main() -> None:
    """Print two lines a model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch-size", type=at_least_one, default=256)
    parser.add_argument(
        "--repeats", type=at_least_one, default=10, help="timed calls of each function; the median counts"
    )
    flags = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("no GPU was found: elsewhere experts never run as one network")
    torch.manual_seed(0)
    images = torch.rand(flags.batch_size, 3, 32, 32, device="cuda").to(memory_format=torch.channels_last)
    labels = torch.randint(10, (flags.batch_size,), device="cuda")
    print(f"batch {flags.batch_size}, bf16, channels_last, {torch.cuda.get_device_name()}, torch {torch.__version__}")

    kinds: dict[str, Callable[[Any], Callable[[], None]]] = {
        "training": lambda model: training_step(model, images, labels, amp=True),
        "inference": lambda model: inference(model, images),
    }
    for name, options in MODELS.items():
        width: dict[str, Any] = {"width": 0.375} if "expert_width" in options else {}
        for kind, run_of in kinds.items():
            networks: dict[str, Any] = {
                "grouped": timm.create_model(name.split()[0], **options),
                "in turn": timm.create_model(name.split()[0], **options),
                "dense": timm.create_model("cifar_preact18", **width),
            }
            runs = {
                which: run_of(model.to("cuda", memory_format=torch.channels_last)) for which, model in networks.items()
            }
            times = alternate(runs | {"in turn": in_turn(runs["in turn"])}, flags.repeats)
            each = ", ".join(f"{which} {1000 * seconds:.1f} ms" for which, seconds in times.items())
            ratios = f"{times['in turn'] / times['grouped']:.2f} of the speed in turn"
            print(f"  {name}, {kind}: {each}: {ratios}, {times['dense'] / times['grouped']:.2f} of the dense network's")


if __name__ == "__main__":
    main()
