"""Publishing a run: everything in one commit, or nothing.

The weights travel first, to where the Hub keeps large files; the commit that names them comes last. Whatever stops a
push before, the repository stays at its last revision, and the same command does it again, without sending twice what
arrived.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import CommitInfo, ModelInfo

from mocse_timm.checkpoints.config_json import read_config
from mocse_timm.checkpoints.download import check_repo_id
from mocse_timm.checkpoints.hub_failures import FAILURES, LOGIN, refusal
from mocse_timm.checkpoints.patience import ATTEMPTS, patiently
from mocse_timm.checkpoints.tensors import is_pickle
from mocse_timm.checks import BadInput
from mocse_timm.evaluation.report import align
from mocse_timm.hub.publication import assemble

__all__ = ["publish", "push", "render_files"]


def render_files(files: Sequence[Path]) -> str:
    """Return a table of the files and their sizes in bytes."""
    sizes = [file.stat().st_size for file in files]
    rows = [["file", "bytes"], *([file.name, f"{size:,}"] for file, size in zip(files, sizes, strict=True))]
    return "\n".join(align([*rows, ["all", f"{sum(sizes):,}"]]))


def _check_target(repo_id: str, revision: str | None, create_pr: bool) -> None:
    check_repo_id(repo_id)
    if create_pr and revision not in (None, constants.DEFAULT_REVISION):
        raise BadInput(f"a pull request is opened against main: leave out --create-pr or --revision {revision}")


def _existing(api: HfApi, repo_id: str) -> ModelInfo | None:
    try:
        return patiently(lambda: api.model_info(repo_id))
    except RepositoryNotFoundError:
        return None


def _prepare(api: HfApi, repo_id: str, *, private: bool, revision: str | None, create_pr: bool) -> ModelInfo | None:
    """Make the repository and the branch if they do not exist; return what the Hub said before."""
    info = _existing(api, repo_id)
    if info is None and create_pr:
        raise BadInput(f"the Hub shows no repository {repo_id!r} to open a pull request in; leave out --create-pr")
    if info is None:
        # None rather than False: an organisation may have its own default
        patiently(lambda: api.create_repo(repo_id, private=private or None, exist_ok=True))
    elif private and not info.private:
        page = f"{constants.ENDPOINT}/{repo_id}/settings"
        raise BadInput(
            f"repository {repo_id!r} exists and is public: make it private at {page}, or leave out --private"
        )
    if revision is not None and revision != constants.DEFAULT_REVISION and not revision.startswith("refs/"):
        patiently(lambda: api.create_branch(repo_id, branch=revision, exist_ok=True))
    return info


def _warn_of_pickles(repo_id: str, info: ModelInfo | None) -> None:
    names = [sibling.rfilename for sibling in (info.siblings or [] if info else [])]
    for pickle in filter(is_pickle, names):
        print(
            f"warning: {repo_id} also holds {pickle}, a pickle that other programs may load instead of these weights, "
            "and run code with; delete it on the Hub"
        )


def publish(
    files: Sequence[Path],
    repo_id: str,
    *,
    message: str,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
) -> str:
    """Add ``files`` to the top of a repository in one commit and return the address of the repository or pull request.

    The repository and the branch are made if they do not exist. Other files of the repository stay.

    Args:
        files: each published under its name.
        repo_id: ``user/name``.
        message: of the commit.
        private: make a new repository private; refused if it exists and is public.
        revision: branch to commit to, by default ``main``.
        create_pr: open a pull request against ``main`` instead.

    Raises:
        BadInput: if there is no token, a file is a pickle, or the Hub refuses or fails.
    """
    _check_target(repo_id, revision, create_pr)
    for file in files:
        if is_pickle(file.name):
            raise BadInput(f"{file.name} is a pickle, which can run code when loaded, and is never published")
    if get_token() is None:
        page = f"{constants.ENDPOINT}/settings/tokens"
        raise BadInput(f"no token to publish {repo_id!r} with: make one with write access at {page} and {LOGIN}")
    api = HfApi()

    def commit() -> CommitInfo:
        operations = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=str(file)) for file in files]
        return api.create_commit(repo_id, operations, commit_message=message, revision=revision, create_pr=create_pr)

    try:
        info = _prepare(api, repo_id, private=private, revision=revision, create_pr=create_pr)
        # Sent twice, a commit changes nothing the second time; a pull request would be opened twice.
        made = patiently(commit, attempts=1 if create_pr else ATTEMPTS)
    except BadInput:
        raise
    except FAILURES as error:
        raise refusal(error, repo_id, "push to", revision=revision) from None
    except ValueError as error:  # the card's metadata, or an answer that huggingface_hub does not understand
        raise BadInput(f"the Hub does not take the files for {repo_id!r}: {' '.join(str(error).split())}") from None
    _warn_of_pickles(repo_id, info)
    if create_pr and made.pr_url:
        return made.pr_url
    branch = f"/tree/{revision}" if revision not in (None, constants.DEFAULT_REVISION) else ""
    return f"{constants.ENDPOINT}/{repo_id}{branch}"


def push(
    run: Path,
    repo_id: str,
    *,
    private: bool = False,
    revision: str | None = None,
    create_pr: bool = False,
    dry_run: bool = False,
    assemble: Callable[..., list[Path]] = assemble,
) -> str:
    """Publish the run's weights, config, card, results and heatmap; return the address.

    Args:
        run: folder of a run that was trained and scored.
        repo_id: ``user/name``.
        private: see :func:`publish`, as ``revision`` and ``create_pr``.
        revision: a branch.
        create_pr: open a pull request.
        dry_run: put the files together and check them, print their names and sizes, and send nothing.
        assemble: puts the files into an empty folder, as :func:`mocse_timm.hub.publication.assemble` does.

    Raises:
        BadInput: if the run cannot be published, see :mod:`mocse_timm.hub.publication`, or see :func:`publish`.
    """
    _check_target(repo_id, revision, create_pr)
    with tempfile.TemporaryDirectory(prefix="mocse_timm-push-") as folder:
        files = assemble(run, Path(folder), repo_id=repo_id)
        print(render_files(files))
        if dry_run:
            return f"{constants.ENDPOINT}/{repo_id}"
        message = f"Publish {read_config(Path(folder))['architecture']}"
        return publish(files, repo_id, message=message, private=private, revision=revision, create_pr=create_pr)
