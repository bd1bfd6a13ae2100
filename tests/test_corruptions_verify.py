import dataclasses
import hashlib
from pathlib import Path

import pytest
from PIL import Image
from small_archives import write_arrays, write_class_folders, write_generated

from mocse_timm.checks import BadInput
from mocse_timm.corruptions import archive_facts, verify
from mocse_timm.corruptions.names import CORRUPTIONS

NAMES = ("fog", "pixelate")
LABELS = (3, 0, 3, 1)


def flip_a_bit(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def publish(monkeypatch: pytest.MonkeyPatch, title: str, **changes: object) -> None:
    monkeypatch.setitem(archive_facts.OFFICIAL, title, dataclasses.replace(archive_facts.OFFICIAL[title], **changes))


@pytest.mark.parametrize("name", ["CIFAR-10-C", "renamed"])
def test_official_arrays_are_checked_file_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = write_arrays(tmp_path / name, NAMES, LABELS)
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    publish(monkeypatch, "CIFAR-10-C", file_md5=sums)
    report = verify.verify(folder)
    report.refuse_failures()
    assert "3 of 3 files have the right md5" in report.lines[-1]

    flip_a_bit(folder / "fog.npy")
    (folder / "pixelate.npy").unlink()
    report = verify.verify(folder)
    assert "1 of 3 files have the right md5" in report.lines[-1]
    with pytest.raises(BadInput, match=r"does not pass: .*fog.npy .wrong md5.*; download, unpack or generate it again"):
        report.refuse_failures()
    assert sorted(report.failures) == ["fog.npy (wrong md5)", "pixelate.npy (missing)"]


def test_generated_folders_are_checked_by_their_manifest(tmp_path: Path) -> None:
    folder = write_generated(tmp_path, "small", NAMES, LABELS)
    verify.verify(folder).refuse_failures()
    flip_a_bit(folder / "pixelate.npy")
    assert verify.verify(folder).failures == ("pixelate.npy (wrong sha256)",)


def test_a_downloaded_tar_is_checked_by_its_md5(tmp_path: Path) -> None:
    tar = tmp_path / "CIFAR-10-C.tar"
    tar.write_bytes(b"cut short")
    assert verify.verify(tar).failures == ("CIFAR-10-C.tar (wrong md5)",)
    with pytest.raises(BadInput, match="other.tar is not known: give an archive's folder, or one of CIFAR-10-C.tar"):
        verify.verify(tar.rename(tmp_path / "other.tar"))


def test_arrays_of_unknown_origin_pass_with_a_word_on_what_was_not_checked(tmp_path: Path) -> None:
    report = verify.verify(write_arrays(tmp_path / "mine", NAMES, LABELS))
    report.refuse_failures()
    assert report.lines[-1].startswith("not checked: the pixels: no checksums are known")


def test_class_folders_are_counted_and_the_rest_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(monkeypatch, "Tiny-ImageNet-C", num_classes=2, images_per_class=1)
    folder = write_class_folders(tmp_path / "Tiny-ImageNet-C", CORRUPTIONS, ("a", "b"), count=1)
    report = verify.verify(folder)
    report.refuse_failures()
    assert report.lines[0].split() == ["gaussian_noise", *"22222", "images"]
    assert "no checksums are published" in report.lines[-1]

    (folder / "fog/2/b/1.JPEG").write_bytes((folder / "fog/2/b/0.JPEG").read_bytes())
    Image.new("RGB", (32, 32)).save(folder / "snow/4/a/0.JPEG")
    report = verify.verify(folder)
    assert report.failures == (
        "snow at severity 4 has images of 32x32",
        "fog at severity 2 has 3 images, not 2",
    )
    (folder / "spatter").rename(tmp_path / "elsewhere")
    assert "spatter is missing" in verify.verify(folder).failures


@pytest.mark.parametrize(("name", "message"), [("nothing", "no such folder"), ("", "holds no archive")])
def test_folders_without_an_archive_are_refused(tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        verify.verify(tmp_path / name)
