"""Two trainings on one folder: the second is refused, the first does not notice."""

import signal
from pathlib import Path

import pytest
from run_results import assert_same_results, states
from small_trainings import OFTEN, SmallTrainings
from trainings import Trainings, wait_until


def test_the_second_training_on_a_folder_is_refused(
    trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    flags = small.flags("advmoe", run, *OFTEN)
    first = trainings.start(*flags)
    wait_until(lambda: states(run) or first.ended(), "a state")
    first.send(signal.SIGSTOP)  # however slow the second is
    seconds = [trainings.run(*flags), trainings.run("--resume", str(run))]
    left = sorted(run.rglob("*"))
    first.send(signal.SIGCONT)
    for second in seconds:
        assert second.code == 2 and str(run) in second.complaint
        assert "still going on" in second.complaint
    assert first.wait() == 0, first.said
    assert left
    assert_same_results(small.uninterrupted("advmoe"), run)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_folder_is_free_as_soon_as_its_training_is_gone(
    number: signal.Signals, trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    flags = small.flags("mocse", run, *OFTEN)
    first = trainings.start(*flags)
    wait_until(lambda: states(run) or first.ended(), "a state")
    first.send(number)
    assert first.wait() != 0, first.said
    second = trainings.run(*flags)
    assert second.code == 0, second.said
    assert_same_results(small.uninterrupted("mocse"), run)
