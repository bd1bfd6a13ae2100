"""What a picture shows, and how sure each expert is: ``python -m mocse_timm.hub predict``."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm.data
import torch
from torch import Tensor, nn

from mocse_timm.checkpoints.by_name import folder_or_repository, load_model
from mocse_timm.checks import BadInput, one_line
from mocse_timm.data.augmentation import Augmentation
from mocse_timm.data.grayscale import pillow_mode
from mocse_timm.data.image_files import open_image
from mocse_timm.data.per_image_transforms import file_transform
from mocse_timm.data.resizing import Resizing
from mocse_timm.evaluation.report import align
from mocse_timm.models.aggregation import aggregate
from mocse_timm.models.mocse import MoCSE
from mocse_timm.models.normalized import image_channels, normalized

__all__ = ["Prediction", "check_picture", "check_top", "load_by_name", "predict_picture", "render_prediction"]

BAR = 30  # characters of a bar for confidence 1
SHOWN = 20  # experts shown at most; of more, the surest


@dataclass(frozen=True)
class Prediction:
    """A model's answer to one picture."""

    class_names: list[str]
    probabilities: list[float]
    """Of each class, from the class scores' softmax; they sum to 1."""
    confidences: list[float] | None
    """MoCSE: of each class's own expert, that the picture is of that class; each in [0, 1], with no fixed sum."""
    route: list[float] | None
    """AdvMoE: the router's probability for each expert; the largest is taken."""


def check_picture(picture: str | Path) -> Path:
    """Return the file ``picture``, or raise BadInput if it does not exist."""
    path = Path(picture)
    if not path.is_file():
        raise BadInput(f"picture {path} does not exist; give the path of an image file")
    return path


def check_top(top: int) -> None:
    """Raise BadInput if ``top``, the number of classes to show, is below 1."""
    if top < 1:
        raise BadInput(f"--top is {top}: give at least 1")


def load_by_name(name: str) -> nn.Module:
    """Return the model in a folder, or else in the Hub's repository ``user/name``, in eval mode.

    Raises:
        BadInput: if there is none, or it cannot be loaded safely.
    """
    found = folder_or_repository(name)
    return load_model(f"local-dir:{found}" if isinstance(found, Path) else f"hf-hub:{found}").eval()


def _class_names(model: nn.Module) -> list[str]:
    saved = (getattr(model, "pretrained_cfg", None) or {}).get("label_names")
    names = [str(name) for name in (saved.values() if isinstance(saved, dict) else saved or ())]
    count = int(getattr(model, "num_classes", 0))
    if count < 1:
        raise BadInput("the model has no classes, only features; give one that was trained to classify")
    return names if len(names) == count else [f"class {index}" for index in range(count)]


def _read(picture: str | Path, model: nn.Module) -> Tensor:
    """Return the picture as (1, channels, side, side), float in [0, 1], resized and cropped as in validation."""
    path = check_picture(picture)
    try:
        image = open_image(path, pillow_mode(image_channels(model)), upright=True)
    except OSError as error:
        raise BadInput(f"picture {path} cannot be read ({error}); give a JPEG or PNG file") from None
    facts = timm.data.resolve_data_config(model=model)
    transform = file_transform(
        facts["input_size"][-1],
        Augmentation(),
        training=False,
        resizing=Resizing.of_cfg(facts),
    )
    return transform(image).unsqueeze(0).float() / 255


@torch.inference_mode()
def predict_picture(model: nn.Module, picture: str | Path) -> Prediction:
    """Return what ``model``, in eval mode, says of the image file ``picture``.

    Raises:
        BadInput: if the file is not an image that can be read, or the model has no classes.
    """
    names = _class_names(model)
    image = _read(picture, model)
    confidences = route = None
    if isinstance(model, MoCSE):
        logits = model.forward_experts(image)
        scores = model.aggregate(logits)
        confidences = aggregate(logits, model.group_sizes, "confidence")[0].tolist()
    else:
        scores = normalized(model).eval()(image)
        if hasattr(model, "route"):
            router: Any = model.route
            route = router(image).float().softmax(dim=1)[0].tolist()
    return Prediction(names, scores.float().softmax(dim=1)[0].tolist(), confidences, route)


def _bar(share: float) -> str:
    block = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    return block * math.floor(share * BAR + 0.5)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def render_prediction(prediction: Prediction, top: int) -> str:
    """Return the likeliest ``top`` classes, and each expert's confidence as a bar, as plain text.

    Raises:
        BadInput: if ``top`` is below 1.
    """
    check_top(top)
    names, chances = [one_line(name) for name in prediction.class_names], prediction.probabilities
    order = sorted(range(len(names)), key=lambda index: -chances[index])
    lines = align([["class", "probability"], *([names[index], _percent(chances[index])] for index in order[:top])])
    if prediction.confidences is not None:
        sure = prediction.confidences
        surest = sorted(range(len(names)), key=lambda index: -sure[index])[:SHOWN]
        which = "each expert is" if len(surest) == len(names) else f"the {SHOWN} surest of {len(names)} are"
        table = align([[names[index], _percent(sure[index])] for index in sorted(surest)])
        bars = [_bar(sure[index]) for index in sorted(surest)]
        lines += ["", f'how sure {which} of "mine"']
        lines += [f"{line}  {bar}".rstrip() for line, bar in zip(table, bars, strict=True)]
    if prediction.route is not None:
        chosen = max(range(len(prediction.route)), key=prediction.route.__getitem__)
        chance = _percent(prediction.route[chosen])
        lines += ["", f"path: expert {chosen} of {len(prediction.route)} (the router gives it {chance})"]
    return "\n".join(lines)
