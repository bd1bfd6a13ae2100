"""The 19 corruptions by name, in the order of the CIFAR-10-C generator."""

from collections.abc import Iterable

from mocse_timm.checks import BadInput, nearest

__all__ = [
    "BENCHMARK",
    "CORRUPTIONS",
    "GROUPS",
    "SETS",
    "SEVERITIES",
    "check_names",
    "check_severity",
    "corruptions_meant",
]

GROUPS: dict[str, tuple[str, ...]] = {
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
    "extra": ("speckle_noise", "gaussian_blur", "spatter", "saturate"),
}

CORRUPTIONS: tuple[str, ...] = tuple(name for names in GROUPS.values() for name in names)

BENCHMARK: tuple[str, ...] = CORRUPTIONS[:15]
"""The corruptions whose mean is reported; the four extra ones were made to tune methods on."""

SETS: dict[str, tuple[str, ...]] = {"all": CORRUPTIONS, "15": BENCHMARK, **GROUPS}
"""Words that stand for several corruptions."""

SEVERITIES: tuple[int, ...] = (1, 2, 3, 4, 5)


def check_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return ``names`` as a tuple, or raise BadInput with the nearest name for the first unknown one."""
    names = tuple(names)
    for name in names:
        if name not in CORRUPTIONS:
            hint = nearest(name, CORRUPTIONS) or f"; there are {', '.join(CORRUPTIONS)}"
            raise BadInput(f"there is no corruption {name!r}{hint}")
    return names


def corruptions_meant(words: Iterable[str]) -> tuple[str, ...]:
    """Return the corruptions that names, groups, ``15`` and ``all`` stand for, each once and in the usual order.

    Raises:
        BadInput: for an unknown word, with the nearest known one; or for none.
    """
    words = list(words)
    forms = f"give names, {', '.join(GROUPS)}, 15 or all"
    if not words:
        raise BadInput(f"--corruptions names none: {forms}")
    for word in words:
        if word not in SETS and word not in CORRUPTIONS:
            raise BadInput(f"there is no corruption {word!r}{nearest(word, [*SETS, *CORRUPTIONS])}: {forms}")
    meant = {name for word in words for name in SETS.get(word, (word,))}
    return tuple(name for name in CORRUPTIONS if name in meant)


def check_severity(severity: int) -> int:
    """Return ``severity``, or raise BadInput if it is not one of 1 to 5."""
    if isinstance(severity, bool) or severity not in SEVERITIES:
        raise BadInput(f"severity must be 1, 2, 3, 4 or 5, got {severity!r}")
    return int(severity)
