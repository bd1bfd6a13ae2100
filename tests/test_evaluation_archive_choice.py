"""Which archive is scored on: one that the flags fit, wherever it lies, and never another in its place."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from accelerate import Accelerator
from small_archives import write_arrays, write_generated

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.manifest import read_manifest, write_manifest
from mocse_timm.data import DataSplits, FileImages, MemoryImages
from mocse_timm.data.images_digest import images_digest
from mocse_timm.evaluation import archive_choice
from mocse_timm.evaluation.archive_choice import choose_archive
from mocse_timm.evaluation.config import ValidateConfig
from mocse_timm.evaluation.scorer import Scorer

NAMES = ("fog", "pixelate")
LABELS = (3, 0, 3, 1)
IN_MEMORY = MemoryImages(torch.zeros(4, 3, 32, 32, dtype=torch.uint8), torch.tensor(LABELS))
NAMED = replace(IN_MEMORY, files_sha256="2" * 64)
FROM_FILES = FileImages(range(4), torch.tensor(LABELS))  # pyright: ignore[reportArgumentType] (nothing is read from it)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    return timm.create_model("cifar_preact18", width=0.125)


@pytest.fixture(autouse=True)
def no_photographs_of_frost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_choice, "find_frost_textures", lambda _: None)


def made(parent: Path, **changes: Any) -> Path:
    """Write a folder of ours, and into its manifest what is to differ; of fewer severities it has the first rows."""
    folder = write_generated(parent, "cifar10", NAMES, LABELS, seed=changes.get("seed", 0))
    manifest = read_manifest(folder)
    assert manifest is not None
    manifest = replace(manifest, **({"crop_pct": 1.0, "source_sha256": images_digest(IN_MEMORY)} | changes))
    write_manifest(folder, manifest)
    for file in folder.glob("*.npy"):
        np.save(file, np.load(file)[: len(LABELS) * len(manifest.severities)])
    return folder


def chosen(model: torch.nn.Module, part: Any = IN_MEMORY, **flags: Any) -> tuple[str | None, tuple[str, ...]]:
    """Return the folder's name and the notes."""
    severities = flags.pop("wanted_severities", (1, 2, 3, 4, 5))
    names = flags.pop("names", NAMES)
    config = ValidateConfig("run", dataset="cifar10", **flags)
    scorer = Scorer(config, model, torch.device("cpu"), Accelerator())
    data = DataSplits("cifar10", part, part, ("a", "b", "c", "d"))
    archive, notes = choose_archive(scorer, data, names, severities)
    return archive and archive.folder.name, notes


OTHER = [
    ({"seed": 3}, {}, "is made with seed 3, --corruption-seed is 0"),
    ({}, {"corruption_seed": 7}, "is made with seed 0, --corruption-seed is 7"),
    ({}, {"img_size": 64}, r"has images of 32x32 pixels, this run takes 64x64 .--img-size."),
    ({"severities": (1, 2)}, {}, "lacks severity 3 of --severities"),
    ({}, {"names": ("snow", *NAMES)}, "lacks snow of --corruptions"),
    ({"source_sha256": "1" * 64}, {}, r"is made from other images .--dataset, --val-split."),
    ({"files_sha256": "1" * 64}, {"part": NAMED}, r"is made from other images .--dataset, --val-split."),
]


@pytest.mark.parametrize(("made_with", "flags", "reason"), OTHER)
def test_a_folder_that_does_not_cover_the_request_is_never_used(
    made_with: dict[str, Any], flags: dict[str, Any], reason: str, model: torch.nn.Module, tmp_path: Path
) -> None:
    folder = made(tmp_path, **made_with)
    name, notes = chosen(model, data_dir=str(tmp_path), **flags)
    assert name is None
    with pytest.raises(AssertionError, match=f"corruptions are made on the fly, for {folder} {reason}"):
        raise AssertionError(*notes)
    for asked in ({"corruptions_dir": str(folder)}, {"data_dir": str(tmp_path), "corruption_source": "archive"}):
        with pytest.raises(BadInput, match=f"{reason}; change that flag, or choose --corruption-source generated"):
            chosen(model, **asked, **flags)


def test_images_from_files_go_by_their_names_and_not_by_how_they_were_decoded(
    model: torch.nn.Module, tmp_path: Path
) -> None:
    folder = made(tmp_path, source_sha256="1" * 64, files_sha256="2" * 64)
    assert chosen(model, NAMED, data_dir=str(tmp_path)) == (folder.name, ())


def test_frost_of_other_photographs_is_passed_over(
    model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("frost", "fog")
    folder = made(tmp_path, wanted=names, frost_sha256="1" * 64)
    (folder / "pixelate.npy").rename(folder / "frost.npy")
    manifest = read_manifest(folder)
    assert manifest is not None
    files = {name.replace("pixelate", "frost"): value for name, value in manifest.files.items()}
    write_manifest(folder, replace(manifest, files=files))
    monkeypatch.setattr(archive_choice, "find_frost_textures", Path)
    here: dict[str, Any] = {"data_dir": str(tmp_path), "names": names, "frost_dir": "x"}
    there = {"corruptions_dir": str(folder), "names": names}
    for digest, fits in (("1" * 64, True), ("2" * 64, False)):
        monkeypatch.setattr(archive_choice, "frost_digest", lambda _, digest=digest: digest)
        name, notes = chosen(model, **here)
        assert (name is not None) == fits and (fits or "frost of other photographs" in notes[0])
        assert chosen(model, **there)[0] == folder.name
        assert chosen(model, **here | {"names": ("fog",)})[0] == folder.name
    with pytest.raises(BadInput, match="has frost of other photographs .--frost-dir.; change that flag"):
        chosen(model, **there, frost_dir="x")


def test_archives_of_the_other_part_are_not_looked_at(model: torch.nn.Module, tmp_path: Path) -> None:
    folder = made(tmp_path)
    made(tmp_path, seed=1, files={})
    assert chosen(model, data_dir=str(tmp_path), split="train", corruption_seed=1) == (None, ())
    with pytest.raises(BadInput, match="is made from the validation part, --split is train"):
        chosen(model, corruptions_dir=str(folder), split="train")
    train = made(tmp_path / "train", split="train")
    assert chosen(model, corruptions_dir=str(tmp_path / "train"), split="train") == (train.name, ())
    assert chosen(model, data_dir=str(tmp_path / "train")) == (None, ())


@pytest.mark.parametrize("flags", [{}, {"names": ("fog",), "wanted_severities": (2, 4)}])
def test_a_folder_that_covers_the_request_is_used(
    flags: dict[str, Any], model: torch.nn.Module, tmp_path: Path
) -> None:
    made(tmp_path, seed=3)
    made(tmp_path)
    assert chosen(model, data_dir=str(tmp_path), **flags) == ("generated-cifar10-seed0", ())
    assert chosen(model, data_dir=str(tmp_path), corruption_seed=3, **flags) == ("generated-cifar10-seed3", ())
    assert chosen(model, data_dir=str(tmp_path), corruption_source="generated", **flags) == (None, ())
    write_arrays(tmp_path / "CIFAR-10-C", NAMES, LABELS)
    assert chosen(model, data_dir=str(tmp_path), corruption_seed=5, **flags) == ("CIFAR-10-C", ())


def test_frost_is_missed_only_where_it_could_be_made(
    model: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(tmp_path, left_out={"frost": "no photographs"})
    wanted: dict[str, Any] = {"names": ("frost", *NAMES)}
    assert chosen(model, data_dir=str(tmp_path), **wanted)[0] == folder.name
    monkeypatch.setattr(archive_choice, "find_frost_textures", lambda _: tmp_path)
    name, (note,) = chosen(model, data_dir=str(tmp_path), **wanted)
    assert name is None and note.endswith("lacks frost of --corruptions")
    assert chosen(model, corruptions_dir=str(folder), **wanted)[0] == folder.name


@pytest.mark.parametrize(
    ("crop_pct", "part", "reason"),
    [
        (1.0, IN_MEMORY, None),
        (None, IN_MEMORY, None),  # of an older version, which used small images whole
        (0.875, FROM_FILES, None),
        (1.0, FROM_FILES, "keeps 1 of the clean images' side, this model is shown 0.875 (crop_pct)"),
        (0.875, IN_MEMORY, "keeps 0.875 of the clean images' side, this model is shown 1 (crop_pct)"),
        (None, FROM_FILES, "does not say how its images were cropped"),
    ],
)
def test_another_crop_is_used_only_if_it_is_asked_for(
    crop_pct: float | None,
    part: Any,
    reason: str | None,
    model: torch.nn.Module,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    facts = {"crop_pct": 0.875, "crop_mode": "center", "input_size": (3, 32, 32), "interpolation": "bilinear"}
    monkeypatch.setattr("timm.data.resolve_data_config", lambda **_: facts)
    folder = made(tmp_path, crop_pct=crop_pct)
    notes = () if reason is None else (f"corruptions are made on the fly, for {folder} {reason}",)
    assert chosen(model, part, data_dir=str(tmp_path)) == (None if reason else folder.name, notes)
    assert chosen(model, part, corruptions_dir=str(folder)) == (folder.name, ())


def test_timms_name_of_a_folder_means_the_same_archive(model: torch.nn.Module, tmp_path: Path) -> None:
    folder = made(tmp_path, dataset="folder:own")
    for dataset, data_dir in (("folder:own", None), ("folder", "own")):
        config = ValidateConfig("run", dataset=dataset, data_dir=data_dir, corruptions_dir=str(tmp_path))
        scorer = Scorer(config, model, torch.device("cpu"), Accelerator())
        data = DataSplits("folder:own", IN_MEMORY, IN_MEMORY, ("a", "b", "c", "d"))
        archive, _ = choose_archive(scorer, data, NAMES, (1,))
        assert archive is not None and archive.folder == folder


def test_an_unfinished_folder_is_refused_only_if_it_is_asked_for(model: torch.nn.Module, tmp_path: Path) -> None:
    folder = made(tmp_path, files={})
    assert chosen(model, data_dir=str(tmp_path)) == (
        None,
        (f"corruptions are made on the fly, for {folder} is unfinished",),
    )
    with pytest.raises(BadInput, match="is unfinished: 0 of 2 corruptions are there; run the command"):
        chosen(model, corruptions_dir=str(folder))


def test_a_folder_of_ours_is_passed_over_for_a_model_that_is_shown_images_resized_otherwise(tmp_path: Path) -> None:
    made(tmp_path, crop_pct=0.95)
    vit: Any = timm.create_model("test_vit", num_classes=4)
    facts = vit.pretrained_cfg | {"input_size": (3, 32, 32), "crop_pct": 0.95}
    for interpolation, crop_mode, reason in (
        ("bilinear", "center", None),
        ("bicubic", "center", "holds images that were resized bilinearly, this model is shown bicubic ones"),
        ("bilinear", "squash", "holds the middles of images, this model is shown them whole (crop_mode squash)"),
    ):
        vit.pretrained_cfg = facts | {"interpolation": interpolation, "crop_mode": crop_mode}
        folder, notes = chosen(vit, FROM_FILES, data_dir=str(tmp_path))
        assert (folder is None) == (reason is not None)
        assert reason is None or reason in notes[0]
    made(tmp_path / "squeezed", crop_pct=0.95, crop_mode="squash")
    vit.pretrained_cfg = facts | {"interpolation": "bilinear", "crop_mode": "center"}
    folder, notes = chosen(vit, FROM_FILES, data_dir=str(tmp_path / "squeezed"))
    assert folder is None and "holds squeezed images, this model is shown others (crop_mode center)" in notes[0]
    assert chosen(vit, data_dir=str(tmp_path / "squeezed"))[0] is None  # of 95 %, where those in memory are whole
