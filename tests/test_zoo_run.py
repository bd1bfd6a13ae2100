"""The runner of the zoo, on a plan of a small training and of scripts that only seem to train; and the recipes."""

import json
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import timm
import torch
import yaml

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes"))

from run_zoo import Runner
from zoo_plan import planned

from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.flags import parse_flags
from mocse_timm.training.config import TrainConfig
from mocse_timm.training.settings import check_flags

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
    "amp": True,
}

# Seems to train for the seconds that its recipe says, or to fail, and tells what it was given and which signals it got.
TRAIN = """
import json, signal, sys, time
from pathlib import Path

import yaml

flags = dict(zip(sys.argv[1::2], sys.argv[2::2]))
recipe = yaml.safe_load(Path(flags["--config"]).read_text())
folder = Path(flags["--output"], flags["--experiment"])
folder.mkdir(exist_ok=True)


def stop(number, frame):
    with (folder / "signals").open("a") as file:
        file.write(f"{number}\\n")
    sys.exit(0)


signal.signal(signal.SIGTERM, stop)
(folder / "started").touch()
time.sleep(recipe["seconds"])
if recipe["seconds"] < 1:
    (folder / "config.json").write_text(json.dumps(flags))
    (folder / "summary.csv").touch()
sys.exit(recipe["code"])
"""
VALIDATE = """
import sys
from pathlib import Path

Path(sys.argv[sys.argv.index("--results-file") + 1]).write_text(" ".join(sys.argv[1:]))
"""


def write_plan(folder: Path, recipes: dict[str, dict], seeds: list[int]) -> Path:
    for name in ("zoo", "score"):
        (folder / name).mkdir(parents=True)
    for name, values in recipes.items():
        (folder / "zoo" / f"{name}.yaml").write_text(yaml.safe_dump(values))
    (folder / "score" / "clean.yaml").write_text("batch_size: 64\n")
    plan = folder / "plan.yaml"
    plan.write_text(yaml.safe_dump({"recipes": {name: {"seeds": seeds, "score": "clean"} for name in recipes}}))
    return plan


def run(plan: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    where = ["--plan", str(plan), "--output", str(plan.parent / "runs"), "--cards", str(plan.parent / "cards")]
    command = [sys.executable, str(RECIPES / "run_zoo.py"), *where, *flags]
    return subprocess.run(command, capture_output=True, text=True, cwd=plan.parent)


def seeming_runner(folder: Path) -> Runner:
    """Return a runner of scripts that only seem to train and to validate."""
    (folder / "train.py").write_text(TRAIN)
    (folder / "validate.py").write_text(VALIDATE)
    (folder / "runs").mkdir()
    return Runner(folder, folder / "runs", folder / "cards", scripts=folder)


def test_trains_scores_and_keeps_the_results_once(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, {"tiny": TINY}, seeds=[3])
    (tmp_path / "score" / "clean.yaml").write_text("attack: pgd1,autoattack\nattack_images: 8\n")
    done = run(plan, "--jobs", "2", "--no-amp", "--no-autoattack")
    assert done.returncode == 0, done.stdout + done.stderr
    cards = tmp_path / "cards" / "tiny"
    results, config = (json.loads((cards / name).read_text()) for name in ("results.json", "config.json"))
    assert config["mocse_timm"]["seed"] == 3
    assert "--amp" not in config["mocse_timm"]["command"]
    assert list(results["robustness"]["robust_top1"]) == ["pgd1"]
    assert results["row"]["num_images"] == config["mocse_timm"]["validation"]["num_images"]
    assert results["scores"]["top1"] == pytest.approx(config["mocse_timm"]["validation"]["top1"])
    assert "train_images_per_second" in (cards / "summary.csv").read_text()
    again = run(plan)
    assert again.stdout == "tiny-seed3: was done\n"
    left = run(plan, "--skip-carded", "--dry-run")
    assert left.stdout.strip() == ""


def test_every_seed_has_its_folder(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, {"tiny": {"seconds": 0, "code": 0}}, seeds=[3, 4])
    runner = seeming_runner(tmp_path)
    runner.flags = {"validate.py": ["--device", "cpu"]}
    for training in planned(plan):
        assert runner.do(training).startswith("done in ")
        assert runner.do(training) == "was done"
    cards = tmp_path / "cards" / "tiny"
    for folder, seed in ((cards, "3"), (cards / "seed4", "4")):
        flags = json.loads((folder / "config.json").read_text())
        assert (flags["--seed"], flags["--experiment"]) == (seed, f"tiny-seed{seed}")
        assert (folder / "results.json").read_text().endswith(f"tiny-seed{seed}/results.json --device cpu")


def test_weights_of_another_recipe_are_looked_for_where_it_was_trained(tmp_path: Path) -> None:
    options = {"width": 0.125, "backbone_pretrained": "local-dir:output/zoo/first-seed3"}
    recipes = {"first": {"seconds": 0, "code": 0}, "second": {"seconds": 0, "code": 0, "model_kwargs": options}}
    first, second = planned(write_plan(tmp_path, recipes, seeds=[3]))
    runner = seeming_runner(tmp_path)
    with pytest.raises(RuntimeError, match="^begins with the weights of first-seed3, which is not done: run that"):
        runner.do(second)
    assert not (tmp_path / "runs" / second.folder).exists()
    runner.do(first)
    runner.flags = {"train.py": ["--no-amp"]}
    runner.do(second)
    flags = json.loads((tmp_path / "cards" / "second" / "config.json").read_text())
    assert flags["--model-kwargs"] == f"backbone_pretrained=local-dir:{tmp_path / 'runs' / 'first-seed3'}"
    assert flags["width=0.125"] == "--no-amp" and flags["--experiment"] == "second-seed3"


def test_what_needs_another_waits_for_it(tmp_path: Path) -> None:
    options = {"backbone_pretrained": "local-dir:output/zoo/first-seed3"}
    recipes = {"first": {"seconds": 0.9, "code": 0}, "second": {"seconds": 0, "code": 0, "model_kwargs": options}}
    runs, runner = planned(write_plan(tmp_path, recipes, seeds=[3])), seeming_runner(tmp_path)
    with ThreadPoolExecutor(2) as pool:
        tasks = [runner.submit(pool, run) for run in runs]
    assert all(task.result().startswith("done in ") for task in tasks)
    assert (tmp_path / "cards" / "second" / "results.json").is_file()


def test_what_needs_another_that_fails_or_comes_later_is_refused(tmp_path: Path) -> None:
    options = {"backbone_pretrained": "local-dir:output/zoo/first-seed3"}
    recipes = {"first": {"seconds": 0.5, "code": 2}, "second": {"seconds": 0, "code": 0, "model_kwargs": options}}
    first, second = planned(write_plan(tmp_path, recipes, seeds=[3]))
    for order, jobs in (([first, second], 2), ([second, first], 1)):
        folder = tmp_path / f"with{jobs}"
        shutil.copytree(tmp_path, folder, ignore=shutil.ignore_patterns("with*"))
        runner = seeming_runner(folder)
        with ThreadPoolExecutor(jobs) as pool:
            tasks = {run: runner.submit(pool, run) for run in order}
        with pytest.raises(RuntimeError, match="^begins with the weights of first-seed3, which is not done: run that"):
            tasks[second].result()


@pytest.mark.parametrize("text", ["seconds: [1\n", "- a list\n"])
def test_a_recipe_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    (training,) = planned(write_plan(tmp_path, {"tiny": {"seconds": 0, "code": 0}}, seeds=[3]))
    (tmp_path / "zoo" / "tiny.yaml").write_text(text)
    with pytest.raises(RuntimeError, match=r"tiny\.yaml (cannot be read|does not hold)"):
        seeming_runner(tmp_path).do(training)


def test_a_teacher_is_looked_for_where_it_was_trained_and_needed_to_the_end(tmp_path: Path) -> None:
    recipes = {
        "first": {"seconds": 0, "code": 0},
        "second": {"seconds": 0, "code": 0, "kd_model_name": "local-dir:output/zoo/first-seed3"},
    }
    first, second = planned(write_plan(tmp_path, recipes, seeds=[3]))
    runner = seeming_runner(tmp_path)
    (tmp_path / "runs" / second.folder / "states").mkdir(parents=True)
    with pytest.raises(RuntimeError, match="^is taught by first-seed3, which is not done: run that recipe first"):
        runner.do(second)
    runner.do(first)
    runner.do(second)
    flags = json.loads((tmp_path / "cards" / "second" / "config.json").read_text())
    assert flags["--kd-model-name"] == f"local-dir:{tmp_path / 'runs' / 'first-seed3'}"


def test_a_copy_that_was_cut_short_does_not_pass_for_done(tmp_path: Path) -> None:
    (training,) = planned(write_plan(tmp_path, {"tiny": {"seconds": 0, "code": 0}}, seeds=[3]))
    runner = seeming_runner(tmp_path)
    runner.do(training)
    shutil.rmtree(tmp_path / "cards")
    (tmp_path / "runs" / training.folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError):
        runner.do(training)
    assert not (tmp_path / "cards" / "tiny" / "results.json").exists()


def test_autoattack_can_be_left_out_of_the_score(tmp_path: Path) -> None:
    (training,) = planned(write_plan(tmp_path, {"tiny": {"seconds": 0, "code": 0}}, seeds=[3]))
    score, results = tmp_path / "score" / "clean.yaml", tmp_path / "cards" / "tiny" / "results.json"
    runner = seeming_runner(tmp_path)
    runner.autoattack = False
    for attacks, given in (
        ("attack: pgd50,autoattack,router\n", "--attack pgd50,router --results-file"),
        ("attack: autoattack\n", "--attack  --results-file"),
        ("attack: pgd50\n", "clean.yaml --results-file"),
        ("batch_size: 64\n", "clean.yaml --results-file"),
    ):
        score.write_text(attacks)
        runner.do(training)
        assert given in results.read_text()
        (tmp_path / "runs" / training.folder / "results.json").unlink()


def test_a_failure_is_named_and_leaves_the_others_alone(tmp_path: Path) -> None:
    recipes = {"wrong": {"seconds": 0, "code": 2}, "tiny": {"seconds": 0, "code": 0}}
    tiny, wrong = planned(write_plan(tmp_path, recipes, seeds=[0]))
    runner = seeming_runner(tmp_path)
    with pytest.raises(RuntimeError, match=r"^train.py ended with exit code 2; its output is in .*wrong-seed0.log$"):
        runner.do(wrong)
    assert runner.do(tiny).startswith("done in ")
    assert not (tmp_path / "cards" / "wrong").exists()


def test_a_failure_is_printed_and_the_exit_code_1(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, {"wrong": TINY | {"no_such_flag": 1}}, seeds=[0])
    done = run(plan)
    assert done.returncode == 1
    assert done.stdout.startswith("wrong-seed0: train.py ended with exit code 2; its output is in ")


def test_a_signal_is_passed_on_once_and_nothing_is_started_after_it(tmp_path: Path) -> None:
    plan = write_plan(tmp_path, {name: {"seconds": 60, "code": 0} for name in ("first", "second")}, seeds=[0])
    first, second = planned(plan)
    runner = seeming_runner(tmp_path)
    with ThreadPoolExecutor() as pool:
        running = pool.submit(runner.do, first)
        deadline = time.monotonic() + 60
        while not (tmp_path / "runs" / "first-seed0" / "started").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        runner.stop(signal.SIGTERM)
        with pytest.raises(InterruptedError):
            running.result(60)
    with pytest.raises(InterruptedError):
        runner.do(second)
    assert (tmp_path / "runs" / "first-seed0" / "signals").read_text() == f"{int(signal.SIGTERM)}\n"
    assert not (tmp_path / "runs" / "second-seed0").exists()
    assert not (tmp_path / "cards").exists()


def test_plan_and_recipes_name_each_other() -> None:
    assert sorted(PLAN["recipes"]) == sorted(path.stem for path in (RECIPES / "zoo").glob("*.yaml"))


@pytest.mark.parametrize("name", PLAN["recipes"])
def test_every_recipe_of_the_zoo_builds_and_can_be_scored(name: str) -> None:
    file, score = RECIPES / "zoo" / f"{name}.yaml", PLAN["recipes"][name]["score"]
    config = parse_flags(TrainConfig, ["--config", str(file)], description="")
    check_flags(config)
    assert config.seed == PLAN["recipes"][name]["seeds"][0], "its expected numbers are those of the first seed"
    sources = [config.model_kwargs.pop("backbone_pretrained", None), config.kd_model_name]
    with torch.device("meta"):
        timm.create_model(config.model, **config.model_kwargs)
    order = [run.folder for run in planned(RECIPES / "zoo.yaml")]
    for source in filter(None, sources):  # trained by a recipe that comes before
        assert order.index(source.removeprefix("local-dir:output/zoo/")) < order.index(f"{name}-seed{config.seed}")
    assert file.read_text().startswith(f"# python train.py --config recipes/zoo/{name}.yaml\n")
    parse_flags(ValidateConfig, ["RUN", "--config", str(RECIPES / "score" / f"{score}.yaml")], description="")
