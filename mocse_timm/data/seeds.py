"""Random generators that depend on named things only: the seed, the epoch, the process."""

import hashlib
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

__all__ = ["drawing_from", "make_generator", "mixed_seed"]


def mixed_seed(*parts: int | str) -> int:
    """Return a number in [0, 2**63) that differs, for all practical purposes, whenever a part differs.

    Adding the parts up would not do: seed 1 in epoch 0 would repeat seed 0 in epoch 1.
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def make_generator(*parts: int | str) -> torch.Generator:
    """Return a CPU generator seeded by ``parts``."""
    return torch.Generator().manual_seed(mixed_seed(*parts))


@contextmanager
def drawing_from(*parts: int | str) -> Iterator[None]:
    """Inside the block all global draws (torch on CPU, numpy, Python) depend on ``parts``; afterwards they go on.

    For transforms of torchvision and timm, which take no generator.
    """
    seed = mixed_seed(*parts)
    python_state, numpy_state = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(python_state)
        np.random.set_state(numpy_state)
