#!/usr/bin/env python3
"""What saving, loading and publishing cost over the bare work, as ratios of one run: ``python benchmarks/hub.py``.

For a ``mocse_wrn28_10`` of hundreds of MB: ``python -m mocse_timm.hub save`` against writing the same tensors by
safetensors alone, and its peak memory against the weights' size; opening the folder by our checks against
``timm.create_model("local-dir:...")``; and, with a Hub on this machine (that of the tests), publishing against
huggingface_hub's own commit of the same files, and ``mocse_timm.from_hub`` against timm's ``hf-hub:`` with both in the
cache. What is compared runs in turns, so a drifting machine hurts all alike.
"""

import argparse
import itertools
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import pytest
import timm
import torch
from huggingface_hub import CommitOperationAdd, HfApi
from safetensors.torch import save_file
from timing import alternate, at_least_one
from torch import nn

import mocse_timm
from mocse_timm.checkpoints.open_folder import open_folder
from mocse_timm.hub.push import publish
from mocse_timm.hub.save import save_run
from mocse_timm.models.saving import save_model

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from hub_server import client_of, hub_server  # noqa: E402 (the tests are found only then)

FILES = ("model.safetensors", "config.json")


def resident(which: str) -> int:
    """Return this process's resident bytes: VmRSS now, VmHWM at their peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(which + ":"))


def peak_of_saving(run: Path, out: Path) -> int:
    """Return the bytes that saving adds to this process at its peak, mapped files included."""
    before = resident("VmRSS")
    save_run(run, out)
    return resident("VmHWM") - before


def measure_saving(model: nn.Module, run: Path, work: Path, repeats: int) -> None:
    """Print time and memory of ``save``."""
    tensors, numbers = model.state_dict(), itertools.count()

    def save() -> None:
        out = work / f"saved{next(numbers)}"
        save_run(run, out)
        shutil.rmtree(out)

    def write() -> None:
        with patch("mocse_timm.hub.save._same_model", lambda run, copy: True):
            save()

    steps = {"save": save, "write": write, "bare": lambda: save_file(tensors, work / "bare.safetensors")}
    seconds = alternate(steps, repeats)
    print(f"save over safetensors alone, seconds: {seconds['save'] / seconds['bare']:.2f} (goal 1.5)")
    print(f"the same without comparing logits: {seconds['write'] / seconds['bare']:.2f}; bare {seconds['bare']:.2f} s")
    command = [sys.executable, __file__, "--peak", str(run), str(work / "peak")]
    peak = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    size = (run / FILES[0]).stat().st_size
    print(f"peak memory of save over the weights' {size / 2**20:.0f} MiB: {peak / size:.2f} (goal 1.2)")


def measure_loading(run: Path, repeats: int) -> None:
    """Print the time of opening a folder."""
    loaders = {
        "ours": lambda: open_folder(run),
        "timm": lambda: timm.create_model(f"local-dir:{run}", pretrained=True),
    }
    seconds = alternate(loaders, repeats)
    print(f"open_folder over timm's local-dir, seconds: {seconds['ours'] / seconds['timm']:.2f} (goal 1.1)")


def measure_hub(run: Path, work: Path, repeats: int) -> None:
    """Print the time of publishing, and of loading what was published, from the cache."""
    files, numbers = [run / name for name in FILES], itertools.count()
    with hub_server() as hub, pytest.MonkeyPatch.context() as environment:
        client_of(hub, work, environment)

        def bare() -> None:
            api, repo_id = HfApi(), f"alice/bare{next(numbers)}"
            api.create_repo(repo_id)
            operations = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=str(file)) for file in files]
            api.create_commit(repo_id, operations, commit_message="bare")

        def ours() -> None:
            publish(files, f"alice/ours{next(numbers)}", message="ours")

        seconds = alternate({"ours": ours, "bare": bare}, repeats)
        print(f"publish over huggingface_hub's commit, seconds: {seconds['ours'] / seconds['bare']:.2f}")
        publish(files, "alice/model", message="to load")
        loaders = {
            "ours": lambda: mocse_timm.from_hub("alice/model"),
            "timm": lambda: timm.create_model("hf-hub:alice/model", pretrained=True),
        }
        seconds = alternate(loaders, repeats)
        print(f"from_hub over timm's hf-hub, in the cache, seconds: {seconds['ours'] / seconds['timm']:.2f} (goal 1.1)")


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=at_least_one, default=5)
    parser.add_argument("--expert-width", type=float, default=0.5, help="of mocse_wrn28_10; 0.5 is 366 MB")
    parser.add_argument("--peak", nargs=2, type=Path, help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.peak:
        print(peak_of_saving(*flags.peak))
        return
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        work, run = Path(folder), Path(folder) / "run"
        run.mkdir()
        model = timm.create_model("mocse_wrn28_10", expert_width=flags.expert_width)
        save_model(model, run)
        size = (run / FILES[0]).stat().st_size / 1e6
        print(f"mocse_wrn28_10, {size:.0f} MB, torch {torch.__version__}, {torch.get_num_threads()} threads")
        measure_saving(model, run, work, flags.repeats)
        measure_loading(run, flags.repeats)
        measure_hub(run, work, flags.repeats)


if __name__ == "__main__":
    main()
