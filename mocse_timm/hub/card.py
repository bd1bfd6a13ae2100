"""The card of a published model, README.md, from results.json and config.json and nothing else."""

import re
from collections.abc import Iterator
from importlib import resources
from itertools import count
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from mocse_timm.checkpoints.download import check_repo_id
from mocse_timm.checkpoints.tensors import sha256, weights_in_folder
from mocse_timm.checks import BadInput
from mocse_timm.evaluation.heatmap import as_png, draw_heatmap
from mocse_timm.evaluation.output_files import write_whole
from mocse_timm.hub import card_tables, card_text
from mocse_timm.hub.card_limits import limits
from mocse_timm.hub.card_numbers import numbers_held, unsupported
from mocse_timm.hub.card_scores import eval_results
from mocse_timm.hub.citations import citations
from mocse_timm.hub.data_names import data_name
from mocse_timm.hub.facts import Facts, read_facts
from mocse_timm.hub.license_names import license_metadata
from mocse_timm.hub.results import Results, read_results, refuse_other_build, refuse_other_weights

__all__ = [
    "CARD",
    "HEATMAP",
    "build_card",
    "card_data",
    "card_values",
    "draw_card_heatmap",
    "repository_in",
    "template",
    "write_card",
]

CARD, HEATMAP, TEMPLATE = "README.md", "heatmap.png", "model_card.md"
BEFORE = "README.before.md"
PLAIN_NAME = "user/model"


def card_data(facts: Facts, results: Results, *, repo_id: str) -> ModelCardData:
    """Return the card's metadata, with every score in its model-index.

    ``library_name`` is ours and not timm: the Hub would show timm's own loading snippet, which fails without
    ``import mocse_timm``. The tag ``timm`` keeps the model where timm's models are looked for.
    """
    mixture = ["mixture-of-experts"] if facts.kind in ("mocse", "advmoe") else []
    repository = data_name(facts.training.dataset).repository
    return ModelCardData(
        **license_metadata(facts.license),
        library_name="mocse_timm",
        pipeline_tag="image-classification",
        tags=["timm", "image-classification", *mixture, "robustness", "mocse_timm"],
        datasets=[repository] if repository else None,
        metrics=["accuracy"],
        model_name=repo_id.rpartition("/")[2],
        eval_results=eval_results(results),
    )


def repository_in(card: str) -> str | None:
    """Return the ``user/name`` that the code of a card of ours loads, or None."""
    found = re.search(r'create_model\("hf-hub:([\w.-]+/[\w.-]+)"', card)
    return found[1] if found else None


def template() -> str:
    """Return our template: Markdown with jinja2's marks."""
    return resources.files("mocse_timm.hub").joinpath(TEMPLATE).read_text(encoding="utf-8")


def card_values(facts: Facts, results: Results, repo_id: str) -> dict[str, Any]:
    """Return what the template asks for, by name."""
    return {
        "name": repo_id.rpartition("/")[2],
        "repo_id": repo_id,
        "heatmap": HEATMAP,
        "architecture": facts.architecture,
        "kind": facts.kind,
        "ours": facts.ours,
        "grouped": facts.grouped,
        "class_names": facts.class_names,
        "picture_mode": "L" if facts.in_chans == 1 else "RGB",
        "introduction": card_text.introduction(facts, results),
        "at_a_glance": card_tables.at_a_glance(results),
        "measured_on": card_text.measured_on(results),
        "clean": card_text.clean(results),
        "corruption_source": card_text.corruption_source(results),
        "by_group": card_tables.by_group(results.corruptions),
        "by_corruption": card_tables.by_corruption(results.corruptions),
        "baseline": card_text.baseline(results),
        "against_baseline": card_tables.against_baseline(results.comparison),
        "verdict": card_text.verdict(results),
        "attacks": card_text.attacks(results),
        "under_attack": card_tables.under_attack(results.robustness),
        "checks": card_text.checks(results),
        "router": card_text.router(results),
        "router_by_class": card_tables.router_by_class(results.robustness),
        "experts": card_text.experts(results),
        "by_class": card_tables.by_class(results),
        "limits": limits(facts, results),
        "commands": card_text.commands(facts),
        "training": card_text.training(facts),
        "validate_command": results.computation.command,
        "costs": card_text.costs(results),
        "licence": card_text.licence(facts),
        "citations": "\n\n".join(citations(facts)),
    }


def _render(facts: Facts, results: Results, repo_id: str) -> str:
    values = card_values(facts, results, repo_id)
    try:
        card = ModelCard.from_template(card_data(facts, results, repo_id=repo_id), template_str=template(), **values)
    except ImportError:
        raise BadInput('cards need jinja2; install it with: pip install "mocse_timm[hub]"') from None
    return re.sub(r"\n{3,}", "\n\n", str(card)).rstrip() + "\n"


def build_card(folder: Path, *, repo_id: str) -> str:
    """Return the card of the model in ``folder``, which needs results.json and config.json, and no weights.

    Args:
        folder: of a run, or of a published model.
        repo_id: ``user/name``, as in the card's code.

    Raises:
        BadInput: if one of the two cannot be read or lacks what a card must say, or if the card would have a number
            that neither holds.
    """
    facts, results = read_facts(folder), read_results(folder)
    text = _render(facts, results, check_repo_id(repo_id))
    unnamed = _render(facts, results, PLAIN_NAME)  # a name may be a number, such as a job's, and claims nothing
    strange = unsupported(unnamed, numbers_held(results.content, facts.content))
    if strange:
        raise BadInput(
            f"the card of {folder} would say {', '.join(strange[:3])}, which neither results.json nor config.json "
            "holds; it is not written"
        )
    return text


def draw_card_heatmap(folder: Path, *, name: str) -> bytes | None:
    """Return the picture of results.json's corruptions as a .png, or None if it has none.

    Raises:
        BadInput: see :func:`mocse_timm.hub.results.read_results`; or if matplotlib is missing.
    """
    results = read_results(folder)
    if results.corruptions is None:
        return None
    return as_png(draw_heatmap(name, results.corruptions, results.comparison))


def _names_for(name: str, folder: Path) -> Iterator[Path]:
    yield folder / name
    yield from ((folder / name).with_suffix(f".{number}.md") for number in count(2))


def _repository(run: Path) -> str:
    """Return the name of a folder as one that a repository may have, after ``USER/``."""
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", run.resolve().name)
    name = re.sub(r"([-.])[-.]+", r"\1", name).strip("-.")[:96].rstrip("-.")
    return f"USER/{name or 'model'}"


def write_card(run: Path, *, repo_id: str | None = None) -> Path:
    """Write README.md, and heatmap.png where there are scores under corruption, into the folder of a run.

    Another card of ours that is there, edited perhaps, is kept beside as README.before.md, a further one as
    README.before.2.md and so on, and a line is printed of it.

    Args:
        run: holds config.json, results.json and the weights that were scored.
        repo_id: ``user/name``; by default ``USER/`` and the folder's name, a hyphen for what no repository's may have.

    Returns:
        The card's file.

    Raises:
        BadInput: see :func:`build_card`; if results.json is of another model; or for a README.md that is a folder or
            none of ours.
    """
    file, repo_id = run / CARD, repo_id or _repository(run)
    text = build_card(run, repo_id=repo_id)
    results = read_results(run)
    refuse_other_weights(results, sha256(weights_in_folder(run)), run)
    refuse_other_build(results, read_facts(run).content, run)
    if file.is_dir():
        raise BadInput(f"{file} is a folder; move it away first")
    before = file.read_bytes() if file.exists() else None
    if before is not None and b"library_name: mocse_timm" not in before:
        raise BadInput(f"{file} is no card of ours; move it away first")
    picture = draw_card_heatmap(run, name=repo_id.rpartition("/")[2])
    if picture is not None:
        write_whole(run / HEATMAP, picture, "heatmap")
    if before is not None and before != text.encode():
        kept = next(name for name in _names_for(BEFORE, run) if not name.exists() or name.read_bytes() == before)
        write_whole(kept, before, "earlier card")
        print(f"the {CARD} that was there is kept as {kept}")
    write_whole(file, text, "card")
    return file
