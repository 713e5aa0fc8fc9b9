"""What every run leaves, whatever it makes: its parameters, and the judge's score."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean as mean
from typing import Any

from text23d.engine.build import Parts
from text23d.engine.state import RunState
from text23d.files import save_tensors
from text23d.judge.network import Judge


def score(state: RunState, parts: Parts, judge: Judge) -> dict[str, float] | None:
    """The judge's mean probability and accuracy of what the prompt names, such as kind and colours, over what it is to
    see; of several prompts their mean.

    None for what the judge knows nothing of: a prompt from outside its world, one without a kind, a pair.
    """
    asked = [parts.world.labels(caption) for caption in parts.guide.captions]
    if not any(asked):
        return None
    shown = parts.task.judged(state.result(), parts.guide.shape)
    scores = [judge.score(x.cpu(), labels) for x, labels in zip(shown, asked, strict=True) if labels and len(x)]
    names = dict.fromkeys(name for each in scores for name in each)
    return {name: mean([each[name] for each in scores if name in each]) for name in names} or None


def save_phi(state: RunState, parts: Parts, representation: Any, folder: Path) -> None:
    """phi as results show it, with its own settings, as safetensors."""
    facts = {"prompt": parts.prompt, "iteration": state.iteration, "representation": representation}
    path = folder / parts.task.file
    save_tensors(path, state.result().state_dict(), path.stem, facts)
