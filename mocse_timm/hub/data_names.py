"""Names of data sets for people and for the Hub."""

import re
from dataclasses import dataclass

__all__ = ["DataName", "corrupted_name", "data_name"]

# how a data set of train.py begins: its name, and its repository on the Hub; longer beginnings first
KNOWN = {
    "cifar100": ("CIFAR-100", "uoft-cs/cifar100"),
    "cifar10": ("CIFAR-10", "uoft-cs/cifar10"),
    "tinyimagenet": ("Tiny-ImageNet", "zh-plus/tiny-imagenet"),
    "digits": ("handwritten digits of scikit-learn", None),
}


@dataclass(frozen=True)
class DataName:
    """What to call a data set."""

    title: str
    """For people."""
    slug: str
    """In a model-index, as the type."""
    repository: str | None
    """On the Hub, where it has one."""
    jpeg_copy: bool
    """Whether it is a copy of a known set whose images went through JPEG."""


def _begins(name: str, known: str) -> bool:
    """Return whether ``name`` begins with a known one, and not with a further number: CIFAR-10.1 is other images."""
    further = r"(?!\.?\d)" if known[-1].isdigit() else ""
    return re.match("[^a-z0-9]*".join(known) + further, name.lower()) is not None


def data_name(public_name: str) -> DataName:
    """Return the names of the data set that results.json and config.json call ``public_name``.

    Those are the names of train.py; of a folder, its last part, such as ``folder:cifar10_jpeg``.
    """
    source, name = re.fullmatch(r"(?:(folder:|torch/|hfds/))?(.*)", public_name, flags=re.DOTALL).groups()  # type: ignore[union-attr]  (any text matches)
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "images"
    plain = slug.replace("-", "")
    for beginning, (title, repository) in KNOWN.items():
        if source == "hfds/" or not _begins(name, beginning) or (source and repository is None):
            continue
        jpeg = re.search(r"jpe?g", plain) is not None
        copy = " (JPEG copy)" if jpeg else f" (folder {name})" if plain != beginning else ""
        return DataName(title + copy, slug, repository, jpeg)
    return DataName(name or public_name, slug, name if source == "hfds/" else None, False)


def corrupted_name(clean: DataName, source: str) -> DataName:
    """Return the names of the corrupted images of ``clean``.

    Args:
        clean: of the same images before.
        source: what a report calls them. What was generated never gets the name of a published archive.
    """
    if "generated" in source:
        return DataName(f"{clean.title}, corrupted: {source}", f"{clean.slug}-corrupted", None, clean.jpeg_copy)
    slug = re.sub(r"[^a-z0-9]+", "-", source.lower()).strip("-")
    return DataName(source, slug, None, False)
