"""The teacher of ``--kd-model-name``: a trained model that is asked for its answers and learns nothing."""

import torch
from torch import nn

from mocse_timm.checkpoints.by_name import load_model
from mocse_timm.checks import BadInput
from mocse_timm.data.splits import DataSplits
from mocse_timm.evaluation.classes import check_classes
from mocse_timm.evaluation.out_of_memory import is_out_of_memory
from mocse_timm.models.normalized import image_channels, normalized
from mocse_timm.training.build import image_size
from mocse_timm.training.config import TrainConfig

__all__ = ["build_teacher"]


def build_teacher(config: TrainConfig, data: DataSplits, device: torch.device) -> nn.Module | None:
    """Return a model from images (B, in_chans, H, W) in [0, 1] to class logits (B, C), or None if nobody teaches.

    It is in eval mode on ``device``, and no part of what is trained: nothing saves it, so a resumed run loads it again.

    Raises:
        BadInput: if there is no such model or it has no weights, it tells other classes than ``data`` has, it cannot
            read images as large as those of the training, or memory runs out when it reads one.
    """
    name = config.kd_model_name
    if name is None:
        return None
    size = image_size(config)
    try:
        model = load_model(name, pretrained=True)
        check_classes(model, data)
        if image_channels(model) != config.in_chans:
            raise BadInput(f"it reads images of {image_channels(model)} channels, --in-chans is {config.in_chans}")
        layout = torch.channels_last if config.channels_last else torch.contiguous_format
        model = model.to(device, memory_format=layout).requires_grad_(False)  # pyright: ignore[reportCallIssue]  (not in torch's stubs)
        teacher = normalized(model).eval()
        _ask(teacher, torch.zeros(1, config.in_chans, size, size, device=device))
    except BadInput as error:
        raise BadInput(f"--kd-model-name {name}: {error}") from error
    return teacher


def _ask(teacher: nn.Module, images: torch.Tensor) -> None:
    """Refuse a teacher that fails on ``images``, as one of a fixed size does on others."""
    try:
        with torch.no_grad():
            teacher(images)
    except Exception as error:  # of any class: these are other people's networks
        side, reason = images.shape[-1], " ".join(str(error).split())
        fault, advice = "it cannot read images", "give --img-size its own size"
        if is_out_of_memory(error):
            fault, advice = "memory ran out at its first image", "take a smaller one"
        raise BadInput(f"{fault} of {side}x{side} ({reason:.300}); {advice}") from error
