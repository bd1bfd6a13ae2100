"""A network that knows the digits a little, without training."""

from typing import Any

import torch

from mocse_timm.data import MemoryImages, load_data


def fitted(model: Any) -> Any:
    """Fit the last layer to the digits by least squares, so that answers differ from image to image."""
    digits = load_data("digits", model_size=32).train
    assert isinstance(digits, MemoryImages)
    images, targets = digits.images[:300].float() / 255, torch.eye(10)[digits.labels[:300]]
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.momentum = None  # the plain mean over what it has seen
    with torch.no_grad():
        model.train()(images)
        features = model.eval().forward_head(model.forward_features(images), pre_logits=True)
        model.get_classifier().weight.copy_(torch.linalg.lstsq(features, targets).solution.T)
        model.get_classifier().bias.zero_()
    return model
