"""SIGTERM and Ctrl-C: the state is saved, the way on is printed, and the exit code says what happened.

With MOCSE_TIMM_FAULT_CASES=1000 signals come at 50 random moments more.
"""

import os
import re
import shlex
import signal
import time
from pathlib import Path
from random import Random

import pytest
from run_results import assert_same_results, assert_whole, rows, states
from small_trainings import OFTEN, SMALL, SmallTrainings, write_images
from trainings import Training, Trainings, wait_until

RANDOM = int(os.environ.get("MOCSE_TIMM_FAULT_CASES", "20")) // 20  # moments
CODE = {signal.SIGINT: 130, signal.SIGTERM: 143}
LIMIT = 10  # seconds from the signal to the end


def stop(training: Training, number: signal.Signals, *, group: bool = False) -> str:
    """Send the signal, to the workers as well if it comes from a terminal, and return what was printed on stderr."""
    assert not training.ended(), training.said
    training.send(number, group=group)
    assert training.wait(LIMIT) % 256 in (CODE[number], -number % 256), training.said
    assert "Traceback" not in training.said
    return training.err.read_text()


def continuing(said: str, run: Path) -> list[str]:
    """Return the flags of the command that was printed, once and alone in its line, to continue ``run``."""
    (printed,) = re.findall("^stopped; continue with: (.*)$", said, flags=re.MULTILINE)
    program, script, *flags = shlex.split(printed)
    assert (program, script, flags) == ("python", "train.py", ["--resume", str(run)])
    return flags


@pytest.mark.parametrize("number", CODE)
def test_a_signal_within_an_epoch_saves_the_step(
    number: signal.Signals, trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    run = tmp_path / "a run"  # the printed command must quote it
    training = trainings.start(*small.flags("advmoe", run))
    wait_until(lambda: (run / "config.yaml").exists() or training.ended(), "the first epoch")
    time.sleep(0.3)
    flags = continuing(stop(training, number), run)
    assert_whole(run)
    (state,) = states(run)
    assert state.name >= "epoch-0000-step-000001"  # nothing but the signal saves within an epoch here
    by_hand = number == signal.SIGTERM  # the words as they were printed, typed into a shell
    last = trainings.start_command("python", "train.py", *flags) if by_hand else trainings.start(*flags)
    assert last.wait() == 0, last.said
    assert_same_results(small.uninterrupted("advmoe"), run)


def test_a_signal_during_validation_does_not_wait_for_its_end(
    trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    run, slow = tmp_path / "run", ("-vb", "1")
    training = trainings.start(*small.flags("standard", run, *slow, *OFTEN))
    trained = run / "states" / "epoch-0000-step-000006"
    wait_until(lambda: trained.exists() or training.ended(), "the end of the first epoch")
    time.sleep(0.05)
    flags = continuing(stop(training, signal.SIGINT), run)
    assert states(run)[-1] == trained and not rows(run)
    last = trainings.run(*flags)
    assert last.code == 0, last.said
    assert_same_results(small.uninterrupted("standard", *slow), run)


@pytest.mark.parametrize("number", CODE)
def test_workers_that_get_the_signal_too_change_nothing(
    number: signal.Signals, trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    """A terminal sends Ctrl-C to all processes in front, a job manager SIGTERM to all of the job."""
    run = tmp_path / "run"
    data = ("--dataset", write_images(small.folder / "large", side=72), "-b", "8", "--workers")  # too large for memory
    training = trainings.start(*small.flags("standard", run, *data, "2", *OFTEN))
    wait_until(lambda: len(states(run)) > 1 or training.ended(), "a state")
    flags = continuing(stop(training, number, group=True), run)
    wait_until(training.left_nothing, "the end of the workers", seconds=LIMIT)
    last = trainings.run(*flags)
    assert last.code == 0, last.said
    assert_same_results(small.uninterrupted("standard", *data, "0"), run)


def test_a_second_ctrl_c_ends_at_once(trainings: Trainings, tmp_path: Path) -> None:
    """The first is waiting for a batch of validation that takes long."""
    run = tmp_path / "run"
    data = ["--dataset", write_images(tmp_path / "images", training=1, validation=50), "--img-size", "32", "-vb", "200"]
    flags = [*data, "--model", "cifar_wrn28_10", "--output", str(tmp_path), "--experiment", "run", *OFTEN]
    training = trainings.start(*flags)
    wait_until(lambda: states(run) or training.ended(), "the end of the first epoch")
    time.sleep(1)  # a signal before validation has begun would end the training in good order
    training.send(signal.SIGINT)
    wait_until(lambda: "a second signal stops at once" in training.said or training.ended(), "an answer")
    time.sleep(1.5)  # two within a second are one, sent twice
    stop(training, signal.SIGINT)
    assert "continue with" not in training.said
    assert_whole(run)


@pytest.mark.parametrize("number", CODE)
@pytest.mark.parametrize("seconds", [0.5, 1.5] if RANDOM < 50 else [0.1, 0.5, 1, 1.5, 2, 2.5, 3, 4])
def test_a_signal_while_train_py_starts_needs_no_traceback(
    number: signal.Signals, seconds: float, trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    training = trainings.start_command("python", "train.py", *small.flags("standard", tmp_path / "run"))
    time.sleep(seconds)
    assert stop(training, number).count("\n") <= 1


@pytest.mark.timeout(3600)
def test_signals_at_random_moments_lose_nothing(trainings: Trainings, small: SmallTrainings, tmp_path: Path) -> None:
    random = Random(f"signals {RANDOM}")
    continued = 0
    for case in range(RANDOM):
        run, kind, number = tmp_path / f"run{case}", random.choice(list(SMALL)), random.choice(list(CODE))
        delay = random.uniform(0, 3)
        print(f"{case}: {number.name} to {kind} after {delay:.3f} s")
        training = trainings.start(*small.flags(kind, run, *random.choice([OFTEN, ()])))
        time.sleep(delay)
        if not training.ended():
            training.send(number)
            training.wait(LIMIT)
        if "everything is in" in training.said:  # it had ended, but for the process
            continue
        assert training.code == CODE[number] and "Traceback" not in training.said, training.said
        assert_whole(run)
        if "stopped before there was anything to save" in training.said:
            assert not states(run) and training.err.read_text().count("\n") == 1
            flags = small.flags(kind, run)
        else:
            flags = continuing(training.err.read_text(), run)
            continued += 1
        last = trainings.run(*flags)
        assert last.code == 0, last.said
        assert_same_results(small.uninterrupted(kind), run)
    print(f"{RANDOM} signals, {continued} trainings continued from a state")
