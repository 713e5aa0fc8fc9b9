"""Events as a person reads them: on a terminal, in a log, in what a worker prints."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from text23d.engine.events import Event, Finished, Noted, Paused, Started

FIGURES = ("sigma", "loss", "noise_ratio", "residual")
"""Of an iteration, those that a person watches."""


def spoken(event: Event) -> list[str]:
    """The lines that say an event; none for those that come so often that they are shown as progress instead."""
    if isinstance(event, Started):
        again = f", after {event.done} of {event.iterations} iterations" if event.done else ""
        return [f"{event.prompt!r} on {event.device}, kernels {event.kernels}, to {event.folder}{again}"]
    if isinstance(event, Finished):
        return [spent(event.summary), verdict(event.summary, event.message, event.folder)]
    if isinstance(event, Paused):
        done = f"paused after {event.iteration} of {event.iterations} iterations"
        return [f"{done}: resume it in the viewer, or end it with Ctrl-C"]
    return [event.text] if isinstance(event, Noted) else []


def figures(values: Mapping[str, Any]) -> str:
    """The figures of an iteration that a person watches, in one line."""
    return ", ".join(f"{name.replace('_', ' ')} {values[name]:.3g}" for name in FIGURES)


def spent(summary: Mapping[str, Any]) -> str:
    """Where the time of the run and of its loop went, in one line each of seconds."""
    run, loop = (
        ", ".join(f"{name} {value:.0f}" for name, value in summary[part].items() if value >= 0.5)
        for part in ("seconds", "loop")
    )
    return f"seconds: {run}; of the loop: {loop}"


def verdict(summary: Mapping[str, Any], message: str, folder: Path) -> str:
    """The last line a person reads."""
    score = ", ".join(f"{name} {value:.2f}" for name, value in (summary["score"] or {}).items()) or "not asked"
    return f"done in {summary['seconds']['total']:.0f} s, {message}; judge: {score}; see {folder}"
