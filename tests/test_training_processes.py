"""Two processes on one machine, started as a user would start them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    "model",
    [
        "--model mocse_preact18 --model-kwargs expert_width=0.125 num_experts=3",
        "--model advmoe_resnet18 --model-kwargs width=0.125 num_experts=3 --recipe advmoe",
    ],
)
def test_two_processes_train_together_and_count_every_image_once(model: str, tmp_path: Path) -> None:
    flags = f"{model} --img-size 8 --epochs 1 -b 128"
    # accelerate's --multi_gpu means "several processes on this machine"; without GPUs they talk by gloo
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += "--num_machines 1 --mixed_precision no --dynamo_backend no --main_process_port 0".split()
    done = subprocess.run(
        [*launch, "train.py", *flags.split(), "--output", str(tmp_path), "--experiment", "run"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "2 process(es)" in done.stdout
    assert json.loads((tmp_path / "run" / "config.json").read_text())["mocse_timm"]["validation"]["num_images"] == 355
    assert {path.name for path in (tmp_path / "run" / "state").iterdir()} >= {
        "random_states_0.pkl",
        "random_states_1.pkl",
    }
