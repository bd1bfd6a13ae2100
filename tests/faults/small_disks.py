"""Disks that are full or read-only, as far as the machine lets a test have them."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["SmallDisk", "read_only", "small_disk"]


class SmallDisk:
    """A disk in memory, mounted at ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def resize(self, kib: int) -> None:
        """Give the disk another size; what is on it stays."""
        subprocess.run(["mount", "-o", f"remount,size={kib}k", self.path], check=True)

    def free(self) -> int:
        """Return the bytes that can still be written."""
        return shutil.disk_usage(self.path).free


@contextmanager
def small_disk(path: Path) -> Iterator[SmallDisk]:
    """Mount a disk of 64 MiB at ``path``, which is made; skip the test where that is not allowed."""
    if os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root can mount a small disk")
    path.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", path], capture_output=True, text=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"this machine mounts no small disk: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", path], check=True)


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """Forbid changes of what stands in ``folder`` and below inside the block."""
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for each in folders:
        each.chmod(0o555)
    try:
        yield
    finally:
        for each in folders:
            each.chmod(0o755)
