"""The page of all models that have a card: one row a model, everything from results.json and config.json."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.names import GROUPS
from mocse_timm.evaluation.output_files import write_whole
from mocse_timm.hub.card import CARD, HEATMAP, build_card, draw_card_heatmap, repository_in
from mocse_timm.hub.card_numbers import numbers_held, unsupported
from mocse_timm.hub.card_scores import attack_title, budget
from mocse_timm.hub.card_tables import millions, speed, table
from mocse_timm.hub.data_names import data_name
from mocse_timm.hub.facts import Facts, read_facts
from mocse_timm.hub.results import RESULTS, Results, read_results

__all__ = ["build_zoo_table", "card_folders", "default_repository", "write_zoo"]

HEAD = """\
# Models trained so far

One row a model, its card behind its name. Accuracies in percent, on the split that the table names; "15" and "19" are
the means over the benchmark's and over all corruptions, at all severities. Compare rows of one table only. This page
and the cards are made by `python -m mocse_timm.hub zoo` from the results.json and config.json beside each card.
"""


@dataclass(frozen=True)
class _Model:
    name: str
    facts: Facts
    results: Results


def card_folders(cards: Path) -> list[Path]:
    """Return the folders of the models in ``cards``, by name.

    Raises:
        BadInput: if ``cards`` is no folder or holds none.
    """
    if not cards.is_dir():
        raise BadInput(f"{cards} is no folder; give the one that holds a folder for each model")
    folders = sorted(path for path in cards.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not folders:
        raise BadInput(f"{cards} holds no model's folder; put results.json and config.json into {cards}/MODEL")
    return folders


def default_repository(folder: Path) -> str:
    """Return the repository that the card in ``folder`` speaks of, by default USER/ and the folder's name."""
    file = folder / CARD
    written = repository_in(file.read_text(encoding="utf-8", errors="replace")) if file.is_file() else None
    return written or f"USER/{folder.resolve().name}"


def _mean(results: Results, which: str) -> str:
    mean = results.corruptions.mean(which) if results.corruptions is not None else None
    if mean is None:
        return ""
    return f"{mean.top1:.2f}" + ("" if mean.complete else f" ({mean.corruptions})")


def _row(model: _Model, attacks: list[tuple[str, str]]) -> list[str]:
    cost, robust = model.results.computation, model.results.robustness
    found = {(name, budget(robust)): top1 for name, top1 in robust.robust_top1.items()} if robust is not None else {}
    return [
        f"[{model.name}]({model.name}/{CARD})",
        f"{model.results.scores.top1:.2f}",
        *(_mean(model.results, which) for which in ("benchmark", "all", *GROUPS)),
        *(f"{found[attack]:.2f}" if attack in found else "" for attack in attacks),
        f"{cost.macs / 1e6:,.1f}",
        millions(cost.parameters),
        speed(cost.images_per_second),
        f"{cost.hardware}, {cost.precision}",
    ]


def _sources(models: Iterable[_Model]) -> dict[str, list[str]]:
    """Say which corrupted and attacked images the rows are of, with the names of those models."""
    of: dict[str, list[str]] = defaultdict(list)
    for model in models:
        corrupted, robust = model.results.corruptions, model.results.robustness
        if corrupted is not None:
            of[f"Corrupted images: {corrupted.source}, {corrupted.num_images:,} a cell"].append(model.name)
        if robust is not None:
            of[f"Attacked: {robust.num_images:,} images"].append(model.name)
    return of


def _attacks(models: Iterable[_Model]) -> list[tuple[str, str]]:
    """Return the attacks on ``models`` with their budgets, those of one budget side by side, as they come."""
    names: dict[str, dict[str, None]] = defaultdict(dict)
    for model in models:
        robust = model.results.robustness
        if robust is not None:
            names[budget(robust)] |= dict.fromkeys(robust.robust_top1)
    return [(name, size) for size, of_size in names.items() for name in of_size]


def _part(title: str, models: list[_Model]) -> tuple[str, str]:
    """Return the table of ``models`` with its notes, and all that these say of the models, but for names."""
    attacks = _attacks(models)
    columns = ["clean", "15", "19", *GROUPS, *(f"{attack_title(name)}, {size}" for name, size in attacks)]
    header = ["model", *columns, "MMACs", "parameters", "images/s", "on"]
    rows = [_row(model, attacks) for model in models]
    kept = [place for place in range(len(header)) if any(row[place] for row in rows)]
    lines = table(*([line[place] for place in kept] for line in (header, *rows)))
    sources = _sources(models)
    notes = "\n".join(f"- {what}: {', '.join(names)}." for what, names in sources.items())
    text = "\n\n".join(filter(None, [f"## {title}", lines, notes]))
    return text, "\n".join([*chain(*(row[1:] for row in rows)), *sources])


def build_zoo_table(cards: Path) -> str:
    """Return the page on the models in the folders of ``cards``, a table for each data set and split.

    Raises:
        BadInput: if a folder lacks results.json or config.json, or one cannot be used.
    """
    models = [_Model(folder.name, read_facts(folder), read_results(folder)) for folder in card_folders(cards)]
    parts: dict[str, list[_Model]] = defaultdict(list)
    for model in models:
        parts[f"{data_name(model.results.row.dataset).title}, {model.results.row.split} split"].append(model)
    texts = [_part(title, parts[title]) for title in sorted(parts)]
    held = numbers_held(*(content for model in models for content in (model.results.content, model.facts.content)))
    strange = unsupported("\n".join(claimed for _, claimed in texts), held)
    if strange:
        raise BadInput(f"the table would say {strange[0]}, which no {RESULTS} holds; it is not written")
    return "\n".join([HEAD, *(f"{text}\n" for text, _ in texts)])


def write_zoo(cards: Path) -> list[Path]:
    """Write the card and heatmap of every folder in ``cards``, and the table of all as its README.md.

    Returns:
        The files, the table last.

    Raises:
        BadInput: see :func:`build_zoo_table`; or if the disk refuses.
    """
    page, written = build_zoo_table(cards), []
    for folder in card_folders(cards):
        repository = default_repository(folder)
        card, picture = build_card(folder, repo_id=repository), draw_card_heatmap(folder, name=folder.name)
        write_whole(folder / CARD, card, "card")
        written.append(folder / CARD)
        if picture is not None:
            write_whole(folder / HEATMAP, picture, "heatmap")
            written.append(folder / HEATMAP)
    write_whole(cards / CARD, page, "table of models")
    return [*written, cards / CARD]
