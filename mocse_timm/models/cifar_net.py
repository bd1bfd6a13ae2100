"""What all dense networks for 32x32 images share: timm's whole model interface, written once.

A family file supplies a stem, a list of stages and a closing norm; this class makes a timm model of them.
Letters: B images, C classes, D features.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import get_device_dtype, make_divisible
from timm.layers.classifier import ClassifierHead
from timm.models import checkpoint, checkpoint_seq
from timm.models._features import feature_take_indices
from torch import Tensor, nn

from mocse_timm.models.counts import check_count
from mocse_timm.models.normalize import Normalize

__all__ = [
    "CIFAR_MEAN",
    "CIFAR_STD",
    "CifarNet",
    "Trunk",
    "cifar_cfg",
    "scale_channels",
    "stage_widths",
    "stem_multiplier",
]

CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2470, 0.2435, 0.2616)


def cifar_cfg(first_conv: str, **overrides: Any) -> dict[str, Any]:
    """Return the facts timm keeps beside a network for 32x32 images.

    Mean 0 and std 1 are deliberate: the model normalises inside ``forward``, so no data pipeline may do it again.
    """
    return {
        "num_classes": 10,
        "input_size": (3, 32, 32),
        "pool_size": (4, 4),
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "first_conv": first_conv,
        "classifier": "head.fc",
        "license": "apache-2.0",
        **overrides,
    }


def stage_widths(width: float | Sequence[float], stages: int) -> list[float]:
    """Return one width multiplier a stage; a single number stands for all stages.

    Raises:
        ValueError: if a multiplier is not above 0 or a list has not one entry a stage.
    """
    widths = [float(w) for w in width] if isinstance(width, Sequence) else [float(width)] * stages
    if len(widths) != stages:
        raise ValueError(f"width must be one number or {stages} numbers, one a stage, got {list(widths)}")
    if not all(0 < w < math.inf for w in widths):
        raise ValueError(f"width must be above 0 and finite, got {width}")
    return widths


def stem_multiplier(stem_width: float | None, widths: Sequence[float]) -> float:
    """Return the stem's width multiplier: its own, or by default the first stage's.

    Raises:
        ValueError: if it is not above 0.
    """
    multiplier = widths[0] if stem_width is None else stem_width
    if not 0 < multiplier < math.inf:
        raise ValueError(f"stem_width must be above 0 and finite, got {stem_width}")
    return multiplier


def scale_channels(channels: int, width: float) -> int:
    """Return ``channels * width`` rounded to a multiple of 8, which CPUs and tensor cores want, and at least 8."""
    return make_divisible(channels * width, 8)


class Trunk(nn.Module):
    """Normalisation, stem and first stages that several experts share.

    Args:
        normalize: from images in [0, 1] to normalised ones.
        stem: the network's first layer, or an identity.
        stages: the shared stages, possibly none.
    """

    def __init__(self, normalize: nn.Module, stem: nn.Module, stages: Sequence[nn.Module]):
        super().__init__()
        self.normalize = normalize
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.grad_checkpointing = False

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, in_chans, H, W) in [0, 1] to the features every expert starts from."""
        x = self.stem(self.normalize(images))
        if self.grad_checkpointing and not torch.jit.is_scripting():
            return checkpoint_seq(self.stages, x)
        return self.stages(x)

    def forward_stages(self, images: Tensor) -> list[Tensor]:
        """Return what enters the first stage, then the output of each shared stage."""
        outputs = [self.stem(self.normalize(images))]
        for stage in self.stages:
            outputs.append(checkpoint(stage, outputs[-1]) if self.grad_checkpointing else stage(outputs[-1]))
        return outputs


class CifarNet(nn.Module):
    """A dense network for small images with timm's model interface.

    Args:
        stem: maps normalised images to features at full resolution.
        stages: the network's stages, in order.
        norm: closes the last stage; an identity where the network has none.
        feature_info: one dict a stage, with ``num_chs`` and ``reduction``.
        num_classes: 0 for features without a classifier.
        in_chans: image channels.
        global_pool: timm's pooling name; '' for none.
        drop_rate: dropout before the classifier, in [0, 1).
        input_mean: mean of the training images, a number a channel in [0, 1].
        input_std: their standard deviation.

    Attributes:
        channels_stay_apart: whether channels meet in convolutions alone, so that a network of several times the
            channels, its convolutions in groups, is several networks side by side.
    """

    channels_stay_apart = True

    def __init__(
        self,
        stem: nn.Module,
        stages: Sequence[nn.Module],
        norm: nn.Module,
        feature_info: list[dict[str, Any]],
        *,
        num_classes: int = 10,
        in_chans: int = 3,
        global_pool: str = "avg",
        drop_rate: float = 0.0,
        input_mean: Sequence[float] = CIFAR_MEAN,
        input_std: Sequence[float] = CIFAR_STD,
        device=None,
        dtype=None,
    ):
        super().__init__()
        check_count("num_classes", num_classes)
        check_count("in_chans", in_chans, at_least=1)
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.global_pool = global_pool
        self.grad_checkpointing = False
        self.feature_info = [{**info, "module": f"stages.{i}"} for i, info in enumerate(feature_info)]
        self.num_features = feature_info[-1]["num_chs"]
        self.normalize = Normalize(input_mean, input_std, in_chans, device=device, dtype=dtype)
        self.stem = stem
        self.stages = nn.Sequential(*stages)
        self.norm = norm
        self.head = ClassifierHead(
            self.num_features, num_classes, pool_type=global_pool, drop_rate=drop_rate, device=device, dtype=dtype
        )
        self.head_hidden_size = self.head.num_features
        self.init_weights()

    def init_weights(self) -> None:
        """Draw all parameters anew: He normal for convolutions, torch's own for the classifier."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d | nn.Linear):
                module.reset_parameters()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Return timm's pattern that sorts parameters into layers, for layer-wise learning rates."""
        blocks = r"^stages\.(\d+)" if coarse else [(r"^stages\.(\d+)\.(\d+)", None), (r"^norm", (99999,))]
        return {"stem": r"^stem", "blocks": blocks}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each stage in the backward pass instead of keeping its activations."""
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        """Return the linear layer from features (B, D) to logits (B, C)."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier by a new one of ``num_classes`` (0 for none); None keeps the pooling."""
        placement: dict[str, Any] = get_device_dtype(self)  # a head without classifier knows neither
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool, **placement)
        if global_pool is not None:
            self.global_pool = global_pool
        self.head_hidden_size = self.head.num_features

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
    ) -> list[Tensor] | tuple[Tensor, list[Tensor]]:
        """Return the outputs of chosen stages, after the final features unless ``intermediates_only``.

        Args:
            x: images (B, in_chans, H, W) in [0, 1].
            indices: which stages; None for all, n for the last n.
            norm: apply the closing norm to the last stage's output.
            stop_early: run no stage after the last one asked for.
            output_fmt: only 'NCHW'.
            intermediates_only: leave out the final features.

        Raises:
            ValueError: if ``output_fmt`` is not 'NCHW'.
        """
        if output_fmt != "NCHW":
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        take_indices, last_taken = feature_take_indices(len(self.stages), indices)
        intermediates = []
        x = self.stem(self.normalize(x))
        for index, stage in enumerate(self.stages):
            if stop_early and index > last_taken:
                break
            x = checkpoint(stage, x) if self.grad_checkpointing else stage(x)
            if index in take_indices:
                # after pruning, the last stage here may be an inner one: its norm is then an identity
                intermediates.append(self.norm(x) if norm and index == len(self.stages) - 1 else x)
        if intermediates_only:
            return intermediates
        return (x if stop_early and last_taken < len(self.stages) - 1 else self.norm(x)), intermediates

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove the stages after the last of ``indices`` (and norm and head); return the indices as they now are."""
        take_indices, last_taken = feature_take_indices(len(self.stages), indices)
        if last_taken < len(self.stages) - 1:
            prune_norm = True  # the norm has the last stage's width
            placement: dict[str, Any] = get_device_dtype(self)
            self.num_features = self.feature_info[last_taken]["num_chs"]
            self.head.reset(self.num_classes, in_features=self.num_features, **placement)
            self.head_hidden_size = self.head.num_features
        self.stages = self.stages[: last_taken + 1]
        if prune_norm:
            self.norm = nn.Identity()
        if prune_head:
            self.reset_classifier(0, "")
        return take_indices

    def detach_trunk(self, shared_stages: int) -> Trunk:
        """Take normalisation, stem and the first stages out into a :class:`Trunk`; identities stay behind.

        Afterwards this network expects the trunk's output where it expected images. With 0 stages the stem stays
        and the trunk only normalises.
        """
        stem = self.stem if shared_stages else nn.Identity()
        trunk = Trunk(self.normalize, stem, list(self.stages[:shared_stages]))
        self.normalize = nn.Identity()
        if shared_stages:
            self.stem = nn.Identity()
        for index in range(shared_stages):
            self.stages[index] = nn.Identity()
        return trunk

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images (B, in_chans, H, W) in [0, 1] to unpooled features (B, D, h, w)."""
        x = self.stem(self.normalize(x))
        if self.grad_checkpointing and not torch.jit.is_scripting():
            x = checkpoint_seq(self.stages, x)
        else:
            x = self.stages(x)
        return self.norm(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map unpooled features to logits (B, C), or to pooled features (B, D) with ``pre_logits``."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, in_chans, H, W) in [0, 1] to logits (B, C)."""
        return self.forward_head(self.forward_features(x))
