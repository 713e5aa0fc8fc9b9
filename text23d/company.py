"""Whether this process is alone. Nothing heavy is imported: the command line asks before torch is there."""

from __future__ import annotations

import os


def shared() -> bool:
    """Whether this is one of several processes that do one job, as torchrun starts them."""
    return "RANK" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1"


def following() -> bool:
    """Whether it is one of several, and not the first, which speaks for all."""
    return shared() and os.environ["RANK"] != "0"
