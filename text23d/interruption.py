"""Signals that end a process and let it keep what it has. Imports nothing heavy: it is there before all else."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from text23d.company import following

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")
ended_by: list[int] = []
"""The signal that `interrupt` answered, if one came."""


def watch(handler: Any, names: Sequence[str] = SIGNALS) -> None:
    """Let `handler` answer the signals of these names, but not those that the process was started to ignore, as by
    nohup."""
    for name in names:
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def leave(number: int, frame: object) -> None:
    """End at once. Before a verb begins there is nothing to keep, and an exception inside an import would be lost."""
    with suppress(OSError):
        os.write(2, b"" if following() else b"text23d: interrupted\n")
    os._exit(128 + number)


def interrupt(number: int, frame: object) -> None:
    """Let a verb keep what it has. A second Ctrl-C ends the process as if nobody watched; a second SIGTERM or SIGHUP
    does not: schedulers, and terminals that close, send them more than once, and who is in a hurry has SIGKILL."""
    watch(signal.SIG_DFL, ("SIGINT",))
    watch(signal.SIG_IGN, ("SIGTERM", "SIGHUP"))
    ended_by.append(number)
    raise KeyboardInterrupt


def check() -> None:
    """Raises KeyboardInterrupt once a signal has come: what `interrupt` raised is lost where a destructor, or a
    function that C calls, met it."""
    if ended_by:
        raise KeyboardInterrupt
