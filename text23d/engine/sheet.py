"""The stages of a run, as rows of its contact sheet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from text23d.artifact.media import contact_sheet, on_white


class Sheet:
    """contact.png: what was looked at so far, (label, pictures) a stage. A stage is a row; or a column, where there is
    one picture of it, which is not wide."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, list[np.ndarray]]] = []

    def add(self, label: str, pictures: Tensor) -> None:
        """pictures [K, 4, H, W] in picture space, the same K for all stages."""
        self.stages.append((label, list(on_white(pictures))))

    def write(self, path: Path, columns: Sequence[str]) -> None:
        """Under the titles of the columns. Raises UserError if it cannot be written."""
        wide = any(each.shape[1] > 2 * each.shape[0] for _, pictures in self.stages for each in pictures)
        if len(columns) > 1 or wide:
            contact_sheet(self.stages, path, columns)
        else:
            row = [picture for _, pictures in self.stages for picture in pictures]
            contact_sheet([(columns[0], row)], path, [label for label, _ in self.stages])

    def state(self) -> dict[str, Any]:
        pictures = [torch.from_numpy(np.stack(pictures)) for _, pictures in self.stages]
        named = {str(index): each for index, each in enumerate(pictures)}
        return {"labels": [label for label, _ in self.stages], "pictures": named}

    def load(self, state: Mapping[str, Any]) -> None:
        self.stages = [
            (label, list(state["pictures"][str(index)].numpy())) for index, label in enumerate(state["labels"])
        ]
