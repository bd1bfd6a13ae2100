"""Attacks as pure functions ``(model, images, labels, *, options) -> images``.

Images are float in [0, 1], models return logits (B, C), and so do the attacked images stay in [0, 1]. An attack puts
the model in eval mode while it works, leaves every flag, parameter and gradient as it was, and steps no optimiser.
"""

from mocse_timm.attacks.autoattack import autoattack
from mocse_timm.attacks.pgd import pgd_l2, pgd_linf
from mocse_timm.attacks.router import router_attack
from mocse_timm.attacks.trades import trades_attack

__all__ = ["autoattack", "pgd_l2", "pgd_linf", "router_attack", "trades_attack"]
