"""Where the time goes."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch


class Clock:
    """Seconds spent in each named stage; on a GPU a stage lasts until its work is done."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def add(self, name: str, seconds: float) -> None:
        self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            self.add(name, time.perf_counter() - start)

    def parts(self, whole: float) -> dict[str, float]:
        """The stages, and what of `whole` seconds is left to none of them."""
        return {**self.seconds, "other": whole - sum(self.seconds.values())}

    def state(self) -> dict[str, float]:
        return dict(self.seconds)

    def load(self, state: Mapping[str, float]) -> None:
        self.seconds = dict(state)
