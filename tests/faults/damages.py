"""What can happen to the files of a saved state after they were written."""

import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random

__all__ = ["DAMAGES", "Bomb"]


def cut(file: Path, random: Random) -> None:
    """Keep a part of the file, perhaps nothing."""
    content = file.read_bytes()
    file.write_bytes(content[: random.randrange(len(content))])


def flip(file: Path, random: Random) -> None:
    """Change one bit."""
    content = bytearray(file.read_bytes())
    content[random.randrange(len(content))] ^= 1 << random.randrange(8)
    file.write_bytes(content)


def lose(file: Path, random: Random) -> None:
    """Remove the file."""
    file.unlink()


def garble(file: Path, random: Random) -> None:
    """Replace all bytes by random ones."""
    file.write_bytes(random.randbytes(file.stat().st_size))


DAMAGES: dict[str, Callable[[Path, Random], None]] = {"cut": cut, "flip": flip, "lose": lose, "garble": garble}


class Bomb:
    """Pickles as a call that leaves a file behind: whoever unpickles it has executed a stranger's code.

    Args:
        trace: the file.
    """

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.trace), "w")

    def pickled(self) -> bytes:
        """Return the bytes to plant."""
        return pickle.dumps(self)
