"""Whether a published model is what it says: ``python -m mocse_timm.hub check user/name``, or of a folder."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from huggingface_hub import HfApi
from torch import nn

from mocse_timm.checkpoints.by_name import folder_or_repository
from mocse_timm.checkpoints.download import download
from mocse_timm.checkpoints.hub_failures import FAILURES
from mocse_timm.checkpoints.open_folder import open_folder
from mocse_timm.checkpoints.tensors import WEIGHTS, is_pickle, sha256, weights_in_folder
from mocse_timm.checks import BadInput, one_line
from mocse_timm.evaluation.scorer import model_size
from mocse_timm.hub.card import CARD, HEATMAP, build_card, repository_in
from mocse_timm.hub.card_numbers import numbers_held
from mocse_timm.hub.card_tables import millions
from mocse_timm.hub.edited_card import check_edited_text, check_metadata
from mocse_timm.hub.facts import Facts, read_facts
from mocse_timm.hub.results import RESULTS, Results, main_scores, read_results, refuse_other_build, refuse_other_weights
from mocse_timm.hub.save import CONFIG
from mocse_timm.models.normalized import image_channels

__all__ = ["Verdict", "check", "check_folder"]

BATCH = 2
STATES = "states"  # of a run: what continues it, pickles among them; never published
PNG = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True)
class Verdict:
    """What was found.

    Args:
        subject: what was checked.
        lines: for the screen, one a check and the verdict at the end.
        failures: a sentence for everything that is wrong.
    """

    subject: str
    lines: tuple[str, ...]
    failures: tuple[str, ...]

    @property
    def text(self) -> str:
        """The lines."""
        return "\n".join(self.lines)

    def refuse_failures(self) -> None:
        """Raise BadInput if something is wrong."""
        if self.failures:
            raise BadInput(f"{self.subject} does not pass: {'; '.join(self.failures)}")


class _Publication:
    """The files of one folder, each read once, when a check first asks for it.

    Args:
        folder: with the files.
        others: names of files that the repository has besides, where they are known.
    """

    def __init__(self, folder: Path, others: Iterable[str]):
        self.folder = folder
        self.others = others

    @cached_property
    def facts(self) -> Facts:
        return read_facts(self.folder)

    @cached_property
    def results(self) -> Results:
        return read_results(self.folder)

    @cached_property
    def model(self) -> nn.Module:
        return open_folder(self.folder).eval()

    @cached_property
    def card(self) -> str:
        file = self.folder / CARD
        if not file.is_file():
            raise BadInput(f"there is no {CARD}; write one with: python -m mocse_timm.hub card RUN")
        return file.read_text(encoding="utf-8", errors="replace")

    @cached_property
    def rebuilt(self) -> str:
        return build_card(self.folder, repo_id=repository_in(self.card) or "USER/model")


def _pickles(files: _Publication) -> str:
    """Look at the names of all files, in inner folders, too, but not in the states/ of a run."""
    inside = (path.relative_to(files.folder) for path in files.folder.rglob("*") if not path.is_dir())
    names = {*files.others, *(path.as_posix() for path in inside if path.parts[0] != STATES)}
    found = sorted(filter(is_pickle, names))
    if found:
        raise BadInput(f"{found[0]} is a pickle, which could run code when loaded; remove it")
    aside = f" ({STATES}/ was not looked at)" if (files.folder / STATES).is_dir() else ""
    return f"no file ends like a pickle{aside}"


def _shapes(files: _Publication) -> str:
    parameters = sum(parameter.numel() for parameter in files.model.parameters())
    counted = files.results.computation.parameters
    if parameters != counted:
        raise BadInput(f"the model has {parameters:,} parameters, results.json says {counted:,}")
    return f"{files.facts.architecture}, {millions(parameters)} parameters, the tensors of {WEIGHTS} and no NaN"


def _classes(files: _Publication) -> str:
    count, names = files.facts.num_classes, files.facts.class_names
    scored = tuple(files.results.scores.per_class_accuracy)
    if int(getattr(files.model, "num_classes", count)) != count or len(scored) != count:
        raise BadInput(f"{CONFIG} has {count} classes, {RESULTS} {len(scored)}")
    if names and names != scored:
        raise BadInput(
            f"{CONFIG} and {RESULTS} name the classes differently: {names[0]!r} and {scored[0]!r} come first"
        )
    return f"{count} classes, with the same names in {CONFIG} and {RESULTS}" if names else f"{count} classes, no names"


def _checksum(files: _Publication) -> str:
    found = sha256(weights_in_folder(files.folder))
    refuse_other_weights(files.results, found, files.folder)
    refuse_other_build(files.results, files.facts.content, files.folder)
    return f"the weights are those that were scored, sha256 {found[:12]}..."


def _config_scores(files: _Publication) -> str:
    wanted, said = main_scores(files.results), files.facts.content["mocse_timm"].get("scores")
    if said is None:
        return f"{CONFIG} repeats no scores"
    if said != wanted:
        raise BadInput(f"the scores in {CONFIG} are {said}, those of {RESULTS} {wanted}")
    return f"the scores in {CONFIG} are those of {RESULTS}"


def _card_scores(files: _Publication) -> str:
    return f"{check_metadata(files.card, files.rebuilt)} scores in the card's metadata are those of {RESULTS}"


def _unnamed(card: str, repo_id: str | None) -> str:
    """Return a card with plain words where its own name stands, which may be a number and claims nothing."""
    if repo_id is None:
        return card
    heading = f"\n# {repo_id.rpartition('/')[2]}\n"
    return card.replace(heading, "\n# model\n").replace(repo_id, "user/model")


def _card_text(files: _Publication) -> str:
    if files.card == files.rebuilt:
        return f"the card is the one that {RESULTS} and {CONFIG} give"
    repo_id, held = repository_in(files.card), numbers_held(files.results.content, files.facts.content)
    check_edited_text(_unnamed(files.card, repo_id), _unnamed(files.rebuilt, repo_id), held)
    return "the card was edited; its numbers agree"


def _heatmap(files: _Publication) -> str:
    if files.results.corruptions is None:
        return f"no {HEATMAP}, as no corruptions were scored"
    file = files.folder / HEATMAP
    if file.is_file():
        with file.open("rb") as stream:
            if stream.read(len(PNG)) == PNG:
                return f"{HEATMAP} is a picture"
    raise BadInput(f"{HEATMAP} is missing or no PNG, and the card shows it")


@torch.inference_mode()
def _batch(files: _Publication) -> str:
    side, classes = model_size(files.model), files.facts.num_classes
    generator = torch.Generator().manual_seed(0)
    logits = files.model(torch.rand(BATCH, image_channels(files.model), side, side, generator=generator))
    if tuple(logits.shape) != (BATCH, classes) or not logits.isfinite().all():
        raise BadInput(f"a batch of {BATCH} images gives {tuple(logits.shape)} numbers, or some that are none")
    return f"a batch of {BATCH} random {side}x{side} images gives {BATCH} x {classes} finite scores"


CHECKS: dict[str, Callable[[_Publication], str]] = {
    "files": _pickles,
    "weights": _shapes,
    "classes": _classes,
    "checksum": _checksum,
    "config": _config_scores,
    "card scores": _card_scores,
    "card text": _card_text,
    "heatmap": _heatmap,
    "one batch": _batch,
}


def check_folder(folder: Path, *, subject: str, others: Iterable[str] = ()) -> Verdict:
    """Return the verdict on the published files in ``folder``.

    Args:
        folder: with weights, config, card, results and heatmap. It may be a run's, whose states/ hold pickles to
            continue from: in states/, none is looked for.
        subject: what to call it.
        others: names of further files, not fetched, that belong to it.
    """
    files, lines, failures = _Publication(folder, others), [], []
    for name, run in CHECKS.items():
        try:
            lines.append(f"ok      {name:<12} {one_line(run(files))}")
        except BadInput as error:
            said = one_line(str(error))  # it may quote a stranger's control characters
            known = said in failures  # one missing file fails several checks
            lines.append(f"FAILED  {name:<12} {'for the same reason' if known else said}")
            failures += [] if known else [said]
    lines.append(f"{subject} {'passes' if not failures else 'does not pass'}")
    return Verdict(subject, tuple(lines), tuple(failures))


def check(name: str) -> Verdict:
    """Return the verdict on a model: a folder, or a repository ``user/name`` of the Hub, at ``@revision``.

    Raises:
        BadInput: if there is nothing to check: no such folder or repository, or it has no weights or no config.
    """
    repo_id = folder_or_repository(name)
    if isinstance(repo_id, Path):
        return check_folder(repo_id, subject=str(repo_id))
    snapshot = download(repo_id, [CONFIG, WEIGHTS], optional=[CARD, RESULTS, HEATMAP])
    others, note = [], ()
    try:
        others = HfApi().list_repo_files(repo_id.partition("@")[0], revision=snapshot.name)
    except FAILURES:
        note = (
            "note    the Hub cannot be asked for the repository's other files: only what is in the cache was looked at",
        )
    verdict = check_folder(snapshot, subject=repo_id, others=others)
    return Verdict(verdict.subject, (*note, *verdict.lines), verdict.failures)
