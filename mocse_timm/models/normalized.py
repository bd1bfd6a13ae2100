"""Any timm model behind one door: images in [0, 1]."""

import timm.data
from torch import nn

from mocse_timm.models.normalize import Normalize

__all__ = ["image_channels", "normalized"]


def image_channels(model: nn.Module) -> int:
    """Return how many channels the model's images have."""
    return int(getattr(model, "in_chans", None) or timm.data.resolve_data_config(model=model)["input_size"][0])


def normalized(model: nn.Module) -> nn.Module:
    """Return a model that takes images in [0, 1].

    Our models normalise inside and say so by mean 0 and std 1 in their cfg: they come back as they are. Other
    models of timm expect the data pipeline to do it, so they get a :class:`Normalize` in front.
    """
    config = timm.data.resolve_data_config(model=model)
    mean, std = config["mean"], config["std"]
    if not any(mean) and all(value == 1 for value in std):
        return model
    device = next(model.parameters()).device
    return nn.Sequential(Normalize(mean, std, image_channels(model), device=device), model)
