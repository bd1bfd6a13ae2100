"""Projected gradient descent, in linf and l2.

Paper: `Towards Deep Learning Models Resistant to Adversarial Attacks` - https://arxiv.org/abs/1706.06083
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from mocse_timm.attacks.budget import Budget, check_gradients, check_images, check_labels, check_scores
from mocse_timm.attacks.steps import ascend, draw_start, project
from mocse_timm.modes import evaluating, without_gradients

__all__ = ["Model", "pgd_l2", "pgd_linf", "walk"]

FLOAT16_SCALE = 2.0**12
"""What an objective is multiplied by before its gradient is taken in float16, whose smallest number is 6e-8."""

Model = Callable[[Tensor], Tensor]


def _direction(objective: Tensor, images: Tensor) -> Tensor:
    """Return the gradient of ``objective`` (B,) for each image up to a positive factor, which no step depends on.

    Under float16 autocast it is scaled, or the gradients of images that are classified with ease would be rounded to
    zero; images whose scaled gradient overflows have the plain one.
    """
    kind = images.device.type
    if not torch.is_autocast_enabled(kind) or torch.get_autocast_dtype(kind) != torch.float16:
        return torch.autograd.grad(objective.sum(), images)[0]
    (gradient,) = torch.autograd.grad(objective.sum() * FLOAT16_SCALE, images, retain_graph=True)
    finite = gradient.flatten(1).isfinite().all(dim=1)
    if not finite.all():
        gradient[~finite] = torch.autograd.grad(objective.sum(), images)[0][~finite]
    return gradient


def walk(objective: Callable[[Tensor], Tensor], start: Tensor, origin: Tensor, budget: Budget) -> Tensor:
    """Return the images that ``budget.steps`` projected gradient steps reach from ``start``.

    Args:
        objective: images (B, ...) to (B,), the numbers to make large.
        start: (B, ...), where to begin.
        origin: (B, ...), the images that ``budget`` measures from.

    Raises:
        BadInput: if a gradient is not finite.
    """
    images = start.detach()
    sums = torch.zeros(len(start), device=start.device)
    for _ in range(budget.steps):
        with torch.enable_grad():
            images.requires_grad_()
            gradient = _direction(objective(images), images)
        sums += gradient.flatten(1).sum(dim=1, dtype=sums.dtype)
        images = project(
            ascend(images.detach(), gradient, budget.step_size, budget.norm), origin, budget.epsilon, budget.norm
        )
    check_gradients(sums)
    return images.detach()


def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), labels, reduction="none")


def _walk_until_wrong(model: Model, start: Tensor, origin: Tensor, labels: Tensor, budget: Budget) -> Tensor:
    """Like :func:`walk` on the cross-entropy, but an image that is classified wrongly stays where it is.

    The others go on in a smaller batch, so a weak model costs little.
    """
    result = start.clone()
    sums = torch.zeros(len(start), device=start.device)
    active = torch.arange(len(start), device=start.device)
    images = start
    for _ in range(budget.steps):
        with torch.enable_grad():
            images = images.detach().requires_grad_()
            logits = model(images)
            gradient = _direction(_cross_entropy(logits, labels[active]), images)
        sums[active] += gradient.flatten(1).sum(dim=1, dtype=sums.dtype)
        right = logits.argmax(dim=1) == labels[active]
        result[active] = images.detach()
        active, images, gradient = active[right], images.detach()[right], gradient[right]
        if len(active) == 0:
            break
        images = project(
            ascend(images, gradient, budget.step_size, budget.norm), origin[active], budget.epsilon, budget.norm
        )
    check_gradients(sums)
    result[active] = images
    return result


def _pgd(
    model: Model,
    images: Tensor,
    labels: Tensor,
    budget: Budget,
    *,
    with_random_start: bool,
    restarts: int,
    early_stop: bool,
    generator: torch.Generator | None,
) -> Tensor:
    check_images(images)
    images = images.detach()
    largest_label = check_labels(labels, images)
    if restarts < 1:
        raise ValueError(f"restarts must be at least 1, got {restarts}")
    if budget.epsilon == 0 or images.numel() == 0:
        return images.clone()

    def scores(x: Tensor) -> Tensor:
        return check_scores(model(x), len(x), largest_label)

    def attempt(origin: Tensor, targets: Tensor) -> Tensor:
        start = draw_start(origin, budget, generator) if with_random_start else origin
        if early_stop:
            return _walk_until_wrong(scores, start, origin, targets, budget)
        return walk(lambda x: _cross_entropy(scores(x), targets), start, origin, budget)

    with evaluating(model):
        attacked = attempt(images, labels)
        if restarts > 1 and with_random_start:
            attacked = _best_of(model, images, labels, attacked, attempt, restarts)
    return attacked


def _best_of(
    model: Model,
    images: Tensor,
    labels: Tensor,
    attacked: Tensor,
    attempt: Callable[[Tensor, Tensor], Tensor],
    restarts: int,
) -> Tensor:
    """Repeat ``attempt`` on the images that are still classified correctly, keeping each image's largest loss."""

    def judge(candidates: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        with without_gradients(candidates):
            logits = model(candidates)
        return _cross_entropy(logits, targets), logits.argmax(dim=1) == targets

    loss, right = judge(attacked, labels)
    for _ in range(restarts - 1):
        active = right.nonzero().squeeze(1)
        if len(active) == 0:
            break
        candidates = attempt(images[active], labels[active])
        new_loss, still_right = judge(candidates, labels[active])
        better = ~still_right | (new_loss > loss[active])
        attacked[active[better]] = candidates[better]
        loss[active[better]] = new_loss[better]
        right[active] = still_right
    return attacked


def pgd_linf(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    early_stop: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the images within ``epsilon`` of the given ones, pixel by pixel, that projected gradient ascent finds.

    Maximises the cross-entropy of the whole model, by the gradient of what it computes in eval mode: where a router
    chooses a path, the path is a constant, and :func:`mocse_timm.attacks.router_attack` tries to change it.

    Args:
        model: maps images to logits (B, C); a module, or a function.
        images: (B, channels, H, W), float in [0, 1].
        labels: (B,), int64 class indices.
        epsilon: largest change of a pixel, in [0, 1].
        steps: gradient steps.
        step_size: change of a pixel in a step; by default 2.5 * epsilon / steps.
        random_start: begin at a random point of the ball instead of the image itself.
        restarts: attempts, each on the images that those before have not fooled; of each image the one with the largest
            loss counts. Without ``random_start`` they would be the same, and there is one.
        early_stop: leave an image alone once it is classified wrongly. At least as many images are fooled, at a lower
            cost; the loss of the attacked images is no longer the largest.
        generator: source of the random starts; torch's own when None.

    Returns:
        (B, channels, H, W), float in [0, 1], detached.

    Raises:
        BadInput: if images leave [0, 1], a label is not one of the model's classes, epsilon, steps or step size are out
            of range, see :class:`Budget`, or the model's gradients are not finite.

    Source:
        Madry et al. 2018, arXiv:1706.06083, section 2.1.
    """
    budget = Budget(epsilon, steps, _step_size(epsilon, steps, step_size), "linf")
    options = {"restarts": restarts, "early_stop": early_stop, "generator": generator}
    return _pgd(model, images, labels, budget, with_random_start=random_start, **options)


def pgd_l2(
    model: Model,
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    steps: int,
    step_size: float | None = None,
    random_start: bool = True,
    restarts: int = 1,
    early_stop: bool = False,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return the images within the Euclidean distance ``epsilon`` that projected gradient ascent finds.

    Arguments, return value and errors as in :func:`pgd_linf`, with ``epsilon`` and ``step_size`` measured over all
    pixels of an image together.
    """
    budget = Budget(epsilon, steps, _step_size(epsilon, steps, step_size), "l2")
    options = {"restarts": restarts, "early_stop": early_stop, "generator": generator}
    return _pgd(model, images, labels, budget, with_random_start=random_start, **options)


def _step_size(epsilon: float, steps: int, step_size: float | None) -> float:
    return 2.5 * epsilon / max(steps, 1) if step_size is None else step_size
