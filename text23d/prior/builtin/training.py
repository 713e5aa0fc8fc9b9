"""Training of the built-in prior: one explicit state, stepped by (seed, step), saved whole, resumed exactly."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.prior.builtin import edm
from text23d.prior.builtin.condition import Condition
from text23d.prior.builtin.prior import fast_precision, read_file
from text23d.prior.builtin.unet import UNet, UNetConfig
from text23d.rng import generator

Batch = tuple[Tensor, Condition]
"""Pictures x0 [B, 4, H, W] in picture space and their conditions."""


@dataclass(frozen=True)
class TrainConfig:
    """images: pictures to see in all, over which the learning rate falls; minutes: stop earlier, to be resumed."""

    images: int = 200_000
    minutes: float = math.inf
    batch: int = 32
    lr: float = 8e-4
    warmup: int = 6_000
    text_dropout: float = 0.12
    camera_dropout: float = 0.06
    seed: int = 0
    save_every: float = 120.0

    def __post_init__(self) -> None:
        if self.images <= 0 or self.batch <= 0 or self.minutes <= 0:
            raise UserError(f"images={self.images}, batch={self.batch} and minutes={self.minutes} must be positive")

    def learning_rate(self, seen: int) -> float:
        """Linear warm-up, then half a cosine down to 1 % over the last 60 % of the images."""
        fall = max(0.0, (seen / self.images - 0.4) / 0.6)
        return self.lr * min(1.0, seen / self.warmup + 0.01) * (0.505 + 0.495 * math.cos(math.pi * min(fall, 1.0)))

    def ema_keep(self, seen: int) -> float:
        """How much of the average one step keeps: half-life 4 % of what was seen, so early noise is forgotten."""
        return 0.5 ** (self.batch / max(0.04 * seen, self.batch))


@dataclass
class TrainState:
    """All that changes while training; `before`: pictures that the weights it began from had seen."""

    model: edm.Preconditioned
    average: edm.Preconditioned
    optimiser: torch.optim.AdamW
    seen: int = 0
    seconds: float = 0.0
    before: int = 0

    @staticmethod
    def fresh(config: UNetConfig, train: TrainConfig, device: torch.device) -> TrainState:
        with torch.random.fork_rng():
            torch.manual_seed(train.seed)
            model, average = (edm.Preconditioned(UNet(config), precision=fast_precision(device)) for _ in range(2))
        average.load_state_dict(model.state_dict())
        for each in (model, average):
            each.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decay = [p for p in model.parameters() if p.dim() >= 2]
        others = [p for p in model.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": 0.01}, {"params": others, "weight_decay": 0.0}]
        return TrainState(model, average.requires_grad_(False), torch.optim.AdamW(groups, train.lr, betas=(0.9, 0.99)))

    def begin_from(self, path: Path, words: Sequence[str]) -> None:
        """Take over what fits of a finished prior's weights: tensors by name and shape, the words' vectors by word.

        words: the new vocabulary, in the order of its ids. Raises UserError where `path` is no prior.
        """
        tensors, facts = read_file(path)
        old = {word: 1 + index for index, word in enumerate(facts["words"])}
        own = self.model.state_dict()
        for name, tensor in tensors.items():
            if name == "text.word.weight" and tensor.shape[1:] == own[f"network.{name}"].shape[1:]:
                for index, word in enumerate(words):
                    if word in old:
                        own[f"network.{name}"][1 + index] = tensor[old[word]]
            elif f"network.{name}" in own and own[f"network.{name}"].shape == tensor.shape:
                own[f"network.{name}"].copy_(tensor)
        self.average.load_state_dict(own)
        self.before = facts["card"]["images"]

    def tensors(self) -> dict[str, Tensor]:
        """The state as named tensors; Adam's moments go by the name of their parameter."""
        named = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        named |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for moment, value in self.optimiser.state.get(parameter, {}).items():
                named[f"adam.{moment}.{name}"] = value
        return {k: v.contiguous() for k, v in named.items()}

    def save(self, path: Path) -> None:
        facts: dict[str, Any] = {"config": asdict(self.model.network.config)}
        facts |= {"seen": self.seen, "seconds": self.seconds, "before": self.before}
        save_tensors(path, self.tensors(), "training", facts)

    def load(self, path: Path) -> None:
        """Raises UserError where the file is missing, damaged or of another network."""
        tensors, facts = load_tensors(path, "training")
        if facts.get("config") != json.loads(json.dumps(asdict(self.model.network.config))):
            raise UserError(f"{path} holds the training of another network: choose another folder or remove the file")
        try:
            for name, module in (("model.", self.model), ("average.", self.average)):
                module.load_state_dict({k[len(name) :]: v for k, v in tensors.items() if k.startswith(name)})
            self.seen, self.seconds, self.before = facts["seen"], facts["seconds"], facts["before"]
        except (RuntimeError, KeyError) as error:
            raise UserError(f"{path} is of another version of text23d: choose another folder or remove it") from error
        moments = ("step", "exp_avg", "exp_avg_sq")
        for name, parameter in self.model.named_parameters():
            own = {m: tensors[f"adam.{m}.{name}"] for m in moments if f"adam.{m}.{name}" in tensors}
            self.optimiser.state[parameter] = {m: v if m == "step" else v.to(parameter) for m, v in own.items()}


def train_step(state: TrainState, config: TrainConfig, batch: Batch) -> float:
    """One AdamW step on EDM's loss with captions and cameras dropped independently; returns the mean loss.

    Raises FloatingPointError if the loss is not finite: the state is then still the one before the step.
    """
    x0, c = batch
    rng = generator(config.seed, 0, state.seen // config.batch, "train-noise")
    sigma = edm.draw_sigma(len(x0), rng).to(x0.device)
    noise = torch.randn(x0.shape, generator=rng).to(x0.device)
    forget = torch.rand(2, len(x0), generator=rng).to(x0.device)
    c = c.dropped(forget[0] < config.text_dropout, forget[1] < config.camera_dropout)
    loss = edm.loss(state.model, x0, sigma, noise, c).mean()
    if not torch.isfinite(loss):
        raise FloatingPointError(f"the training loss became {loss.item()} after {state.seen} images")
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.model.parameters(), 1.0)
    for group in state.optimiser.param_groups:
        group["lr"] = config.learning_rate(state.seen)
    state.optimiser.step()
    state.seen += len(x0)
    keep = config.ema_keep(state.seen)
    torch._foreach_lerp_(list(state.average.parameters()), list(state.model.parameters()), 1 - keep)
    return loss.item()


def train(
    state: TrainState,
    config: TrainConfig,
    batch: Callable[[int], Batch],
    checkpoint: Path,
    report: Callable[[TrainState, float], None],
) -> None:
    """Train until `config.images` are seen or `config.minutes` are over; `batch(step)` gives the pictures of a step.

    Saves the state every `save_every` seconds and at the end, also when interrupted, unless that was amid a step:
    half a step must not replace the last whole state.
    """
    start = saved = time.monotonic()
    before, whole = state.seconds, True
    try:
        for step in steps(state, config, start):
            pictures = batch(step)
            whole = False
            loss = train_step(state, config, pictures)
            whole = True
            now = time.monotonic()
            state.seconds = before + now - start
            report(state, loss)
            if now - saved > config.save_every:
                state.save(checkpoint)
                saved = time.monotonic()
    except FloatingPointError:
        whole = True  # it was raised before the step changed anything
        raise
    finally:
        if whole:
            state.save(checkpoint)


def steps(state: TrainState, config: TrainConfig, start: float) -> Iterator[int]:
    while state.seen < config.images and time.monotonic() - start < 60 * config.minutes:
        yield state.seen // config.batch


TABLE_SIGMAS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 40.0)


@torch.no_grad()
def noise_table(d: edm.Preconditioned, batches: list[Batch], seed: int = 0) -> dict[str, list[float]]:
    """Validation figures for each noise level, per element: EDM's loss and the MMSE E|x0 - D|^2 of D told all, and
    rms(x - D) of D told all (rms_full), the camera (rms_camera) or nothing (rms_none)."""
    columns = ("sigma", "loss", "mmse", "rms_full", "rms_camera", "rms_none")
    rows: dict[str, list[float]] = {name: [] for name in columns}
    count = sum(x0.numel() for x0, _ in batches)
    for index, level in enumerate(TABLE_SIGMAS):
        squares, rng = torch.zeros(4, dtype=torch.float64), generator(seed, 0, index, "noise-table")
        for x0, c in batches:
            x = x0 + level * torch.randn(x0.shape, generator=rng).to(x0.device)
            told = (c, c.unconditional(), c.unconditional().without_camera())
            denoised = [d(x, torch.tensor(level, device=x0.device), what) for what in told]
            errors = [denoised[0] - x0, *(x - each for each in denoised)]
            squares += torch.stack([e.double().square().sum() for e in errors]).cpu()
        mmse, *residuals = (squares / count).tolist()
        weight = (level**2 + d.sigma_data**2) / (level * d.sigma_data) ** 2
        for name, value in zip(columns, (level, weight * mmse, mmse, *map(math.sqrt, residuals)), strict=True):
            rows[name].append(value)
    return rows
