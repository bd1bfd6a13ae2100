"""All the files of a published model, put together from a run and checked before anybody sees them."""

import os
import re
import shutil
from pathlib import Path

from mocse_timm.checkpoints.config_json import read_config
from mocse_timm.checkpoints.tensors import WEIGHTS, sha256, weights_in_folder
from mocse_timm.checks import BadInput
from mocse_timm.hub.card import CARD, HEATMAP, build_card, draw_card_heatmap, repository_in
from mocse_timm.hub.check import check_folder
from mocse_timm.hub.results import RESULTS, read_results, refuse_other_build, refuse_other_weights
from mocse_timm.hub.save import CONFIG, config_text

__all__ = ["PUBLISHED", "assemble"]

PUBLISHED = (WEIGHTS, CONFIG, CARD, RESULTS, HEATMAP)
"""The files of a published model; the last one only where there are scores under corruption."""


def _link(source: Path, target: Path) -> None:
    """Give a file a second name, without copying its bytes where the disk can do that."""
    try:
        os.link(source.resolve(), target)
    except OSError:
        shutil.copyfile(source, target)


def _renamed(own: str, old: str, new: str, old_id: str, new_id: str) -> str:
    """Return an edited card for another repository.

    Args:
        own: the edited card.
        old, new: the card as it is made for the repository of ``own``, and for the other; the same lines but for names.
        old_id, new_id: ``user/name``; in lines of the author's, the name is replaced where it stands by itself.
    """
    counterparts = dict(zip(old.split("\n"), new.split("\n"), strict=True))
    whole = re.compile(rf"(?<![\w.-]){re.escape(old_id)}(?!\.*[\w-])")
    lines = (counterparts.get(line) or whole.sub(new_id, line) for line in own.split("\n"))
    return "\n".join(lines)


def _card(run: Path, out: Path, repo_id: str) -> str:
    """Return a card made anew, or the run's own if somebody edited its text."""
    if (run / CARD).is_file():
        own = (run / CARD).read_text(encoding="utf-8", errors="replace")
        written_for = repository_in(own)
        if written_for is not None and own != (old := build_card(out, repo_id=written_for)):
            return _renamed(own, old, build_card(out, repo_id=repo_id), written_for, repo_id)
    return build_card(out, repo_id=repo_id)


def assemble(run: Path, out: Path, *, repo_id: str) -> list[Path]:
    """Put every file to publish into ``out`` and return them: weights, config, card, results, heatmap.

    A README.md that was written by ``card`` and edited since is kept, with its repository's name put right, and
    refused if its numbers are not those of results.json.

    Args:
        run: folder of a run that was trained and scored.
        out: empty; on the disk of ``run``, no weights are copied.
        repo_id: ``user/name``, where it will be published.

    Raises:
        BadInput: if a file of the run is missing or damaged, or files do not agree. ``out`` is of no use then.
    """
    config, results = read_config(run), read_results(run)
    weights = weights_in_folder(run)
    refuse_other_weights(results, sha256(weights), run)
    refuse_other_build(results, config, run)
    if any(out.iterdir()):
        raise BadInput(f"folder {out} is not empty; give a new one")
    try:
        _link(weights, out / WEIGHTS)
        (out / CONFIG).write_text(config_text(config, results), encoding="utf-8")
        shutil.copyfile(run / RESULTS, out / RESULTS)
        (out / CARD).write_text(_card(run, out, repo_id), encoding="utf-8")
        picture = draw_card_heatmap(out, name=repo_id.rpartition("/")[2])
        if picture is not None:
            (out / HEATMAP).write_bytes(picture)
    except OSError as error:
        raise BadInput(f"cannot write into {out} ({error.strerror or error}); choose another place") from None
    check_folder(out, subject=str(run)).refuse_failures()
    return [out / name for name in PUBLISHED if (out / name).is_file()]
