"""Fetching one large file over HTTP, with any number of interruptions.

The standard library's HTTP client does all that is needed, and the packages that come along do not agree on another:
huggingface_hub brings one client in one version and another in the next.
"""

import http.client
import shutil
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm import tqdm

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.alone import alone
from mocse_timm.corruptions.checksum import file_digest

__all__ = ["fetch_file"]

BLOCK = 2**20  # bytes written at a time
ATTEMPTS = 5  # without a single new byte, before giving up
TRY_AGAIN = {408, 429, 500, 502, 503, 504}  # statuses of a server that is busy, not of a wrong request
SECONDS_OF_SILENCE = 60


def _open(url: str, start: int) -> http.client.HTTPResponse:
    headers = {"User-Agent": "mocse_timm", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=SECONDS_OF_SILENCE)


def _check_room(folder: Path, remaining: int, unpacked: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < remaining + unpacked:
        raise BadInput(
            f"{folder} needs {(remaining + unpacked) / 1e9:.2f} GB for the file and what is in it, and the disk has "
            f"{free / 1e9:.2f} GB free: make room or give another --data-dir"
        )


def _fetch_rest(url: str, part: Path, published: int | None, *, progress: bool) -> bool:
    """Append to ``part`` what it lacks; return whether it is whole now.

    Raises:
        BadInput: if the disk is full or the server has a file of another size.
        OSError, http.client.HTTPException: if the connection breaks.
    """
    start = part.stat().st_size if part.exists() else 0
    if start and start == published:
        return True
    try:
        response = _open(url, start)
    except urllib.error.HTTPError as error:
        if error.code != 416:  # the part is as long as the file, or longer
            raise
        if error.headers.get("Content-Range", "") == f"bytes */{start}" and published is None:
            return True
        part.unlink()
        return False
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        start = start if resumed else 0  # a server that knows no ranges sends everything again
        length = response.headers.get("Content-Length")
        total = published if length is None else start + int(length)
        if published is not None and total != published:
            raise BadInput(f"{url} has {total} bytes, and the published file {published}: it is another file")
        if total is not None:
            _check_room(part.parent, total - start, total)
        with tqdm(
            total=total,
            initial=start,
            desc=part.stem,
            unit="B",
            unit_scale=True,
            disable=None if progress else True,
        ) as bar:
            received = start + _write(response, part, "ab" if resumed else "wb", bar)
    return total is None or received == total


class _ConnectionBroken(Exception):
    """Says that reading failed, where an OSError would look like a full disk."""


def _read(response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read(BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _ConnectionBroken(str(error)) from None


def _write(response: http.client.HTTPResponse, part: Path, mode: str, bar: tqdm) -> int:
    """Write all that comes; return how many bytes came, fewer than announced if the connection was closed early."""
    count = 0
    try:
        with part.open(mode) as file:
            while block := _read(response):
                file.write(block)
                file.flush()
                bar.update(len(block))
                count += len(block)
    except OSError as error:
        raise BadInput(
            f"cannot write {part} ({error.strerror or error}): what came before is kept; make room or give another "
            "--data-dir, and run the command again"
        ) from None
    return count


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _fetch_all(url: str, part: Path, published: int | None, *, pause: float, progress: bool) -> None:
    """Fetch ``url`` into ``part``, going on after broken connections as long as each brings something."""
    failures = 0
    while True:
        before = _size(part)
        try:
            if _fetch_rest(url, part, published, progress=progress):
                return
            reason = "the connection was closed early"
        except urllib.error.HTTPError as error:
            if error.code not in TRY_AGAIN:
                raise BadInput(f"{url} answers {error.code} {error.reason}: is the address right?") from None
            reason = f"the server answers {error.code} {error.reason}"
        except (_ConnectionBroken, OSError, http.client.HTTPException) as error:
            reason = " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__
        failures = 0 if _size(part) > before else failures + 1
        if failures >= ATTEMPTS:
            raise BadInput(
                f"{url} could not be fetched ({reason}): {_size(part) / 1e6:.1f} MB are kept in {part}; "
                "run the command again, and it goes on there"
            )
        time.sleep(pause * 2**failures)


def _check_md5(part: Path, md5: str, url: str, *, progress: bool) -> None:
    with tqdm(total=_size(part), desc="md5", unit="B", unit_scale=True, disable=None if progress else True) as bar:
        found = file_digest(part, "md5", bar)
    if found != md5:
        part.unlink()  # going on from it would fail for ever
        raise BadInput(f"{url} arrived with md5 {found}, and not {md5}: the file was removed; run the command again")


def fetch_file(
    url: str, target: Path, *, md5: str, num_bytes: int | None = None, pause: float = 1.0, progress: bool = False
) -> None:
    """Fetch ``url`` to ``target``, which appears only when it is whole and its checksum right.

    Until then the file is ``target`` with ``.part`` at its end. A part that is there is continued.

    Args:
        url: of the file.
        target: where it goes.
        md5: that it must have.
        num_bytes: that it must have, where known.
        pause: seconds before the second attempt; doubled for each further one that brings nothing.
        progress: show bars.

    Raises:
        BadInput: if it cannot be fetched or written, there is no room for it and its content, or it is another file.
    """
    part = target.with_name(f"{target.name}.part")
    with alone(Path(f"{part}.lock"), f"fetching {target}", target):
        _fetch_all(url, part, num_bytes, pause=pause, progress=progress)
        _check_md5(part, md5, url, progress=progress)
        part.replace(target)
