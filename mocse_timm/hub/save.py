"""A run's model as timm reads it, in a folder of its own: ``python -m mocse_timm.hub save RUN OUT``.

The run's model.safetensors is already in timm's format, so its bytes are copied and not written anew: the checksum in
results.json stays true, and no tensor passes through memory.
"""

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from mocse_timm.checkpoints.config_json import read_config
from mocse_timm.checkpoints.tensors import WEIGHTS, sha256, weights_in_folder
from mocse_timm.checks import BadInput
from mocse_timm.hub.results import RESULTS, Results, main_scores, read_results, refuse_other_build, refuse_other_weights
from mocse_timm.hub.same_logits import logits_of, open_on_file, same_bits

__all__ = ["CONFIG", "config_text", "save_run"]

CONFIG = "config.json"


def config_text(config: dict[str, Any], results: Results | None) -> str:
    """Return the text of config.json with the scores that are quoted among our facts, which timm passes over."""
    facts = dict(config.get("mocse_timm") or {})
    facts.pop("scores", None)
    if results is not None:
        facts["scores"] = main_scores(results)
    return json.dumps(config | {"mocse_timm": facts}, indent=2) + "\n"


def _check_free(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise BadInput(f"{out} is a file; give a folder to save into")
    if out.is_dir() and any(out.iterdir()):
        raise BadInput(f"folder {out} is not empty; give a new one")


def _write(run: Path, beside: Path, config: dict[str, Any], results: Results | None) -> None:
    beside.mkdir(parents=True)
    shutil.copyfile(weights_in_folder(run), beside / WEIGHTS)
    if results is not None:
        refuse_other_weights(results, sha256(beside / WEIGHTS), run)
        refuse_other_build(results, config, run)
        shutil.copyfile(run / RESULTS, beside / RESULTS)
    (beside / CONFIG).write_text(config_text(config, results), encoding="utf-8")


def _same_model(run: Path, copy: Path) -> bool:
    """Return whether both describe the same model, whose logits are the same with the weights of either."""
    first, second = ({**read_config(folder), "mocse_timm": None} for folder in (run, copy))
    if first != second:
        return False
    model = open_on_file(run)
    return same_bits(logits_of(run, model), logits_of(copy, model))


def save_run(run: Path, out: Path) -> Path:
    """Write the model of a run into ``out`` and return ``out``, which then loads as ``local-dir:OUT``.

    ``out`` gets model.safetensors, config.json with the main scores among our facts, and results.json where the run has
    one. Before it gets its name, the logits of model and copy are compared bit for bit.

    Args:
        run: folder of a finished run.
        out: does not exist, or is empty.

    Raises:
        BadInput: if the run cannot be read or its results.json is of another model, ``out`` is taken, the disk refuses,
            or the copy does not give the same logits. Then ``out`` is as it was.
    """
    config = read_config(run)
    results = read_results(run) if (run / RESULTS).is_file() else None
    beside = out.parent / f".{out.name}.{os.getpid()}.part"
    missing: list[Path] = []
    try:
        _check_free(out)
        missing = [parent for parent in out.parents if not parent.exists()]
        _write(run, beside, config, results)
        if not _same_model(run, beside):
            raise BadInput(f"the copy of {run} does not give the same logits; the disk may be at fault: save again")
        if out.is_dir():
            out.rmdir()
        beside.rename(out)
    except OSError as error:
        raise BadInput(f"cannot save into {out} ({error.strerror or error}); choose another place") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
        for parent in missing:
            with suppress(OSError):  # the copy is in it
                parent.rmdir()
    return out
