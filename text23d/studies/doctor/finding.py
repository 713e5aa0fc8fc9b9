"""What a check finds."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

State = Literal["ok", "warning", "failure"]


@dataclass(frozen=True)
class Finding:
    """name: of what was looked at. found: in words. advice: what to do, unless all is well. figures: as numbers.

    A failure stops the main job with its default settings; a warning makes it slower, or stops what few ask for.
    """

    name: str
    state: State
    found: str
    advice: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


Check = Callable[[Path], Iterable[Finding]]
"""Takes the folder into which runs are to write. What it raises is a failure of its own."""


def judged(name: str, found: str, advice: str, bad: bool, state: State = "failure", **figures: Any) -> Finding:
    """A finding whose `advice` and `state` are for where it is `bad`."""
    return Finding(name, state if bad else "ok", found, advice if bad else "", figures)
