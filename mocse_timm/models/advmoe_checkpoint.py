"""Reading weights in the layout of the AdvMoE authors' code, the only one published beside ours.

They keep the router once at the top and again inside every expert layer, stack experts on the output axis as we do,
and train on images in [0, 1] without normalisation.
"""

import re
from typing import Any

from torch import Tensor, nn

from mocse_timm.models.backbone_weights import fit_image_size

__all__ = ["checkpoint_filter_fn"]

RENAMED = (
    (r"^conv1\.", "body.stem.conv."),
    (r"^bn1\.", "body.stem.bn."),
    (r"^linear\.", "body.head.fc."),
    (r"^layer(\d+)\.(\d+)\.shortcut\.", lambda found: f"body.stages.{int(found[1]) - 1}.{found[2]}.downsample."),
    (r"^layer(\d+)\.", lambda found: f"body.stages.{int(found[1]) - 1}."),
)


def checkpoint_filter_fn(state_dict: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return weights named as this package's ResNet-18 names them; others are fitted to the image size alone.

    A model that gets the authors' weights stops normalising its images, as they were trained.
    """
    stripped = {key.removeprefix("module."): value for key, value in state_dict.items()}
    if not {"conv1.weight", "linear.weight", "router.conv1.weight"} <= stripped.keys():
        return fit_image_size(state_dict, model, "body")
    renamed: dict[str, Tensor] = {}
    for key, value in stripped.items():
        if ".router." in key:  # a copy; the router itself stands at the top
            continue
        for pattern, name in () if key.startswith("router.") else RENAMED:
            new, matches = re.subn(pattern, name, key)
            if matches:
                key = new
                break
        renamed[key] = value
    owner: Any = model
    owner.drop_normalization()
    return renamed
