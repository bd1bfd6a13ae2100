"""Weights from a safetensors file into a model; pickles are never opened.

A pickle can run code when it is loaded, a safetensors file cannot.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn

from mocse_timm.checkpoints.header import Stored, read_header
from mocse_timm.checks import BadInput
from mocse_timm.models.mocse import MoCSE

__all__ = [
    "WEIGHTS",
    "check_finite",
    "check_fit",
    "check_safetensors",
    "is_pickle",
    "load_weights",
    "misfit",
    "sha256",
    "weights_in_folder",
]

WEIGHTS = "model.safetensors"
PICKLE = re.compile(r"\.(bin|ckpt|dill|joblib|npy|npz|pickle|pk|pkl|pt|pth|tar|th)(\.(bz2|gz|lz4|xz|zst))?\Z")


def is_pickle(name: str) -> bool:
    """Return whether ``name`` ends like a pickle's or that of a file that may hold one, such as NumPy's; packed or not.

    A name is all that is looked at.
    """
    return PICKLE.search(name.lower()) is not None


def check_safetensors(file: Path) -> Path:
    """Return ``file`` if it is a safetensors file whose header is true.

    Raises:
        BadInput: if it is missing, a pickle, or not in the format.
    """
    if is_pickle(file.name):
        raise BadInput(
            f"checkpoint {file} is a pickle, which could run code when loaded; save the weights as a .safetensors file"
        )
    if not file.is_file():
        raise BadInput(f"checkpoint {file} does not exist; give the path of a .safetensors file")
    read_header(file)
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
    pickles = sorted(path.name for path in folder.iterdir() if is_pickle(path.name))
    if pickles:
        raise BadInput(
            f"folder {folder} has no {WEIGHTS}, only the pickle {pickles[0]}, which could run code when loaded; "
            "save the weights as safetensors"
        )
    raise BadInput(f"folder {folder} has no {WEIGHTS}; give the folder of a finished training run")


def sha256(file: Path) -> str:
    """Return the SHA-256 checksum of ``file``, 64 hexadecimal digits."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_finite(file: Path) -> None:
    """Look at every number of the safetensors ``file``.

    Raises:
        BadInput: if one is NaN or infinite, naming its tensor.
    """
    with safe_open(file, framework="pt") as tensors:
        for name, stored in read_header(file).items():
            if stored.dtype.is_floating_point and stored.elements:
                least, most = torch.aminmax(tensors.get_tensor(name))  # one NaN makes both NaN
                if not (least.isfinite() and most.isfinite()):
                    what = "NaN" if least.isnan() else "infinity"
                    raise BadInput(
                        f"checkpoint {file} holds {what} in tensor {name}; no score of such a model means anything: "
                        "train it again, or take another checkpoint"
                    )


def _num_classes(model: nn.Module, tensors: Mapping[str, Stored]) -> int | None:
    """Read the number of classes off ``tensors``, where ``model`` says which layer is the last; None if it does not."""
    get_classifier = getattr(model, "get_classifier", tuple)
    classifiers = get_classifier()
    classifiers = classifiers if isinstance(classifiers, tuple) else (classifiers,)
    name = next((name for name, layer in model.named_modules() if layer in classifiers), None)
    if name is None:
        return None
    shapes = {key: stored.shape for key, stored in tensors.items() if stored.shape}
    if not isinstance(model, MoCSE):
        shape = shapes.get(f"{name}.weight")
        return shape[0] if shape else None
    layer = re.escape(name.removeprefix("experts.0."))
    # every expert has one more row, for "none of mine"
    rows = [shape[0] - 1 for key, shape in shapes.items() if re.fullmatch(rf"experts\.\d+\.{layer}\.weight", key)]
    return sum(rows) or None


def misfit(model: nn.Module, file: Path) -> str | None:
    """Say in a clause how the tensors of ``file`` differ from the model's, or return None if they fit.

    Names, shapes and dtypes are compared, no values: the model may live on the meta device.
    """
    expected = {name: Stored(tensor.dtype, tuple(tensor.shape)) for name, tensor in model.state_dict().items()}
    found = read_header(file)
    ours, theirs = _num_classes(model, expected), _num_classes(model, found)
    if ours and theirs and ours != theirs:
        return f"the checkpoint has {theirs} classes, the model {ours}"
    for name, tensor in expected.items():
        if name not in found:
            return f"the checkpoint lacks the model's tensor {name} {tensor.shape}"
        if found[name].shape != tensor.shape:
            return f"tensor {name} is {found[name].shape} in the checkpoint and {tensor.shape} in the model"
        if found[name].dtype != tensor.dtype:
            return f"tensor {name} is {found[name]} in the checkpoint and {tensor} in the model"
    for name, tensor in found.items():
        if name not in expected:
            return f"the checkpoint has a tensor {name} {tensor.shape} that the model lacks"
    return None


def check_fit(model: nn.Module, file: Path) -> None:
    """Raise BadInput unless ``file`` holds the tensors of ``model``, be it on the meta device, and no others."""
    difference = misfit(model, check_safetensors(file))
    if difference:
        raise BadInput(
            f"checkpoint {file} does not fit the model: {difference}; build the model with the --model-kwargs and "
            "--num-classes it was trained with"
        )


def load_weights(model: nn.Module, file: Path) -> None:
    """Copy every tensor of the safetensors ``file`` into ``model``; nothing may be left over on either side.

    Raises:
        BadInput: if the file cannot be read, does not fit the model, or holds NaN or infinity.
    """
    check_fit(model, file)
    check_finite(file)
    model.load_state_dict(load_file(file))
