"""Which ranks are alive: each counts in their store every few seconds, and watches how the others count."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any

from text23d.errors import RankLost

BEAT = 2.5
"""Seconds from one look to the next."""
SILENCE = 25.0
"""Seconds after which a rank that was not heard of is lost."""
TOLD, FREE = "told", "free"


class Presence:
    """A thread that counts while the process lives, whatever that computes. A rank that is slow is heard of; one that
    was stopped, or whose machine is gone, is not.

    Silence is counted in looks of our own, not by a clock: all may be suspended, and go on.
    """

    def __init__(self, store: Any, rank: int, size: int, meeting: float) -> None:
        """Meets the others. store: torch's, of all ranks. Raises RuntimeError where they are not there after `meeting`
        seconds."""
        self.store, self.rank, self.size = store, rank, size
        self.others = [each for each in range(size) if each != rank]
        self.silent = dict.fromkeys(self.others, 0)
        self.looks, self.gone, self._over = 0, False, threading.Event()
        self._seen, self._waited = 0, 0
        store.set(_key(rank), "0")
        store.wait([_key(each) for each in self.others], timedelta(seconds=meeting))
        self._thread = threading.Thread(target=self._beat, args=[store.clone()], name="presence", daemon=True)
        self._thread.start()

    def lost(self) -> int | None:
        """A rank that was not heard of for SILENCE, or None. To be asked every second, while one waits."""
        self._seen, self._waited = self.looks, self._waited + 1 if self._seen == self.looks else 0
        if not self.store_answers:
            return 0  # which holds the store, unless torchrun does: and then that is gone
        return next((rank for rank, looks in self.silent.items() if looks * BEAT >= SILENCE), None)

    @property
    def store_answers(self) -> bool:
        return not self.gone and self._waited < SILENCE

    def require_all(self) -> None:
        """Raises RankLost where a rank is lost."""
        lost = self.lost()
        if lost is not None:
            raise RankLost(
                f"rank {lost} of {self.size} was not heard of for {SILENCE:.0f} s, and so rank {self.rank} ends: start "
                "all of them again"
            )

    def tell(self) -> bool:
        """Whether this is the first rank to tell why all end."""
        try:
            return not self.store_answers or self.store.add(TOLD, 1) == 1
        except RuntimeError:
            return True

    def told(self) -> bool:
        """Whether a rank has told why all end."""
        try:
            return self.store_answers and self.store.check([TOLD])
        except RuntimeError:
            return False

    def release(self) -> None:
        """Let the others close their connections."""
        with suppress(RuntimeError):
            self.store.set(FREE, "1")

    def wait_for_release(self) -> None:
        """Until rank 0 has released the others, or is lost."""
        with suppress(RuntimeError):
            while self.lost() != 0 and not self.store.check([FREE]):
                time.sleep(1.0)

    def close(self) -> None:
        """Stop counting. The thread is waited for, unless the store does not answer it: one that comes back from the
        store while Python ends would abort the process."""
        self._over.set()
        self._thread.join(2 * BEAT)

    def _beat(self, store: Any) -> None:
        before: Mapping[int, bytes] = {}
        try:
            while not self._over.wait(BEAT):
                self.looks += 1
                store.set(_key(self.rank), str(self.looks))
                heard = dict(zip(self.others, store.multi_get([_key(each) for each in self.others]), strict=True))
                self.silent = {each: self.silent[each] + 1 if before.get(each) == heard[each] else 0 for each in heard}
                before = heard
        except RuntimeError:
            self.gone = True


def _key(rank: int) -> str:
    return f"beat/{rank}"
