"""A small convolutional classifier with a kind and a colour head, and its weights file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from text23d.contracts import UserError
from text23d.files import load_tensors, save_tensors
from text23d.paths import weights_dir

FORMAT = "text23d-judge-1"


class Stage(nn.Module):
    """Halve the side, then one residual block."""

    def __init__(self, inward: int, outward: int) -> None:
        super().__init__()
        self.shrink = nn.Conv2d(inward, outward, 3, stride=2, padding=1)
        self.norm1, self.norm2 = nn.GroupNorm(8, outward), nn.GroupNorm(8, outward)
        self.conv = nn.Conv2d(outward, outward, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shrink(x)
        return x + F.silu(self.norm2(self.conv(F.silu(self.norm1(x)))))


class Classifier(nn.Module):
    """Pictures x [B, 4, 64, 64] in picture space -> logits of kind [B, kinds] and of colour [B, colours]."""

    def __init__(self, kinds: int, colours: int, widths: tuple[int, ...] = (32, 64, 128, 192)) -> None:
        super().__init__()
        self.stages = nn.Sequential(*(Stage(a, b) for a, b in zip((4, *widths), widths, strict=False)))
        self.kind, self.colour = nn.Linear(widths[-1], kinds), nn.Linear(widths[-1], colours)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = F.silu(self.stages(x)).mean((2, 3))
        return self.kind(h), self.colour(h)


@dataclass(frozen=True)
class Judge:
    """network, the names of its classes in order, and what it scored on objects it was not trained on."""

    network: Classifier
    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    card: dict[str, Any]

    @torch.no_grad()
    def score(self, x: Tensor, kind: str, colour: str | None) -> dict[str, float]:
        """Pictures [B, 4, 64, 64] against what they should show: mean probability and accuracy over them, in [0, 1].

        Without a colour only the kind is judged.
        """
        kinds, colours = self.network(x)
        index = self.kinds.index(kind)
        scores = {
            "kind_probability": kinds.softmax(-1)[:, index].mean().item(),
            "kind_accuracy": (kinds.argmax(-1) == index).float().mean().item(),
        }
        if colour is not None:
            index = self.colours.index(colour)
            scores["colour_probability"] = colours.softmax(-1)[:, index].mean().item()
            scores["colour_accuracy"] = (colours.argmax(-1) == index).float().mean().item()
        return scores


def save(path: Path, judge: Judge) -> None:
    """Write the judge's weights as float16. Raises UserError if that fails."""
    facts = {"kinds": judge.kinds, "colours": judge.colours, "card": judge.card}
    tensors = {k: v.half() for k, v in judge.network.state_dict().items()}
    save_tensors(path, tensors, {"format": FORMAT, "judge": json.dumps(facts)})


def load(path: str | Path | None = None) -> Judge:
    """Read a judge's weights; no path: those shipped. Raises UserError where missing, damaged or of another format."""
    path = Path(path) if path is not None else weights_dir() / "judge.safetensors"
    tensors, metadata = load_tensors(path)
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path} is not a judge ({FORMAT} expected): train one with python -m text23d.train_judge")
    facts = json.loads(metadata["judge"])
    network = Classifier(len(facts["kinds"]), len(facts["colours"]))
    try:
        network.load_state_dict({k: v.float() for k, v in tensors.items()})
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the network it describes: restore it or train again") from error
    return Judge(network.eval().requires_grad_(False), tuple(facts["kinds"]), tuple(facts["colours"]), facts["card"])
