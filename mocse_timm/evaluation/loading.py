"""A trained model by name: a run's folder, a Hub repository, or a registered model with a checkpoint.

Every way ends at a folder or file of safetensors, and none gives random weights.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
from huggingface_hub import hf_hub_download
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import nn

import mocse_timm.models  # noqa: F401 (registers our models with timm)
from mocse_timm.checks import BadInput, nearest
from mocse_timm.evaluation.weights import WEIGHTS, load_weights, misfit, weights_in_folder
from mocse_timm.models.mocse import MoCSE

__all__ = ["load_model", "run_folder"]

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


def _read_config(folder: Path) -> dict[str, Any]:
    """Return config.json of ``folder``, checked to name a registered architecture."""
    if not folder.is_dir():
        raise BadInput(
            f"model folder {str(folder)!r} does not exist; give a run's folder, or hf-hub:USER/NAME for the Hub"
        )
    file = folder / "config.json"
    if not file.is_file():
        raise BadInput(f"folder {folder} has no config.json; give the folder of a finished training run")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{file} is not JSON ({error}); save the model again") from None
    architecture = config.get("architecture") if isinstance(config, dict) else None
    if not isinstance(architecture, str):
        raise BadInput(f"{file} names no architecture; save the model again with timm.models.save_for_hf")
    if not timm.is_model(architecture):
        raise BadInput(
            f"{file} names the architecture {architecture!r}, which is not registered"
            f"{nearest(architecture, timm.list_models())}; import the package that defines it"
        )
    return config


def _create(name: str, **options: Any) -> nn.Module:
    """Call ``timm.create_model``; options it refuses become one sentence."""
    try:
        return timm.create_model(name, **options)
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        raise BadInput(f"cannot build the model {name!r}: {' '.join(str(error).split())}") from error


def _check_class_count(folder: Path, config: Mapping[str, Any], wanted: int | None) -> None:
    # timm would load all but the last layer, leave that random, and say nothing.
    saved = config.get("num_classes", config.get("pretrained_cfg", {}).get("num_classes"))
    if wanted is not None and saved is not None and wanted != saved:
        raise BadInput(
            f"the checkpoint in {folder} has {saved} classes, the model {wanted}; leave out the number of classes"
        )


def _from_folder(folder: Path, options: dict[str, Any], checkpoint: Path | None) -> nn.Module:
    config = _read_config(folder)
    if checkpoint is not None:
        model = _create(f"local-dir:{folder}", **options)
        load_weights(model, checkpoint)
        return model
    _check_class_count(folder, config, options.get("num_classes"))
    file = weights_in_folder(folder)
    try:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True, **options)
        # MoCSE's loader drops or repeats experts until they are as many as asked for: good for fine-tuning only
        difference = misfit(model, file) if isinstance(model, MoCSE) else None
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        model = _create(f"local-dir:{folder}", **options)
        difference = misfit(model, file) or " ".join(str(error).split())
    if difference:
        raise BadInput(
            f"{file} does not fit the model that config.json beside it describes: {difference}; save the model again"
        )
    return model


def _from_hub(repository: str, options: dict[str, Any], checkpoint: Path | None) -> nn.Module:
    name, _, revision = repository.partition("@")
    try:
        config = hf_hub_download(name, "config.json", revision=revision or None)
        if checkpoint is None:
            hf_hub_download(name, WEIGHTS, revision=revision or None)
    except LocalEntryNotFoundError:
        raise BadInput(
            f"cannot reach the Hub for {repository!r}, and it is not in the cache; try again online"
        ) from None
    except EntryNotFoundError as error:
        missing = WEIGHTS if WEIGHTS in str(error) else "config.json"
        raise BadInput(
            f"Hub repository {repository!r} has no {missing}; only timm models saved as safetensors can be scored"
        ) from None
    except HFValidationError:
        raise BadInput(f"{repository!r} is not a Hub repository; write hf-hub:USER/NAME") from None
    except HfHubHTTPError as error:
        reason = str(error).strip().splitlines()[0]
        raise BadInput(f"the Hub refuses {repository!r} ({reason}); check the name and `hf auth login`") from None
    return _from_folder(Path(config).parent, options, checkpoint)


def _from_registry(name: str, options: dict[str, Any], checkpoint: Path | None, pretrained: bool) -> nn.Module:
    if not timm.is_model(name):
        raise BadInput(f"unknown model {name!r}{nearest(name, timm.list_models())}; timm.list_models() has them all")
    if checkpoint is not None:
        model = _create(name, **options)
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
        raise BadInput(f"model {name!r} has no published weights; add --checkpoint FILE.safetensors")
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
    if folder is not None:
        return _from_folder(folder, options, file)
    return _from_registry(name, options, file, pretrained)
