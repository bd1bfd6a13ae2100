"""The first bytes of a safetensors file: which tensors it says it holds, and whether that can be true.

The library checks a file, too, but names no tensor and takes one name twice. Format: 8 bytes with the length of the
header, the header as JSON, the tensors' bytes side by side (https://huggingface.co/docs/safetensors).
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mocse_timm.checkpoints.strict_json import parse_json
from mocse_timm.checks import BadInput

__all__ = ["Stored", "read_header"]

LONGEST = 24 * 2**20  # bytes; 1,000 experts of 200 tensors each take 20 MB
MOST_DIMENSIONS = 8
DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
}


@dataclass(frozen=True)
class Stored:
    """A tensor in a file, by what the header says of it."""

    dtype: torch.dtype
    shape: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.shape} {str(self.dtype).removeprefix('torch.')}"

    @property
    def elements(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _read_text(file: Path) -> tuple[bytes, int]:
    """Return the header, and how many bytes follow it."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(LONGEST, size - 8):
            raise ValueError(f"its header would be {length} bytes long, the file has {size}")
        return stream.read(length), size - 8 - length


def _read_entry(name: str, entry: Any) -> tuple[Stored, int, int]:
    """Return a tensor with where its bytes begin and end."""
    if not name.isprintable() or len(name) > 500:
        raise ValueError(f"no tensor has a name like {name!r:.60}")
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"tensor {name} needs a dtype, a shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise ValueError(f"tensor {name} has the dtype {dtype!r:.60}; {', '.join(DTYPES)} can be read")
    if not isinstance(shape, list) or len(shape) > MOST_DIMENSIONS or not all(map(_whole, shape)):
        raise ValueError(f"tensor {name} has the shape {shape!r:.60}")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(map(_whole, offsets)):
        raise ValueError(f"tensor {name} has the data_offsets {offsets!r:.60}")
    stored, (begin, end) = Stored(DTYPES[dtype], tuple(shape)), offsets
    needed = stored.elements * stored.dtype.itemsize
    if end - begin != needed:
        raise ValueError(f"tensor {name} {stored} needs {needed} bytes, its data_offsets give {end - begin}")
    return stored, begin, end


def _read(file: Path) -> dict[str, Stored]:
    text, following = _read_text(file)
    try:
        entries = parse_json(text)
    except ValueError as error:
        raise ValueError(f"of its header: {error}") from None
    if not isinstance(entries, dict):
        raise ValueError("its header is no group of tensors")
    entries.pop("__metadata__", None)
    places = {name: _read_entry(name, entry) for name, entry in entries.items()}
    expected = 0
    for name, (_, begin, end) in sorted(places.items(), key=lambda item: item[1][1:]):
        if begin != expected:
            raise ValueError(f"tensor {name} begins at byte {begin}, where {expected} is the next free one")
        expected = end
    if expected != following:
        raise ValueError(f"its tensors take {expected} bytes, {following} are there")
    return {name: stored for name, (stored, _, _) in places.items()}


def read_header(file: Path) -> dict[str, Stored]:
    """Return the tensors of the safetensors ``file`` by name; their bytes lie side by side and fill the file.

    Raises:
        BadInput: if it is no safetensors file, or its header lies; the message names the tensor.
    """
    try:
        return _read(file)
    except (OSError, ValueError) as error:
        raise BadInput(f"checkpoint {file} is not a safetensors file ({error}); save the weights again") from None
