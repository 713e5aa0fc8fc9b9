"""Ends a run that hangs: what waits for ever, as for a device that is gone, raises nothing by itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

GRACE = 30.0
"""Seconds in which a run that is interrupted may save its work."""
TICK = 1.0
STATUS = 75
"""Exit status of a process that could not be interrupted: a temporary failure, in the words of sysexits.h."""
SIGNAL = getattr(signal, "SIGALRM", signal.SIGINT)
"""Windows has no other that wakes a thread. SIGINT may be ignored, as in the background of a shell script."""


class Watchdog:
    """Interrupts the main thread where `alive` is not called for `stall` seconds; and ends the process where even that
    does not wake it: the last checkpoint stays. In another thread than the main one it does nothing."""

    def __init__(self, stall: float | None) -> None:
        self.stall = stall
        self.barked = False
        self._quiet = 0.0
        self._done = threading.Event()

    def alive(self) -> None:
        self._quiet, self.barked = 0.0, False

    @contextmanager
    def watching(self) -> Iterator[None]:
        if self.stall is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(SIGNAL, wake)
        self.alive()
        threading.Thread(target=self._watch, args=(self.stall,), name="watchdog", daemon=True).start()
        try:
            yield
        finally:
            self._done.set()
            signal.signal(SIGNAL, before)

    def _watch(self, stall: float) -> None:
        """Adds up its own ticks: of the time that the whole process is stopped, as by Ctrl-Z, it knows nothing."""
        tick = min(TICK, stall / 4)
        while not self._done.wait(tick):
            self._quiet += tick
            if self._quiet >= stall + GRACE:
                print(f"text23d: an iteration hangs for {stall:g} s and cannot be stopped: ended", file=sys.stderr)
                os._exit(STATUS)
            if self._quiet >= stall and not self.barked:
                self.barked = True
                if os.name == "nt":
                    signal.raise_signal(SIGNAL)
                else:
                    signal.pthread_kill(threading.main_thread().ident or 0, SIGNAL)


def wake(number: int, frame: object) -> NoReturn:
    raise KeyboardInterrupt
