"""Whether torch loads within the memory that this process may have (ulimit -v): where it does not, it ends the process
as it likes, by a signal or by libgomp's exit, and nobody could say why."""

from __future__ import annotations

import os
from importlib import import_module
from typing import NoReturn

from text23d.errors import UserError
from text23d.memory import gib, is_out_of_memory, limit

FITS, DOES_NOT = 0, 1
ENOUGH = "1.5 GB"
"""What the main job takes at its defaults on two cores, with some to spare."""


def check(verb: str) -> None:
    """Raises UserError where a process that imports `verb`, and computes a little on all threads, ends for want of
    memory. Takes the time of an import where there is a limit, and none where there is not."""
    most = limit()
    if most is None or not hasattr(os, "fork"):
        return
    child = os.fork()
    if not child:
        attempt(verb)
    if os.waitpid(child, 0)[1]:
        raise UserError(
            f"torch does not load within {gib(most)}, the memory that this process may have: raise the limit to "
            f"{ENOUGH} or more (ulimit -v)"
        )


def attempt(verb: str) -> NoReturn:
    """What `check` wants to know, as the exit status of a process that says nothing and leaves no core."""
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    silence = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    try:
        import hydra  # noqa: F401 (as the verb itself will be called)
        import torch

        import_module(f"text23d.{verb}")

        torch.nn.functional.conv2d(torch.ones(1, 8, 256, 256), torch.ones(8, 8, 3, 3)).exp().sum()
    except BaseException as error:  # whatever else is wrong with it is told where it is imported for good
        os._exit(DOES_NOT if isinstance(error, Exception) and is_out_of_memory(error) else FITS)
    os._exit(FITS)
