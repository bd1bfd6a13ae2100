"""Damaged states: found by their checksums, named, passed over; and what is in them is never executed.

Some damages of some files; with MOCSE_TIMM_FAULT_CASES=1000 each damage of each file.
"""

import hashlib
import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from random import Random

import pytest
import torch
from damages import DAMAGES, Bomb
from run_results import assert_same_results, checksums, states
from small_trainings import SmallTrainings
from trainings import Trainings

ALL = int(os.environ.get("MOCSE_TIMM_FAULT_CASES", "0")) > 0


def stopped_copy(small: SmallTrainings, run: Path) -> list[Path]:
    """Copy a stopped training to ``run`` and return its states, the newest first."""
    shutil.copytree(small.stopped("standard"), run)
    return states(run)[::-1]


@pytest.mark.timeout(3600)
def test_a_damaged_state_is_named_and_the_one_before_is_used(
    trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    random = Random("damages")
    stopped = states(small.stopped("standard"))[-1]
    files = sorted(path.name for path in stopped.iterdir())
    assert len(files) > 5 and "checksums.json" in files
    cases = [(file, damage) for file in files for damage in DAMAGES]
    for file, damage in cases if ALL else [("checksums.json", "garble"), *random.sample(cases, 2)]:
        run = tmp_path / f"{damage}-{file}"
        newest, before, *_ = stopped_copy(small, run)
        DAMAGES[damage](newest / file, random)
        training = trainings.run("--resume", str(run))
        assert training.code == 0, training.said
        log = (run / "log.txt").read_text()
        (warning,) = [
            line for line in training.out.read_text().splitlines() if str(newest) in line and "damaged" in line
        ]
        assert file in warning and warning in log, (damage, file, warning)
        assert f"continuing from {before}" in log
        assert_same_results(small.uninterrupted("standard"), run)


def test_an_empty_state_and_one_with_a_file_too_many_are_passed_over(
    trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    newest, second, third, *_ = stopped_copy(small, run)
    for path in newest.iterdir():
        path.unlink()
    (second / "custom_checkpoint_9.pkl").write_bytes(b"")
    training = trainings.run("--resume", str(run))
    assert training.code == 0, training.said
    assert str(newest) in training.said and str(second) in training.said and "custom_checkpoint_9.pkl" in training.said
    assert f"continuing from {third}" in training.said
    assert_same_results(small.uninterrupted("standard"), run)


def test_when_all_states_are_damaged_nothing_is_trained(
    trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for state in stopped_copy(small, run):
        DAMAGES["flip"](state / "model.safetensors", Random(0))
    before = (run / "summary.csv").read_bytes()
    training = trainings.run("--resume", str(run))
    assert training.code == 2 and str(run) in training.complaint
    assert all(str(state) in training.out.read_text() for state in states(run))
    assert (run / "summary.csv").read_bytes() == before


def plant(bomb: Bomb, file: Path) -> None:
    """Put the bomb into a file of a state, as torch would have stored it, and correct the checksum."""
    if zipfile.is_zipfile(file):
        torch.save({"state": bomb}, file)
    else:
        file.write_bytes(bomb.pickled())
    sums = checksums(file.parent) | {file.name: hashlib.sha256(file.read_bytes()).hexdigest()}
    (file.parent / "checksums.json").write_text(json.dumps(sums))


def test_no_file_of_a_state_is_executed_though_its_checksum_is_right(
    trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    trace = tmp_path / "executed"
    pickle.loads(Bomb(trace).pickled()).close()  # it does go off where it is unpickled
    assert trace.exists()
    trace.unlink()
    for file in sorted(path.name for path in states(small.stopped("standard"))[-1].iterdir()):
        if file == "checksums.json" or not (ALL or file in ("custom_checkpoint_0.pkl", "optimizer.bin")):
            continue
        run = tmp_path / f"bomb-{file}"
        newest, *_ = stopped_copy(small, run)
        plant(Bomb(trace), newest / file)
        training = trainings.run("--resume", str(run))
        assert not trace.exists(), f"{file} was executed"
        assert training.code == 0 or (training.code == 2 and newest.name in training.complaint), training.said
        assert "Traceback" not in training.said
