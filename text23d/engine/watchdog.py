"""Ends a run that hangs: what waits for ever, as for a device that is gone, raises nothing by itself."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

GRACE = 30.0
"""Seconds in which a run that is interrupted may save its work."""
STATUS = 75
"""Exit status of a process that could not be interrupted: a temporary failure, in the words of sysexits.h."""


class Watchdog:
    """Interrupts the main thread, as Ctrl-C does, where `alive` is not called for `stall` seconds; and ends the process
    where even that does not wake it: the last checkpoint stays. In another thread than the main one it does nothing."""

    def __init__(self, stall: float | None) -> None:
        self.stall = stall
        self.barked = False
        self._seen = time.monotonic()
        self._done = threading.Event()

    def alive(self) -> None:
        self._seen = time.monotonic()

    @contextmanager
    def watching(self) -> Iterator[None]:
        if self.stall is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.alive()
        thread.start()
        try:
            yield
        finally:
            self._done.set()

    def _watch(self) -> None:
        assert self.stall is not None
        while not self._done.wait(max(0.0, self._seen + self.stall - time.monotonic())):
            if time.monotonic() - self._seen >= self.stall:
                break
        else:
            return
        self.barked = True
        signal.raise_signal(signal.SIGINT) if os.name == "nt" else os.kill(os.getpid(), signal.SIGINT)
        if not self._done.wait(GRACE):
            print(f"text23d: an iteration hangs for {self.stall:g} s and cannot be stopped: ended", file=sys.stderr)
            os._exit(STATUS)
