"""Ending trainings by SIGKILL at random moments."""

import signal
import time
from collections import Counter
from pathlib import Path
from random import Random

from run_results import states, unfinished
from trainings import Training, Trainings, wait_until

__all__ = ["Killer"]

SAVE = 0.03  # seconds of a small save, longer than most


class Killer:
    """Starts trainings and kills them, at another moment each time.

    Three kinds of moments: just before some change of a file, wherever in the training that is; a while after a save
    began; any time. What was drawn is printed, for a failed test to show. ``count`` is how many there were, ``kinds``
    of which kind.

    Args:
        trainings: starts them.
        random: draws the moments.
        whole: a training of the same flags that ran to its end.
        seconds: how long it took.
    """

    def __init__(self, trainings: Trainings, random: Random, whole: Training, seconds: float) -> None:
        self.trainings = trainings
        self.random = random
        self.changes = trainings.changes(whole)
        self.seconds = seconds
        self.count = 0
        self.kinds: Counter[str] = Counter()

    def kill(self, flags: list[str], run: Path, *, by_hand: bool = False) -> bool:
        """Start a training into ``run`` and return True if it was killed before its end.

        Args:
            flags: of the training.
            run: its folder.
            by_hand: start ``python train.py``, and not a fork.
        """
        how = self.random.choice(["save", "time"] if by_hand else ["change", "save", "time", "change", "save"])
        if how == "change":
            number = self.random.randint(1, self.changes)
            print(f"kill before change {number} of {self.changes}")
            training = self.trainings.start(*flags, kill_at_change=number)
        else:
            delay, further = self.random.uniform(0, self.seconds), self.random.uniform(0, SAVE)
            print(f"kill {delay:.3f} s after the start" + f" and {further:.4f} s into a save" * (how == "save"))
            if by_hand:
                training = self.trainings.start_command("python", "train.py", *flags)
                wait_until(lambda: run.exists() or training.ended(), "the run's folder")
            else:
                training = self.trainings.start(*flags)
            time.sleep(delay)
            if how == "save":
                wait_until(lambda: unfinished(run) or training.ended(), "a save", pause=0.0002)
                time.sleep(further)
            if not training.ended():
                training.send(signal.SIGKILL)
        if training.wait() == 0:
            return False
        assert training.code == -signal.SIGKILL, training.said
        self.count += 1
        self.kinds[how] += 1
        self.kinds["of train.py"] += by_hand
        self.kinds["inside a save"] += bool(unfinished(run)) or len(states(run)) > 2
        return True
