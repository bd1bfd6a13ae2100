"""Networks side by side: what all mixtures of whole networks share, whatever their outputs mean.

A trunk runs once, then E networks of one kind on what it gives; how many outputs each has, and how they are joined, a
subclass says. Here is the rest of a timm model. Letters: B images, C classes, E experts, D features.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.layers import get_channel_dim
from timm.models import get_model_traits
from timm.models._features import feature_take_indices
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from mocse_timm.models.backbones import parts_as_groups, pooling_name, prefix_groups, with_changes
from mocse_timm.models.grouped_experts import grouped
from mocse_timm.models.mixture_experts import build_experts, mixed_feature_info
from mocse_timm.models.parallel_experts import can_run_in_parallel, run_in_parallel
from mocse_timm.models.tied_weights import save_tied_weights_once

__all__ = ["Mixture"]

EXPERTS = r"(?:trunk|experts\.\d+)"  # where a backbone's layers are


class Mixture(nn.Module):
    """A trunk, and E networks that all get what it gives; a subclass defines ``_share_out`` and ``_join``.

    Args:
        outputs: logits of each network; 0 for features without classifiers.
        backbone: name of the timm model every expert is.
        backbone_args: further arguments of that model; JSON values.
        num_classes: C; 0 for features without classifiers.
        expert_width: the experts' ``width``, for this package's 32x32 backbones.
        width: the shared stages' ``width``, likewise.
        shared_stages: how many first stages (and the stem) run once for all experts.
        backbone_pretrained: start every expert from the weights timm has for the backbone, or from those of
            the 'local-dir:' or 'hf-hub:' source named here. Never recorded on save.
        in_chans: image channels.
        global_pool: timm's pooling name; None for the backbone's own.
        img_size: input size, for backbones that need to know it.
        drop_rate: dropout before each expert's classifier, in [0, 1); None for the backbone's own.

    Raises:
        ValueError: if the backbone is unknown or cannot take the widths, stages or weights asked for.
    """

    __jit_unused_properties__ = ["_model_args"]

    def __init__(
        self,
        outputs: list[int],
        *,
        backbone: str,
        num_classes: int,
        backbone_args: dict[str, Any] | None = None,
        expert_width: float | None = None,
        width: float | None = None,
        shared_stages: int = 0,
        backbone_pretrained: bool | str = False,
        in_chans: int = 3,
        global_pool: str | None = None,
        img_size: int | tuple[int, int] | None = None,
        drop_rate: float | None = None,
        device=None,
        dtype=None,
    ):
        super().__init__()
        self.backbone = backbone
        self.shared_stages = shared_stages
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.trunk, self.experts = build_experts(
            backbone,
            backbone_args or {},
            outputs,
            expert_width=expert_width,
            width=width,
            shared_stages=shared_stages,
            pretrained=backbone_pretrained,
            arguments={
                "in_chans": in_chans,
                "global_pool": global_pool,
                "img_size": img_size,
                "drop_rate": drop_rate,
                "device": device,
                "dtype": dtype,
            },
        )
        expert: Any = self.experts[0]
        self.output_fmt = str(getattr(expert, "output_fmt", "NCHW"))
        self._map_channels = get_channel_dim(self.output_fmt)
        self._expert_args = dict(getattr(expert, "_model_args", {}))
        self._traits = {"fixed_input_size": get_model_traits(expert).get("fixed_input_size", False)}
        if hasattr(expert, "feature_info"):
            self.feature_info = mixed_feature_info(expert.feature_info, shared_stages, len(outputs))
        self._sync_sizes()
        save_tied_weights_once(self)

    def _share_out(self, num_classes: int) -> list[int]:
        """Return how many logits each expert has for so many classes: as many numbers as there shall be experts."""
        raise NotImplementedError

    def _join(self, outputs: list[Tensor]) -> Tensor:
        """Make one answer (B, C) of the experts' outputs; without classes, their features side by side."""
        raise NotImplementedError

    def _to_save(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments that rebuild this model, which may have changed since it was built with those given."""
        return arguments

    @property
    def _model_args(self) -> dict[str, Any]:
        recorded = dict(self.__dict__.get("_recorded_args", {}))
        if len(self.experts) > 0:
            recorded = with_changes(recorded, self.experts[0], self._expert_args)
        return self._to_save(recorded)

    @_model_args.setter
    def _model_args(self, arguments: dict[str, Any]) -> None:
        # timm writes these into config.json: a reload must not fetch the backbone's weights a second time
        self.__dict__["_recorded_args"] = {k: v for k, v in arguments.items() if k != "backbone_pretrained"}

    def _every_expert(self) -> list[Any]:
        return list(self.experts)

    def _sync_sizes(self) -> None:
        if len(self.experts) > 0:
            expert: Any = self.experts[0]
            self.num_features = len(self.experts) * int(expert.num_features)
            self.head_hidden_size = len(self.experts) * int(getattr(expert, "head_hidden_size", expert.num_features))
            self.global_pool = pooling_name(expert)

    def group_matcher(self, coarse: bool = False) -> Any:
        """Return timm's pattern that sorts parameters into layers: the same layer of all experts together."""
        if len(self.experts) == 0:
            return prefix_groups(parts_as_groups(self.trunk), "trunk")
        expert = self._every_expert()[0]
        if not hasattr(expert, "group_matcher"):
            return prefix_groups(parts_as_groups(expert), EXPERTS)
        return prefix_groups(expert.group_matcher(coarse=coarse), EXPERTS)

    def no_weight_decay(self) -> set[str]:
        """Return the parameters the backbone wants without weight decay, in every expert."""
        asked = [expert for expert in self._every_expert()[:1] if hasattr(expert, "no_weight_decay")]
        names = asked[0].no_weight_decay() if asked else set()
        return {f"experts.{i}.{name}" for i in range(len(self.experts)) for name in names}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass, in the trunk and in every expert."""
        for expert in self._every_expert():
            expert.set_grad_checkpointing(enable)  # refused by backbones that cannot
        self.trunk.grad_checkpointing = enable

    def get_classifier(self) -> tuple[nn.Module, ...]:
        """Return the experts' classifiers, in the order of their classes."""
        return tuple(expert.get_classifier() for expert in self._every_expert())

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Give every expert a new classifier; None keeps the pooling, 0 classes leave features only.

        Where the experts become fewer, the last are dropped; where they become more, copies are added in turn.

        Raises:
            ValueError: if there are to be classes, and pruning has left no expert.
        """
        if len(self.experts) == 0:
            if num_classes:
                raise ValueError(f"pruning has left no expert for {num_classes} classes: build the model anew")
            return
        outputs, have = self._share_out(num_classes), len(self.experts)
        experts = [self.experts[i] if i < have else copy.deepcopy(self.experts[i % have]) for i in range(len(outputs))]
        self.experts = nn.ModuleList(experts)
        self.experts.training = self.training  # not train(), which would thaw batch norms frozen on purpose
        self.num_classes = num_classes
        pool = () if global_pool is None else (global_pool,)
        for expert, logits in zip(self._every_expert(), outputs, strict=True):
            expert.reset_classifier(logits, *pool)
        self._sync_sizes()

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = "NCHW",
        intermediates_only: bool = False,
        **backbone_options: Any,
    ) -> Any:
        """Return chosen feature maps, the experts' side by side; those of shared stages stand once.

        Arguments are timm's: see :meth:`mocse_timm.models.cifar_net.CifarNet.forward_intermediates`; those that only
        some backbones have, ``return_prefix_tokens`` say, reach every expert.
        """
        taps, last_taken = feature_take_indices(len(self.feature_info), indices)
        taps = sorted(taps)  # as timm's networks give them, whatever the order asked for
        shared = self.trunk.forward_stages(x)
        if len(self.experts) == 0 or (stop_early and last_taken < self.shared_stages):
            intermediates = [shared[tap + 1] for tap in taps]
            return intermediates if intermediates_only else (shared[last_taken + 1], intermediates)
        own = [tap for tap in taps if tap >= self.shared_stages] or [len(self.feature_info) - 1]
        finals, columns = [], []
        for expert in self._every_expert():
            options = {"norm": norm, "stop_early": stop_early, "output_fmt": output_fmt}
            final, features = expert.forward_intermediates(shared[-1], indices=own, **options, **backbone_options)
            finals.append(final)
            columns.append(features)
        maps = 1 if output_fmt == "NCHW" else -1
        joined = iter(
            [_joined(features, lambda x: maps if x.ndim == 4 else -1) for features in zip(*columns, strict=True)]
        )
        intermediates = [shared[tap + 1] if tap < self.shared_stages else next(joined) for tap in taps]
        return intermediates if intermediates_only else (_joined(finals, self._feature_dim), intermediates)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what comes after the last of ``indices``; pruned into the trunk, the experts go altogether."""
        taps, last_taken = feature_take_indices(len(self.feature_info), indices)
        self.feature_info = self.feature_info[: last_taken + 1]
        if last_taken < self.shared_stages:
            self.trunk.stages = self.trunk.stages[: last_taken + 1]
            self.experts = nn.ModuleList()
            self.num_classes, self.global_pool = 0, ""
            self.num_features = self.head_hidden_size = self.feature_info[last_taken]["num_chs"]
            return taps
        for expert in self._every_expert():
            expert.prune_intermediate_layers([last_taken], prune_norm=prune_norm, prune_head=prune_head)
        self.num_classes = 0 if prune_head else self.num_classes
        self._sync_sizes()
        return taps

    def forward_features(self, x: Tensor) -> Any:
        """Map images (B, in_chans, H, W) in [0, 1] to the experts' unpooled features side by side (B, D, h, w).

        Where a backbone gives a structure of tensors, one for each of CrossViT's branches say, each is so.
        """
        x = self.trunk(x)
        if len(self.experts) == 0:
            return x
        return _joined([expert.forward_features(x) for expert in self._every_expert()], self._feature_dim)

    def forward_head(self, x: Any, pre_logits: bool = False) -> Tensor:
        """Map the features of :meth:`forward_features` to scores (B, C), or to pooled features (B, D)."""
        if len(self.experts) == 0:
            return x
        leaves, structure = tree_flatten(x)
        chunks = [leaf.chunk(len(self.experts), dim=self._feature_dim(leaf)) for leaf in leaves]
        outputs: list[Tensor] = []
        for expert, own in zip(self._every_expert(), zip(*chunks, strict=True), strict=True):
            chunk = tree_unflatten(list(own), structure)
            outputs.append(expert.forward_head(chunk, pre_logits=pre_logits))
        return self._side_by_side(outputs) if pre_logits else self._join(outputs)

    def _feature_dim(self, x: Tensor) -> int:
        return self._map_channels if x.ndim == 4 else x.ndim - 1  # tokens (B, N, D) and pooled (B, D) end in D

    def _side_by_side(self, outputs: list[Tensor]) -> Tensor:
        return torch.cat(outputs, dim=self._feature_dim(outputs[0]))

    def _outputs(self, x: Tensor) -> list[Tensor]:
        if not torch.jit.is_scripting():
            together = grouped(self.experts, x)
            if together is not None:
                return together.run(x)
            if can_run_in_parallel(self.experts, x):
                return run_in_parallel(self.experts, x)
        outputs: list[Tensor] = []
        for expert in self.experts:
            outputs.append(expert(x))
        return outputs

    def forward(self, x: Tensor) -> Tensor:
        """Map images (B, in_chans, H, W) in [0, 1] to class scores (B, C)."""
        x = self.trunk(x)
        if len(self.experts) == 0:
            return x
        return self._join(self._outputs(x))


def _joined(outputs: Sequence[Any], feature_dim: Callable[[Tensor], int]) -> Any:
    """Return structures of tensors as one of their kind, in which each tensor has the features of all side by side."""
    flat = [tree_flatten(output)[0] for output in outputs]
    same = [torch.cat(leaves, dim=feature_dim(leaves[0])) for leaves in zip(*flat, strict=True)]
    return tree_unflatten(same, tree_flatten(outputs[0])[1])
