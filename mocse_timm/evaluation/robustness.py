"""Accuracy under attack, and what attacks do to a router.

Letters: N images, C classes, E experts.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from mocse_timm.attacks.autoattack import FEWEST_CLASSES, require_autoattack
from mocse_timm.attacks.budget import Budget, Norm
from mocse_timm.attacks.pgd import pgd_l2, pgd_linf
from mocse_timm.attacks.router import router_attack
from mocse_timm.checks import BadInput
from mocse_timm.evaluation.autoattack_run import run_autoattack
from mocse_timm.evaluation.image_answers import pack
from mocse_timm.evaluation.sanity import Check, check_gradients
from mocse_timm.modes import evaluating

__all__ = ["RobustScores", "RoutingScores", "check_attacks", "parse_attacks", "score_robustness"]

ROUTER_STEPS = 20
CHECKED = 64  # images that the sanity checks look at


@dataclass(frozen=True)
class RoutingScores:
    """How a router shares out clean images, and how many an attack sends elsewhere."""

    use: list[float]
    """Percent of the images each expert gets, E numbers."""
    use_by_class: dict[str, list[float] | None]
    """The same for the images of each class; None for a class without images."""
    entropy: float
    """Mean entropy of the router's probabilities, nats; ln E where it cannot decide."""
    flipped: dict[str, float]
    """Percent of the images that each attack sends to another expert."""


@dataclass(frozen=True)
class RobustScores:
    """Accuracies on one fixed subset; percent."""

    num_images: int
    epsilon: float
    norm: str
    clean_top1: float
    robust_top1: dict[str, float]
    """Accuracy under each attack, by its name."""
    checks: list[Check]
    routing: RoutingScores | None = None
    options: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Steps and step size of each attack."""
    images: str = ""
    """A fingerprint of which images were attacked: equal in two reports, they can be compared in pairs; empty where it
    is not known."""
    clean_sha256: str | None = None
    """See :func:`mocse_timm.data.images_digest.images_digest`; None where it is not known."""
    correct: dict[str, str] = field(default_factory=dict)
    """Whether each image is named right, under each attack and, as ``none``, before: (N,) answers, packed as
    :mod:`mocse_timm.evaluation.image_answers` has it; empty where they are not known."""


def parse_attacks(text: str) -> list[str]:
    """Return the attacks named in ``text``, such as ``pgd20,autoattack``.

    Raises:
        BadInput: for a name that is none of pgdSTEPS, autoattack and router, for none at all in a text that is not
            empty, or if AutoAttack is not installed.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if text and not names:
        raise BadInput(f"--attack {text!r} names no attack; give pgd20 (or another number of steps), or leave it out")
    for name in names:
        if not re.fullmatch(r"pgd[1-9]\d*|autoattack|router", name):
            raise BadInput(f"--attack {name}: unknown; give pgd20 (or another number of steps), autoattack or router")
    if "autoattack" in names:
        require_autoattack()
    return list(dict.fromkeys(names))


def check_attacks(attacks: Sequence[str], model: nn.Module) -> None:
    """Raise BadInput if ``attacks`` names one that ``model`` has no part or too few classes for."""
    if "router" in attacks and not hasattr(model, "route"):
        raise BadInput(f"--attack router: {type(model).__name__} has no router; leave it out")
    classes = int(getattr(model, "num_classes", FEWEST_CLASSES))  # where it does not say, the attack itself will ask
    if "autoattack" in attacks and classes < FEWEST_CLASSES:
        raise BadInput(
            f"--attack autoattack needs at least {FEWEST_CLASSES} classes, the model has {classes}; use pgd50 instead"
        )


def _batched(call: Any, batch_size: int, *tensors: Tensor, label: str | None = None) -> Tensor:
    batches = list(zip(*(tensor.split(batch_size) for tensor in tensors), strict=True))
    bar = tqdm(batches, desc=label, unit="batch", leave=False, disable=None if label else True)
    return torch.cat([call(*batch) for batch in bar])


@torch.no_grad()
def _named_right(model: nn.Module, images: Tensor, labels: Tensor, batch_size: int) -> NDArray[np.bool_]:
    return _batched(lambda x, y: model(x).argmax(dim=1) == y, batch_size, images, labels).cpu().numpy()


def _options(name: str, epsilon: float) -> dict[str, Any]:
    if name == "autoattack":
        return {"version": "standard"}
    steps = int(name[3:]) if name.startswith("pgd") else ROUTER_STEPS
    return {"steps": steps, "step_size": epsilon / 4 if steps >= 10 else 2.5 * epsilon / steps}  # to cross the ball


def _attacked(
    name: str, model: Any, images: Tensor, labels: Tensor, budget: Budget, batch_size: int, seed: int
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    options = {"epsilon": budget.epsilon, "generator": generator} | _options(name, budget.epsilon)
    if name == "router":
        return _batched(lambda x: router_attack(model, x, norm=budget.norm, **options), batch_size, images, label=name)
    pgd = pgd_l2 if budget.norm == "l2" else pgd_linf
    return _batched(lambda x, y: pgd(model, x, y, early_stop=True, **options), batch_size, images, labels, label=name)


@torch.no_grad()
def _routing(
    model: Any, images: Tensor, labels: Tensor, attacked: dict[str, Tensor], class_names: Sequence[str], batch_size: int
) -> RoutingScores:
    scores = _batched(model.route, batch_size, images).float()
    chosen = scores.argmax(dim=1)
    logs = scores.log_softmax(dim=1)

    def shares(which: Tensor) -> list[float]:
        counts = torch.bincount(which, minlength=scores.shape[1])
        return (100 * counts / len(which)).tolist()

    flipped = {
        name: 100 * float((_batched(model.route, batch_size, found).argmax(dim=1) != chosen).double().mean())
        for name, found in attacked.items()
    }
    parts = {name: chosen[labels == index] for index, name in enumerate(class_names)}
    by_class = {name: shares(part) if len(part) else None for name, part in parts.items()}
    entropy = abs(float((logs.exp() * logs).sum(dim=1).mean()))  # abs, for a sure router's is minus zero
    return RoutingScores(shares(chosen), by_class, entropy, flipped)


def score_robustness(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    attacks: Sequence[str],
    *,
    epsilon: float,
    norm: Norm = "linf",
    class_names: Sequence[str] = (),
    batch_size: int = 256,
    seed: int = 0,
    autoattack_file: Path | None = None,
) -> RobustScores:
    """Return the accuracy of ``model`` on ``images`` under each attack, with sanity checks.

    Every attack but ``router`` works on the model's own cross-entropy; ``router`` only tries to change paths, and
    stands beside the others, never for them.

    Args:
        model: maps images to logits (N, C); with ``route``, images to (N, E), where it has a router.
        images: (N, channels, H, W), float in [0, 1], on the model's device.
        labels: (N,), int64 class indices.
        attacks: names as :func:`parse_attacks` returns them.
        epsilon, norm: see :class:`mocse_timm.attacks.budget.Budget`.
        class_names: C names, for the router's table.
        batch_size: images a step.
        seed: of random starts.
        autoattack_file: see :func:`mocse_timm.evaluation.autoattack_run.run_autoattack`.

    Raises:
        BadInput: if epsilon is out of range, the file cannot be written, or the model does not fit an attack (see
            :func:`check_attacks`).
    """
    check_attacks(attacks, model)
    budget = Budget(epsilon, 1, epsilon, norm)
    with evaluating(model):
        some = torch.linspace(
            0, len(images) - 1, min(CHECKED, len(images))
        ).long()  # of all classes, should they be sorted
        checks = check_gradients(model, images[some], labels[some], epsilon=epsilon, norm=norm)
        attacked = {}
        for name in attacks:
            if name == "autoattack":
                options = {"epsilon": epsilon, "norm": norm, "batch_size": batch_size, "seed": seed}
                found = run_autoattack(model, images, labels, **options, file=autoattack_file)
                attacked[name] = found[0]
                checks += found[1]
            else:
                attacked[name] = _attacked(name, model, images, labels, budget, batch_size, seed)
        routing = (
            _routing(model, images, labels, attacked, class_names, batch_size) if hasattr(model, "route") else None
        )
        right = {
            name: _named_right(model, found, labels, batch_size)
            for name, found in ({"none": images} | attacked).items()
        }
    top1 = {name: 100 * float(answers.mean()) for name, answers in right.items()}
    return RobustScores(
        num_images=len(images),
        epsilon=epsilon,
        norm=norm,
        clean_top1=top1.pop("none"),
        robust_top1=top1,
        checks=checks,
        routing=routing,
        options={name: _options(name, epsilon) for name in attacks},
        correct={name: pack(answers) for name, answers in right.items()},
    )
