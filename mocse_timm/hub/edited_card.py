"""A card that somebody edited: the words are theirs, the numbers must still be those of the results."""

import reprlib
from collections import Counter, defaultdict
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard

from mocse_timm.checks import BadInput
from mocse_timm.hub.card_numbers import NUMBER, claims, unsupported

__all__ = ["check_edited_text", "check_metadata"]

Name = tuple[str, str, str]  # data set, configuration, metric
UNREADABLE = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, yaml.YAMLError)


def _scores(card: str) -> dict[Name, EvalResult]:
    """Return the entries of a model-index by name.

    Raises:
        BadInput: if it cannot be read, or two entries have one name: readers differ in which one they show.
    """
    try:
        data: Any = ModelCard(card).data
        entries: list[EvalResult] = data.eval_results or []
        names = [(entry.dataset_type, entry.dataset_config or "", entry.metric_name or "") for entry in entries]
        counts = Counter(names)
    except UNREADABLE as error:
        raise BadInput(f"the metadata of README.md cannot be read: {' '.join(str(error).split())}") from None
    for name, count in counts.items():
        if count > 1:
            raise BadInput(f"the metadata of README.md have {_label(name)} {count} times; leave one")
    return dict(zip(names, entries, strict=True))


def _label(name: Name) -> str:
    return f"{name[2]} of {name[0]}" + (f" ({name[1]})" if name[1] else "")


def _compare(found: EvalResult, wanted: EvalResult, label: str) -> None:
    """Raise BadInput if two entries differ, be it only in what they say of images or metric; score first."""
    for fact in ("metric_value", *vars(wanted)):
        said, value = getattr(found, fact), getattr(wanted, fact)
        if said != value:
            what = "for" if fact == "metric_value" else f"as {fact} of"
            short = reprlib.repr(said)  # YAML can hold itself, or one list a million times
            raise BadInput(f"the metadata of README.md give {short} {what} {label}, results.json {value!r}")


def check_metadata(card: str, rebuilt: str) -> int:
    """Return how many scores the model-index of ``card`` has, all of them equal to those of the rebuilt card.

    Raises:
        BadInput: if it cannot be read, or a score is missing, there twice, of unknown origin, or another one.
    """
    found, wanted = _scores(card), _scores(rebuilt)
    for name, entry in wanted.items():
        if name not in found:
            raise BadInput(f"the metadata of README.md lack {_label(name)}, {entry.metric_value} in results.json")
        _compare(found[name], entry, _label(name))
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
