"""AdvMoE: a network whose layers hold several experts, and a router that gives each image one path through them.

An image pays for one expert's layers and for the small router, however many experts there are.
Letters: B images, C classes, E experts, D features.

Paper: `Robust Mixture-of-Expert Training for Convolutional Neural Networks` - https://arxiv.org/abs/2308.10110
"""

from collections.abc import Callable
from contextlib import nullcontext
from numbers import Real
from typing import Any

import timm
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import FeatureInfo, get_model_traits
from torch import Tensor, nn

from mocse_timm.models.backbone_weights import load_body_into_experts, trained_backbone
from mocse_timm.models.backbones import (
    parts_as_groups,
    pooling_name,
    prefix_groups,
    require_backbone,
    with_changes,
)
from mocse_timm.models.cifar_net import CifarNet
from mocse_timm.models.convert import convert, convertible_layers, set_bank, trial_network
from mocse_timm.models.counts import check_count
from mocse_timm.models.hooks import layers_have_hooks
from mocse_timm.models.normalize import Normalize
from mocse_timm.models.routers import Router
from mocse_timm.models.routing import RoutingSlot, route_batch, runs_masked
from mocse_timm.models.tied_weights import save_tied_weights_once
from mocse_timm.modes import without_gradients

__all__ = ["AdvMoE"]


class AdvMoE(nn.Module):
    """A timm network with several experts in every layer but stem, shortcuts and classifier, and one router.

    While the router is in train mode, gradients reach it straight through every expert layer. In eval mode they are
    those of the function computed, in which an image's path is a constant. Attacks need the latter: the former pull the
    image towards scores that change nothing until the path does, and hide what the experts get wrong.

    Inside ``body`` a batch is sorted by path. While one of its layers has a hook, so that somebody looks, the batch
    stays in its order, and every expert runs on it.

    Args:
        backbone: name of the timm model whose layers become experts.
        backbone_args: further arguments of that model; JSON values.
        num_classes: C; 0 for features without classifier.
        num_experts: E, the experts of each layer.
        ratio: width of an expert, as a share of the backbone's, in (0, 1]. Below 1 only for this package's 32x32
            networks, whose stem keeps its full width.
        width: the backbone's ``width`` before ``ratio``, likewise.
        backbone_pretrained: start every expert from the weights timm has for the backbone, or from those of the
            'local-dir:' or 'hf-hub:' source named here. Never recorded on save.
        normalize: subtract the mean and divide by the standard deviation that the backbone wants. False for weights
            of the authors' code, which were trained on images in [0, 1] as they are.
        in_chans: image channels.
        global_pool: timm's pooling name; None for the backbone's own.
        img_size: input size, for backbones that need to know it.
        drop_rate: dropout before the classifier, in [0, 1); None for the backbone's own.

    Attributes:
        body: the backbone with expert layers.
        router: images to scores (B, E).
        expert_layers: names of the expert layers inside ``body``.

    Raises:
        ValueError: if the backbone is unknown, cannot hold experts, or has no option for the ratio asked for.

    Source:
        arXiv:2308.10110, section 4.
    """

    def __init__(
        self,
        backbone: str = "cifar_resnet18",
        backbone_args: dict[str, Any] | None = None,
        num_classes: int = 10,
        num_experts: int = 2,
        ratio: float = 1.0,
        width: float | None = None,
        backbone_pretrained: bool | str = False,
        normalize: bool = True,
        in_chans: int = 3,
        global_pool: str | None = None,
        img_size: int | tuple[int, int] | None = None,
        drop_rate: float | None = None,
        device=None,
        dtype=None,
    ):
        super().__init__()
        require_backbone(backbone)
        check_count("num_experts", num_experts, at_least=1)
        check_count("in_chans", in_chans, at_least=1)
        if not 0 < ratio <= 1:
            raise ValueError(f"ratio must be above 0 and at most 1, got {ratio}")
        placement: dict[str, Any] = {"device": device, "dtype": dtype}
        given = {"in_chans": in_chans, "global_pool": global_pool, "img_size": img_size, "drop_rate": drop_rate}
        arguments = {key: value for key, value in (given | placement).items() if value is not None}
        arguments |= _widths(backbone, ratio, width)
        arguments |= _checked(backbone_args or {}, arguments)
        arguments["num_classes"] = num_classes

        self.backbone = backbone
        self.num_experts = num_experts
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.slot = RoutingSlot()
        build = trained_backbone if backbone_pretrained is True else timm.create_model
        body: Any = build(backbone, **arguments)
        if isinstance(backbone_pretrained, str):
            images = {name: given[name] for name in ("in_chans", "img_size", "global_pool")}
            load_body_into_experts(nn.ModuleList([body]), backbone_pretrained, num_classes, images)
        self.normalize = _take_normalization(body, in_chans, placement) if normalize else _drop_normalization(body)
        self.body = body
        self.router = Router(num_experts, in_chans, **placement)
        self.expert_layers = self._convert(arguments, same_start=bool(backbone_pretrained))
        if hasattr(body, "feature_info"):
            info = body.feature_info.info if isinstance(body.feature_info, FeatureInfo) else body.feature_info
            self.feature_info = [{**tap, "module": f"body.{tap['module']}"} for tap in info]
        self.output_fmt = str(getattr(body, "output_fmt", "NCHW"))
        self._body_args = dict(getattr(body, "_model_args", {}))
        self._traits = {"fixed_input_size": get_model_traits(body).get("fixed_input_size", False)}
        self._sync_sizes()
        save_tied_weights_once(self)

    def _convert(self, arguments: dict[str, Any], same_start: bool) -> list[str]:
        cfg = timm.get_pretrained_cfg(self.backbone)
        size = arguments.get("img_size") or (cfg.input_size[1:] if cfg else 224)
        height, width = (size, size) if isinstance(size, int) else size
        trial = trial_network(self.backbone, arguments) or self.body
        layers = convertible_layers(trial, input_size=(self.in_chans, height, width), cfg=cfg)
        convert(self.body, layers, self.num_experts, self.slot)
        on_meta = next(self.body.parameters()).is_meta
        if not same_start and not on_meta:  # experts that start alike would tell the router nothing
            for expert in range(1, self.num_experts):
                set_bank(self.body, layers, expert, timm.create_model(self.backbone, **arguments))
        return list(layers)

    @property
    def _model_args(self) -> dict[str, Any]:
        return with_changes(dict(self.__dict__.get("_recorded_args", {})), self.body, self._body_args)

    @_model_args.setter
    def _model_args(self, arguments: dict[str, Any]) -> None:
        # timm writes these into config.json: a reload must not fetch the backbone's weights a second time
        self.__dict__["_recorded_args"] = {k: v for k, v in arguments.items() if k != "backbone_pretrained"}

    def drop_normalization(self) -> None:
        """Take images in [0, 1] as they are from now on; a saved model remembers."""
        self.normalize = nn.Identity()
        self._model_args = self._model_args | {"normalize": False}

    def _sync_sizes(self) -> None:
        body: Any = self.body
        self.num_features = int(body.num_features)
        self.head_hidden_size = int(getattr(body, "head_hidden_size", body.num_features))
        self.global_pool = pooling_name(body)

    def group_matcher(self, coarse: bool = False) -> Any:
        """Return timm's pattern that sorts parameters into layers: the backbone's own, the router with the stem."""
        body: Any = self.body
        groups = body.group_matcher(coarse=coarse) if hasattr(body, "group_matcher") else parts_as_groups(body)
        matched = prefix_groups(groups, "body")
        if callable(matched):  # Cait, say
            return lambda name: (0,) if name.startswith("router.") else matched(name)
        first = next(iter(matched))
        stem = matched[first]
        if isinstance(stem, str):
            return matched | {first: rf"(?:{stem})|^router"}
        return matched | {first: [*stem, (r"^router", (0,))]}

    def no_weight_decay(self) -> set[str]:
        """Return the parameters the backbone wants without weight decay."""
        body: Any = self.body
        return {f"body.{name}" for name in body.no_weight_decay()} if hasattr(body, "no_weight_decay") else set()

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute the backbone's activations in the backward pass."""
        body: Any = self.body
        body.set_grad_checkpointing(enable)  # refused by backbones that cannot

    def get_classifier(self) -> nn.Module:
        """Return the backbone's classifier, which all experts share."""
        body: Any = self.body
        return body.get_classifier()

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give the network a new classifier; experts and router stay. None keeps the pooling."""
        body: Any = self.body
        body.reset_classifier(num_classes, *(() if global_pool is None else (global_pool,)))
        self.num_classes = num_classes
        self._sync_sizes()

    def _routed(self, images: Tensor, run: Callable[[Tensor], Any]) -> Any:
        images = self.normalize(images)
        learning = self.router.training
        # where paths are constants, no graph is kept of how they were found; tracers have no use for the mode
        with nullcontext() if learning or runs_masked(images) else without_gradients(images):
            scores = self.router(images)
        return self._dispatched(scores, images, run)

    def _dispatched(self, scores: Tensor, images: Tensor, run: Callable[[Tensor], Any]) -> Any:
        watched = not runs_masked(images) and layers_have_hooks(self.body.modules())
        return route_batch(self.slot, scores, images, run, gated=self.router.training, in_order=watched)

    def route(self, images: Tensor) -> Tensor:
        """Map images (B, in_chans, H, W) in [0, 1] to the router's scores (B, E); the largest is the path taken."""
        return self.router(self.normalize(images))

    def forward_with_scores(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Map images (B, in_chans, H, W) in [0, 1] to logits (B, C) and the router's scores (B, E) behind them."""
        images = self.normalize(images)
        scores = self.router(images)
        return self._dispatched(scores, images, self.body), scores

    def forward_intermediates(self, x: Tensor, *args: Any, **kwargs: Any) -> Any:
        """Return chosen feature maps; arguments are timm's, see ``CifarNet.forward_intermediates``."""
        body: Any = self.body
        return self._routed(x, lambda images: body.forward_intermediates(images, *args, **kwargs))

    def prune_intermediate_layers(self, *args: Any, **kwargs: Any) -> list[int]:
        """Remove what comes after the last of the feature maps named; arguments are timm's."""
        body: Any = self.body
        taps = body.prune_intermediate_layers(*args, **kwargs)
        self.num_classes = int(getattr(body, "num_classes", 0))
        left = {name for name, _ in body.named_modules()}
        self.expert_layers = [name for name in self.expert_layers if name in left]
        self._sync_sizes()
        return taps

    def forward_features(self, x: Tensor) -> Tensor:
        """Map images (B, in_chans, H, W) in [0, 1] to the backbone's unpooled features."""
        body: Any = self.body
        return self._routed(x, body.forward_features)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Map unpooled features to logits (B, C), or to pooled features (B, D) with ``pre_logits``."""
        body: Any = self.body
        return body.forward_head(x, pre_logits=pre_logits)

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, in_chans, H, W) in [0, 1] to logits (B, C)."""
        return self._routed(x, self.body)


def _checked(backbone_args: dict[str, Any], arguments: dict[str, Any]) -> dict[str, Any]:
    for name in backbone_args:
        if name in arguments or name in ("num_classes", "pretrained"):
            raise ValueError(f"backbone_args may not hold {name!r}: it follows from the model's own arguments")
    return backbone_args


def _widths(backbone: str, ratio: float, width: float | None) -> dict[str, Any]:
    """Return the backbone's arguments for experts of ``ratio`` times its width, with a stem of the full one.

    Raises:
        ValueError: if the backbone has no such option.
    """
    if ratio == 1 and width is None:
        return {}
    if width is not None and not isinstance(width, Real):
        raise ValueError(f"width must be one number, got {width!r}: the experts' layers follow from it and from ratio")
    if not backbone.startswith("cifar_"):
        raise ValueError(
            f"ratio={ratio:g} and width need a backbone with a width option (cifar_*), got {backbone!r}: use ratio=1, "
            "or a smaller backbone"
        )
    full = 1.0 if width is None else width
    return {"width": ratio * full, "stem_width": full}


def _drop_normalization(body: nn.Module) -> nn.Module:
    if isinstance(body, CifarNet):
        body.normalize = nn.Identity()
    return nn.Identity()


def _take_normalization(body: nn.Module, in_chans: int, placement: dict[str, Any]) -> nn.Module:
    """Return what normalises for ``body`` and for the router: the body's own module, or one by timm's facts."""
    if isinstance(body, CifarNet):
        own, body.normalize = body.normalize, nn.Identity()
        return own
    cfg: Any = getattr(body, "pretrained_cfg", None) or {}
    mean, std = cfg.get("mean", IMAGENET_DEFAULT_MEAN), cfg.get("std", IMAGENET_DEFAULT_STD)
    return Normalize(mean, std, in_chans, **placement)
