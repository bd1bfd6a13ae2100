"""config.json: what a model is and how it was trained, as far as a card tells it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mocse_timm.checkpoints.config_json import is_ours, read_config
from mocse_timm.checks import BadInput
from mocse_timm.hub.typed_json import from_json

__all__ = ["Earlier", "Facts", "Kind", "read_facts"]

Kind = Literal["mocse", "advmoe", "ensemble", "dense"]

NOT_OPTIONS = ("num_classes", "in_chans", "global_pool")  # model_args that are said elsewhere, or by default


@dataclass(frozen=True)
class Earlier:
    """A command that a training followed before it was continued with other flags."""

    command: str
    epochs: int
    """Whole ones, of the training so far, that were done when it ended."""
    steps: int
    """Of the next epoch."""


@dataclass(frozen=True)
class _Training:
    """What train.py writes under ``mocse_timm``."""

    recipe: str
    command: str
    dataset: str
    seed: int
    epochs: int
    weights: str
    hardware: str | None = None
    versions: dict[str, str] | None = None
    earlier_commands: list[Earlier] | None = None


@dataclass(frozen=True, eq=False)
class Facts:
    """One config.json."""

    content: dict[str, Any]
    """All of it, as JSON."""
    architecture: str
    """The name that timm knows it by."""
    num_classes: int
    in_chans: int
    class_names: tuple[str, ...]
    """Empty where they are not known."""
    options: dict[str, Any]
    """Arguments of the architecture beside classes and channels."""
    license: str | None
    """Of the weights, as timm's pretrained_cfg has it; None where it is not known."""
    training: _Training

    @property
    def ours(self) -> bool:
        """Whether the architecture is this package's and not timm's."""
        return is_ours(self.architecture)

    @property
    def kind(self) -> Kind:
        """Which kind of model it is; every mixture of ours says so in its name."""
        for kind in ("mocse", "advmoe", "ensemble"):
            if self.architecture.split("_")[0] == kind:
                return kind
        return "dense"

    @property
    def grouped(self) -> bool:
        """Whether it is a MoCSE with fewer experts than classes, each for a group of them."""
        experts = self.options.get("num_experts")
        return self.kind == "mocse" and experts is not None and experts < self.num_classes


def read_facts(folder: Path) -> Facts:
    """Return the facts in the config.json of ``folder``.

    Raises:
        BadInput: if it cannot be read, or does not say how the model was trained or how many classes it tells.
    """
    content = read_config(folder)
    try:
        training = from_json(_Training, content.get("mocse_timm"), "mocse_timm")
    except ValueError as error:
        raise BadInput(
            f"{folder / 'config.json'} does not say how the model was trained ({error}); a card needs a run of train.py"
        ) from None
    given = content.get("model_args")
    arguments: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    cfg = content.get("pretrained_cfg") or {}
    names = content.get("label_names") or ()
    num_classes = content.get("num_classes") or cfg.get("num_classes")
    if not num_classes:
        raise BadInput(
            f"{folder / 'config.json'} gives num_classes as {num_classes}; a card needs a model that tells classes"
        )
    return Facts(
        content=content,
        architecture=content["architecture"],
        num_classes=num_classes,
        in_chans=arguments.get("in_chans") or (cfg.get("input_size") or (3,))[0],
        class_names=tuple(names.values() if isinstance(names, Mapping) else names),
        options={name: value for name, value in arguments.items() if name not in NOT_OPTIONS},
        license=cfg.get("license"),
        training=training,
    )
