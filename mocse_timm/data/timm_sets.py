"""Data sets that timm opens: torchvision's by name and those of the Hugging Face Hub."""

from pathlib import Path
from typing import Any

import torch
from timm.data.dataset_factory import create_dataset

from mocse_timm.checks import BadInput
from mocse_timm.data.splits import DataSplits, FileImages

__all__ = ["STREAM_PREFIXES", "TIMM_PREFIXES", "load_timm_dataset"]

TIMM_PREFIXES = ("torch", "hfds")
STREAM_PREFIXES = ("hfids", "tfds", "wds")


def _class_names(dataset: Any) -> tuple[str, ...]:
    """Torchvision's sets have ``classes``, timm's readers ``class_to_idx``."""
    if hasattr(dataset, "classes"):
        names = [name if isinstance(name, str) else name[0] for name in dataset.classes]  # ImageNet: synonyms
        # two of ImageNet's cranes and maillots begin alike
        return tuple(f"{name} {index}" if names.count(name) > 1 else name for index, name in enumerate(names))
    index = getattr(getattr(dataset, "reader", None), "class_to_idx", None) or {}
    return tuple(sorted(index, key=index.__getitem__))


def load_timm_dataset(
    name: str,
    *,
    data_dir: Path,
    download: bool = False,
    train_split: str = "train",
    val_split: str = "validation",
) -> DataSplits:
    """Open ``torch/...`` or ``hfds/...`` with ``timm.data.create_dataset``, one object per part.

    timm's own data sets skip an image that cannot be decoded, with a warning in the log.

    Raises:
        BadInput: if timm cannot open it, it does not name its classes, its parts have different ones, or it can only be
            read as a stream.
    """
    prefix = name.partition("/")[0].lower()
    if prefix in STREAM_PREFIXES:
        raise BadInput(
            f"data set {name!r} is read as a stream, which cannot be shuffled and resumed exactly: "
            "use hfds/..., or unpack it and give folder:PATH"
        )
    parts: list[FileImages] = []
    class_names: tuple[str, ...] = ()
    for split in (train_split, val_split):
        try:
            dataset = create_dataset(name, root=str(data_dir), split=split, download=download)
        except (AssertionError, ImportError, OSError, RuntimeError, TypeError, ValueError) as error:
            if isinstance(error, ModuleNotFoundError) and error.name == "datasets":
                raise BadInput(f"data set {name!r} needs a package that is not here: pip install datasets") from None
            reason = " ".join(str(error).split()) or type(error).__name__
            raise BadInput(
                f"data set {name!r}, split {split!r}, cannot be opened by timm from {data_dir}: {reason} "
                "(check the name, --data-dir and --dataset-download)"
            ) from None
        targets = getattr(dataset, "targets", None)
        parts.append(FileImages(dataset, None if targets is None else torch.as_tensor(targets)))
        found = _class_names(dataset)
        if class_names and found and found != class_names:  # each part numbers its own
            mine = [name for name in (*class_names, *found) if (name in class_names) != (name in found)] or found
            raise BadInput(
                f"data set {name!r} has other classes in {split!r} ({len(found)}) than in {train_split!r} "
                f"({len(class_names)}), among them {mine[0]!r}: give both the same, or choose other parts"
            )
        class_names = class_names or found
    if not class_names:
        raise BadInput(f"data set {name!r} does not name its classes: unpack it into folders and give folder:PATH")
    return DataSplits(name, parts[0], parts[1], class_names)
