"""Folders of ours among archives: which one is found, and what their manifests must say."""

import json
from pathlib import Path

import pytest
from small_archives import write_arrays, write_generated

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.archive import Archive, find_archive

NAMES = ("fog", "pixelate")
LABELS = (3, 0, 3, 1)


def found(folder: Path, dataset: str | None = None) -> Archive:
    archive = find_archive(folder, dataset)
    assert archive is not None
    return archive


def test_generated_folders_are_found_by_their_data_set_after_official_ones(tmp_path: Path) -> None:
    made = write_generated(tmp_path, "cifar10", NAMES, LABELS)
    assert found(tmp_path, "cifar10").title == "generated (mocse_timm 0.1.0, seed 0)"
    assert find_archive(tmp_path, "cifar100") is None
    with pytest.raises(BadInput, match="made from cifar10 and not from digits"):
        find_archive(made, "digits")
    write_generated(tmp_path, "cifar10", NAMES, LABELS, seed=1)
    with pytest.raises(BadInput, match="holds generated-cifar10-seed0, generated-cifar10-seed1: name the one"):
        find_archive(tmp_path, "cifar10")
    write_arrays(tmp_path / "CIFAR-10-C", NAMES, LABELS)
    assert found(tmp_path, "cifar10").title == "CIFAR-10-C"


def test_a_broken_manifest_matters_to_its_own_data_set_alone(tmp_path: Path) -> None:
    write_generated(tmp_path, "cifar10", NAMES, LABELS)
    for folder in ("generated-pets-seed0", "generated-cifar100-seed0"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "MANIFEST.json").write_text("{")
    assert found(tmp_path, "cifar10").title == "generated (mocse_timm 0.1.0, seed 0)"
    assert find_archive(tmp_path, "digits") is None
    for dataset in ("folder:sets/pets", "cifar100", None):
        with pytest.raises(BadInput, match="MANIFEST.json cannot be used"):
            find_archive(tmp_path, dataset)


def test_generated_folders_that_do_not_fit_are_passed_over(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_generated(tmp_path, "cifar10", NAMES, LABELS, seed=seed)
    archive = find_archive(tmp_path, "cifar10", lambda _, manifest: manifest.seed == 1)
    assert archive is not None and archive.title.endswith("seed 1)")
    assert find_archive(archive.folder, "cifar10", lambda _, manifest: manifest.seed == 0) is None


def test_a_manifest_of_before_crops_were_kept_is_read(tmp_path: Path) -> None:
    folder = write_generated(tmp_path, "cifar10", NAMES, LABELS)
    content = json.loads((folder / "MANIFEST.json").read_text())
    del content["crop_pct"]
    (folder / "MANIFEST.json").write_text(json.dumps(content))
    old = found(folder).manifest
    assert old is not None and old.crop_pct is None
    (folder / "MANIFEST.json").write_text(json.dumps(content | {"crop_pct": "all"}))
    with pytest.raises(BadInput, match="cannot be used .ValueError: crop_pct all"):
        find_archive(folder)


def test_a_generated_folder_must_hold_what_its_manifest_says(tmp_path: Path) -> None:
    folder = write_generated(tmp_path, "small", NAMES, LABELS)
    (folder / "fog.npy").unlink()
    with pytest.raises(BadInput, match="fog.npy is missing"):
        find_archive(folder)
    (folder / "MANIFEST.json").write_text('{"files": {}}')
    with pytest.raises(BadInput, match="MANIFEST.json cannot be used .KeyError: 'dataset'.: remove the folder"):
        find_archive(folder)
    (folder / "MANIFEST.json").write_text("{")
    with pytest.raises(BadInput, match="MANIFEST.json cannot be used .JSONDecodeError"):
        find_archive(folder)
