"""What a training leaves in its folder, read without the code that wrote it."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from safetensors.torch import load_file

import mocse_timm.models  # noqa: F401  (registers our models)

__all__ = ["assert_same_results", "assert_whole", "states", "unfinished"]

SPEED = "train_images_per_second"  # the one column that no two runs share


def rows(run: Path) -> list[dict[str, str]]:
    """Return the rows of summary.csv, less the speed, after a look at its shape: epochs 0, 1, ..., all columns full."""
    file = run / "summary.csv"
    if not file.exists():
        return []
    header, *lines = csv.reader(file.read_text().splitlines())
    assert header[0] == "epoch" and all(len(line) == len(header) for line in lines), file.read_text()
    table = [dict(zip(header, line, strict=True)) for line in lines]
    assert [row["epoch"] for row in table] == [str(epoch) for epoch in range(len(table))], file.read_text()
    for row in table:
        assert float(row.pop(SPEED)) > 0
    return table


def states(run: Path) -> list[Path]:
    """Return the folders of complete states, the oldest first."""
    return sorted(path for path in (run / "states").glob("epoch-*") if not path.suffix)


def unfinished(run: Path) -> list[Path]:
    """Return what there is only during a save: what is written beside, or on its way out."""
    return [path for path in run.rglob("*") if path.suffix in (".new", ".old") or path.name.startswith(".saving-")]


def checksums(state: Path) -> dict[str, str]:
    """Return what checksums.json says of each file: its sha256."""
    return json.loads((state / "checksums.json").read_text())


def assert_state_whole(state: Path) -> None:
    """Check every file of a state against its checksum, and that it can be read."""
    told = checksums(state)
    assert told.keys() == {path.name for path in state.iterdir()} - {"checksums.json"}
    for name, digest in told.items():
        assert hashlib.sha256((state / name).read_bytes()).hexdigest() == digest, state / name
    load_file(state / "model.safetensors")


def assert_whole(run: Path) -> None:
    """Check all that stands in the folder of a training, finished or killed: nothing may be half a file."""
    if (run / "config.yaml").exists():
        assert yaml.safe_load((run / "config.yaml").read_text())["model"]
    rows(run)
    for folder in (run, run / "best"):
        if (folder / "model.safetensors").exists() and (folder / "config.json").exists():
            timm.create_model(f"local-dir:{folder}", pretrained=True)
    for state in states(run):
        assert_state_whole(state)


def assert_same_weights(one: Path, two: Path) -> None:
    first, second = load_file(one), load_file(two)
    assert first.keys() == second.keys()
    for name in first:
        assert torch.equal(first[name], second[name]), f"{name} of {one} and {two}"


def facts(folder: Path) -> dict[str, Any]:
    """Return what config.json tells of the training, less how it was called."""
    known = json.loads((folder / "config.json").read_text())["mocse_timm"]
    return {name: value for name, value in known.items() if name not in ("command", "earlier_commands")}


def assert_same_results(one: Path, two: Path) -> None:
    """Check that two trainings came to the same end, to the last bit: weights, best weights, summary, facts."""
    assert rows(one) and rows(one) == rows(two)
    for folder in ("", "best"):
        assert_same_weights(one / folder / "model.safetensors", two / folder / "model.safetensors")
        assert facts(one / folder) == facts(two / folder)
    assert not unfinished(two), unfinished(two)
