"""A small convolutional classifier: what a picture shows, in which colours, and from where; and its weights file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.paths import weights_dir

FORMAT = "text23d-judge-2"
AZIMUTHS = 24
"""Bins of the azimuth, the first centred on the front: 15 degrees each."""
WIDTH = 256


@dataclass(frozen=True)
class Opinion:
    """What the judge makes of B pictures: logits, and the features under them.

    kind [B, kinds + 1] (the last: none of them), colour [B, colours], part [B, part words, colours], azimuth
    [B, AZIMUTHS], features [B, WIDTH].
    """

    kind: Tensor
    colour: Tensor
    part: Tensor
    azimuth: Tensor
    features: Tensor


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
    """Pictures x [B, 4, 64, 64] in picture space -> Opinion.

    Kind and azimuth are read off the whole picture; a colour where it is: for the thing and for each word of a part, a
    map of places says where to look, and one classifier for all says which colour is there.
    """

    def __init__(self, kinds: int, colours: int, parts: int, widths: tuple[int, ...] = (32, 64, 128, 192)) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Stage(a, b) for a, b in zip((4, *widths), widths, strict=False))
        self.gather = nn.Linear(widths[-1] * (64 >> len(widths)) ** 2, WIDTH)
        self.kind, self.azimuth = nn.Linear(WIDTH, kinds + 1), nn.Linear(WIDTH, AZIMUTHS)
        self.place = nn.Conv2d(widths[-2], 1 + parts, 1)  # the thing itself, then the parts
        self.look = nn.Sequential(nn.Conv2d(widths[-2], 64, 1), nn.SiLU())
        self.colour = nn.Linear(64, colours)

    def forward(self, x: Tensor) -> Opinion:
        *early, last = self.stages
        for stage in early:
            x = stage(x)
        h = F.silu(self.gather(F.silu(last(x)).flatten(1)))
        x = F.silu(x)
        places = self.place(x).flatten(2).softmax(-1)  # [B, 1 + parts, h w]
        colours = self.colour(places @ self.look(x).flatten(2).transpose(1, 2))
        return Opinion(self.kind(h), colours[:, 0], colours[:, 1:], self.azimuth(h), h)


@dataclass(frozen=True)
class Asked:
    """What pictures should show: words of the judge's classes; no colour: any."""

    kind: str
    colour: str | None = None
    parts: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Judge:
    """network, the names of its classes in order, and what it scored on objects it was not trained on."""

    network: Classifier
    kinds: tuple[str, ...]
    colours: tuple[str, ...]
    parts: tuple[str, ...]
    card: dict[str, Any]

    @torch.no_grad()
    def look(self, x: Tensor) -> Opinion:
        """Pictures [B, 4, 64, 64] -> Opinion, in pieces that fit the cache."""
        seen = [self.network(piece) for piece in x.split(64)]
        fields = ("kind", "colour", "part", "azimuth", "features")
        return Opinion(*(torch.cat([getattr(each, name) for each in seen]) for name in fields))

    def heads(self, opinion: Opinion, asked: Asked) -> dict[str, tuple[Tensor, int]]:
        """The logits [B, classes] of each head that what was asked touches, and the class that would be right."""
        found = {"kind": (opinion.kind, self.kinds.index(asked.kind))}
        if asked.colour is not None:
            found["colour"] = opinion.colour, self.colours.index(asked.colour)
        for index, (word, colour) in enumerate(asked.parts):
            logits = opinion.part[:, self.parts.index(word)]
            found["part" if index == 0 else f"part{index + 1}"] = logits, self.colours.index(colour)
        return found

    def log_likelihood(self, opinion: Opinion, asked: Asked) -> Tensor:
        """log P of everything that was asked, [B]: the heads as if they were independent."""
        heads = self.heads(opinion, asked).values()
        return torch.stack([logits.log_softmax(-1)[:, index] for logits, index in heads]).sum(0)

    def score(self, x: Tensor, asked: Asked) -> dict[str, float]:
        """Mean probability and accuracy over pictures [B, 4, 64, 64], in [0, 1], of the kind and, where asked, of the
        colour and of the parts' colours."""
        scores: dict[str, list[float]] = {}
        for name, (logits, index) in self.heads(self.look(x), asked).items():
            what = name.rstrip("23456789")
            right = (logits.argmax(-1) == index).float().mean().item()
            scores.setdefault(f"{what}_probability", []).append(logits.softmax(-1)[:, index].mean().item())
            scores.setdefault(f"{what}_accuracy", []).append(right)
        return {name: sum(values) / len(values) for name, values in scores.items()}

    def azimuth(self, opinion: Opinion) -> Tensor:
        """The azimuth that each picture seems to be seen from, in degrees [0, 360), [B]."""
        return opinion.azimuth.argmax(-1) * (360.0 / AZIMUTHS)


def save(path: Path, judge: Judge) -> None:
    """Write the judge's weights as float16. Raises UserError if that fails."""
    classes = {"kinds": judge.kinds, "colours": judge.colours, "parts": judge.parts}
    tensors = {k: v.half() for k, v in judge.network.state_dict().items()}
    save_tensors(path, tensors, "judge", {"format": FORMAT, **classes, "card": judge.card})


def load(path: str | Path | None = None) -> Judge:
    """Read a judge's weights; no path: those shipped. Raises UserError where missing, damaged or of another format."""
    path = Path(path) if path is not None else weights_dir() / "judge.safetensors"
    tensors, facts = load_tensors(path, "judge")
    if facts.get("format") != FORMAT:
        raise UserError(f"{path} is not a judge ({FORMAT} expected): train one with python -m text23d.train_judge")
    kinds, colours, parts = (tuple(facts[name]) for name in ("kinds", "colours", "parts"))
    network = Classifier(len(kinds), len(colours), len(parts))
    try:
        network.load_state_dict({k: v.float() for k, v in tensors.items()})
    except RuntimeError as error:
        raise UserError(f"{path} does not fit the network it describes: restore it or train again") from error
    return Judge(network.eval().requires_grad_(False), kinds, colours, parts, facts["card"])
