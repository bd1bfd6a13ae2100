"""SIGKILL at any moment: what is left is whole, and the continued training ends as if nothing had happened.

A few kills; with MOCSE_TIMM_FAULT_CASES=1000 there are 100.
"""

import os
import signal
import time
from pathlib import Path
from random import Random

import pytest
from killer import Killer
from run_results import assert_same_results, assert_whole, states
from small_trainings import OFTEN, SMALL, SmallTrainings, write_images
from trainings import Trainings, wait_until

KILLS = int(os.environ.get("MOCSE_TIMM_FAULT_CASES", "30")) // 10  # of all kinds together


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", SMALL)
def test_killed_trainings_continue_to_the_same_end(
    kind: str, trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    begun = time.monotonic()
    whole = trainings.run(*small.flags(kind, tmp_path / "whole", *OFTEN))
    assert whole.code == 0, whole.said
    killer = Killer(trainings, Random(f"{kind} {KILLS}"), whole, time.monotonic() - begun)
    assert_same_results(small.uninterrupted(kind), tmp_path / "whole")
    for case in range(10 * KILLS):
        run = tmp_path / f"killed{case}"
        saving = OFTEN if killer.random.random() < 0.8 else ()  # the others save at the end of an epoch
        flags = small.flags(kind, run, *saving)
        print(f"training {case}, {' '.join(saving)}")
        for _ in range(killer.random.randint(1, 3)):
            if killer.kill(flags, run, by_hand=case % 10 == 9):
                assert_whole(run)
        last = trainings.run(*flags)
        assert last.code == 0, last.said
        assert_whole(run)
        assert_same_results(small.uninterrupted(kind), run)
        if killer.count >= -(-KILLS // len(SMALL)):
            break
    print(f"{kind}: {killer.count} kills in {case + 1} trainings, {dict(killer.kinds)}")
    assert killer.kinds["inside a save"] > 0 or KILLS < 100


def test_a_training_killed_at_its_first_results_can_be_continued(
    trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    """What it left is too much to be overwritten, and must be enough to go on from."""
    run = tmp_path / "run"
    training = trainings.start(*small.flags("standard", run))
    wait_until(lambda: (run / "summary.csv").exists() or training.ended(), "the first row", pause=0.0002)
    training.send(signal.SIGKILL)
    assert training.wait() == -signal.SIGKILL, training.said
    again = trainings.run(*small.flags("standard", run))
    assert again.code == 0, again.said
    assert_same_results(small.uninterrupted("standard"), run)


def test_a_killed_training_leaves_neither_processes_nor_a_lock(trainings: Trainings, tmp_path: Path) -> None:
    """Its workers, forked from it, may outlive it for a moment, but the lock of the folder may not."""
    run = tmp_path / "run"
    data = ["--dataset", write_images(tmp_path / "images", side=72), "--workers", "2"]
    model = "--model cifar_preact18 --model-kwargs width=0.125 --img-size 8 -b 16 --epochs 2".split()
    flags = [*model, *data, "--output", str(tmp_path), "--experiment", "run", "--resume", "auto", *OFTEN]
    training = trainings.start(*flags)
    wait_until(lambda: states(run) or training.ended(), "a state")
    training.send(signal.SIGKILL)
    assert training.wait() == -signal.SIGKILL, training.said
    again = trainings.run(*flags)
    assert again.code == 0, again.said
    wait_until(training.left_nothing, "the end of the workers")
