"""A model from a folder with config.json and model.safetensors, whoever wrote them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import nn

from mocse_timm.checkpoints.build import build, build_without_memory, give_memory
from mocse_timm.checkpoints.config_json import is_ours, read_config
from mocse_timm.checkpoints.config_values import FETCHING
from mocse_timm.checkpoints.header import read_header
from mocse_timm.checkpoints.tensors import check_finite, misfit, weights_in_folder
from mocse_timm.checks import BadInput

__all__ = ["open_folder"]

SPARE = 2**24  # numbers by which a model may exceed twice its weights, where timm reshapes these at loading


def _refuse(file: Path, difference: str) -> BadInput:
    return BadInput(
        f"{file} does not fit the model that config.json beside it describes: {difference}; save the model again"
    )


def _check_size(model: nn.Module, file: Path, *, exactly: bool) -> None:
    """Compare a model on the meta device with its weights: tensor by tensor, or only how many numbers there are."""
    if exactly:
        if difference := misfit(model, file):
            raise _refuse(file, difference)
        return
    numbers = sum(tensor.numel() for tensor in model.state_dict().values())
    held = sum(tensor.elements for tensor in read_header(file).values())
    if numbers > 2 * held + SPARE:
        raise _refuse(file, f"the model has {numbers} numbers, the checkpoint {held}")


def _load_by_timm(folder: Path, file: Path, options: Mapping[str, Any]) -> nn.Module:
    try:
        return build(f"local-dir:{folder}", pretrained=True, **options)
    except BadInput as error:
        difference = misfit(build(f"local-dir:{folder}", **options), file)  # says so itself if it is the options
        changed = "".join(f" {name}={value!r:.60}" for name, value in options.items())
        raise _refuse(file, f"{difference or error}{f' (asked for:{changed})' if changed else ''}") from error


def open_folder(folder: Path, **options: Any) -> nn.Module:
    """Return the model in ``folder`` with its weights, in train mode as timm leaves it, on the CPU.

    The model is first built without memory. For a model of this package, the names, shapes and dtypes of all its
    tensors must then be those in the file, which so bounds what is allocated; for others of timm, which may rename and
    reshape at loading, their total size must be about the file's.

    Args:
        folder: holds config.json and model.safetensors.
        options: of ``timm.create_model``, to make of the saved model what timm makes of it: ``num_classes``,
            ``in_chans``, ``features_only``, ``drop_rate`` and others.

    Raises:
        BadInput: if a file is missing, only a pickle, not to be trusted, or does not fit the other.
    """
    for name in FETCHING & options.keys():
        raise BadInput(f"{name}={options[name]!r:.60}: the weights are those in the folder; leave {name} out")
    config, file = read_config(folder), weights_in_folder(folder)
    ours = is_ours(config["architecture"])
    model = build_without_memory(folder, read_header(file))
    _check_size(model, file, exactly=ours)
    check_finite(file)
    if ours and not options and give_memory(model):
        model.load_state_dict(load_file(file))
        return model
    return _load_by_timm(folder, file, options)
