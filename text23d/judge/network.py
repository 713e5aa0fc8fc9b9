"""A small convolutional classifier: what an example shows, by the heads of its world; and its weights file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from text23d.contracts import Head, Label
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.paths import weights_dir
from text23d.settings import Count, read, whole

FORMAT, EARLIER = "text23d-judge-3", "text23d-judge-2"
WIDTH = 256
WIDTHS = (32, 64, 128, 192)
LOOK = 64
Widths = tuple[Annotated[int, whole(8, 1024)], ...]
Asked = Sequence[Label]
"""What examples should show."""
CONVOLUTION: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


@dataclass(frozen=True)
class Opinion:
    """What the judge makes of B examples.

    logits    of each head: [B, classes + 1] of a global one (the last: none of them), [B, classes] or
              [B, places, classes] of a located one, [B, bins] of a circular one
    features  [B, WIDTH] under them
    """

    logits: Mapping[str, Tensor]
    features: Tensor

    def __getitem__(self, head: str) -> Tensor:
        return self.logits[head]

    @staticmethod
    def cat(opinions: Sequence[Opinion]) -> Opinion:
        """Join batches."""
        names = opinions[0].logits
        return Opinion(
            {name: torch.cat([each[name] for each in opinions]) for name in names},
            torch.cat([each.features for each in opinions]),
        )


class Stage(nn.Module):
    """Halve the extent, then one residual block."""

    def __init__(self, inward: int, outward: int, dimensions: int) -> None:
        super().__init__()
        convolution = CONVOLUTION[dimensions]
        self.shrink = convolution(inward, outward, 3, stride=2, padding=1)
        self.norm1, self.norm2 = nn.GroupNorm(8, outward), nn.GroupNorm(8, outward)
        self.conv = convolution(outward, outward, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.shrink(x)
        return x + F.silu(self.norm2(self.conv(F.silu(self.norm1(x)))))


class Classifier(nn.Module):
    """Examples x [B, channels, *shape] -> Opinion.

    Global and circular heads are read off the whole example; a located one where it is: for each of its places a map
    says where to look, and one classifier for all that share their classes says what is there. widths: channels of the
    stages.
    """

    def __init__(
        self, heads: Sequence[Head], channels: int, shape: Sequence[int], widths: Sequence[int] = WIDTHS
    ) -> None:
        super().__init__()
        self.heads, self.channels, self.shape, d = tuple(heads), channels, tuple(shape), len(shape)
        self.widths = tuple(widths)
        self.stages = nn.ModuleList(Stage(a, b, d) for a, b in zip((channels, *widths), widths, strict=False))
        left = math.prod(-(-side // 2 ** len(widths)) for side in shape)
        self.gather = nn.Linear(widths[-1] * left, WIDTH)
        for head in heads:
            if head.how != "located":
                self.add_module(head.name, nn.Linear(WIDTH, len(head.classes) + (head.how == "global")))
        self.located = by_classes(heads)
        slots = sum(max(1, len(head.places)) for group in self.located for head in group)
        if slots:
            self.place = CONVOLUTION[d](widths[-2], slots, 1)
            self.look = nn.Sequential(CONVOLUTION[d](widths[-2], LOOK, 1), nn.SiLU())
        for group in self.located:
            self.add_module(group[0].name, nn.Linear(LOOK, len(group[0].classes)))

    def forward(self, x: Tensor) -> Opinion:
        *early, last = self.stages
        for stage in early:
            x = stage(x)
        h = F.silu(self.gather(F.silu(last(x)).flatten(1)))
        x = F.silu(x)
        whole = {head.name: getattr(self, head.name)(h) for head in self.heads if head.how != "located"}
        return Opinion(whole | self.at_places(x), h)

    def at_places(self, x: Tensor) -> dict[str, Tensor]:
        """The logits of the located heads, from a map of features [B, C, *S]."""
        if not self.located:
            return {}
        places = self.place(x).flatten(2).softmax(-1)  # [B, slots, prod(S)]
        seen, found, start = places @ self.look(x).flatten(2).transpose(1, 2), {}, 0
        for group in self.located:
            sizes = [max(1, len(head.places)) for head in group]
            answers = getattr(self, group[0].name)(seen[:, start : start + sum(sizes)])
            for head, logits in zip(group, answers.split(sizes, 1), strict=True):
                found[head.name] = logits if head.places else logits[:, 0]
            start += sum(sizes)
        return found


def check_widths(widths: Widths) -> None:
    """Raises UserError where stages cannot have them."""
    if len(widths) < 2 or any(width % 8 for width in widths):
        raise UserError(f"widths {list(widths)} of the judge: expected two or more multiples of 8")


def by_classes(heads: Iterable[Head]) -> list[list[Head]]:
    """The located heads, those of the same classes together."""
    groups: dict[tuple[str, ...], list[Head]] = {}
    for head in heads:
        if head.how == "located":
            groups.setdefault(head.classes, []).append(head)
    return list(groups.values())


@dataclass(frozen=True)
class Judge:
    """network, and what it scored on examples it was not trained on."""

    network: Classifier
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def heads(self) -> dict[str, Head]:
        return {head.name: head for head in self.network.heads}

    @torch.no_grad()
    def look(self, x: Tensor) -> Opinion:
        """Examples [B, channels, *shape] -> Opinion, in pieces that fit the cache."""
        return Opinion.cat([self.network(piece) for piece in x.split(64)])

    def knows(self, label: Label) -> bool:
        """Whether it has a class, and where it needs one a place, for that answer."""
        head = self.heads.get(label.head)
        return head is not None and label.answer in head.classes and label.place in (head.places or ("",))

    def answers(self, opinion: Opinion, labels: Asked) -> list[tuple[str, Tensor, int]]:
        """For each label its head, the logits [B, classes] behind it, and the class that would be right."""
        found = []
        for label in labels:
            head, logits = self.heads[label.head], opinion[label.head]
            logits = logits[:, head.places.index(label.place)] if head.places else logits
            found.append((head.name, logits, head.classes.index(label.answer)))
        return found

    def log_likelihood(self, opinion: Opinion, labels: Asked) -> Tensor:
        """log P of all these labels, [B]: the heads as if they were independent."""
        answers = self.answers(opinion, labels)
        return torch.stack([logits.log_softmax(-1)[:, index] for _, logits, index in answers]).sum(0)

    def score(self, x: Tensor, labels: Asked) -> dict[str, float]:
        """Mean probability and accuracy over examples [B, channels, *shape], in [0, 1], of each head that is labelled,
        a head's labels taken together."""
        scores: dict[str, list[float]] = {}
        for name, logits, index in self.answers(self.look(x), labels):
            right = (logits.argmax(-1) == index).float().mean().item()
            scores.setdefault(f"{name}_probability", []).append(logits.softmax(-1)[:, index].mean().item())
            scores.setdefault(f"{name}_accuracy", []).append(right)
        return {name: sum(values) / len(values) for name, values in scores.items()}

    def angles(self, opinion: Opinion, head: str) -> Tensor:
        """What a circular head finds, in degrees [0, 360), [B]."""
        return opinion[head].argmax(-1) * (360.0 / len(self.heads[head].classes))


@dataclass(frozen=True)
class Facts:
    """What a judge's file says beside its weights."""

    heads: tuple[Head, ...]
    channels: Annotated[int, whole(1, 1024)]
    shape: tuple[Count, ...]
    card: dict[str, Any]
    widths: Widths = WIDTHS

    def __post_init__(self) -> None:
        check_widths(self.widths)
        if len(self.shape) not in CONVOLUTION or any(not head.classes for head in self.heads):
            raise UserError(f"shape {self.shape}, {len(self.heads)} heads: expected classes, and 1 to 3 dimensions")


def save(path: Path, judge: Judge) -> None:
    """Write the judge's weights as float16. Raises UserError if that fails."""
    network = judge.network
    facts = {
        "format": FORMAT,
        "heads": [asdict(head) for head in network.heads],
        "channels": network.channels,
        "shape": network.shape,
        "widths": network.widths,
        "card": judge.card,
    }
    tensors = {k: v.half() for k, v in network.state_dict().items()}
    save_tensors(path, tensors, "judge", facts)


def load(path: str | Path | None = None) -> Judge:
    """Read a judge's weights; no path: those shipped. Raises UserError where missing, damaged or of another format."""
    path = Path(path) if path is not None else weights_dir() / "judge.safetensors"
    tensors, facts = read_file(path)
    try:
        with torch.device("meta"):  # nothing is drawn, and nothing allocated for what the file only claims
            network = Classifier(facts.heads, facts.channels, facts.shape, facts.widths)
        network.load_state_dict({k: v.float() for k, v in tensors.items()}, assign=True)
    except (RuntimeError, KeyError) as error:
        raise UserError(f"{path} does not fit the network it describes: restore it or train again") from error
    return Judge(network.eval().requires_grad_(False), facts.card)


def read_file(path: Path) -> tuple[dict[str, Tensor], Facts]:
    """The float16 weights and the facts in a judge's file. Raises UserError where missing, damaged or foreign."""
    tensors, facts = load_tensors(path, "judge")
    if facts.get("format") not in (FORMAT, EARLIER):
        raise UserError(f"{path} is not a judge ({FORMAT} expected): train one with python -m text23d.train_judge")
    try:
        return tensors, read(Facts, upgraded(facts) if facts["format"] == EARLIER else facts)
    except UserError as error:
        raise UserError(f"{path} is damaged ({str(error)[:200]}): restore it or train again") from error


def upgraded(said: Mapping[str, Any]) -> dict[str, Any]:
    """What a file of the EARLIER format says, in the words of this one: it was of the objects' world alone."""
    kinds, colours, parts, card = (said.get(name) for name in ("kinds", "colours", "parts", "card"))
    heads = [
        {"name": "kind", "how": "global", "classes": kinds},
        {"name": "colour", "how": "located", "classes": colours},
        {"name": "part", "how": "located", "classes": colours, "places": parts},
        {"name": "azimuth", "how": "circular", "classes": [f"{15 * index}" for index in range(24)]},
    ]
    if isinstance(card, dict):
        card = {{"worn": "corrupted"}.get(name, name): value for name, value in card.items()}
    return {"heads": heads, "channels": 4, "shape": [64, 64], "card": card}
