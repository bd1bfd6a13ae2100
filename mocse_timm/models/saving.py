"""Writing a model as timm reads it: model.safetensors and config.json, both whole or not at all."""

import copy
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from timm.models import save_for_hf
from torch import nn

__all__ = ["save_model"]


def save_model(
    model: nn.Module, folder: Path, *, facts: Mapping[str, Any] | None = None, class_names: Sequence[str] = ()
) -> None:
    """Write ``model`` into ``folder`` so that ``timm.create_model("local-dir:FOLDER", pretrained=True)`` loads it.

    Both files are written beside and renamed, the weights first: whoever reads meanwhile finds whole files.

    Args:
        model: made by ``timm.create_model``, which knows the arguments to build it again.
        folder: exists already; files of the same names are replaced.
        facts: our own JSON values; they stand in config.json under ``mocse_timm``, a key timm passes over.
        class_names: stored as timm's label names, in the order of the model's classes.
    """
    if any(not tensor.is_contiguous() for tensor in model.state_dict().values()):  # channels_last: safetensors refuses
        model = copy.deepcopy(model).to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]  (not in torch's stubs)
    config: dict[str, Any] = {"mocse_timm": dict(facts or {})}
    if class_names:
        config["label_names"] = list(class_names)
    with tempfile.TemporaryDirectory(prefix=".saving-", dir=folder) as beside:
        save_for_hf(model, beside, model_config=config, safe_serialization=True)
        shutil.copymode(Path(beside) / "config.json", Path(beside) / "model.safetensors")  # safetensors' is owner-only
        for name in ("model.safetensors", "config.json"):
            os.replace(Path(beside) / name, folder / name)
