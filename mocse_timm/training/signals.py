"""Ctrl-C and SIGTERM: at once while there is nothing to lose, after a save once there is."""

import os
import signal
import threading
import time
from types import FrameType

from mocse_timm.checks import Stopped

__all__ = ["StopSignals"]

STOPPING = (signal.SIGINT, signal.SIGTERM)
STOPPING_MESSAGE = b"\nstopping: the state is saved after this step; a second signal stops at once\n"
SAME = 1.0  # seconds in which a second signal is the first, which the terminal and the launcher each handed on


class StopSignals:
    """A ``with`` block in which a signal raises :class:`mocse_timm.checks.Stopped`, or is kept in ``received``.

    It is kept once :meth:`defer` was called; another one, a second later or more, then acts as if this block were not
    there, and ends the process if it would be ignored. Outside of the main thread, where Python hands out no signals,
    the block changes nothing.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._received_at = 0.0
        self._deferring = False
        self._before: dict[signal.Signals, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._handle) for number in STOPPING}
        return self

    def __exit__(self, *exception: object) -> None:
        self._restore()

    def defer(self) -> None:
        """From now on keep a signal instead of raising it."""
        self._deferring = True

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)  # pyright: ignore[reportArgumentType]
        self._before = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self._deferring:
            self._restore()
            raise Stopped("stopped before there was anything to save", signal.Signals(number))
        if self.received is not None:
            if time.monotonic() - self._received_at >= SAME:
                self._restore()
                if signal.getsignal(number) is signal.SIG_IGN:  # a shell starts what runs in the background like that
                    signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            return
        self.received, self._received_at = signal.Signals(number), time.monotonic()
        os.write(2, STOPPING_MESSAGE)  # print may be in the middle of something
