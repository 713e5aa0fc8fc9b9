"""What becomes of a process's children, by Linux's /proc."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def awaited(look: Callable[[], T | None], seconds: float = 60.0) -> T:
    """What `look` finds, as soon as it finds something. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        found = look()
        if found is not None:
            return found
        time.sleep(0.03)
    raise TimeoutError(f"nothing within {seconds:g} s")


def children(pid: int) -> list[int]:
    """The living children of a process."""
    states = {int(each.name): _state(each) for each in Path("/proc").glob("[0-9]*")}
    return [child for child, state in states.items() if state is not None and state[1] == str(pid)]


def uses(pid: int, library: str) -> bool:
    """Whether a process has loaded a library."""
    return library in _read(Path(f"/proc/{pid}/maps"))


def ends(pid: int) -> bool:
    """Wait until a process has ended. Raises TimeoutError."""
    return awaited(lambda: _state(Path(f"/proc/{pid}")) is None or None)


def _state(process: Path) -> list[str] | None:
    """Its letter, its parent and what follows; None for a process that has ended, collected or not."""
    state = _read(process / "stat").rpartition(") ")[2].split()
    return state if state and state[0] not in "ZX" else None


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
