"""What every run leaves, whatever it makes: pictures as it goes, its parameters, and the judge's score."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from text23d.artifact.media import contact_sheet, on_white
from text23d.engine.build import Run
from text23d.files import save_tensors
from text23d.judge.network import Asked, Judge
from text23d.tasks.task import Subject


class ContactSheet:
    """contact.png: the subject's pictures at every stage of the run so far, written anew with each stage. A stage is a
    row; or a column, where the subject has one picture of it."""

    def __init__(self, path: Path) -> None:
        self.path, self.stages = path, list[tuple[str, list[np.ndarray]]]()

    def add(self, label: str, subject: Subject) -> None:
        """Look at the subject as it is now and write the sheet. Raises UserError if it cannot be written."""
        self.stages.append((label, list(on_white(subject.sheet()))))
        if len(subject.columns) > 1:
            contact_sheet(self.stages, self.path, subject.columns)
        else:
            row = [picture for _, pictures in self.stages for picture in pictures]
            contact_sheet([(subject.columns[0], row)], self.path, [name for name, _ in self.stages])


def score(run: Run, judge: Judge) -> dict[str, float] | None:
    """The judge's mean probability and accuracy of the prompt's kind and colours over what it is to see.

    None for what the judge knows nothing of: a prompt from outside the toy world, one without a kind, a pair.
    """
    caption = run.caption
    if caption is None or caption.kind is None or caption.other is not None:
        return None
    pictures = run.subject.judged(run.pair.size).cpu()
    return judge.score(pictures, Asked(caption.kind, caption.colour, caption.parts))


def save_phi(run: Run, folder: Path) -> None:
    """The subject's parameters, and a NeRF's occupancy, as safetensors."""
    # One note: safetensors writes several in an order that changes from run to run.
    facts = {"prompt": run.prompt, "iteration": run.iteration}
    save_tensors(folder / run.subject.file, run.phi.state_dict(), {"run": json.dumps(facts)})
