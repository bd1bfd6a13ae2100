"""A few steps of every kind of training, by one process or by several on the same global batches.

Run by ``accelerate launch`` this writes what happened into the folder named on the command line; called as a function
it returns the same. What one process sees and what several see together must lead to the same losses and weights, so
everything that may differ between them for good reasons is taken out:

- networks without batch norm, whose statistics are those of one process's images;
- no augmentation of images in memory, whose draws depend on the process;
- attacks that start from the same noise in every image instead of noise drawn process by process;
- weights in 64 bits, so that rounding does not turn the sign of a gradient that an attack follows.
"""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from PIL import Image
from routers import spread
from safetensors.torch import save_file
from torch import Tensor, nn

import mocse_timm.models  # noqa: F401  (registers our models)
from mocse_timm.checks import BadInput
from mocse_timm.data import DataSplits, FileImages, Loader, MemoryImages, build_loader
from mocse_timm.data.augmentation import Augmentation
from mocse_timm.evaluation.gather import gather_in_order, gather_rows
from mocse_timm.training.build import build_loaders, build_model, build_trainer
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.loop import Trainer, train_epoch
from mocse_timm.training.phases import LossResult, Phase, TrainingTask
from mocse_timm.training.processes import agreed, check_same_folder, launcher
from mocse_timm.training.progress import Progress
from mocse_timm.training.run import _accelerator

GLOBAL_BATCH = 16
IMAGES = 32
EPOCHS = 2

VIT: dict[str, Any] = {"model": "test_vit"}
MOCSE: dict[str, Any] = {"model": "mocse", "model_kwargs": {"backbone": "test_vit", "num_experts": 3}}
ADVMOE: dict[str, Any] = {
    "model": "advmoe",
    "model_kwargs": {"backbone": "test_vit", "num_experts": 5},
    "recipe": "advmoe",
    "router_lr": 1.0,
}
CASES: dict[str, dict[str, Any]] = {
    "dense": VIT | {"smoothing": 0.1},
    "convolutions": {"model": "test_convnext", "opt": "adamw", "lr_base": 0.0025},
    "clipped and accumulated": VIT | {"clip_grad": 0.5, "grad_accum_steps": 2, "model_ema": True},
    "clipped layer by layer": VIT | {"clip_grad": 0.01, "clip_mode": "agc"},
    "mocse": MOCSE,
    "pgd": VIT | {"recipe": "pgd", "attack_steps": 3},
    "pgd in l2": MOCSE | {"recipe": "pgd", "attack_norm": "l2", "epsilon": 0.5, "attack_steps": 2},
    "trades": MOCSE | {"recipe": "trades", "attack_steps": 3},
    "advmoe": ADVMOE | {"clip_grad": 1.0},
    "advmoe, class objective": ADVMOE | {"router_objective": "class"},
    "advmoe, accumulated, recomputed": ADVMOE | {"grad_accum_steps": 2, "grad_checkpointing": True},
    "advmoe, balanced": ADVMOE | {"balance_weight": 0.5},
}


class In64Bits:
    """A loader's batches with 64 bits a pixel."""

    def __init__(self, loader: Loader) -> None:
        self.loader = loader
        self.num_images = loader.num_images

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for images, labels in self.loader:
            yield images.double(), labels

    def set_epoch(self, epoch: int, first_batch: int = 0) -> None:
        self.loader.set_epoch(epoch, first_batch)


def images_for_uneven_experts() -> MemoryImages:
    """Images (32, 3, 32, 32) of which a :func:`routers.spread` over 5 experts sends many, some, some, none and one."""
    levels = torch.tensor([0.1] * 18 + [0.3] * 7 + [0.5] * 6 + [0.9])
    noise = torch.rand(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.2 - 0.1
    images = ((levels[:, None, None, None] + noise).clamp(0, 1) * 255).to(torch.uint8)
    return MemoryImages(images, torch.arange(IMAGES) % 4)


def _same_noise(draw: Any) -> Any:
    """Return ``draw`` with one generator for all calls and the same numbers for every image."""

    def drawn(*shape: Any, generator: torch.Generator | None = None, device: Any = None) -> Tensor:
        size = torch.Size(shape[0] if isinstance(shape[0], list | tuple) else shape)
        one = draw(size[1:], generator=torch.Generator().manual_seed(1), device=device)
        return one.expand(size).clone()

    return drawn


def train_case(flags: dict[str, Any]) -> dict[str, Any]:
    """Return the epochs' losses, the weights, and which experts each process's images of the first epoch take."""
    config = TrainConfig(**{"img_size": 32, "epochs": EPOCHS, "no_aug": True, "sched": "none", "seed": 5} | flags)
    accelerator = _accelerator(config)
    processes = accelerator.num_processes
    config = TrainConfig(**vars(config) | {"batch_size": GLOBAL_BATCH // processes})
    split = images_for_uneven_experts()
    data = DataSplits("made up", split, split, tuple("abcd"))
    torch.manual_seed(config.seed)
    model: Any = build_model(config, data.num_classes).double()
    if hasattr(model, "route"):
        spread(model).double()
    loader = In64Bits(build_loaders(config, data, accelerator)[0])
    trainer = build_trainer(config, model, accelerator, len(loader))
    taken = []
    if hasattr(model, "route"):
        with torch.no_grad():
            chosen = torch.cat([model.route(images).argmax(dim=1) for images, _ in loader])
        taken = accelerator.gather(torch.bincount(chosen, minlength=5)[None]).tolist()  # pyright: ignore[reportAttributeAccessIssue]
    means = []
    with patch("torch.randn", _same_noise(torch.randn)), patch("torch.rand", _same_noise(torch.rand)):
        for _ in range(config.epochs):
            means.append(train_epoch(trainer, loader))
            trainer.progress.complete_epoch()
    curve = [{name: mean for name, mean in epoch.items() if name != "images_per_second"} for epoch in means]
    average = trainer.ema.module.state_dict() if trainer.ema else {}
    weights = model.state_dict() | {f"average of {name}": value for name, value in average.items()}
    accelerator.free_memory()
    return {"curve": curve, "experts": taken, "weights": {k: v.clone().contiguous() for k, v in weights.items()}}


class Numbered:
    """A data set of 37 images whose labels are their places."""

    def __len__(self) -> int:
        return 37

    def __getitem__(self, index: int) -> tuple[Image.Image, int]:
        return Image.new("RGB", (8, 8)), index


def images_of_loaders(accelerator: Accelerator) -> dict[str, list[int]]:
    """Return the numbers of the images that all processes together get from each kind of loader, in two epochs."""
    memory = MemoryImages(torch.zeros(37, 3, 8, 8, dtype=torch.uint8), torch.arange(37))
    seen = {}
    for name, split in {"memory": memory, "files": FileImages(Numbered())}.items():
        for training in (True, False):
            loader = build_loader(
                split,
                training=training,
                batch_size=8 // accelerator.num_processes,
                image_size=8,
                augmentation=Augmentation(no_aug=True),
                process_index=accelerator.process_index,
                num_processes=accelerator.num_processes,
            )
            for epoch in (0, 1):
                loader.set_epoch(epoch)
                labels = torch.cat([labels for _, labels in loader])
                gather = gather_rows if training else gather_in_order
                seen[f"{name}, {'training' if training else 'validation'}, {epoch}"] = gather(
                    labels, accelerator
                ).tolist()
    return seen


def refusals(folder: Path, accelerator: Accelerator) -> list[str]:
    """Return what this process hears when the main one finds a fault, and when only the main one sees a folder."""
    heard = []

    def refuse() -> None:
        assert accelerator.is_main_process, "only the main process decides"
        raise BadInput("the main process refuses")

    seen = folder if accelerator.is_main_process else folder / "elsewhere"
    for check in (lambda: agreed(refuse, accelerator), lambda: check_same_folder(seen, accelerator)):
        try:
            check()
        except BadInput as error:
            heard.append(str(error))
    check_same_folder(folder, accelerator)
    return heard


def divergence(accelerator: Accelerator) -> str:
    """Return what this process hears of a loss that is not a number in the last process alone."""
    factor = math.nan if accelerator.process_index == accelerator.num_processes - 1 else 1.0

    def loss(model: nn.Module, images: Tensor, targets: Tensor) -> LossResult:
        logits = model(images.flatten(1))
        return LossResult(factor * logits.sum(), logits)

    model = nn.Linear(3 * 32 * 32, 4)
    phase = Phase("standard", loss, torch.optim.SGD(model.parameters(), lr=0.1))
    task = TrainingTask(model, {phase.name: loss})  # not wrapped: gradients are not exchanged
    loader = build_loader(images_for_uneven_experts(), training=True, batch_size=8, image_size=32)
    try:
        train_epoch(Trainer(TrainConfig(), accelerator, task, model, (phase,), [], Progress()), loader)
    except BadInput as error:
        return str(error)
    return ""


def main(folder: Path) -> None:
    """Train every case and let the main process write it down."""
    results = {name: train_case(flags) for name, flags in CASES.items()}
    accelerator = Accelerator()
    facts = {
        "cases": results,
        "images": images_of_loaders(accelerator),
        "agreed": gather_object([agreed(lambda: accelerator.process_index, accelerator)]),
        "launcher": launcher(accelerator),
        "refusals": gather_object([refusals(folder, accelerator)]),
        "divergence": gather_object([divergence(accelerator)]),
    }
    if accelerator.is_main_process:
        for name, result in results.items():
            save_file(result.pop("weights"), folder / f"{name}.safetensors")
        (folder / "results.json").write_text(json.dumps(facts))
    accelerator.end_training()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
