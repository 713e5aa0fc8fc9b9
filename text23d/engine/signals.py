"""Signals that would interrupt what has to be whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from text23d.interruption import SIGNALS

INTERRUPTIONS = [getattr(signal, name) for name in SIGNALS if hasattr(signal, name)]


@contextmanager
def undisturbed() -> Iterator[None]:
    """Signals that would interrupt the block come after it. Other threads than the first are never interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    handlers = {each: signal.signal(each, lambda number, frame: came.append(number)) for each in INTERRUPTIONS}
    try:
        yield
    finally:
        for each, handler in handlers.items():
            signal.signal(each, signal.SIG_DFL if handler is None else handler)
    if came:
        signal.raise_signal(came[0])


def expected() -> list[int]:
    """From now on the first signal is only noted, in the list returned; the second ends the process."""
    came: list[int] = []
    if threading.current_thread() is threading.main_thread():

        def note(number: int, frame: object) -> None:
            came.append(number)
            for each in INTERRUPTIONS:
                signal.signal(each, signal.SIG_DFL)

        for each in INTERRUPTIONS:
            signal.signal(each, note)
    return came
