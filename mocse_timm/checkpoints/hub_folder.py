"""The model folder that a Hub repository is, once it is in the cache."""

from pathlib import Path

from mocse_timm.checkpoints.config_json import is_ours, read_config
from mocse_timm.checkpoints.download import download
from mocse_timm.checkpoints.tensors import WEIGHTS
from mocse_timm.checks import BadInput

__all__ = ["hub_folder"]


def hub_folder(repo_id: str, *, revision: str | None = None, only_ours: bool = False) -> Path:
    """Return the cached folder of a repository with config.json and model.safetensors.

    config.json comes first and is checked, so that no weights are fetched for a model that will not be opened.

    Args:
        repo_id: 'user/name', or 'user/name@revision'.
        revision: branch, tag or commit; by default the repository's main branch.
        only_ours: refuse models of other packages.

    Raises:
        BadInput: if it cannot be had, its config.json cannot be trusted, or it has no safetensors.
    """

    def inspect(folder: Path) -> None:
        architecture = read_config(folder)["architecture"]
        if only_ours and not is_ours(architecture):
            raise BadInput(
                f"Hub repository {repo_id!r} holds {architecture!r}, which is no model of mocse_timm; load it with "
                f"timm.create_model('hf-hub:{repo_id}', pretrained=True)"
            )

    return download(repo_id, ["config.json", WEIGHTS], revision=revision, inspect=inspect)
