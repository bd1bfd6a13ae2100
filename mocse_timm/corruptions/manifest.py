"""``MANIFEST.json``: what a folder of generated corruptions holds, what it was made from, and whether it is whole."""

import json
import os
from dataclasses import asdict, dataclass, field, fields, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from mocse_timm.checks import BadInput
from mocse_timm.corruptions.extra import import_cv2, import_extra
from mocse_timm.corruptions.names import CORRUPTIONS, SEVERITIES
from mocse_timm.corruptions.npy_layout import LABELS, npy_file

__all__ = ["MANIFEST", "Manifest", "current_versions", "read_manifest", "write_manifest"]

MANIFEST = "MANIFEST.json"
LATER = ("crop_pct", "crop_mode", "files_sha256", "frost_sha256")  # which older versions did not write


def current_versions() -> dict[str, str]:
    """Return the versions of everything that the generated numbers depend on."""
    versions = {name: metadata.version(name) for name in ("mocse_timm", "numpy", "pillow")}
    # modules are asked, for OpenCV's wheel has several names
    return versions | {"scipy": import_extra("scipy").__version__, "opencv": import_cv2().__version__}


@dataclass(frozen=True)
class Manifest:
    """What is in the folder.

    Args:
        dataset: public name of the clean set.
        split: which part of it.
        num_images: N, of the clean set.
        image_size: (height, width) in pixels.
        source_sha256: of the clean pixels and labels.
        seed: of all draws.
        severities: in the order in which every file holds them, N rows each.
        wanted: the corruptions that the whole folder will hold.
        left_out: reason by corruption that cannot be made here.
        versions: version by package.
        files: sha256 by name of every finished file.
        crop_pct: the part of the clean images' side that was kept; None, as what follows, in folders of older versions.
        crop_mode: how they became squares, ``center`` or ``squash``.
        files_sha256: of the names and sizes of the clean images' files; None where there are none, too.
        frost_sha256: of the photographs for frost; None where there are none, too.
    """

    dataset: str
    split: str
    num_images: int
    image_size: tuple[int, int]
    source_sha256: str
    seed: int
    severities: tuple[int, ...]
    wanted: tuple[str, ...]
    left_out: dict[str, str]
    versions: dict[str, str]
    files: dict[str, str] = field(default_factory=dict)
    crop_pct: float | None = None
    crop_mode: str | None = None
    files_sha256: str | None = None
    frost_sha256: str | None = None

    @property
    def title(self) -> str:
        """What reports call this data: never the name of an official archive."""
        return f"generated (mocse_timm {self.versions['mocse_timm']}, seed {self.seed})"

    @property
    def unfinished(self) -> tuple[str, ...]:
        """The corruptions that are still to be made."""
        return tuple(name for name in self.wanted if npy_file(name) not in self.files)

    @property
    def complete(self) -> bool:
        """Whether every file is there."""
        return not self.unfinished and LABELS in self.files

    def with_file(self, name: str, sha256: str) -> "Manifest":
        """Return a manifest that knows one more finished file."""
        files = self.files | {name: sha256}
        order = (LABELS, *map(npy_file, CORRUPTIONS))  # the same bytes whatever was made first
        return replace(self, files={file: files[file] for file in order if file in files})

    def continuing(self, files: dict[str, str]) -> "Manifest":
        """Return a manifest for the same folder that keeps finished ``files`` beside what is wanted now."""
        wanted = tuple(name for name in CORRUPTIONS if name in self.wanted or npy_file(name) in files)
        left_out = {name: reason for name, reason in self.left_out.items() if name not in wanted}
        return replace(self, wanted=wanted, left_out=left_out, files=files)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write ``MANIFEST.json`` beside and rename it, so that at any moment there is a whole one or none."""
    content = {"title": manifest.title, "complete": manifest.complete} | asdict(manifest)
    beside = folder / f"{MANIFEST}.part"
    with beside.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=2) + "\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(folder / MANIFEST)


def _checked(content: Any) -> Manifest:
    """Build a manifest from JSON; KeyError, TypeError or ValueError for anything else."""
    values = dict.fromkeys(LATER) | content
    values = {entry.name: values[entry.name] for entry in fields(Manifest)}
    for name in ("image_size", "severities", "wanted"):
        values[name] = tuple(values[name])
    manifest = Manifest(**values)
    height, width = manifest.image_size
    numbers = (height, width, manifest.num_images, manifest.seed, *manifest.severities)
    if not all(isinstance(number, int) for number in numbers) or manifest.num_images < 1:
        raise ValueError("a number is missing")
    if not isinstance(manifest.crop_pct, int | float | None):
        raise ValueError(f"crop_pct {manifest.crop_pct}")
    for name in LATER[1:]:
        if not isinstance(getattr(manifest, name), str | None):
            raise ValueError(f"{name} {getattr(manifest, name)}")
    if not manifest.severities or not set(manifest.severities) <= set(SEVERITIES):
        raise ValueError(f"severities {manifest.severities}")
    if not manifest.wanted or not set(manifest.wanted) <= set(CORRUPTIONS):
        raise ValueError(f"corruptions {manifest.wanted}")
    if not all(isinstance(value, dict) for value in (manifest.files, manifest.versions, manifest.left_out)):
        raise ValueError("a table is missing")
    manifest.versions["mocse_timm"]  # noqa: B018 (the title needs it)
    return manifest


def read_manifest(folder: Path) -> Manifest | None:
    """Return what the folder's ``MANIFEST.json`` says, or None where there is none.

    Raises:
        BadInput: if it cannot be read or is not one of ours.
    """
    file = folder / MANIFEST
    if not file.is_file():
        return None
    try:
        return _checked(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise BadInput(f"{file} cannot be used ({reason}): remove the folder and generate it again") from None
