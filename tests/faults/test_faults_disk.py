"""A disk that is full or read-only: one sentence, code 2, and a training that goes on once there is room.

With MOCSE_TIMM_FAULT_CASES=1000 there are 50 sizes of each kind.
"""

import os
import shutil
from pathlib import Path
from random import Random

import pytest
from run_results import assert_same_results, assert_whole, states, unfinished
from small_disks import read_only, small_disk
from small_trainings import OFTEN, SmallTrainings
from trainings import Trainings, wait_until

SIZES = int(os.environ.get("MOCSE_TIMM_FAULT_CASES", "20")) // 20
BLOCK = 4096  # bytes, what a disk in memory gives a file at a time


def assert_goes_on(trainings: Trainings, flags: list[str], run: Path, whole: Path) -> None:
    training = trainings.run(*flags)
    assert training.code == 0, training.said
    assert_whole(run)
    assert_same_results(whole, run)


@pytest.mark.timeout(3600)
def test_no_file_may_grow_beyond_a_limit(trainings: Trainings, small: SmallTrainings, tmp_path: Path) -> None:
    """Whichever file is refused, of a training that is continued. What it prints, a few lines, must fit as well."""
    random = Random(f"limits {SIZES}")
    stopped = small.stopped("mocse")
    largest = max(path.stat().st_size for path in stopped.rglob("*") if path.is_file())
    refused = 0
    for case in range(SIZES):
        run = tmp_path / f"run{case}"
        shutil.copytree(stopped, run)
        limit = round(largest ** random.uniform(0.6, 1))  # as likely below each size of file
        print(f"{case}: files of up to {limit} bytes")
        training = trainings.run("--resume", str(run), largest_file=limit)
        assert_whole(run)
        assert states(run) and not unfinished(run)
        if training.code != 0:
            assert training.code == 2 and str(run) in training.complaint, training.said
            refused += 1
        assert_goes_on(trainings, ["--resume", str(run)], run, small.uninterrupted("mocse"))
    assert refused >= max(1, SIZES // 2)


@pytest.mark.timeout(3600)
def test_a_disk_that_fills_up(trainings: Trainings, small: SmallTrainings, tmp_path: Path) -> None:
    random = Random(f"disks {SIZES}")
    refused = 0
    for case in range(SIZES):
        with small_disk(tmp_path / f"disk{case}") as disk:
            run = disk.path / "run"
            flags = small.flags("mocse", run, *OFTEN)
            kib = random.randint(4, 3500)
            print(f"{case}: a disk of {kib} KiB")
            disk.resize(kib)
            training = trainings.run(*flags)
            if training.code != 0:
                assert training.code == 2 and str(run) in training.complaint, training.said
                assert ("--resume" in training.complaint) or not states(run), training.said
                refused += 1
            assert_whole(run)
            assert not unfinished(run)
            disk.resize(64 * 1024)
            assert_goes_on(trainings, flags, run, small.uninterrupted("mocse"))
    assert refused >= max(1, SIZES // 2)


def test_a_full_disk_may_be_noticed_by_the_log_first(
    trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk") as disk:
        run = disk.path / "run"
        shutil.copytree(small.stopped("mocse"), run)
        with (run / "log.txt").open("a") as log:
            log.write("-" * (-log.tell() % BLOCK - 1) + "\n")  # the next letter needs another block
        (disk.path / "filler").write_bytes(bytes(disk.free()))
        training = trainings.run("--resume", str(run))
        assert training.code == 2 and str(run) in training.complaint, training.said
        assert_whole(run)
        (disk.path / "filler").unlink()
        assert_goes_on(trainings, ["--resume", str(run)], run, small.uninterrupted("mocse"))


def test_a_read_only_folder_is_refused_before_anything_is_trained(
    trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    if not trainings.bound_by_modes:
        pytest.skip("root may write everywhere here: there is no setpriv to give that right up")
    run = tmp_path / "run"
    shutil.copytree(small.stopped("mocse"), run)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "log.txt"}
    with read_only(tmp_path):
        training = trainings.run(*small.flags("mocse", tmp_path / "new"))
        assert training.code == 2 and str(tmp_path / "new") in training.complaint
        training = trainings.run("--resume", str(run))
        assert training.code == 2 and str(run) in training.complaint
    assert {path: path.read_bytes() for path in before} == before
    assert_goes_on(trainings, ["--resume", str(run)], run, small.uninterrupted("mocse"))


def test_a_folder_that_becomes_read_only_keeps_its_states(
    trainings: Trainings, small: SmallTrainings, tmp_path: Path
) -> None:
    if not trainings.bound_by_modes:
        pytest.skip("root may write everywhere here: there is no setpriv to give that right up")
    run = tmp_path / "run"
    flags = small.flags("mocse", run, *OFTEN)
    training = trainings.start(*flags)
    wait_until(lambda: states(run) or training.ended(), "a state")
    with read_only(run / "states"):
        assert training.wait() == 2, training.said
        assert f"--resume {run}" in training.complaint and str(run) in training.complaint
    assert_whole(run)
    assert states(run)
    assert_goes_on(trainings, flags, run, small.uninterrupted("mocse"))
