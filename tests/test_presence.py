"""What a rank leaves behind when it stops counting."""

from __future__ import annotations

import threading
import time

import pytest

from text23d.engine import presence
from text23d.engine.presence import Presence

BEAT = 0.2


class SlowStore:
    """A store whose answers take `seconds`; or that does not answer before `end` is set."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.asked, self.end = seconds, threading.Event(), threading.Event()

    def clone(self) -> SlowStore:
        return self

    def set(self, key: str, value: str) -> None:
        pass

    def wait(self, keys: list[str], timeout: object) -> None:
        pass

    def multi_get(self, keys: list[str]) -> list[bytes]:
        self.asked.set()
        self.end.wait(self.seconds)
        return [b"0" for _ in keys]


def counting(store: SlowStore, monkeypatch: pytest.MonkeyPatch) -> Presence:
    """One that is in the middle of a look."""
    monkeypatch.setattr(presence, "BEAT", BEAT)
    found = Presence(store, 0, 2, 1.0)
    assert store.asked.wait(10.0)
    return found


def alive() -> bool:
    return any(thread.name == "presence" for thread in threading.enumerate())


def test_close_waits_for_a_look_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that returns from the store's C++ while Python ends aborts the process: "terminate called without an
    active exception"."""
    here = counting(SlowStore(BEAT), monkeypatch)
    assert alive()
    here.close()
    assert not alive()


def test_close_does_not_wait_for_a_store_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    store = SlowStore(60.0)
    here, start = counting(store, monkeypatch), time.monotonic()
    here.close()
    assert alive() and time.monotonic() - start < 10.0
    store.end.set()
