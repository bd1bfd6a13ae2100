"""Train and score the models of the zoo: ``python recipes/run_zoo.py``, or ``make zoo``; resumable.

``recipes/zoo.yaml`` names the recipes in their order, with their seeds and how each is scored; ``later: 1`` for those
that need what others' second seeds have trained. A recipe, beside it in ``zoo/NAME.yaml``, is trained in
OUTPUT/NAME-seedN, scored there by validate.py with the flags of ``score/SCORE.yaml``, and its results are copied to the
folder of cards: of the first seed to CARDS/NAME, beside the card, of the others to CARDS/NAME/seedN. What is done
already is skipped, what was stopped continues.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from threading import Event, Lock
from typing import Any

import yaml
from zoo_plan import RESULTS, Run, planned

from mocse_timm.checks import BadInput

ROOT = Path(__file__).parents[1]
OTHERS = "local-dir:output/zoo/"  # how recipes name the weights of others, which lie in the folder of trainings


def _settings(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise RuntimeError(f"{file} cannot be read ({' '.join(str(error).split())})") from None
    if not isinstance(found, dict):
        raise RuntimeError(f"{file} does not hold 'flag: value' lines")
    return found


@dataclass
class Runner:
    """Does trainings, several at once if ``jobs`` says so, until all are done or it is told to stop."""

    recipes: Path
    """Folder of the plan, with zoo/ and score/."""
    output: Path
    cards: Path
    jobs: int = 1
    flags: dict[str, list[str]] = field(default_factory=dict)
    """Further flags of train.py and validate.py."""
    scripts: Path = ROOT
    """Folder of train.py and validate.py."""
    autoattack: bool = True
    """Whether AutoAttack is made where the flags to score with name it."""
    stopped: Event = field(default_factory=Event)
    _children: set[subprocess.Popen] = field(default_factory=set)
    _lock: Lock = field(default_factory=Lock)
    _tasks: dict[str, Future[str]] = field(default_factory=dict)
    """What was given to others to do, by folder, in the order in which it is begun."""

    def stop(self, number: int, _frame: object = None) -> None:
        """Pass a signal on to what is running: each saves its state and ends."""
        with self._lock:
            self.stopped.set()
            for child in self._children:
                child.send_signal(number)

    def _call(self, script: str, arguments: list[str], log: Path) -> None:
        threads = max(1, (os.cpu_count() or 1) // self.jobs)
        command = [sys.executable, str(self.scripts / script), *arguments, *self.flags.get(script, [])]
        with log.open("a") as output, self._lock:
            if self.stopped.is_set():
                raise InterruptedError
            child = subprocess.Popen(
                command,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C comes to the runner, which passes it on once
                env=os.environ | {"OMP_NUM_THREADS": str(threads)} if self.jobs > 1 else None,
            )
            self._children.add(child)
        code = child.wait()
        with self._lock:
            self._children.discard(child)
        if self.stopped.is_set():
            raise InterruptedError
        if code != 0:
            raise RuntimeError(f"{script} ended with exit code {code}; its output is in {log}")

    def _score(self, run: Run) -> list[str]:
        """Return the flags that say how ``run`` is scored."""
        file = self.recipes / "score" / f"{run.score}.yaml"
        attacks = _settings(file).get("attack", "").split(",")
        kept = [name for name in attacks if self.autoattack or name != "autoattack"]
        return ["--config", str(file), *(["--attack", ",".join(kept)] if kept != attacks else [])]

    def _weights(self, run: Run) -> list[str]:
        """Return the flags of a recipe that begins with another's weights or is taught by it, from among the trainings.

        Raises:
            RuntimeError: if that one is not done, and this one not begun; or begun, and to be taught on.
        """
        recipe = _settings(self.recipes / "zoo" / f"{run.name}.yaml")
        options, teacher = recipe.get("model_kwargs", {}), str(recipe.get("kd_model_name"))
        source = str(options.get("backbone_pretrained"))
        begun = (self.output / run.folder / "states").is_dir()
        flags: list[str] = []
        if source.startswith(OTHERS):
            other = self._done(run, source, "begins with the weights of", needed=not begun)
            options = options | {"backbone_pretrained": other}
            flags += ["--model-kwargs", *(f"{key}={value}" for key, value in options.items())]
        if teacher.startswith(OTHERS):
            flags += ["--kd-model-name", self._done(run, teacher, "is taught by")]
        return flags

    def _done(self, run: Run, source: str, what: str, *, needed: bool = True) -> str:
        """Return for timm the name of another's weights that ``run`` takes; if ``needed``, see that they are there."""
        other = self.output / source.removeprefix(OTHERS)
        begun_before = list(takewhile(lambda name: name != run.folder, list(self._tasks)))
        if needed and other.name in begun_before:
            wait([self._tasks[other.name]])
        if self.stopped.is_set():
            raise InterruptedError
        if needed and not (other / RESULTS[0]).is_file():
            raise RuntimeError(f"{what} {other.name}, which is not done: run that recipe first")
        return f"local-dir:{other}"

    def submit(self, pool: Executor, run: Run) -> Future[str]:
        """Have ``run`` done by ``pool``, after those submitted before; it waits for one of them that it needs."""
        self._tasks[run.folder] = task = pool.submit(self.do, run)
        return task

    def do(self, run: Run) -> str:
        """Train, score and keep the results of one run; return what was done.

        Raises:
            InterruptedError: if the runner was told to stop.
            RuntimeError: if a command failed.
        """
        folder, card = self.output / run.folder, run.card(self.cards)
        log, start = self.output / f"{run.folder}.log", time.monotonic()
        done = (folder / RESULTS[0]).is_file()
        if not done:
            recipe = ["--config", str(self.recipes / "zoo" / f"{run.name}.yaml"), "--seed", str(run.seed)]
            where = ["--output", str(self.output), "--experiment", run.folder, "--resume", "auto"]
            self._call("train.py", [*recipe, *where, *self._weights(run)], log)
            results = ["--results-file", str(folder / RESULTS[0])]
            self._call("validate.py", [str(folder), *self._score(run), *results], log)
        card.mkdir(parents=True, exist_ok=True)
        for name in reversed(RESULTS):
            part = card / f".{name}.part"
            shutil.copyfile(folder / name, part)
            part.replace(card / name)
        return "was done" if done else f"done in {(time.monotonic() - start) / 60:.0f} minutes"


def main() -> int:
    """Do what the flags say; the exit code is 1 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", help="names of recipes; by default all")
    parser.add_argument("--plan", type=Path, default=ROOT / "recipes" / "zoo.yaml")
    parser.add_argument("--output", type=Path, default=Path("output/zoo"), help="folder of the trainings")
    parser.add_argument("--cards", type=Path, default=Path("hub_cards"), help="folder of the results and cards")
    parser.add_argument("--jobs", type=int, default=1, help="runs at once, each with its share of the cores")
    parser.add_argument("--skip-carded", action="store_true", help="leave out what has results in the folder of cards")
    parser.add_argument("--no-amp", action="store_true", help="train in 32 bits, where bfloat16 is only emulated")
    parser.add_argument("--no-autoattack", action="store_true", help="score without AutoAttack, hours of work on a CPU")
    parser.add_argument("--dry-run", action="store_true", help="only list what is to do")
    parser.add_argument("--frost-dir", help="folder of the pictures that the corruption frost needs")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error(f"--jobs is {arguments.jobs}: give at least 1")
    try:
        runs = planned(arguments.plan, arguments.recipes)
    except BadInput as error:
        parser.error(str(error))
    if arguments.skip_carded:
        runs = [run for run in runs if not (run.card(arguments.cards) / RESULTS[0]).is_file()]
    if arguments.dry_run:
        print("\n".join(f"{run.folder}, scored as {run.score}" for run in runs))
        return 0
    arguments.output.mkdir(parents=True, exist_ok=True)
    frost = ["--frost-dir", arguments.frost_dir] if arguments.frost_dir else []
    flags = {"train.py": ["--no-amp"] if arguments.no_amp else [], "validate.py": frost}
    runner = Runner(
        arguments.plan.parent,
        arguments.output,
        arguments.cards,
        arguments.jobs,
        flags,
        autoattack=not arguments.no_autoattack,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, runner.stop)
    failures = 0
    with ThreadPoolExecutor(arguments.jobs) as pool:
        for run, task in [(run, runner.submit(pool, run)) for run in runs]:
            try:
                print(f"{run.folder}: {task.result()}", flush=True)
            except InterruptedError:
                print(f"{run.folder}: stopped; the same command continues", flush=True)
                failures += 1
            except (RuntimeError, OSError) as error:
                print(f"{run.folder}: {error}", flush=True)
                failures += 1
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
