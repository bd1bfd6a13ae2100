"""Image files that cannot be used, each in its own way, written for a test."""

import struct
import zlib
from pathlib import Path

from PIL import Image


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_of(width: int, height: int, content: bytes = b"") -> bytes:
    """A PNG whose header says ``width`` x ``height`` RGB, whatever its ``content`` may be."""
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(content)) + _chunk(b"IEND", b"")


def write_truncated(path: Path, part: float = 0.5) -> None:
    """Cut the file at ``path`` off."""
    whole = path.read_bytes()
    path.write_bytes(whole[: int(part * len(whole))])


def write_bomb(path: Path, times: float) -> None:
    """A tiny file of ``times`` Pillow's limit of pixels."""
    assert Image.MAX_IMAGE_PIXELS is not None
    path.write_bytes(png_of(10_000, int(times * Image.MAX_IMAGE_PIXELS / 10_000)))
