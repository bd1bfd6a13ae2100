"""Weights from a safetensors file into a model; pickles are never opened.

A pickle can run code when it is loaded, a safetensors file cannot.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from mocse_timm.checks import BadInput
from mocse_timm.models.mocse import MoCSE

__all__ = ["WEIGHTS", "check_safetensors", "load_weights", "misfit", "weights_in_folder"]

WEIGHTS = "model.safetensors"
PICKLES = (".bin", ".pth", ".pt", ".tar", ".ckpt", ".pkl")


def check_safetensors(file: Path) -> Path:
    """Return ``file`` if it is a readable safetensors file.

    Raises:
        BadInput: if it is missing, a pickle, or not in the format.
    """
    if file.suffix in PICKLES:
        raise BadInput(
            f"checkpoint {file} is a pickle, which could run code when loaded; save the weights as a .safetensors file"
        )
    if not file.is_file():
        raise BadInput(f"checkpoint {file} does not exist; give the path of a .safetensors file")
    try:
        with safe_open(file, framework="pt") as tensors:
            tensors.keys()
    except (SafetensorError, OSError) as error:
        raise BadInput(f"checkpoint {file} is not a safetensors file ({error}); save the weights again") from None
    return file


def weights_in_folder(folder: Path) -> Path:
    """Return the checked ``model.safetensors`` of ``folder``.

    Raises:
        BadInput: if it is not there, in particular if only a pickle is, or it cannot be read.
    """
    file = folder / WEIGHTS
    if file.is_file():
        return check_safetensors(file)
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        raise BadInput(
            f"folder {folder} has no {WEIGHTS}, only the pickle {pickles[0]}, which could run code when loaded; "
            "save the weights as safetensors"
        )
    raise BadInput(f"folder {folder} has no {WEIGHTS}; give the folder of a finished training run")


def _num_classes(model: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> int | None:
    """Read the number of classes off ``shapes``, where ``model`` says which layer is the last; None if it does not."""
    get_classifier = getattr(model, "get_classifier", tuple)
    classifiers = get_classifier()
    classifiers = classifiers if isinstance(classifiers, tuple) else (classifiers,)
    name = next((name for name, layer in model.named_modules() if layer in classifiers), None)
    if name is None:
        return None
    if not isinstance(model, MoCSE):
        shape = shapes.get(f"{name}.weight")
        return shape[0] if shape else None
    layer = name.removeprefix("experts.0.")
    # every expert has one more row, for "none of mine"
    rows = [shape[0] - 1 for key, shape in shapes.items() if re.fullmatch(rf"experts\.\d+\.{layer}\.weight", key)]
    return sum(rows) or None


def misfit(model: nn.Module, file: Path) -> str | None:
    """Say in a clause how the tensors of ``file`` differ from the model's, or return None if they fit."""
    expected = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    with safe_open(file, framework="pt") as tensors:
        found = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118 (no dict)
    ours, theirs = _num_classes(model, expected), _num_classes(model, found)
    if ours and theirs and ours != theirs:
        return f"the checkpoint has {theirs} classes, the model {ours}"
    for name, shape in expected.items():
        if name not in found:
            return f"the checkpoint lacks the model's tensor {name} {shape}"
        if found[name] != shape:
            return f"tensor {name} is {found[name]} in the checkpoint and {shape} in the model"
    for name, shape in found.items():
        if name not in expected:
            return f"the checkpoint has a tensor {name} {shape} that the model lacks"
    return None


def load_weights(model: nn.Module, file: Path) -> None:
    """Copy every tensor of the safetensors ``file`` into ``model``; nothing may be left over on either side.

    Raises:
        BadInput: if the file cannot be read or does not fit the model.
    """
    difference = misfit(model, check_safetensors(file))
    if difference:
        raise BadInput(
            f"checkpoint {file} does not fit the model: {difference}; build the model with the --model-kwargs and "
            "--num-classes it was trained with"
        )
    model.load_state_dict(load_file(file))
