"""Small archives of corrupted images in both layouts, with pixels that say where they belong."""

import hashlib
import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from mocse_timm.corruptions.manifest import Manifest, write_manifest

SEVERITIES = (1, 2, 3, 4, 5)


def pixels_of(name: str, severity: int, count: int, side: int = 32) -> np.ndarray:
    """(count, side, side, 3) uint8 noise, different for every name and severity."""
    seed = [severity, *map(ord, name)]
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def write_arrays(folder: Path, names: tuple[str, ...], labels: tuple[int, ...]) -> Path:
    """Write ``NAME.npy`` and ``labels.npy`` as CIFAR-10-C has them."""
    folder.mkdir(parents=True)
    for name in names:
        np.save(folder / f"{name}.npy", np.concatenate([pixels_of(name, s, len(labels)) for s in SEVERITIES]))
    np.save(folder / "labels.npy", np.tile(np.array(labels, dtype=np.uint8), 5))
    return folder


def write_class_folders(folder: Path, names: tuple[str, ...], classes: tuple[str, ...], count: int = 2) -> Path:
    """Write ``NAME/severity/class/number.JPEG`` (PNG data, so that pixels survive) as ImageNet-C has them."""
    for name in names:
        for severity in SEVERITIES:
            pixels = iter(pixels_of(name, severity, len(classes) * count, side=64))
            for class_name in classes:
                place = folder / name / str(severity) / class_name
                place.mkdir(parents=True)
                for number in range(count):
                    Image.fromarray(next(pixels)).save(place / f"{number}.JPEG", format="PNG")
    return folder


def write_generated(
    parent: Path,
    dataset: str,
    names: tuple[str, ...],
    labels: tuple[int, ...],
    *,
    seed: int = 0,
    sha256: str = "0" * 64,
) -> Path:
    """Write a folder with a manifest, as ``python -m mocse_timm.corruptions`` does."""
    folder = write_arrays(parent / f"generated-{dataset}-seed{seed}", names, labels)
    files = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    manifest = Manifest(
        dataset=dataset,
        split="validation",
        num_images=len(labels),
        image_size=(32, 32),
        source_sha256="0" * 64,
        seed=seed,
        severities=SEVERITIES,
        wanted=names,
        left_out={},
        versions={"mocse_timm": "0.1.0"},
        files=files,
    )
    write_manifest(folder, manifest)
    return folder


def packed(folder: Path, name: str) -> bytes:
    """A .tar that holds ``folder`` as ``name``."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(folder, arcname=name)
    return buffer.getvalue()
