"""Several processes: the same bytes, nothing left behind when one of them or the whole run is killed."""

import multiprocessing
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.command import main
from mocse_timm.corruptions.corrupt import corrupt
from mocse_timm.corruptions.processes import one_core_processes
from mocse_timm.corruptions.workers import Rows, workers

COUNT = 6
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, 32, 32, 3), dtype=np.uint8)


def rows_into(target: Path, folder: Path, times: int = 1) -> list[Rows]:
    """The images of ``folder/clean.npy``, two at a time, ``times`` over."""
    np.save(folder / "clean.npy", PIXELS)
    return [
        Rows(folder / "clean.npy", target, (start + COUNT * time) * 3072, "snow", 3, start, start + 2, 7, None)
        for time in range(times)
        for start in range(0, COUNT, 2)
    ]


@pytest.mark.parametrize("processes", [1, 2])
def test_rows_land_in_their_places(tmp_path: Path, processes: int) -> None:
    target = tmp_path / "target"
    target.touch()
    with workers(processes) as make:
        assert list(make(rows_into(target, tmp_path))) == [2, 2, 2]
    assert target.read_bytes() == corrupt(PIXELS, "snow", 3, seed=7).tobytes()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize("processes", [1, 2])
def test_a_full_disk_is_an_error_and_not_a_dead_process(tmp_path: Path, processes: int) -> None:
    with workers(processes) as make, pytest.raises(OSError, match="No space left on device"):
        list(make(rows_into(Path("/dev/full"), tmp_path)))


def test_a_killed_worker_gets_one_sentence(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.touch()
    with pytest.raises(BadInput, match="a worker process was killed.*fewer --processes"):
        with workers(2) as make:
            results = make(rows_into(target, tmp_path, times=2000))
            next(results)
            pid = multiprocessing.active_children()[0].pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            list(results)


def test_workers_load_no_torch_take_one_thread_and_leave_ctrl_c_to_the_parent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "asked.py").write_text(
        "import os, signal, sys\n"
        "def facts():\n"
        "    import mocse_timm.corruptions.workers\n"
        "    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN\n"
        "    return 'torch' in sys.modules, 'timm' in sys.modules, os.environ['OMP_NUM_THREADS'], ignored\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    import asked  # type: ignore[import-not-found]

    with one_core_processes(2) as pool:
        assert len(multiprocessing.active_children()) == 2
        assert [pool.submit(asked.facts).result() for _ in range(4)] == [(False, False, "1", True)] * 4
    assert os.environ["OMP_NUM_THREADS"] == "3"


def test_a_killed_run_takes_its_workers_along_and_goes_on_to_the_same_bytes(tmp_path: Path) -> None:
    flags = ["--dataset", "digits", "--corruptions", "blur", "--output"]
    assert main([*flags, str(tmp_path / "whole"), "-j", "1"]) == 0

    command = [sys.executable, "-m", "mocse_timm.corruptions", *flags, str(tmp_path / "killed"), "-j", "2"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    folder = tmp_path / "killed/generated-digits-seed0"
    while not (folder / "defocus_blur.npy").is_file():
        assert run.poll() is None
        time.sleep(0.001)
    run.kill()
    run.wait()
    assert not (folder / "zoom_blur.npy").exists()
    assert run.stdout is not None  # a pipe that is closed when the last of the run's processes ends
    all_ended = bool(select.select([run.stdout], [], [], 20)[0])
    run.stdout.close()
    if not all_ended:
        os.killpg(run.pid, signal.SIGKILL)
    assert all_ended

    assert main([*flags, str(tmp_path / "killed"), "-j", "2"]) == 0
    whole = tmp_path / "whole/generated-digits-seed0"
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        path.name: path.read_bytes() for path in whole.iterdir()
    }
