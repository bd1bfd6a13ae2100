import dataclasses
import errno
import json
import os
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from filelock import FileLock

from mocse_timm.checks import BadInput
from mocse_timm.corruptions import clean_images, generate, manifest, workers
from mocse_timm.corruptions.archive import find_archive
from mocse_timm.corruptions.clean_images import CleanImages
from mocse_timm.corruptions.corrupt import corrupt
from mocse_timm.corruptions.names import SEVERITIES
from mocse_timm.data import MemoryImages

NAMES = ("gaussian_noise", "contrast", "pixelate")
COUNT = 7


def small_set(count: int = COUNT, first: int = 0) -> CleanImages:
    pixels = np.random.default_rng(first).integers(0, 256, (count, 3, 32, 32), dtype=np.uint8)
    labels = (torch.arange(count) + first) % 3
    return CleanImages("small", "validation", 32, MemoryImages(torch.from_numpy(pixels), labels))


def make(output: Path, clean: CleanImages | None = None, **changes: Any) -> Path:
    arguments: dict[str, Any] = {"corruptions": NAMES, "severities": SEVERITIES} | changes
    return generate.generate(clean or small_set(), output, **arguments).folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generate, "ROWS_VALUES", 2 * 32 * 32 * 3)
    monkeypatch.setattr(generate, "FEWEST_ROWS", 2)
    monkeypatch.setattr(clean_images, "CHUNK_VALUES", 3 * 32 * 32 * 3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an undisturbed run writes; read only."""
    return make(tmp_path_factory.mktemp("whole"))


@pytest.mark.parametrize("severities", [SEVERITIES, (2, 5)])
def test_rows_are_the_images_one_by_one_severity_after_severity(tmp_path: Path, severities: tuple[int, ...]) -> None:
    clean = small_set()
    folder = make(tmp_path, clean, severities=severities, seed=3)
    for name in NAMES:
        rows = [
            corrupt(clean.one(index)[None], name, severity, seed=3, indices=[index])[0]
            for severity in severities
            for index in range(COUNT)
        ]
        stored = np.load(folder / f"{name}.npy")
        assert stored.dtype == np.uint8 and np.array_equal(stored, np.stack(rows))
    assert np.load(folder / "labels.npy").tolist() == [0, 1, 2, 0, 1, 2, 0] * len(severities)

    archive = find_archive(tmp_path, "small")
    assert archive is not None and archive.severities == severities
    cell = archive.cell("contrast", severities[-1])
    assert isinstance(cell, MemoryImages)
    expected = corrupt(clean.one(6)[None], "contrast", severities[-1])[0]
    assert np.array_equal(cell.images[6].permute(1, 2, 0).numpy(), expected)
    if severities == (2, 5):
        with pytest.raises(BadInput, match="no contrast at severity 1: it holds .* at 2, 5"):
            archive.cell("contrast", 1)


def test_the_folder_says_that_it_is_generated_and_from_what(whole: Path) -> None:
    facts = json.loads((whole / "MANIFEST.json").read_text())
    assert whole.name == "generated-small-seed0"
    assert facts["title"].startswith("generated (mocse_timm ") and facts["title"].endswith(", seed 0)")
    assert facts["crop_pct"] == 1.0
    assert facts["complete"] and facts["wanted"] == list(NAMES) and facts["dataset"] == "small"
    assert set(facts["versions"]) == {"mocse_timm", "numpy", "scipy", "pillow", "opencv"}
    assert set(contents(whole)) == {"MANIFEST.json", "labels.npy", *(f"{name}.npy" for name in NAMES)}


def test_more_processes_write_the_same_bytes(whole: Path, tmp_path: Path) -> None:
    assert contents(make(tmp_path, processes=2)) == contents(whole)


def test_a_stopped_run_leaves_no_parts_and_goes_on_where_it_stopped(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def stop_at_the_fiftieth(images: np.ndarray, name: str, severity: int, **rest: Any) -> np.ndarray:
        calls.append(name)
        if len(calls) == 50:
            raise KeyboardInterrupt
        return corrupt(images, name, severity, **rest)

    monkeypatch.setattr(workers, "corrupt", stop_at_the_fiftieth)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    folder = tmp_path / whole.name
    assert set(contents(folder)) == {"MANIFEST.json", "labels.npy", "gaussian_noise.npy", "contrast.npy"}
    with pytest.raises(BadInput, match="is unfinished: 2 of 3 corruptions are there; run the command .* again"):
        find_archive(tmp_path, "small")

    calls.clear()
    assert contents(make(tmp_path)) == contents(whole)
    assert set(calls) == {"pixelate"}


def test_a_file_has_its_name_only_when_it_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.replace

    def stop_before_pixelate(self: Path, target: Path) -> Path:
        if self.name == "pixelate.npy.part":
            assert self.stat().st_size > 5 * COUNT * 32 * 32 * 3 and not target.exists()
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "replace", stop_before_pixelate)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    assert not list(tmp_path.glob("*/pixelate*"))


def test_damaged_and_lost_files_are_made_again(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / whole.name
    shutil.copytree(whole, folder)
    with (folder / "contrast.npy").open("r+b") as file:
        file.seek(1000)
        file.write(b"damage")
    (folder / "labels.npy").unlink()
    (folder / "fog.npy.part").write_bytes(b"left by a run that was killed")
    assert contents(make(tmp_path)) == contents(whole)


def test_corruptions_can_be_added_later(whole: Path, tmp_path: Path) -> None:
    make(tmp_path, corruptions=("pixelate",))
    make(tmp_path, corruptions=("contrast",))
    assert contents(make(tmp_path, corruptions=("gaussian_noise",))) == contents(whole)


def test_other_images_severities_or_versions_do_not_go_into_the_same_folder(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(whole, tmp_path / whole.name)
    with pytest.raises(BadInput, match=r"begun with severities \(1, 2, 3, 4, 5\), and not \(1,\)"):
        make(tmp_path, severities=(1,))
    with pytest.raises(BadInput, match="begun with num images 7, and not 6"):
        make(tmp_path, small_set(6))
    with pytest.raises(BadInput, match="begun with images of sha256"):
        make(tmp_path, dataclasses.replace(small_set(), part=small_set(first=3).part))
    monkeypatch.setattr(generate, "current_versions", lambda: manifest.current_versions() | {"pillow": "9.9"})
    with pytest.raises(BadInput, match="begun with pillow .*, and not 9.9"):
        make(tmp_path)
    assert contents(tmp_path / whole.name) == contents(whole)


def test_a_full_disk_keeps_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def open_on_a_full_disk(self: Path, *arguments: Any, **rest: Any) -> Any:
        if self.name == "pixelate.npy.part" and arguments == ("r+b",):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, *arguments, **rest)

    monkeypatch.setattr(Path, "open", open_on_a_full_disk)
    with pytest.raises(BadInput, match="No space left on device.: what is finished is kept"):
        make(tmp_path)
    folder = tmp_path / "generated-small-seed0"
    assert set(contents(folder)) == {"MANIFEST.json", "labels.npy", "gaussian_noise.npy", "contrast.npy"}


def test_a_disk_that_is_too_small_is_refused_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = shutil.disk_usage(tmp_path)._replace(free=3 * 5 * COUNT * 32 * 32 * 3 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: room)
    with pytest.raises(BadInput, match="needs 0.00 GB and the disk has 0.00 GB free"):
        make(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "generated-small-seed0"
    folder.mkdir()
    (folder / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(BadInput, match="holds something else .thesis.txt. and no MANIFEST.json: give another --output"):
        make(tmp_path)
    assert contents(folder) == {"thesis.txt": b"irreplaceable"}


def test_outputs_that_cannot_be_written_get_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot write into .*file/generated-small-seed0 .Not a directory"):
        make(tmp_path / "file")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_read_only_output_gets_one_sentence(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="cannot write into .*Permission denied"):
        make(tmp_path)
    tmp_path.chmod(0o700)


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path) -> None:
    folder = tmp_path / "generated-small-seed0"
    folder.mkdir()
    with FileLock(folder / ".lock"), pytest.raises(BadInput, match="another process is writing into"):
        make(tmp_path)


def test_numbers_out_of_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--processes is 0: give at least 1"):
        make(tmp_path, processes=0)
    with pytest.raises(BadInput, match="--seed is -1: give 0 or more"):
        make(tmp_path, seed=-1)
    assert not list(tmp_path.iterdir())


def test_no_file_is_ever_in_memory_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "corrupt", lambda images, *arguments, **rest: 255 - images)
    clean = small_set(400)
    tracemalloc.start()
    make(tmp_path, clean, corruptions=("contrast",))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * 2**20 < 400 * 5 * 32 * 32 * 3  # checksums take 1 MiB at a time; the file has 6 MB
