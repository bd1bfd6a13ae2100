"""Two processes on one machine, started as a user would start them: the same numbers as one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from fitted_digits import fitted
from timm.models import save_for_hf

from mocse_timm.evaluation.run import main

ROOT = Path(__file__).parents[1]


def test_two_processes_give_the_numbers_of_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = fitted(timm.create_model("cifar_preact18", width=0.125))
    save_for_hf(model, str(tmp_path / "run"), safe_serialization=True)
    flags = f"{tmp_path / 'run'} --dataset digits --img-size 32 -b 64 --severities 1,4 --corruption-images 33"
    flags += " --corruptions gaussian_noise,glass_blur,brightness --results-file"
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += "--num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0".split()
    assert main([*flags.split(), str(tmp_path / "one.json"), "--device", "cpu"]) == 0
    done = subprocess.run(
        [*launch, "validate.py", *flags.split(), str(tmp_path / "two.json")],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert two["scores"]["loss"] == pytest.approx(one["scores"]["loss"], rel=1e-5)
    assert two["scores"]["per_class_accuracy"] == one["scores"]["per_class_accuracy"]
    assert two["corruptions"]["images"] == one["corruptions"]["images"]
    assert two["corruptions"]["clean"]["correct"] == one["corruptions"]["clean"]["correct"]
    answers = set()
    for name, cells in one["corruptions"]["cells"].items():
        for severity, cell in cells.items():
            other = two["corruptions"]["cells"][name][severity]
            assert (other["top1"], other["correct"]) == (cell["top1"], cell["correct"])
            assert other["ece"] == pytest.approx(cell["ece"], abs=1e-3)
            answers.add(cell["correct"])
    assert len(answers) > 3  # the model is neither always right nor always wrong
    assert done.stdout.count("under corruption") == 1  # the first process alone prints
