import errno
import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from archive_server import Behaviour, serving
from filelock import FileLock

from mocse_timm.checks import BadInput
from mocse_timm.corruptions import fetch
from mocse_timm.corruptions.fetch import fetch_file

CONTENT = np.random.default_rng(0).bytes(5_000_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


def get(server: Behaviour, folder: Path, **changes: Any) -> None:
    arguments: dict[str, Any] = {"md5": MD5, "num_bytes": len(CONTENT), "pause": 0} | changes
    fetch_file(f"{server.url}/records/1/files/some.tar?download=1", folder / "some.tar", **arguments)


def files_in(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in folder.iterdir()}


@pytest.mark.parametrize("num_bytes", [len(CONTENT), None])
def test_a_file_arrives_whole(tmp_path: Path, num_bytes: int | None) -> None:
    with serving(some_tar=CONTENT) as server:
        get(server, tmp_path, num_bytes=num_bytes)
        assert server.requests == [("/records/1/files/some.tar?download=1", None)]
    assert (tmp_path / "some.tar").read_bytes() == CONTENT and len(files_in(tmp_path)) == 1


def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path: Path) -> None:
    with serving(some_tar=CONTENT) as server:
        server.break_after = [1_500_000, 2_000_000]
        get(server, tmp_path)
        assert [wanted for _, wanted in server.requests] == [None, "bytes=1500000-", "bytes=3500000-"]
    assert (tmp_path / "some.tar").read_bytes() == CONTENT


def test_a_server_without_ranges_is_asked_for_everything_again(tmp_path: Path) -> None:
    with serving(some_tar=CONTENT) as server:
        server.ranges = False
        server.break_after = [1_500_000]
        get(server, tmp_path)
        assert len(server.requests) == 2
    assert (tmp_path / "some.tar").read_bytes() == CONTENT


def test_an_interrupted_download_is_continued_by_the_next_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads = fetch._read
    calls = iter(range(100))

    def stop_at_the_third(response: Any) -> bytes:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return reads(response)

    with serving(some_tar=CONTENT) as server:
        monkeypatch.setattr(fetch, "_read", stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            get(server, tmp_path)
        assert files_in(tmp_path) == {"some.tar.part": 2 * 2**20}
        monkeypatch.undo()
        get(server, tmp_path)
        assert server.requests[-1][1] == f"bytes={2 * 2**20}-"
    assert (tmp_path / "some.tar").read_bytes() == CONTENT


def test_a_server_that_brings_nothing_is_given_up_and_what_came_is_kept(tmp_path: Path) -> None:
    with serving(some_tar=CONTENT) as server:
        server.break_after = [1_000_000, *[0] * 100]
        with pytest.raises(BadInput, match="closed early.: 1.0 MB are kept in .*some.tar.part; run the command again"):
            get(server, tmp_path)
        assert len(server.requests) == 1 + fetch.ATTEMPTS
    assert files_in(tmp_path) == {"some.tar.part": 1_000_000}


def test_a_busy_server_is_asked_again(tmp_path: Path) -> None:
    with serving(some_tar=CONTENT) as server:
        server.statuses = [503, 429]
        get(server, tmp_path)
    assert (tmp_path / "some.tar").read_bytes() == CONTENT


def test_a_file_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with serving() as server:
        with pytest.raises(BadInput, match="/some.tar.download=1 answers 404 Not Found"):
            get(server, tmp_path)
        assert len(server.requests) == 1
    assert not files_in(tmp_path)


def test_nobody_listening_gets_one_sentence(tmp_path: Path) -> None:
    with serving() as server:
        pass
    with pytest.raises(BadInput, match="could not be fetched .*refused.*: 0.0 MB are kept"):
        get(server, tmp_path)


@pytest.mark.parametrize("num_bytes", [len(CONTENT), None])
def test_a_wrong_checksum_removes_the_file(tmp_path: Path, num_bytes: int | None) -> None:
    with serving(some_tar=CONTENT[:-1] + b"?") as server:
        with pytest.raises(BadInput, match=f"arrived with md5 .*, and not {MD5}: the file was removed"):
            get(server, tmp_path, num_bytes=num_bytes)
    assert not files_in(tmp_path)


def test_a_file_of_another_size_is_not_fetched_at_all(tmp_path: Path) -> None:
    with serving(some_tar=CONTENT + b"!") as server, pytest.raises(BadInput, match="has 5000001 bytes, and the publ"):
        get(server, tmp_path)
    assert not files_in(tmp_path)


@pytest.mark.parametrize("num_bytes", [len(CONTENT), None])
@pytest.mark.parametrize("there", [len(CONTENT), len(CONTENT) + 5])
def test_a_part_as_long_as_the_file_or_longer_is_no_trap(tmp_path: Path, num_bytes: int | None, there: int) -> None:
    (tmp_path / "some.tar.part").write_bytes((CONTENT + b"extra")[:there])
    with serving(some_tar=CONTENT) as server:
        get(server, tmp_path, num_bytes=num_bytes)
    assert (tmp_path / "some.tar").read_bytes() == CONTENT


def test_a_file_of_unannounced_length_is_judged_by_its_checksum(tmp_path: Path) -> None:
    with serving(some_tar=CONTENT) as server:
        server.announce_length = False
        get(server, tmp_path, num_bytes=None)
    assert (tmp_path / "some.tar").read_bytes() == CONTENT


class FullAfter:
    """A file on a disk that has room for two blocks."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.blocks = 0

    def __enter__(self) -> "FullAfter":
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, block: bytes) -> None:
        self.blocks += 1
        if self.blocks > 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.file.write(block)

    def flush(self) -> None:
        self.file.flush()


def test_a_full_disk_keeps_the_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.open

    def open_on_a_small_disk(self: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        file = real(self, mode, *rest, **named)
        return FullAfter(file) if self.suffix == ".part" and mode in ("ab", "wb") else file

    with serving(some_tar=CONTENT) as server:
        monkeypatch.setattr(Path, "open", open_on_a_small_disk)
        with pytest.raises(BadInput, match="No space left on device.: what came before is kept"):
            get(server, tmp_path)
        monkeypatch.undo()
        assert files_in(tmp_path) == {"some.tar.part": 2 * 2**20}
        get(server, tmp_path)
    assert (tmp_path / "some.tar").read_bytes() == CONTENT


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_disk_that_is_really_full_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "some.tar.part").symlink_to("/dev/full")
    with serving(some_tar=CONTENT) as server, pytest.raises(BadInput, match="No space left on device"):
        get(server, tmp_path)


def test_room_for_the_file_and_its_content_is_asked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    room = shutil.disk_usage(tmp_path)._replace(free=2 * len(CONTENT) - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: room)
    with serving(some_tar=CONTENT) as server, pytest.raises(BadInput, match="needs 0.01 GB .* 0.01 GB free: make room"):
        get(server, tmp_path)
    assert not files_in(tmp_path)


def test_two_downloads_do_not_write_into_one_file(tmp_path: Path) -> None:
    with FileLock(tmp_path / "some.tar.part.lock"), serving(some_tar=CONTENT) as server:
        with pytest.raises(BadInput, match="another process is fetching"):
            get(server, tmp_path)
        assert files_in(tmp_path) == {"some.tar.part.lock": 0}  # the other's, not ours to remove


def test_a_folder_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "some.tar.part.lock").mkdir()
    with serving(some_tar=CONTENT) as server, pytest.raises(BadInput, match="cannot write .*some.tar .Is a directory"):
        get(server, tmp_path)
