"""Where every random draw of the project comes from: a stream named by (seed, rank, step, purpose).

No stream has a state that outlives its step, so there is none to save: a resumed run draws what an uninterrupted one
would have drawn.
"""

from __future__ import annotations

import hashlib

import torch


def generator(seed: int, rank: int, step: int, purpose: str) -> torch.Generator:
    """The CPU generator of one draw: `seed` of the run, `rank` of the process, `step` of the loop, `purpose` any name.

    The same four give the same stream on every machine; draw on the CPU and move, so that devices agree too. The key
    is hashed, so neighbouring seeds and steps are unrelated. torch seeds its CPU generator with 32 bits: among n
    streams a given one recurs with probability n / 2^32.
    """
    key = "\0".join([str(seed), str(rank), str(step), purpose])
    digest = hashlib.sha256(key.encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4], "little"))
