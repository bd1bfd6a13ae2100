import dataclasses
import hashlib
import os
from pathlib import Path

import pytest
from archive_server import serving
from small_archives import packed, write_arrays, write_class_folders

from mocse_timm.checks import BadInput
from mocse_timm.corruptions import archive_facts, download
from mocse_timm.corruptions.download import ZENODO_VARIABLE, download_archive
from mocse_timm.corruptions.names import CORRUPTIONS, GROUPS
from mocse_timm.corruptions.unpack import unpack


def publish(monkeypatch: pytest.MonkeyPatch, title: str, **tars: bytes) -> None:
    """Let the archive ``title`` consist of these files."""
    facts = archive_facts.OFFICIAL[title]
    by_name = {tar.name: tar for tar in facts.tars}
    small = tuple(
        dataclasses.replace(by_name[name], md5=hashlib.md5(content).hexdigest(), num_bytes=len(content))
        for name, content in ((f"{key.replace('_', '-')}.tar", content) for key, content in tars.items())
    )
    monkeypatch.setitem(archive_facts.OFFICIAL, title, dataclasses.replace(facts, tars=small))


def test_cifar10_c_is_fetched_unpacked_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_arrays(tmp_path / "source", CORRUPTIONS, (0, 1))
    content = packed(source, "CIFAR-10-C")
    publish(monkeypatch, "CIFAR-10-C", **{"CIFAR_10_C": content})
    with serving(CIFAR_10_C_tar=content) as server:
        monkeypatch.setenv(ZENODO_VARIABLE, f"{server.url}/")
        server.break_after = [len(content) // 2]
        archive = download_archive("cifar10-c", tmp_path / "data", pause=0)
        assert server.requests[0][0] == "/records/2535967/files/CIFAR-10-C.tar?download=1"
        assert len(server.requests) == 2
        again = download_archive("CIFAR-10-C", tmp_path / "data")  # there already
        assert len(server.requests) == 2
    assert archive.title == again.title == "CIFAR-10-C" and archive.corruptions == CORRUPTIONS
    assert os.listdir(tmp_path / "data") == ["CIFAR-10-C"]
    for file in source.iterdir():
        assert (archive.folder / file.name).read_bytes() == file.read_bytes()


def test_who_comes_while_another_unpacks_is_sent_away_and_spoils_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = packed(write_arrays(tmp_path / "source", CORRUPTIONS, (0, 1)), "CIFAR-10-C")
    publish(monkeypatch, "CIFAR-10-C", **{"CIFAR_10_C": content})
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "CIFAR-10-C.tar").write_bytes(content)

    def second_comes(tar: Path, folder: Path, *, progress: bool) -> None:
        with pytest.raises(BadInput, match="another process is downloading CIFAR-10-C into .*: wait for it"):
            download_archive("cifar10-c", tmp_path / "data")
        unpack(tar, folder, progress=progress)

    monkeypatch.setattr(download, "unpack", second_comes)
    assert download_archive("cifar10-c", tmp_path / "data").corruptions == CORRUPTIONS
    assert sorted(os.listdir(tmp_path / "data")) == ["CIFAR-10-C", "CIFAR-10-C.tar"]


def test_imagenet_c_is_put_together_from_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {group: GROUPS[group] for group in ("noise", "extra")}
    contents = {
        group: packed(write_class_folders(tmp_path / group, names[group], ("a", "b"), count=1), ".") for group in names
    }
    publish(monkeypatch, "ImageNet-C", **contents)
    with serving(noise_tar=contents["noise"], extra_tar=contents["extra"]) as server:
        server.statuses = [200, 404]
        with pytest.raises(BadInput, match="extra.tar.download=1 answers 404"):
            download_archive("imagenet-c", tmp_path / "data", base_url=server.url)
        archive = download_archive("imagenet-c", tmp_path / "data", base_url=server.url)
        assert [path.rpartition("/")[2][:5] for path, _ in server.requests] == ["noise", "extra", "extra"]
    assert archive.corruptions == (*GROUPS["noise"], *GROUPS["extra"])
    assert len(archive.cell("saturate", 3)) == 2


def test_a_tar_that_was_there_before_is_used_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = packed(write_arrays(tmp_path / "source", CORRUPTIONS, (0, 1)), "CIFAR-10-C")
    publish(monkeypatch, "CIFAR-10-C", **{"CIFAR_10_C": content})
    (tmp_path / "CIFAR-10-C.tar").write_bytes(content[:-1])
    with pytest.raises(BadInput, match="CIFAR-10-C.tar is not the published file .* remove it"):
        download_archive("cifar10-c", tmp_path, base_url="http://127.0.0.1:9")
    (tmp_path / "CIFAR-10-C.tar").write_bytes(content)
    download_archive("cifar10-c", tmp_path, base_url="http://127.0.0.1:9")
    assert (tmp_path / "CIFAR-10-C.tar").exists()


def test_unknown_archives_are_refused_with_the_nearest_name(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--download cifar11-c: no such archive .did you mean 'cifar10-c'"):
        download_archive("cifar11-c", tmp_path)


@pytest.mark.parametrize("mirror", ["zenodo.example.org", "file:///etc", "ftp://zenodo.example.org"])
def test_a_mirror_without_http_is_one_sentence(mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ZENODO_VARIABLE, mirror)
    with pytest.raises(BadInput, match=f"MOCSE_TIMM_ZENODO is '{mirror}': give the mirror's whole address, https://"):
        download_archive("cifar10-c", tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_data_dir_that_cannot_be_made_is_one_sentence() -> None:
    with pytest.raises(BadInput, match="cannot write into .* give another --data-dir"):
        download_archive("cifar10-c", Path(__file__) / "below-a-file")
