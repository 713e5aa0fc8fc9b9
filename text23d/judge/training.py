"""Training of the judge: corrupted examples in; the answers of its world's heads out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from text23d.contracts import Head, Label, World
from text23d.errors import Diverged, UserError
from text23d.judge.network import WIDTHS, Classifier, Opinion, Widths, check_widths
from text23d.settings import Count, Natural, Positive, Seed, read

SCRAMBLED_SHARE = 0.12
IGNORED = -100
"""Cross entropy's own mark for a class that is not to be learned."""
NEAR = 30.0
"""Degrees within which an angle counts as found."""

Targets = Mapping[str, Tensor]
"""By head: class indices [B] or, of one with places, [B, places], IGNORED where there is none to learn; degrees [B] of
a circular one, NaN where there is none."""


def targets(
    heads: Sequence[Head], labels: Sequence[Sequence[Label]], angles: Mapping[str, Tensor], device: torch.device
) -> Targets:
    """What B examples of those labels and angles show."""
    found = {name: angle.to(device) for name, angle in angles.items()}
    for head in heads:
        if head.how != "circular":
            classes = {name: index for index, name in enumerate(head.classes)}
            places = {name: index for index, name in enumerate(head.places or ("",))}
            answers = torch.full((len(labels), len(places)), IGNORED)
            for row, its in enumerate(labels):
                for label in its:
                    if label.head == head.name:
                        answers[row, places[label.place]] = classes[label.answer]
            found[head.name] = (answers if head.places else answers[:, 0]).to(device)
    return found


def hardened(
    world: World[Any], heads: Sequence[Head], x: Tensor, answers: Targets, generator: torch.Generator
) -> tuple[Tensor, Targets]:
    """x [B, channels, *shape] corrupted, and the first SCRAMBLED_SHARE of it scrambled: none of the classes of a global
    head, and nothing to be learned from it by the others."""
    count = int(SCRAMBLED_SHARE * len(x))
    x = world.corrupt(torch.cat([world.scramble(x[:count], generator), x[count:]]), generator)
    nothing = {head.name: len(head.classes) if head.how == "global" else IGNORED for head in heads}
    nothing |= {head.name: math.nan for head in heads if head.how == "circular"}  # type: ignore[misc]
    return x, {
        name: torch.cat([torch.full_like(each[:count], nothing[name]), each[count:]]) for name, each in answers.items()
    }


def loss(heads: Sequence[Head], opinion: Opinion, answers: Targets, own: slice = slice(None)) -> Tensor:
    """The heads' cross entropies, summed, those of angles by half; labels smoothed by 5 %, angles by a bin to each
    side. Heads without answers are left out.

    opinion: of the examples `own` among those of the answers; what these add to the loss of all is returned.
    """
    total = opinion.features.new_zeros(())
    for head in heads:
        logits, answer = opinion[head.name], answers[head.name][own]
        known = is_known(head, answer)
        if not known.any():
            continue
        # Each is a mean over the answers that are known, of which these examples have a part.
        part = known.sum().item() / is_known(head, answers[head.name]).sum().item()
        if head.how == "circular":
            total = total + part * 0.5 * F.cross_entropy(logits[known], bell(answer[known], len(head.classes)))
        else:
            logits, answer = logits.flatten(0, -2), answer.flatten()
            total = total + part * F.cross_entropy(logits, answer, label_smoothing=0.05, ignore_index=IGNORED)
    return total


def is_known(head: Head, answer: Tensor) -> Tensor:
    """Which answers there are, as them."""
    return ~answer.isnan() if head.how == "circular" else answer != IGNORED


def bell(angle: Tensor, bins: int) -> Tensor:
    """Angles [B] in degrees as probabilities [B, bins]: a Gaussian whose standard deviation is a bin."""
    width = 360.0 / bins
    centres = torch.arange(bins, device=angle.device) * width
    return (-0.5 * (apart(angle[:, None], centres) / width).square()).softmax(-1)


def apart(a: Tensor, b: Tensor) -> Tensor:
    """From angle b to angle a, in [-180, 180) degrees."""
    return (a - b + 180) % 360 - 180


@torch.no_grad()
def accuracy(heads: Sequence[Head], opinion: Opinion, answers: Targets) -> dict[str, float]:
    """Share of its answers that each head names right, and of angles that it finds within NEAR, in [0, 1]; heads
    without answers are left out."""
    shares = {}
    for head in heads:
        found, answer = opinion[head.name].argmax(-1), answers[head.name]
        if head.how == "circular":
            right = apart(found * (360.0 / len(head.classes)), answer).abs() <= NEAR
        else:
            right = found == answer
        right = right[is_known(head, answer)]
        if right.numel():
            shares[head.name] = right.float().mean().item()
    return shares


def one_cycle(step: int, steps: int, peak: float) -> tuple[float, float]:
    """The learning rate and Adam's first beta of a step: up to the peak over 30 % of the steps and down to almost
    nothing, by half cosines; the beta the other way (Smith and Topin 2018; torch's OneCycleLR)."""
    top = 0.3 * steps - 1
    if step <= top:
        return between(peak / 25, peak, step / top), between(0.95, 0.85, step / top)
    share = (step - top) / (steps - 1 - top)
    return between(peak, peak / 25e4, share), between(0.85, 0.95, share)


def between(start: float, end: float, share: float) -> float:
    """Half a cosine from start (share 0) to end (share 1)."""
    return end + (start - end) / 2.0 * (1 + math.cos(math.pi * share))


@dataclass(frozen=True)
class TrainConfig:
    """steps: in all, over which the learning rate goes through its one cycle up to `lr`; widths: of the network."""

    steps: Count = 3000
    batch: Count = 64
    lr: Positive = 2e-3
    seed: Seed = 0
    widths: Widths = WIDTHS

    def __post_init__(self) -> None:
        check_widths(self.widths)


@dataclass
class TrainState:
    """All that changes while training. step: those taken; seconds: spent. Implements `engine.training.Trainee`."""

    config: TrainConfig
    network: Classifier
    optimiser: torch.optim.AdamW
    precision: torch.dtype = torch.float32
    step: int = 0
    seconds: float = 0.0

    @staticmethod
    def fresh(world: World[Any], config: TrainConfig, device: torch.device, precision: torch.dtype) -> TrainState:
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            network = Classifier(world.heads, world.channels, world.shape, config.widths).to(device)
        return TrainState(
            config, network, torch.optim.AdamW(network.parameters(), config.lr, weight_decay=0.02), precision
        )

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"network": self.network}

    @property
    def done(self) -> bool:
        return self.step >= self.config.steps

    def facts(self) -> dict[str, Any]:
        return {"heads": [asdict(head) for head in self.network.heads], "step": self.step}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Raises UserError for facts that are not those of a training of this network."""
        found = read(Facts, facts)
        if found.heads != self.network.heads:
            raise UserError("it is of other heads")
        self.step = found.step

    def accumulate(self, batch: tuple[Tensor, Targets], own: slice = slice(None)) -> float:
        """The gradient of the loss, as far as the examples `own` add to it; returns what they add to the loss. Raises
        Diverged if it is not finite."""
        x, answers = batch
        with torch.autocast(x.device.type, self.precision, enabled=self.precision != torch.float32):
            value = loss(self.network.heads, self.network(x[own]), answers, own)
        if not torch.isfinite(value):
            raise Diverged(f"the training loss became {value.item()} after {self.step} steps: use a smaller train.lr")
        self.optimiser.zero_grad(set_to_none=True)
        value.backward()
        return value.item()

    def advance(self, batch: tuple[Tensor, Targets]) -> None:
        """One step of AdamW along the gradient."""
        for group in self.optimiser.param_groups:
            group["lr"], beta = one_cycle(self.step, self.config.steps, self.config.lr)
            group["betas"] = beta, 0.999
        self.optimiser.step()
        self.step += 1


@dataclass(frozen=True)
class Facts:
    """What a training's file says beside its tensors."""

    heads: tuple[Head, ...]
    step: Natural
