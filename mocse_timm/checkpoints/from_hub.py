"""A published model of this package: ``mocse_timm.from_hub("user/name")``."""

from typing import Any

from torch import nn

from mocse_timm.checkpoints.hub_folder import hub_folder
from mocse_timm.checkpoints.open_folder import open_folder

__all__ = ["from_hub"]


def from_hub(repo_id: str, *, revision: str | None = None, **options: Any) -> nn.Module:
    """Return a model published on the Hub, with its weights, in train mode as timm leaves it, on the CPU.

    ``timm.create_model("hf-hub:user/name", pretrained=True)`` gives the same model and believes the repository; this
    function opens safetensors only, builds nothing larger than they are, and refuses weights that are not numbers.

    Args:
        repo_id: 'user/name', or 'user/name@revision'. Without a network, what is in huggingface_hub's cache is used.
        revision: branch, tag or commit; by default the repository's main branch.
        options: of ``timm.create_model``, to adapt the model as timm does: ``num_classes`` gives it a new classifier
            (MoCSE: other experts, too), ``in_chans`` another first layer, ``features_only=True`` its feature maps.

    Raises:
        BadInput: if the repository cannot be had, holds no model of this package, or is not to be trusted.
    """
    return open_folder(hub_folder(repo_id, revision=revision, only_ours=True), **options)
