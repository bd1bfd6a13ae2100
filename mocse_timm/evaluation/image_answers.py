"""Answers image by image, kept in a report so that it can be compared with others on the same images.

Whether each image was named right is one bit, packed eight to a byte (the first image in the highest bit) and written
in base64: 10,000 images take 1.7 kB.
"""

import base64
import hashlib

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["check_answers", "check_percentage", "fingerprint", "pack", "unpack"]

ROUNDING = 0.001  # points; one image of 50,000 is 0.002


def fingerprint(chosen: Tensor, labels: Tensor) -> str:
    """Return 16 hexadecimal digits that stand for which images were scored: their places and labels, (N,) each."""
    return hashlib.sha256(chosen.cpu().numpy().tobytes() + labels.cpu().numpy().tobytes()).hexdigest()[:16]


def pack(correct: NDArray[np.bool_]) -> str:
    """Return (N,) answers as text."""
    return base64.b64encode(np.packbits(correct).tobytes()).decode()


def unpack(text: str, count: int) -> NDArray[np.bool_]:
    """Return the (``count``,) answers of ``text``.

    Raises:
        ValueError: if it is no base64, or of another number of answers.
    """
    packed = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    if len(packed) != -(-count // 8):
        raise ValueError(f"{len(packed)} bytes of answers for {count} images")
    return np.unpackbits(packed, count=count).astype(bool)


def check_percentage(value: float) -> None:
    """Raise ValueError unless ``value`` is a number from 0 to 100."""
    if not 0 <= value <= 100:
        raise ValueError(f"{value} stands where a percentage belongs")


def check_answers(top1: float, correct: NDArray[np.bool_]) -> None:
    """Raise ValueError unless ``top1``, in percent, is the share of the (N,) answers that are right."""
    share = 100 * float(correct.mean())
    if abs(share - top1) > ROUNDING:
        raise ValueError(f"an accuracy of {top1:g} % stands beside answers of which {share:g} % are right")
