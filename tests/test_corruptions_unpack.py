import errno
import io
import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from small_archives import packed, write_arrays

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.unpack import unpack


def tar_with(tmp_path: Path, member: tarfile.TarInfo, content: bytes = b"") -> Path:
    path = tmp_path / "evil.tar"
    with tarfile.open(path, "w") as tar:
        tar.add(write_arrays(tmp_path / "source", ("fog",), (0, 1)), arcname="CIFAR-10-C")
        member.size = len(content)
        tar.addfile(member, io.BytesIO(content))
    return path


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


@pytest.mark.parametrize(
    "member", [tarfile.TarInfo("../outside.npy"), link("CIFAR-10-C/way_out", "../.."), link("CIFAR-10-C/root", "/etc")]
)
def test_a_tar_that_reaches_outside_is_refused(tmp_path: Path, member: tarfile.TarInfo) -> None:
    tar = tar_with(tmp_path, member)
    (tmp_path / "data").mkdir()
    with pytest.raises(BadInput, match="would not stay inside the folder: it is not the published archive"):
        unpack(tar, tmp_path / "data/CIFAR-10-C")
    assert not list((tmp_path / "data").iterdir()) and not (tmp_path / "outside.npy").exists()


def test_damaged_and_foreign_tars_leave_nothing(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    whole = packed(write_arrays(tmp_path / "source", ("fog",), (0, 1)), "CIFAR-10-C")
    for content, message in (
        (whole[: len(whole) // 2], "cannot be unpacked"),
        (b"no tar", "cannot be unpacked"),
        (packed(Path(__file__), "thesis.txt"), "holds no corrupted images"),
    ):
        (tmp_path / "some.tar").write_bytes(content)
        with pytest.raises(BadInput, match=message):
            unpack(tmp_path / "some.tar", data / "CIFAR-10-C")
        assert not list(data.iterdir())


def test_a_full_disk_while_unpacking_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tar = tmp_path / "some.tar"
    tar.write_bytes(packed(write_arrays(tmp_path / "source", ("fog",), (0, 1)), "CIFAR-10-C"))
    (tmp_path / "data").mkdir()

    def full(*arguments: Any, **rest: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(tarfile, "copyfileobj", full)
    with pytest.raises(BadInput, match="could not be unpacked into .*No space left on device"):
        unpack(tar, tmp_path / "data/CIFAR-10-C")
    assert not list((tmp_path / "data").iterdir())
