"""Training of the built-in prior: one explicit state, and a step that is a function of it and the seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from text23d.errors import Diverged, UserError
from text23d.prior.builtin import edm
from text23d.prior.builtin.condition import Condition
from text23d.prior.builtin.layers import WEIGHTS
from text23d.prior.builtin.prior import COLUMNS, fast_precision, read_file
from text23d.prior.builtin.unet import UNet, UNetConfig
from text23d.rng import generator
from text23d.settings import Count, Finite, Natural, Positive, Seed, Share, read

Batch = tuple[Tensor, Condition]
"""Examples x0 [B, C, *S] as the prior sees them, and their conditions."""


LIGHT_LEVELS = -1.2, 1.2
"""Mean and deviation of log sigma that a light stage is trained at, EDM's own: 95 % of the draws lie in [0.03, 3.3]."""


@dataclass(frozen=True)
class TrainConfig:
    """images: examples to see in all, over which the learning rate falls; minutes: stop earlier, to be resumed;
    levels: mean and deviation of the log of their noise levels, but for a light stage's; sigma_data: the deviation
    that the preconditioning takes the examples' elements to have."""

    images: Count = 200_000
    minutes: Positive = 1e6
    batch: Count = 32
    lr: Positive = 8e-4
    warmup: Count = 6_000
    text_dropout: Share = 0.12
    views_dropout: Share = 0.06
    levels: tuple[Finite, Positive] = edm.LEVELS
    sigma_data: Positive = 0.5
    seed: Seed = 0

    def learning_rate(self, seen: int) -> float:
        """Linear warm-up, then half a cosine down to 1 % over the last 60 % of the images."""
        fall = max(0.0, (seen / self.images - 0.4) / 0.6)
        return self.lr * min(1.0, seen / self.warmup + 0.01) * (0.505 + 0.495 * math.cos(math.pi * min(fall, 1.0)))

    def ema_keep(self, seen: int) -> float:
        """How much of the average one step keeps: half-life 4 % of what was seen, so early noise is forgotten."""
        return 0.5 ** (self.batch / max(0.04 * seen, self.batch))


@dataclass
class TrainState:
    """All that changes while training. seen: examples; seconds: spent; before: examples that the weights it began from
    had seen. Of a network with a light stage only that is changed. Implements `engine.training.Trainee`."""

    config: TrainConfig
    model: edm.Preconditioned
    average: edm.Preconditioned
    optimiser: torch.optim.AdamW
    seen: int = 0
    seconds: float = 0.0
    before: int = 0

    @staticmethod
    def fresh(network: UNetConfig, config: TrainConfig, device: torch.device) -> TrainState:
        with torch.random.fork_rng():
            torch.manual_seed(config.seed)
            precision = fast_precision(device)
            model, average = (edm.Preconditioned(UNet(network), config.sigma_data, precision) for _ in range(2))
        average.load_state_dict(model.state_dict())
        for each in (model, average):
            each.to(device).to(memory_format=WEIGHTS[network.dimensions])  # type: ignore[call-overload]
        model.requires_grad_(False)
        learned = list(learning(model).requires_grad_().parameters())
        decay, others = [p for p in learned if p.dim() >= 2], [p for p in learned if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        optimiser = torch.optim.AdamW(groups, config.lr, betas=(0.9, 0.99))
        return TrainState(config, model, average.requires_grad_(False), optimiser)

    def begin_from(self, path: Path, words: Sequence[str]) -> None:
        """Take over what fits of a finished prior's weights: tensors by name and shape, the words' vectors by word.

        words: the new vocabulary, in the order of its ids. Raises UserError where `path` is no prior, and for a light
        stage where it is not one of this network and these words, which would stay as they are.
        """
        tensors, facts = read_file(path)
        old = {word: 1 + index for index, word in enumerate(facts.words)}
        own, fits, masked = self.model.state_dict(), set[str](), self.model.network.config.mask
        for name, tensor in tensors.items():
            there = own.get(f"network.{name}")
            if there is None:
                continue
            if name == "text.word.weight" and tensor.shape[1:] == there.shape[1:]:
                for index, word in enumerate(words):
                    if word in old:
                        there[1 + index] = tensor[old[word]]
                fits |= {f"network.{name}"} if old.keys() >= set(words) else set()
            elif there.shape == tensor.shape:
                there.copy_(tensor)
                fits.add(f"network.{name}")
            elif name == "inward.weight" and there[:, : tensor.shape[1]].shape == tensor.shape:
                there.zero_()[:, : tensor.shape[1]] = tensor  # what is given changes nothing until it is learned
            elif name.startswith("outward.") and masked and there[len(tensor) :].shape == tensor.shape:
                there[len(tensor) :] = tensor  # nor do factors of x
        if self.model.network.light and any(not n.startswith("network.light.") for n in own.keys() - fits):
            raise UserError(f"start={path} is of another network or other words than the light stage is to be beside")
        self.average.load_state_dict(own)
        self.before = facts.card.get("images", 0)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        return {"model": self.model, "average": self.average}

    @property
    def done(self) -> bool:
        return self.seen >= self.config.images

    @property
    def step(self) -> int:
        return self.seen // self.config.batch

    def facts(self) -> dict[str, Any]:
        return {"config": asdict(self.model.network.config), "seen": self.seen, "before": self.before}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Raises UserError for facts that are not those of a training of this network."""
        found = read(Facts, facts)
        if found.config != self.model.network.config:
            raise UserError("it is of another network")
        self.seen, self.before = found.seen, found.before

    def accumulate(self, batch: Batch, own: slice = slice(None)) -> float:
        """The gradient of EDM's mean loss, with captions and views dropped independently, as far as the examples `own`
        add to it; returns what they add to the loss.

        Raises Diverged if the loss is not finite.
        """
        x0, c = batch
        rng = generator(self.config.seed, 0, self.step, "train-noise")
        levels = LIGHT_LEVELS if self.model.network.light else self.config.levels
        sigma = edm.draw_sigma(len(x0), rng, *levels).to(x0.device)
        noise = torch.randn(x0.shape, generator=rng).to(x0.device)
        forget = torch.rand(2, len(x0), generator=rng).to(x0.device)
        c = c.dropped(forget[0] < self.config.text_dropout, forget[1] < self.config.views_dropout)
        losses = edm.loss(self.model, x0[own], sigma[own], noise[own], c.rows(own))
        loss = losses.mean() * (len(losses) / len(x0))
        if not torch.isfinite(loss):
            raise Diverged(f"the training loss became {loss.item()} after {self.seen} images: use a smaller train.lr")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        return loss.item()

    def advance(self, batch: Batch) -> None:
        """One step of AdamW along the gradient of `batch`, and one of the average."""
        parameters: list[Tensor] = list(learning(self.model).parameters())
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in self.optimiser.param_groups:
            group["lr"] = self.config.learning_rate(self.seen)
        self.optimiser.step()
        self.seen += len(batch[0])
        keep = self.config.ema_keep(self.seen)
        torch._foreach_lerp_(list[Tensor](learning(self.average).parameters()), parameters, 1 - keep)


def learning(d: edm.Preconditioned) -> nn.Module:
    """What a training changes of D: its light stage where it has one, otherwise all."""
    return d if d.network.light is None else d.network.light


@dataclass(frozen=True)
class Facts:
    """What a training's file says beside its tensors."""

    config: UNetConfig
    seen: Natural
    before: Natural


TABLE_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 40.0)


@torch.no_grad()
def noise_table(d: edm.Preconditioned, batches: Sequence[Batch], seed: int = 0) -> dict[str, list[float]]:
    """Validation figures for each noise level, per element: EDM's loss and the MMSE E|x0 - D|^2 of D, and rms(x - D)
    of D conditioned on all (rms_full), the views (rms_views) or nothing (rms_none)."""
    columns = ("sigma", "loss", "mmse", *COLUMNS[1:])
    rows: dict[str, list[float]] = {name: [] for name in columns}
    count = sum(x0.numel() for x0, _ in batches)
    for index, level in enumerate(TABLE_SIGMAS):
        squares, rng = torch.zeros(4, dtype=torch.float64), generator(seed, 0, index, "noise-table")
        for x0, c in batches:
            x = x0 + level * torch.randn(x0.shape, generator=rng).to(x0.device)
            conditions = (c, c.unconditional(), c.unconditional().without_views())
            denoised = [d(x, torch.tensor(level, device=x0.device), each) for each in conditions]
            errors = [denoised[0] - x0, *(x - each for each in denoised)]
            squares += torch.stack([e.double().square().sum() for e in errors]).cpu()
        mmse, *residuals = (squares / count).tolist()
        weight = (level**2 + d.sigma_data**2) / (level * d.sigma_data) ** 2
        for name, value in zip(columns, (level, weight * mmse, mmse, *map(math.sqrt, residuals)), strict=True):
            rows[name].append(value)
    return rows
