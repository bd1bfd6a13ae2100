"""The runner of the zoo, on a plan of two small trainings; and the recipes that are in the repository."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import timm
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from run_zoo import planned

from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.flags import parse_flags
from mocse_timm.training.config import TrainConfig

ROOT = Path(__file__).parents[1]
RECIPES = ROOT / "recipes"
PLAN = yaml.safe_load((RECIPES / "zoo.yaml").read_text())
TINY = {
    "model": "cifar_preact18",
    "model_kwargs": {"width": 0.125},
    "dataset": "digits",
    "img_size": 16,
    "epochs": 1,
    "batch_size": 256,
    "save_every": [1, "steps"],
}


def write_plan(folder: Path, recipes: dict[str, dict], seeds: list[int]) -> Path:
    for name in ("zoo", "score"):
        (folder / name).mkdir(parents=True)
    for name, values in recipes.items():
        (folder / "zoo" / f"{name}.yaml").write_text(yaml.safe_dump(values))
    (folder / "score" / "clean.yaml").write_text("batch_size: 64\n")
    plan = folder / "plan.yaml"
    plan.write_text(yaml.safe_dump({"recipes": {name: {"seeds": seeds, "score": "clean"} for name in recipes}}))
    return plan


def command(plan: Path, *flags: str) -> list[str]:
    where = ["--plan", str(plan), "--output", str(plan.parent / "runs"), "--cards", str(plan.parent / "cards")]
    return [sys.executable, str(RECIPES / "run_zoo.py"), *where, *flags]


def run(plan: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(plan, *flags), capture_output=True, text=True, cwd=plan.parent)


def test_trains_scores_and_keeps_the_results_of_every_seed_once(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, {"tiny": TINY | {"amp": True}}, seeds=[3, 4])
    done = run(plan, "--jobs", "2", "--no-amp")
    assert done.returncode == 0, done.stdout + done.stderr
    cards = tmp_path / "cards" / "tiny"
    for folder, seed in ((cards, 3), (cards / "seed4", 4)):
        results, config = (json.loads((folder / name).read_text()) for name in ("results.json", "config.json"))
        assert config["mocse_timm"]["seed"] == seed
        assert "--amp" not in config["mocse_timm"]["command"]
        assert results["row"]["num_images"] == config["mocse_timm"]["validation"]["num_images"]
        assert results["scores"]["top1"] == pytest.approx(config["mocse_timm"]["validation"]["top1"])
        assert "train_images_per_second" in (folder / "summary.csv").read_text()
    again = run(plan)
    assert [line.split(": ")[1] for line in again.stdout.splitlines()] == ["was done", "was done"]
    left = run(plan, "--skip-carded", "--dry-run")
    assert left.stdout.strip() == ""


def test_a_failure_is_named_and_leaves_the_others_alone(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, {"wrong": TINY | {"model": "mocse_preact81"}, "tiny": TINY}, seeds=[0])
    done = run(plan)
    assert done.returncode == 1
    assert re.search(
        r"^wrong-seed0: train.py ended with exit code 2; its output is in .*wrong-seed0.log$", done.stdout, re.M
    )
    assert re.search(r"^tiny-seed0: done in", done.stdout, re.M)
    assert not (tmp_path / "cards" / "wrong").exists()


def test_sigterm_saves_what_runs_and_the_same_command_continues(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, {"tiny": TINY | {"epochs": 50}}, seeds=[0])
    states = tmp_path / "runs" / "tiny-seed0" / "states"
    runner = subprocess.Popen(command(plan), stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    deadline = time.monotonic() + 120
    while not list(states.glob("epoch-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    runner.send_signal(signal.SIGTERM)
    output, _ = runner.communicate(timeout=60)
    assert runner.returncode == 1
    assert output == "tiny-seed0: stopped; the same command continues\n"
    log = (tmp_path / "runs" / "tiny-seed0.log").read_text()
    assert "train.py --resume" in log  # it ended in good order
    assert not (tmp_path / "cards" / "tiny" / "results.json").exists()

    (tmp_path / "zoo" / "tiny.yaml").write_text(yaml.safe_dump(TINY | {"epochs": 2}))
    done = run(plan)
    assert done.returncode == 0, done.stdout
    assert "continuing from" in (tmp_path / "runs" / "tiny-seed0.log").read_text()


def test_an_unknown_recipe_is_refused(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, {"tiny": TINY}, seeds=[0])
    done = run(plan, "tinny")
    assert done.returncode == 2
    assert "there is no recipe 'tinny'" in done.stderr and "choose among tiny" in done.stderr


def test_plan_and_recipes_name_each_other() -> None:
    assert sorted(PLAN["recipes"]) == sorted(path.stem for path in (RECIPES / "zoo").glob("*.yaml"))


@pytest.mark.parametrize("name", PLAN["recipes"])
def test_every_recipe_of_the_zoo_builds_and_can_be_scored(name: str) -> None:
    file, score = RECIPES / "zoo" / f"{name}.yaml", PLAN["recipes"][name]["score"]
    config = parse_flags(TrainConfig, ["--config", str(file)], description="")
    config.check()
    source = config.model_kwargs.pop("backbone_pretrained", None)
    timm.create_model(config.model, **config.model_kwargs)
    if source is not None:  # trained by a recipe that comes before
        order = [run.folder for run in planned(RECIPES / "zoo.yaml")]
        assert order.index(source.removeprefix("local-dir:output/zoo/")) < order.index(f"{name}-seed0")
    assert file.read_text().startswith(f"# python train.py --config recipes/zoo/{name}.yaml\n")
    parse_flags(ValidateConfig, ["RUN", "--config", str(RECIPES / "score" / f"{score}.yaml")], description="")
