"""AutoAttack, by pyautoattack: the standard of robust accuracy. An extra: ``pip install "mocse_timm[attacks]"``.

Paper: `Reliable Evaluation of Adversarial Robustness with an Ensemble of Diverse Parameter-free Attacks` -
https://arxiv.org/abs/2003.01690
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from mocse_timm.attacks.budget import Budget, check_images, check_labels, check_scores
from mocse_timm.checks import BadInput
from mocse_timm.modes import held, without_gradients

__all__ = ["ATTACKS", "AutoAttackState", "autoattack", "require_autoattack"]

ATTACKS = ("apgd-ce", "apgd-t", "fab-t", "square")  # the standard version's, in its order
FEWEST_CLASSES = 4  # its targeted attacks compare the best three wrong classes
SMALLEST_SIDE = 5  # pixels; its squares in l2 have a fifth of the height for a side
TARGETS = 9  # wrong classes its targeted attacks aim at by default


@dataclass
class AutoAttackState:
    """How far AutoAttack is with N images; it is changed in place, batch by batch."""

    attacked: Tensor
    """(N, channels, H, W), float in [0, 1]: what was found so far; unchanged where nothing was."""
    robust: Tensor
    """(N,), bool: which images are still named right."""
    waiting: Tensor
    """(N,), bool: which of these the present attack has not tried yet."""
    counts: list[int]
    """How many were named right at first, and after each attack that is done."""

    @property
    def attack(self) -> str | None:
        """The present attack, of :data:`ATTACKS`; None when all are done."""
        done = len(self.counts) - 1
        return ATTACKS[done] if done < len(ATTACKS) else None

    @classmethod
    def first(cls, images: Tensor, robust: Tensor) -> "AutoAttackState":
        """Return the state before the first attack."""
        return cls(images.clone(), robust, robust.clone(), [int(robust.sum())])

    def next_attack(self) -> None:
        """Note that the present attack has tried all images, and let the next one try those that are left."""
        self.counts.append(int(self.robust.sum()))
        self.waiting = self.robust.clone()


def require_autoattack() -> Any:
    """Return the ``AutoAttack`` class.

    Raises:
        BadInput: if pyautoattack is not installed.
    """
    try:
        from pyautoattack import AutoAttack
    except ImportError:
        raise BadInput('AutoAttack needs pyautoattack: pip install "mocse_timm[attacks]"') from None
    return AutoAttack


def _attack(
    adversary: Any,
    images: Tensor,
    labels: Tensor,
    batch_size: int,
    state: AutoAttackState,
    after_batch: Callable[[AutoAttackState], None],
) -> None:
    """Take ``state`` to the end."""
    after_batch(state)
    while (name := state.attack) is not None:
        batch = state.waiting.nonzero().flatten()[:batch_size]
        if len(batch):
            adversary.attacks_to_run = [name]
            attacked, answers = adversary.run_standard_evaluation(images[batch], labels[batch], batch_size=batch_size)
            state.attacked[batch] = attacked
            state.robust[batch] = answers == labels[batch]
            state.waiting[batch] = False
        else:
            state.next_attack()
        after_batch(state)


def autoattack(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    norm: str = "linf",
    batch_size: int = 250,
    seed: int = 0,
    state: AutoAttackState | None = None,
    after_batch: Callable[[AutoAttackState], None] | None = None,
) -> Tensor:
    """Return the images that the standard version of AutoAttack finds: APGD twice, FAB and Square in turn.

    An image one of them has changed is left out by the next, so the cost falls with the model's robustness. They are
    tried batch by batch, each from the same seed: what one process began, another ends with the same images.

    Args:
        model: maps images to logits (B, C) of at least 4 classes, on the images' device.
        images: (N, channels, H, W), float in [0, 1].
        labels: (N,), int64 class indices.
        epsilon, norm: see :class:`mocse_timm.attacks.budget.Budget`.
        batch_size: images a step.
        seed: of every random draw.
        state: where an earlier call with the same arguments was left, to continue from there.
        after_batch: called with the state at the start, after every batch and after every attack.

    Returns:
        (N, channels, H, W), float in [0, 1]; unchanged where no attack succeeded.

    Raises:
        BadInput: if pyautoattack is missing, there are fewer than 4 classes, images leave [0, 1] or are too small for
            its squares in l2, epsilon is out of range, or the state is of other images.

    Source:
        Croce and Hein 2020, arXiv:2003.01690.
    """
    Budget(epsilon, 1, 0, norm)  # pyright: ignore[reportArgumentType]  (checked there)
    check_images(images)
    largest_label = check_labels(labels, images)
    if epsilon == 0 or images.numel() == 0:
        return images.clone()
    height, width = images.shape[-2:]
    if norm == "l2" and min(height, width) < SMALLEST_SIDE:
        raise BadInput(
            f"AutoAttack in l2 needs images of at least {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels, got {height}x{width}: "
            "use pgd50"
        )
    if state is not None and state.attacked.shape != images.shape:
        raise BadInput(
            f"the state of AutoAttack is of images {tuple(state.attacked.shape)}, not of {tuple(images.shape)}: "
            "leave it out to begin anew"
        )
    attack_class = require_autoattack()
    modules = [model] if isinstance(model, nn.Module) else []
    devices = [images.device] if images.is_cuda else []
    # it seeds torch anew, and its backward passes would leave gradients in the parameters
    with torch.random.fork_rng(devices), held(modules):
        with without_gradients(images):
            num_classes = check_scores(model(images[:1]), 1, largest_label).shape[1]
        if num_classes < FEWEST_CLASSES:
            raise BadInput(
                f"AutoAttack needs at least {FEWEST_CLASSES} classes, the model has {num_classes}: use pgd50"
            )
        name = {"linf": "Linf", "l2": "L2"}[norm]
        adversary = attack_class(model, norm=name, eps=epsilon, device=images.device, seed=seed)
        adversary.apgd_targeted.n_target_classes = adversary.fab.n_target_classes = min(TARGETS, num_classes - 1)
        if state is None:
            with without_gradients(images):
                answers = torch.cat([model(batch).argmax(dim=1) for batch in images.split(batch_size)])
            state = AutoAttackState.first(images, answers == labels)
        _attack(adversary, images, labels, batch_size, state, after_batch or (lambda state: None))
    return state.attacked
