"""The lease of launched runs: a file beside them, which lasts as long as somebody wants them to go on."""

from __future__ import annotations

import os
import platform
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PREFIX = ".launched-"


@contextmanager
def lease(folder: Path) -> Iterator[Path]:
    """A new lease in `folder`, which ends with the block however that ends. Raises OSError where none can be made."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{PREFIX}{secrets.token_hex(4)}"
    path.write_text(f"{_here()} {os.getpid()}", encoding="utf-8")
    try:
        yield path
    finally:
        with suppress(OSError):
            path.unlink()


def holds(path: Path) -> bool:
    """Whether runs may go on. Not once the file is gone, nor where its process was killed, as far as that can be seen
    from here: on another machine a run goes on until somebody removes the file."""
    try:
        here, _, pid = path.read_text(encoding="utf-8").rpartition(" ")
    except FileNotFoundError:
        return False
    except OSError:  # a network's file system that is away for a moment
        return True
    return here != _here() or not pid.isdigit() or _lives(int(pid))


def _here() -> str:
    """This machine and, on Linux, its numbering of processes, of which containers have their own."""
    numbering = ""
    with suppress(OSError):
        numbering = os.readlink("/proc/self/ns/pid")
    return f"{platform.node()} {numbering}"


def _lives(pid: int) -> bool:
    if os.name != "posix":  # where signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
