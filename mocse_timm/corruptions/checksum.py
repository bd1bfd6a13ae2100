"""Checksums of files larger than memory."""

import hashlib
from pathlib import Path

from tqdm import tqdm

__all__ = ["file_digest"]

CHUNK = 2**20


def file_digest(path: Path, algorithm: str, bar: "tqdm | None" = None) -> str:
    """Return the file's checksum in hexadecimal.

    Args:
        path: of the file.
        algorithm: a name that hashlib knows, ``md5`` or ``sha256``.
        bar: counts the bytes.
    """
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(CHUNK):
            digest.update(block)
            if bar is not None:
                bar.update(len(block))
    return digest.hexdigest()
