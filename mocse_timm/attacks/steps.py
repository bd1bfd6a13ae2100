"""Moves of an attack in its norm: where it starts, which way is up, and the way back into what is allowed.

Shapes: all images are (B, ...), one row an image.
"""

import torch
from torch import Tensor

from mocse_timm.attacks.budget import Budget, Norm

__all__ = ["ascend", "draw_start", "project"]


def _lengths(rows: Tensor) -> Tensor:
    """Return the Euclidean length of each row, shaped to divide the rows by."""
    return rows.flatten(1).norm(dim=1).reshape(-1, *[1] * (rows.ndim - 1))


def project(images: Tensor, origin: Tensor, epsilon: float, norm: Norm) -> Tensor:
    """Return ``images`` moved back to within ``epsilon`` of ``origin`` and into [0, 1].

    In ``l2`` the change is shortened first and pixels are cut to [0, 1] after, which only shortens it further, since
    ``origin`` lies in [0, 1] itself: both bounds hold at the end.
    """
    if norm == "linf":
        return images.clamp(origin - epsilon, origin + epsilon).clamp(0, 1)
    change = images - origin
    lengths = _lengths(change).clamp(min=torch.finfo(images.dtype).tiny)
    return (origin + change * (epsilon / lengths).clamp(max=1)).clamp(0, 1)


def ascend(images: Tensor, gradient: Tensor, step_size: float, norm: Norm) -> Tensor:
    """Return ``images`` one step of length ``step_size`` up the gradient: its sign in linf, its direction in l2."""
    if norm == "linf":
        return images + step_size * gradient.sign()
    largest = gradient.flatten(1).abs().amax(dim=1).reshape(-1, *[1] * (gradient.ndim - 1))
    of_one = gradient / largest.clamp(min=torch.finfo(gradient.dtype).tiny)  # squares of small entries would be zero
    lengths = _lengths(of_one)
    return images + step_size * torch.where(lengths > 0, of_one / lengths, torch.zeros_like(gradient))


def draw_start(origin: Tensor, budget: Budget, generator: torch.Generator | None = None) -> Tensor:
    """Return a point drawn uniformly from the ball of ``budget`` around each image, cut to [0, 1].

    Draws are made on the generator's device, or on the images' when there is none.
    """
    device = origin.device if generator is None else generator.device
    if budget.norm == "linf":
        noise = torch.rand(origin.shape, generator=generator, device=device).mul_(2).sub_(1)
        return (origin + budget.epsilon * noise.to(origin)).clamp(0, 1)
    noise = torch.randn(origin.shape, generator=generator, device=device).to(origin)
    radius = torch.rand(len(origin), generator=generator, device=device).to(origin)
    radius = radius ** (1 / origin[0].numel()) if origin.numel() else radius  # uniform in volume, not in radius
    radius = radius.reshape(-1, *[1] * (origin.ndim - 1))
    lengths = _lengths(noise).clamp(min=torch.finfo(noise.dtype).tiny)
    return (origin + budget.epsilon * radius * noise / lengths).clamp(0, 1)
