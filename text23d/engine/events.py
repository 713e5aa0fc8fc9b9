"""What a job tells while it runs, for a terminal, a notebook or a page to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Started:
    """All parts are built; `kernels` names the backend in words. done: the iterations of earlier processes."""

    prompt: str
    device: str
    kernels: str
    folder: Path
    iterations: int
    done: int = 0


@dataclass(frozen=True)
class Iterated:
    """One iteration of `iterations` is done, with the figures of metrics.jsonl."""

    iteration: int
    iterations: int
    figures: Mapping[str, Any]


@dataclass(frozen=True)
class Paused:
    """A person has told the run to wait before iteration `iteration` + 1 of `iterations`."""

    iteration: int
    iterations: int


@dataclass(frozen=True)
class Looked:
    """A row of contact.png: pictures [H, W, 3] uint8 by the title of their column, as they are after `iteration`."""

    iteration: int
    label: str
    pictures: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Exporting:
    """`done` of `total` steps of something long that is written, such as the turntable's frames."""

    what: str
    done: int
    total: int


@dataclass(frozen=True)
class Noted:
    """Something that a person should know."""

    text: str


@dataclass(frozen=True)
class Finished:
    """summary: what stands in summary.json; message: what was exported, in a few words."""

    summary: Mapping[str, Any]
    message: str
    folder: Path


Event = Started | Iterated | Paused | Looked | Exporting | Noted | Finished
OnEvent = Callable[[Event], None]


def unheard(event: Event) -> None:
    """For a job that nobody watches."""
