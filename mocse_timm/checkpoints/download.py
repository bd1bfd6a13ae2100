"""Files of a Hub repository, from the Hub or from huggingface_hub's cache, and only if they are what the Hub announced.

One question to the Hub tells the commit, its files and their checksums; then huggingface_hub fetches what the cache
lacks, all of one commit. What is new is checked, and removed if it is wrong. A file that is in the cache was checked
when it came, and only its size is looked at again: hashing it at every load would cost more than reading it. The branch
is noted last, so without a network the cache answers with the last commit that came whole.
"""

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from huggingface_hub import HfApi, constants, hf_hub_download
from huggingface_hub.errors import HFValidationError, OfflineModeIsEnabled, RevisionNotFoundError
from huggingface_hub.hf_api import ModelInfo, RepoSibling
from huggingface_hub.utils import validate_repo_id

from mocse_timm.checkpoints.hub_cache import (
    cached_file,
    cached_folder,
    content_fault,
    discard,
    discard_part,
    remember_branch,
)
from mocse_timm.checkpoints.hub_failures import FAILURES, in_short, refusal, status_of
from mocse_timm.checkpoints.patience import ATTEMPTS, patiently
from mocse_timm.checkpoints.strict_json import LARGEST
from mocse_timm.checkpoints.tensors import WEIGHTS, is_pickle
from mocse_timm.checks import BadInput

__all__ = ["check_repo_id", "download"]


class _WrongContent(OSError):
    """A file arrived that is not the announced one."""


def check_repo_id(repo_id: str) -> str:
    """Return ``repo_id`` if it has the form ``user/name``.

    Raises:
        BadInput: if it has not.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        valid = False
    else:
        valid = repo_id.count("/") == 1
    if not valid:
        raise BadInput(f"{repo_id!r} is not the name of a Hub repository: write user/name")
    return repo_id


def _parse(repo_id: str, revision: str | None) -> tuple[str, str | None]:
    name, _, after = repo_id.partition("@")
    if after and revision and after != revision:
        raise BadInput(f"{repo_id!r} names another revision than {revision!r}; give one of them")
    chosen = after or revision or None
    if chosen is not None and (chosen.startswith("/") or ".." in chosen):
        raise BadInput(f"{chosen!r} is not a revision of {name!r}; give a branch, a tag or a commit")
    return check_repo_id(name), chosen


def _announced(sibling: RepoSibling) -> str | None:
    return sibling.lfs.sha256 if sibling.lfs else sibling.blob_id


def _fetch(repo_id: str, sibling: RepoSibling, commit: str) -> Path:
    """Return one file in the cache, fetched if it is not there or is cut short.

    Raises:
        Exception: one of ``FAILURES``, also if the content is wrong; then the cache does not have the file.
    """
    cached = cached_file(repo_id, sibling.rfilename, commit)
    if cached is not None:
        if sibling.size is None or cached.stat().st_size == sibling.size:
            return cached
        discard(cached)
    try:
        file = Path(hf_hub_download(repo_id, sibling.rfilename, revision=commit))
    except OSError as error:
        if status_of(error) == 416 or "Consistency check failed" in str(error):  # what is there cannot be continued
            discard_part(repo_id, _announced(sibling))
        raise
    try:
        fault = content_fault(file, sibling.size, _announced(sibling))
    except BaseException:  # stopped while reading: nobody would check the file again
        discard(file)
        raise
    if fault:
        discard(file)
        raise _WrongContent(f"{sibling.rfilename} arrived damaged: {fault}")
    return file


def _missing(repo_id: str, info: ModelInfo, file: str) -> BadInput:
    pickles = sorted(s.rfilename for s in info.siblings or [] if is_pickle(s.rfilename))
    if file.endswith(".safetensors") and pickles:
        return BadInput(
            f"Hub repository {repo_id!r} has no {file}, only the pickle {pickles[0]}, which could run code when "
            "loaded; ask its author for safetensors"
        )
    return BadInput(f"Hub repository {repo_id!r} has no {file}: it is not a timm model saved as safetensors")


def _refuse_large(repo_id: str, sibling: RepoSibling) -> None:
    if sibling.rfilename != WEIGHTS and (sibling.size or 0) > LARGEST:
        raise BadInput(
            f"cannot download {repo_id!r}: its {sibling.rfilename} has {sibling.size} bytes, {LARGEST} are the most; "
            "tell the repository's author"
        )


def _ask(repo_id: str, revision: str | None, attempts: int) -> ModelInfo:
    def request() -> ModelInfo:
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        return HfApi().model_info(repo_id, revision=revision, files_metadata=True, timeout=timeout)

    if constants.HF_HUB_OFFLINE:
        raise OfflineModeIsEnabled("HF_HUB_OFFLINE is set")
    return patiently(request, attempts=attempts)


def download(
    repo_id: str,
    files: Sequence[str],
    *,
    optional: Sequence[str] = (),
    revision: str | None = None,
    inspect: Callable[[Path], object] | None = None,
) -> Path:
    """Return the snapshot folder in huggingface_hub's cache that holds ``files``, all of one commit and checked.

    If the Hub cannot be asked, the cache serves, with a warning; with HF_HUB_OFFLINE=1 it is not asked.

    Args:
        repo_id: ``user/name`` or ``user/name@revision``.
        files: names of files the repository must have, at least one.
        optional: names of files that come along if it has them.
        revision: a branch, tag or commit; by default ``main``.
        inspect: is shown the folder once the first of ``files`` is in it; by raising it refuses the others.

    Raises:
        BadInput: if the repository, the revision or a file does not exist, may not be read, or cannot be fetched whole;
            or if a file other than model.safetensors has more than 8 MiB.
    """
    name, revision = _parse(repo_id, revision)
    cached = cached_folder(name, files, revision)
    if cached is not None and cached.name == revision and cached_folder(name, [*files, *optional], revision):
        return _shown(cached, inspect)  # a commit does not change
    try:
        info = _ask(name, revision, attempts=1 if cached else ATTEMPTS)
    except FAILURES as error:
        if cached is None or isinstance(error, RevisionNotFoundError):
            offline = isinstance(error, OfflineModeIsEnabled)
            raise (
                _not_cached(name, files) if offline else refusal(error, name, "download", revision=revision)
            ) from None
        if not isinstance(error, OfflineModeIsEnabled):
            told = (
                f"the Hub cannot be asked about {name!r} ({in_short(error)}): commit {cached.name[:7]} is in the cache"
            )
            warnings.warn(told, stacklevel=2)
        return _shown(cached, inspect)
    commit, siblings = info.sha or "", {sibling.rfilename: sibling for sibling in info.siblings or []}
    for file in files:
        if file not in siblings:
            raise _missing(name, info, file)
    wanted = [*files, *(file for file in optional if file in siblings)]
    for file in wanted:
        _refuse_large(name, siblings[file])
    try:
        folder = patiently(lambda: _fetch(name, siblings[wanted[0]], commit)).parent
        _shown(folder, inspect)
        for file in wanted[1:]:
            patiently(lambda file=file: _fetch(name, siblings[file], commit))
    except _WrongContent as error:
        raise BadInput(f"cannot download {name!r}: {error}; try again later, or tell the repository's author") from None
    except FAILURES as error:
        raise refusal(error, name, "download", revision=revision) from None
    remember_branch(name, revision, commit)
    return folder


def _shown(folder: Path, inspect: Callable[[Path], object] | None) -> Path:
    if inspect is not None:
        inspect(folder)
    return folder


def _not_cached(repo_id: str, files: Sequence[str]) -> BadInput:
    return BadInput(
        f"HF_HUB_OFFLINE is set, and the cache {constants.HF_HUB_CACHE} does not have {' and '.join(files)} of "
        f"{repo_id!r}; unset it to download them once"
    )
