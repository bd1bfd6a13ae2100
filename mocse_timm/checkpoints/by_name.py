"""A trained model by name: a run's folder, a Hub repository, or a registered model with a checkpoint.

Every way ends at a folder or file of safetensors, and none gives random weights.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from torch import nn

from mocse_timm.checkpoints.build import build, build_without_memory
from mocse_timm.checkpoints.config_json import read_config, saved_classes
from mocse_timm.checkpoints.download import download
from mocse_timm.checkpoints.header import read_header
from mocse_timm.checkpoints.hub_folder import hub_folder
from mocse_timm.checkpoints.open_folder import open_folder
from mocse_timm.checkpoints.tensors import (
    WEIGHTS,
    check_fit,
    check_safetensors,
    load_weights,
    misfit,
    weights_in_folder,
)
from mocse_timm.checks import BadInput, nearest
from mocse_timm.models.mocse import MoCSE

__all__ = ["folder_or_repository", "load_model", "run_folder"]

HUB_PREFIXES = ("hf-hub:", "hf_hub:")
NO_OPTIONS: Mapping[str, Any] = {}


def run_folder(name: str) -> Path | None:
    """Return the folder that ``name`` means, or None if it means a Hub repository or a registered model.

    A folder is ``local-dir:PATH`` or a path. A folder here that holds a config.json wins over a registered model
    of the same name.
    """
    if name.startswith("local-dir:"):
        return Path(name.removeprefix("local-dir:"))
    if name.startswith(HUB_PREFIXES):
        return None
    if (Path(name) / "config.json").is_file():
        return Path(name)
    looks_like_path = any(mark in name for mark in "/\\") or name in (".", "..") or Path(name).is_dir()
    return Path(name) if looks_like_path and not timm.is_model(name) else None


def folder_or_repository(name: str) -> Path | str:
    """Return the folder that ``name`` means, or else the Hub repository: ``user/name`` or ``user/name@revision``.

    Raises:
        BadInput: if there is no such folder and ``name`` is not that of a repository.
    """
    folder = Path(name.removeprefix("local-dir:"))
    if folder.is_dir():
        return folder
    bare = name.partition(":")[2] if name.startswith(HUB_PREFIXES) else name
    if folder.exists() or not re.fullmatch(r"[\w.-]+/[\w.-]+(@[^@]+)?", bare):
        raise BadInput(f"{name!r} is neither a folder nor a repository; write user/name or the folder's path")
    return bare


def _check_class_count(folder: Path, wanted: int | None) -> None:
    # timm would load all but the last layer, leave that random, and say nothing.
    saved = saved_classes(read_config(folder))
    if wanted is not None and wanted != saved:
        has = "an unknown number of" if saved is None else saved
        raise BadInput(
            f"the checkpoint in {folder} has {has} classes, the model {wanted}; leave out the number of classes"
        )


def _from_folder(folder: Path, options: dict[str, Any]) -> nn.Module:
    _check_class_count(folder, options.get("num_classes"))
    model = open_folder(folder, **options)
    # MoCSE's loader drops or repeats experts until they are as many as asked for: good for fine-tuning only
    if options and isinstance(model, MoCSE) and (difference := misfit(model, weights_in_folder(folder))):
        raise BadInput(f"{folder / WEIGHTS} does not fit the model asked for: {difference}; leave out the options")
    return model


def _from_folder_and_checkpoint(folder: Path, options: dict[str, Any], checkpoint: Path) -> nn.Module:
    read_config(folder)
    check_fit(build_without_memory(folder, read_header(check_safetensors(checkpoint)), **options), checkpoint)
    model = build(f"local-dir:{folder}", **options)
    load_weights(model, checkpoint)
    return model


def _from_hub(repository: str, options: dict[str, Any], checkpoint: Path | None) -> nn.Module:
    if checkpoint is None:
        return _from_folder(hub_folder(repository), options)
    return _from_folder_and_checkpoint(download(repository, ["config.json"]), options, checkpoint)


def _from_registry(name: str, options: dict[str, Any], checkpoint: Path | None, pretrained: bool) -> nn.Module:
    if not timm.is_model(name):
        raise BadInput(f"unknown model {name!r}{nearest(name, timm.list_models())}; timm.list_models() has them all")
    if checkpoint is not None:
        model = build(name, **options)
        load_weights(model, checkpoint)
        return model
    if not pretrained:
        raise BadInput(
            f"model {name!r} would have random weights; add --checkpoint FILE or --pretrained, or give a run's folder"
        )
    try:
        published = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        raise BadInput(f"model {name!r} cannot be found among timm's weights: {error}") from None
    if published is None or not published.hf_hub_id:
        raise BadInput(
            f"model {name!r} has no published weights; give a run's folder, or validate.py --checkpoint FILE"
        )
    repository = published.hf_hub_id
    if repository.endswith("/"):  # timm's way of saying: the repository has the model's own name
        repository += f"{published.architecture}.{published.tag}"
    return _from_hub(repository, options, checkpoint)


def load_model(
    name: str,
    *,
    checkpoint: str | Path | None = None,
    pretrained: bool = False,
    model_kwargs: Mapping[str, Any] = NO_OPTIONS,
    num_classes: int | None = None,
) -> nn.Module:
    """Return the trained model ``name``, in train mode as timm leaves it, on the CPU.

    Args:
        name: a run's folder or ``local-dir:PATH``; ``hf-hub:USER/NAME[@REVISION]``; or a name of
            ``timm.list_models()``, which needs ``checkpoint`` or ``pretrained``.
        checkpoint: a .safetensors file with all the weights, used instead of the folder's or repository's.
        pretrained: take the published weights of a registered name from the Hub. Folders and repositories
            always bring their weights.
        model_kwargs: options of the architecture.
        num_classes: outputs of the model, by default what config.json or timm says.

    Raises:
        BadInput: if the model or its weights cannot be found, are only a pickle, or do not fit each other.
    """
    options = dict(model_kwargs)
    if num_classes is not None:
        options["num_classes"] = num_classes
    file = None if checkpoint is None else Path(checkpoint)
    if name.startswith(HUB_PREFIXES):
        return _from_hub(name.partition(":")[2], options, file)
    folder = run_folder(name)
    if folder is None:
        return _from_registry(name, options, file, pretrained)
    return _from_folder(folder, options) if file is None else _from_folder_and_checkpoint(folder, options, file)
