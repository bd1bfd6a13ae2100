"""Starting every expert of a MoCSE model from the weights of one trained network."""

import sys
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mocse_timm.models.cifar_net import CifarNet

LOCAL, WEIGHTS = "local-dir:", "model.safetensors"

__all__ = ["fit_image_size", "load_body_into_experts", "trained_backbone"]


def _classifier_keys(network: Any) -> set[str]:
    classifier = network.get_classifier()
    layers = classifier if isinstance(classifier, tuple | list) else (classifier,)
    own = {id(parameter) for layer in layers for parameter in layer.parameters()}
    return {name for name, parameter in network.named_parameters() if id(parameter) in own}


def fit_image_size(state_dict: dict[str, Tensor], owner: nn.Module, part: str) -> dict[str, Tensor]:
    """Return saved weights of ``owner`` for the image size it has: what depends on it is resampled, as timm does it.

    Position embeddings do, say. timm has the function in the module of the network, by one name for all families.

    Args:
        state_dict: the saved weights.
        owner: the model that will load them.
        part: name of the network of timm's inside ``owner``, 'body' say.
    """
    network: Any = owner.get_submodule(part)
    fit = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if fit is None:
        return state_dict
    prefix = f"{part}."
    saved = {key.removeprefix(prefix): value for key, value in state_dict.items() if key.startswith(prefix)}
    own, classifier = network.state_dict(), _classifier_keys(network)
    if all(own[key].shape == saved[key].shape for key in (own.keys() & saved.keys()) - classifier):
        return state_dict
    asked: dict[str, Any] = getattr(owner, "pretrained_model_args", {})
    network.pretrained_model_args = {key: asked[key] for key in ("img_size",) if key in asked}  # the saved model's
    others = {key: value for key, value in state_dict.items() if not key.startswith(prefix)}
    return others | {prefix + key: value for key, value in fit(saved, network).items()}


def _statistics(network: Any) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of the images ``network`` was made for."""
    if isinstance(network, CifarNet):
        normalize: Any = network.normalize
        return normalize.mean.flatten().tolist(), normalize.std.flatten().tolist()
    return list(network.pretrained_cfg["mean"]), list(network.pretrained_cfg["std"])


def trained_backbone(source: str, **arguments: Any) -> nn.Module:
    """Return the model of ``source``, a timm name or a 'local-dir:' or 'hf-hub:' source, with its published weights.

    Raises:
        ValueError: if there is no such model, or its weights cannot be had.
    """
    folder = source[len(LOCAL) :] if source.lower().startswith(LOCAL) else None  # timm takes it in any case
    if folder is not None and Path(folder).is_dir() and not (Path(folder) / WEIGHTS).is_file():
        raise ValueError(
            f"backbone_pretrained: {folder} holds no {WEIGHTS}, and pickles are not read: name another run"
        )
    try:
        return timm.create_model(source, pretrained=True, **arguments)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, OSError) as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"backbone_pretrained: {source!r} cannot be loaded ({said:.300}); name a timm model that has weights, "
            "'local-dir:RUN' or 'hf-hub:user/name'"
        ) from error


def load_body_into_experts(experts: nn.ModuleList, source: str, outputs: int, arguments: dict[str, Any]) -> None:
    """Copy the weights of ``source``, but for the classifier, into every expert, and note whose licence they have.

    Args:
        experts: networks of one architecture; their classifiers stay as they are.
        source: a timm model name, or a 'local-dir:' or 'hf-hub:' source.
        outputs: logits of the first expert, which the source is built with, so that all its layers are there.
        arguments: what the source is built with besides.

    Raises:
        ValueError: if the source is another architecture, another width, or wants other normalisation.
    """
    first = experts[0]
    network: Any = trained_backbone(source, num_classes=outputs, **arguments)
    skipped = _classifier_keys(network)
    weights: dict[str, Tensor] = {k: v for k, v in network.state_dict().items() if k not in skipped}
    body = {key: value for key, value in first.state_dict().items() if key not in _classifier_keys(first)}
    wrong = sorted(weights.keys() ^ body.keys()) or [k for k, v in weights.items() if body[k].shape != v.shape]
    if wrong:
        raise ValueError(
            f"backbone_pretrained: the weights of {source!r} do not fit the experts, first at {wrong[0]!r}"
        )
    for name, theirs, ours in zip(("mean", "std"), _statistics(network), _statistics(first), strict=True):
        if not torch.allclose(torch.tensor(theirs), torch.tensor(ours)):
            raise ValueError(
                f"backbone_pretrained: {source!r} wants images normalised with {name} {theirs}, the experts with {ours}"
            )
    for expert in experts:
        expert.load_state_dict({**expert.state_dict(), **weights})
        begun: Any = expert
        begun.pretrained_cfg = {**begun.pretrained_cfg, "license": network.pretrained_cfg.get("license")}
