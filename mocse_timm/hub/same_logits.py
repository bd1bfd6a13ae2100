"""Whether the models of two folders give the same logits, bit for bit.

The model is built without memory of its own and its parameters are put on the pages of the file, so that the largest
needs its weights once, in the page cache, and never a copy. What cannot be built that way is loaded the usual way.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from mocse_timm.checkpoints.build import build_without_memory
from mocse_timm.checkpoints.config_json import read_config
from mocse_timm.checkpoints.header import read_header
from mocse_timm.checkpoints.open_folder import open_folder
from mocse_timm.checkpoints.tensors import misfit, weights_in_folder
from mocse_timm.checks import BadInput
from mocse_timm.models.normalized import image_channels

__all__ = ["logits_of", "open_on_file", "probe", "same_bits"]

SMALL = 64  # pixels a side: networks for such images take smaller ones, too


def probe(model: nn.Module, config: dict[str, Any]) -> Tensor:
    """Return one image, (1, channels, side, side) in [0, 1], for comparing logits and nothing else.

    Where the model takes any small image, it is the smallest that leaves 2x2 places in the last map: fewer, and some
    taps of the filters would meet only the border.
    """
    cfg = config.get("pretrained_cfg") or {}
    own = int((cfg.get("input_size") or (3, 224, 224))[-1])
    last = int((cfg.get("pool_size") or (own,))[-1])
    fixed = cfg.get("fixed_input_size") or own > SMALL
    side = own if fixed else min(own, 2 * own // max(last, 1))
    return torch.rand(1, image_channels(model), side, side, generator=torch.Generator().manual_seed(0))


def _fill_buffers(model: nn.Module) -> bool:
    """Give memory and values to buffers that no file holds, by timm's hook; return whether all could be."""
    modules: list[Any] = list(model.modules())
    for module in modules:
        left = {name: buffer for name, buffer in module.named_buffers(recurse=False) if buffer.is_meta}
        if left and not hasattr(module, "init_non_persistent_buffers"):
            return False
        for name, buffer in left.items():
            module._buffers[name] = torch.empty_like(buffer, device="cpu")
        if left:
            module.init_non_persistent_buffers()
    return True


def _put_on_file(model: nn.Module, file: Path) -> bool:
    """Put the parameters of ``model`` on the pages of ``file``; return whether they fit and it can be run."""
    if misfit(model, file) is not None:
        return False
    model.load_state_dict(load_file(file), assign=True)
    return _fill_buffers(model)


def open_on_file(folder: Path) -> nn.Module:
    """Return the model of ``folder``, in eval mode, with its parameters on the mapped file where that can be.

    It is for looking: what is written into its parameters goes nowhere.

    Raises:
        BadInput: see :func:`mocse_timm.checkpoints.open_folder.open_folder`.
    """
    read_config(folder)
    file = weights_in_folder(folder)
    try:
        model = build_without_memory(folder, read_header(file)).eval()
    except BadInput:  # a backbone that cannot be built without memory, or a model that cannot be built at all
        return open_folder(folder).eval()
    if not _put_on_file(model, file):
        return open_folder(folder).eval()  # which says in a sentence what does not fit
    return model


@torch.inference_mode()
def logits_of(folder: Path, model: nn.Module | None = None) -> Tensor:
    """Return the logits on the probe, (1, C), of the model in ``folder``.

    Args:
        folder: holds config.json and weights.
        model: that :func:`open_on_file` gave for a folder with an equal config.json; it is put on this folder's
            weights, and not built again.
    """
    if model is None or not _put_on_file(model, weights_in_folder(folder)):
        model = open_on_file(folder)
    return model(probe(model, read_config(folder)))


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors have one type, one shape and the same bits."""
    alike = (first.dtype, first.shape) == (second.dtype, second.shape)
    return alike and first.contiguous().numpy().tobytes() == second.contiguous().numpy().tobytes()
