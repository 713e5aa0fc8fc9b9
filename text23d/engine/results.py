"""What every run leaves, whatever it makes: its parameters, and the judge's score."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from text23d.engine.build import Parts
from text23d.engine.state import RunState
from text23d.files import save_tensors
from text23d.judge.network import Judge


def score(state: RunState, parts: Parts, judge: Judge) -> dict[str, float] | None:
    """The judge's mean probability and accuracy of the prompt's kind and colours over what it is to see.

    None for what the judge knows nothing of: a prompt from outside its world, one without a kind, a pair.
    """
    labels = () if parts.guide.caption is None else parts.world.labels(parts.guide.caption)
    if not labels:
        return None
    return judge.score(parts.task.judged(state.result(), parts.guide.shape).cpu(), labels)


def save_phi(state: RunState, parts: Parts, representation: Any, folder: Path) -> None:
    """phi as results show it, with its own settings, as safetensors."""
    facts = {"prompt": parts.prompt, "iteration": state.iteration, "representation": representation}
    path = folder / parts.task.file
    save_tensors(path, state.result().state_dict(), path.stem, facts)
