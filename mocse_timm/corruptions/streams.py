"""A stream of random numbers for every image, whatever batch, order or process it is corrupted in."""

import hashlib

import numpy as np

__all__ = ["ImageStreams"]


class ImageStreams:
    """The streams of one corruption at one severity.

    Philox turns a key and a counter into random bits. The key is made of seed, corruption and severity; the highest of
    the counter's four words is the image's index, so streams are 2**192 steps apart and cannot meet. Moving to an
    image costs a microsecond, where a generator seeded afresh costs ten.

    The bits are those of Philox everywhere. How numpy makes normal and uniform numbers of them is numpy's to change
    between versions, though it rarely does.
    """

    def __init__(self, seed: int, name: str, severity: int):
        digest = hashlib.blake2b(repr((int(seed), name, int(severity))).encode(), digest_size=16).digest()
        self._bits = np.random.Philox(key=int.from_bytes(digest, "little"))
        self._state = self._bits.state
        self._rng = np.random.Generator(self._bits)

    def __getitem__(self, index: int) -> np.random.Generator:
        """Return the generator of the image at ``index``, at its start; it is good until the next call."""
        self._state["state"]["counter"][3] = index
        self._bits.state = self._state
        return self._rng
