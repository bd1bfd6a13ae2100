"""Loading workers outlive a SIGTERM to them, which a job manager sends to all, and end with their main process."""

import os
import signal
import subprocess
import sys
from multiprocessing import active_children

import pytest
import torch

from mocse_timm.data import Augmentation, MemoryImages, build_loader

LEAVING = """
import multiprocessing, torch
from mocse_timm.data import Augmentation, MemoryImages, build_loader

def leave_within_an_epoch():
    images = MemoryImages(torch.zeros(12, 3, 16, 16, dtype=torch.uint8), torch.arange(12))
    loader = build_loader(
        images, training=True, batch_size=2, image_size=16, augmentation=Augmentation(reprob=0.5), num_workers=2
    )
    held = [iter(loader)]
    held.append(held)  # a ring, which keeps what is in it until Python has ended
    next(held[0])
    print(*(child.pid for child in multiprocessing.active_children()))
"""
ENDS = {
    "the program's": "leave_within_an_epoch()",
    "a Process's": "child = multiprocessing.get_context('fork').Process(target=leave_within_an_epoch)\n"
    "child.start(); child.join(60); failed = child.exitcode != 0; child.kill(); raise SystemExit(failed)",
}


@pytest.mark.parametrize("end", ENDS)
def test_the_end_within_an_epoch_waits_for_no_worker(end: str) -> None:
    run = subprocess.run([sys.executable, "-c", LEAVING + ENDS[end]], capture_output=True, text=True, timeout=100)
    assert (run.returncode, run.stderr) == (0, "")
    workers = run.stdout.split()
    assert len(workers) == 2
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(int(worker), 0)


def test_a_signal_to_a_worker_is_left_to_the_main_process() -> None:
    images = MemoryImages(torch.zeros(64, 3, 16, 16, dtype=torch.uint8), torch.arange(64))
    augmentation = Augmentation(reprob=0.5)
    loader = build_loader(images, training=True, batch_size=2, image_size=16, augmentation=augmentation, num_workers=1)
    others = set(active_children())
    batches = iter(loader)
    next(batches)
    (worker,) = set(active_children()) - others
    assert worker.pid
    for number in (signal.SIGTERM, signal.SIGINT):
        os.kill(worker.pid, number)
    assert len(list(batches)) == len(loader) - 1
    assert worker.is_alive()
