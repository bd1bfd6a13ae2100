"""timm's augmentation policies, from the strings timm names them by."""

import re
from typing import Any

from PIL import Image
from timm.data import auto_augment
from timm.data.auto_augment import (
    AugMixAugment,
    AutoAugment,
    RandAugment,
    augment_and_mix_transform,
    auto_augment_transform,
    rand_augment_transform,
)

from mocse_timm.checks import BadInput, nearest

__all__ = ["POLICIES", "Policy", "build_policy", "repair_posterize"]

POLICIES = ("rand", "augmix", "original", "originalr", "v0", "v0r", "3a")
Policy = RandAugment | AugMixAugment | AutoAugment


def posterize(image: Image.Image, bits_to_keep: int, **_: Any) -> Image.Image:
    """Keep the highest ``bits_to_keep`` bits of each pixel; of none, black is left."""
    if bits_to_keep <= 0:
        return Image.new(image.mode, image.size)
    return auto_augment.posterize(image, bits_to_keep)


def repair_posterize(policy: Policy) -> None:
    """Let the policy keep 0 bits, in place.

    timm 1.0.31 asks for 0 bits at the highest magnitude (rand-m9-mstd0.5-inc1 gets there now and then, v0 often).
    Pillow used to return a black image and from 13 on raises, which would end a training run.
    """
    operations = policy.ops if not isinstance(policy, AutoAugment) else [op for ops in policy.policy for op in ops]
    for operation in operations:
        if operation.aug_fn is auto_augment.posterize:
            operation.aug_fn = posterize


def build_policy(aa: str, *, image_size: int) -> Policy:
    """Return timm's transform of PIL images (mode RGB) for the policy string ``aa``.

    Raises:
        BadInput: if timm does not know the policy or one of its sections.
    """
    kind, *sections = aa.split("-")
    if kind not in POLICIES:
        raise BadInput(
            f"--aa {aa}: unknown policy {kind!r}{nearest(kind, POLICIES)}; timm has {', '.join(POLICIES)}, "
            "each with sections such as -m9-mstd0.5"
        )
    for section in sections:
        if not re.search(r"\d", section) and not (kind == "rand" and section.startswith("t")):  # timm would skip it
            raise BadInput(f"--aa {aa}: section {section!r} has no number; write for example m9 or mstd0.5")
    hparams: dict[str, Any] = {"translate_const": int(image_size * 0.45), "img_mean": (128, 128, 128)}
    try:
        if kind == "rand":
            policy = rand_augment_transform(aa, hparams)
        elif kind == "augmix":
            policy = augment_and_mix_transform(aa, hparams | {"translate_pct": 0.3})
        else:
            policy = auto_augment_transform(aa, hparams)
    except (AssertionError, KeyError, ValueError) as error:
        raise BadInput(f"--aa {aa}: timm cannot read it ({error}); an example it can: rand-m9-mstd0.5-inc1") from None
    repair_posterize(policy)
    return policy
