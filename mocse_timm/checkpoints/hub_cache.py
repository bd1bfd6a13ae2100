"""huggingface_hub's cache on disk: is a file what the Hub says it is, and away with it if not.

Layout (huggingface_hub's guide to its cache): ``snapshots/COMMIT/FILE`` is a link to ``blobs/NAME``, where NAME
is the SHA-256 of a file in LFS or git's own name of a small one; ``refs/BRANCH`` holds a branch's last commit seen.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import constants, try_to_load_from_cache
from huggingface_hub.file_download import repo_folder_name

from mocse_timm.checkpoints.tensors import sha256

__all__ = ["cached_file", "cached_folder", "content_fault", "discard", "discard_part", "remember_branch"]


def _storage(repo_id: str) -> Path:
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo_id, repo_type="model")


def cached_file(repo_id: str, file: str, revision: str | None) -> Path | None:
    """Return the file in the cache, at a commit or the last commit seen of a branch; None if it is not there."""
    found = try_to_load_from_cache(repo_id, file, revision=revision)
    return Path(found) if isinstance(found, str) else None


def cached_folder(repo_id: str, files: Sequence[str], revision: str | None) -> Path | None:
    """Return the snapshot in the cache that has all ``files``, or None."""
    found = [cached_file(repo_id, file, revision) for file in files]
    return None if None in found or found[0] is None else found[0].parent


def _git_name(file: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % file.stat().st_size)
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, lambda: digest).hexdigest()  # pyright: ignore[reportArgumentType]  (a digest begun is one)


def content_fault(file: Path, size: int | None, name: str | None) -> str | None:
    """Say in a clause how the content differs from what the Hub announced, or return None if it does not.

    The blob's name is checked as well: under a wrong name it would be taken for another file later.

    Args:
        file: in a snapshot.
        size: in bytes, where known.
        name: SHA-256 (64 hexadecimal digits) or git's name (40), where known.
    """
    found = file.stat().st_size
    if size is not None and found != size:
        return f"it has {found} bytes and not {size}"
    names = {name, Path(os.readlink(file)).name if file.is_symlink() else None} - {None}
    for announced in sorted(map(str, names)):
        if re.fullmatch("[0-9a-f]{64}", announced) and sha256(file) != announced:
            return f"its SHA-256 is not the announced {announced}"
        if re.fullmatch("[0-9a-f]{40}", announced) and _git_name(file) != announced:
            return f"its git name is not the announced {announced}"
    return None


def discard(file: Path) -> None:
    """Remove a file of a snapshot with all that its link leads to."""
    while file.is_symlink():
        target = file.parent / os.readlink(file)
        file.unlink()
        file = target
    file.unlink(missing_ok=True)


def discard_part(repo_id: str, name: str | None) -> None:
    """Remove what huggingface_hub keeps of a download that broke off; older versions would go on from it."""
    if name is not None:
        (_storage(repo_id) / "blobs" / f"{name}.incomplete").unlink(missing_ok=True)


def remember_branch(repo_id: str, revision: str | None, commit: str) -> None:
    """Note the commit of a branch or tag, so that the cache can answer for it without the Hub."""
    revision = revision or constants.DEFAULT_REVISION
    if revision == commit:
        return
    ref = _storage(repo_id) / "refs" / revision
    try:
        if not ref.is_file() or ref.read_text(encoding="utf-8") != commit:
            ref.parent.mkdir(parents=True, exist_ok=True)
            ref.write_text(commit, encoding="utf-8")
    except OSError:
        pass  # a cache that can only be read still serves its files
