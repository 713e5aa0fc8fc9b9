"""Where every random draw of the project comes from: a stream named by (seed, view, step, purpose).

No stream has a state that outlives its step, so there is none to save: a resumed run draws what an uninterrupted one
would have drawn. What belongs to one view of an iteration is drawn from a stream of that view's own, so that any number
of processes, each with a share of the views, draw what one would.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

Stream = torch.Generator | Sequence[torch.Generator]
"""One generator for a whole batch, or one for each of its samples."""

_GLOBAL = threading.RLock()


def generator(seed: int, view: int, step: int, purpose: str) -> torch.Generator:
    """The CPU generator of one draw: `seed` of the run, global index of the `view` (0 for what all views share), `step`
    of the loop, `purpose` any name.

    The same four give the same stream on every machine; draw on the CPU and move, so that devices agree too. The key
    is hashed, so neighbouring seeds and steps are unrelated. torch seeds its CPU generator with 32 bits: among n
    streams a given one recurs with probability n / 2^32.
    """
    key = "\0".join([str(seed), str(view), str(step), purpose])
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))


def generators(seed: int, views: Sequence[int], step: int, purpose: str) -> list[torch.Generator]:
    """A `generator` for each of these views, by their global indices."""
    return [generator(seed, view, step, purpose) for view in views]


@contextmanager
def global_generator(seed: int) -> Iterator[None]:
    """torch's global CPU generator begins at `seed` inside, for what can draw from no other, and is afterwards as it
    was before. One thread at a time."""
    with _GLOBAL:
        before = torch.get_rng_state()
        torch.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            torch.set_rng_state(before)
