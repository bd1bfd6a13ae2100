"""A card that somebody edited: the words are theirs, the numbers must still be those of the results."""

from collections import defaultdict
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard

from mocse_timm.checks import BadInput
from mocse_timm.hub.card_numbers import NUMBER, claims, unsupported

__all__ = ["check_edited_text", "check_metadata"]


def _scores(card: str) -> dict[tuple[str, str, str], float]:
    """Return the scores of a model-index by data set, configuration and metric."""
    data: Any = ModelCard(card).data
    entries: list[EvalResult] = data.eval_results or []
    return {
        (str(entry.dataset_type), str(entry.dataset_config or ""), str(entry.metric_name)): entry.metric_value
        for entry in entries
    }


def _label(name: tuple[str, str, str]) -> str:
    return f"{name[2]} of {name[0]}" + (f" ({name[1]})" if name[1] else "")


def check_metadata(card: str, rebuilt: str) -> int:
    """Return how many scores the model-index of ``card`` has, all of them equal to those of the rebuilt card.

    Raises:
        BadInput: if it cannot be read, or a score is missing, of unknown origin, or another one.
    """
    try:
        found = _scores(card)
    except (ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise BadInput(f"the metadata of README.md cannot be read: {' '.join(str(error).split())}") from None
    wanted = _scores(rebuilt)
    for name, value in wanted.items():
        if name not in found:
            raise BadInput(f"the metadata of README.md lack {_label(name)}, {value} in results.json")
        if found[name] != value:
            raise BadInput(f"the metadata of README.md give {found[name]} for {_label(name)}, results.json {value}")
    unknown = [name for name in found if name not in wanted]
    if unknown:
        raise BadInput(f"the metadata of README.md have {_label(unknown[0])}, which results.json lacks")
    return len(wanted)


def _body(card: str) -> str:
    """Return what stands below the metadata."""
    return card.split("\n---", 1)[-1]


def check_edited_text(card: str, rebuilt: str, held: list[float]) -> None:
    """Look at the numbers of an edited card.

    A line that differs from a line of the rebuilt card in its numbers alone is wrong. In a line of other words, a
    number with a point or a percent sign must be one that the files hold; others (a year, say) are the author's.

    Args:
        card: all of README.md.
        rebuilt: the card as the files give it.
        held: see :func:`mocse_timm.hub.card_numbers.numbers_held`.

    Raises:
        BadInput: for the first number that disagrees.
    """
    alike: dict[str, list[str]] = defaultdict(list)
    for line in _body(rebuilt).splitlines():
        alike[NUMBER.sub("#", line)].append(line)
    for line in _body(card).splitlines():
        lines = alike.get(NUMBER.sub("#", line), [])
        if lines and line not in lines:
            raise BadInput(f"README.md says {line.strip()!r}, its files {lines[0].strip()!r}")
    strange = unsupported(_body(card), held, among=claims(_body(card)))
    if strange:
        raise BadInput(f"README.md says {strange[0]}, which neither results.json nor config.json holds")
