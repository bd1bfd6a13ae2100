"""Which corruptions were asked for: names, groups, ``15`` or ``all``; and which of them cannot be made here."""

from collections.abc import Iterable

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.corrupt import available
from mocse_timm.corruptions.frost import missing_frost
from mocse_timm.corruptions.names import SEVERITIES, corruptions_meant

__all__ = ["choose_corruptions", "choose_severities"]


def choose_corruptions(words: Iterable[str], *, frost_dir: str | None = None) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names meant by ``words``, in the usual order, and the reason for each that is left out.

    Args:
        words: names of corruptions or groups, ``15`` or ``all``; commas separate as spaces do.
        frost_dir: where frost's photographs are. Without them frost is left out, unless it is named itself.

    Raises:
        BadInput: for an unknown word, with the nearest known one; for none; for frost by name without photographs.
    """
    split = [word for string in words for word in string.split(",") if word]
    meant = corruptions_meant(split)
    missing = set(meant) - set(available(frost_dir))
    if missing & set(split):
        raise BadInput(missing_frost(frost_dir))
    names = tuple(name for name in meant if name not in missing)
    return names, dict.fromkeys(sorted(missing), "its photographs were not found where it was made")


def choose_severities(numbers: Iterable[int]) -> tuple[int, ...]:
    """Return the severities in rising order, each once.

    Raises:
        BadInput: for a number that is not 1 to 5, or for none.
    """
    chosen = tuple(sorted(set(numbers)))
    wrong = [number for number in chosen if number not in SEVERITIES]
    if wrong or not chosen:
        raise BadInput(f"--severities {' '.join(map(str, wrong)) or 'names none'}: give some of 1 2 3 4 5")
    return chosen
