"""Whether a model tells the classes of a data set, in their order."""

from torch import nn

from mocse_timm.checks import BadInput
from mocse_timm.data.splits import DataSplits

__all__ = ["check_classes"]


def check_classes(model: nn.Module, data: DataSplits) -> None:
    """Raise BadInput if ``model`` has another number of classes than ``data``, or is known to number them otherwise."""
    num_classes = int(getattr(model, "num_classes", 0))
    if data.num_classes != num_classes:
        raise BadInput(
            f"data set {data.name!r} has {data.num_classes} classes, the model {num_classes}; "
            "choose the data set the model was trained on"
        )
    saved = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    names = list(saved.values() if isinstance(saved, dict) else saved or ())
    if sorted(names) == sorted(data.class_names) and names != list(data.class_names):
        raise BadInput(
            f"data set {data.name!r} has the model's classes in another order ({data.class_names[0]!r} first, the "
            f"model has {names[0]!r}); number its classes as in training"
        )
