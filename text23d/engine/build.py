"""From the configuration to the parts of a run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from text23d.contracts import Cameras, UserError
from text23d.engine.bank import CameraBank
from text23d.engine.plan import Plan
from text23d.files import load_tensors
from text23d.method.average import Average
from text23d.method.update import InPixels, Replace, Update, Updater
from text23d.prior.codec import OnGrey
from text23d.prior.pair import Pair, builtin_pair
from text23d.prior.pretrained import LatentPair
from text23d.representation.cameras import CameraSampler
from text23d.representation.nerf import Nerf
from text23d.world.caption import Caption, known_tokens, parse, tokenize


@dataclass
class Run:
    """Everything a run is made of; `iteration`, the NeRF and the optimiser are what changes."""

    prompt: str
    caption: Caption | None
    seed: int
    device: torch.device
    nerf: Nerf
    pair: Pair
    cameras: CameraSampler | CameraBank
    plan: Plan
    optimizer: torch.optim.Optimizer | None
    update: Updater
    average: Average | None = None
    iteration: int = 0


def build(cfg: DictConfig, device: torch.device) -> Run:
    """Make the parts that `cfg` describes; the NeRF's first weights come from the seed.

    Raises UserError for a prompt the prior cannot read and for settings out of range.
    """
    if type(cfg.seed) is not int or cfg.seed < 0:
        raise UserError(f"seed={cfg.seed}: expected a whole number, 0 or more")
    plan: Plan = make(cfg.method)
    cameras: CameraSampler | CameraBank = make(cfg.views)
    caption, pair = make_prior(cfg, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        nerf: Nerf = make(cfg.representation).to(device)
    optimizer = plan.optimizer and plan.optimizer(nerf.param_groups(plan.lr_grid, plan.lr_mlp))
    update = make_update(plan, optimizer, nerf, pair, device)
    average = Average(nerf.parameters(), plan.ema) if plan.ema else None
    return Run(cfg.prompt, caption, cfg.seed, device, nerf, pair, cameras, plan, optimizer, update, average)


def make_update(
    plan: Plan, optimizer: torch.optim.Optimizer | None, phi: Nerf, pair: Pair, device: torch.device
) -> Updater:
    """How phi follows its targets. Raises UserError where they cannot replace its pixels."""
    if optimizer is None:
        if not hasattr(pair.wrap(phi), "replace"):
            raise UserError(
                "method/optimizer=replace: this representation, as this prior sees it, has no pixels of its own to be "
                "replaced; use method/optimizer=adam or sgd"
            )
        return Replace()
    update = Update(optimizer, plan.inner, split=Cameras.each if device.type == "cpu" else None)
    if plan.loss == "pixels" and isinstance(pair, LatentPair):
        return InPixels(update, OnGrey(phi, pair.background), pair.codec.decode, pair.codec.factor)
    return update


def make_prior(cfg: DictConfig, device: torch.device) -> tuple[Caption | None, Pair]:
    """The prior, and what it understood. Only the built-in one reads captions of the toy world: any other is given
    the prompt as it was written, and its caption is None.

    Raises UserError for a prompt the prior cannot read and for settings out of range.
    """
    if cfg.prior._target_ != f"{builtin_pair.__module__}.{builtin_pair.__name__}":
        return None, make(cfg.prior, prompt=cfg.prompt, device=device)
    caption, negative = parse(cfg.prompt), cfg.prior.get("negative")
    negative = known_tokens(negative, "prior.negative") if negative else ()
    return caption, make(cfg.prior, words=tokenize(cfg.prompt), negative=negative, device=device)


def make(cfg: DictConfig, **extra: Any) -> Any:
    """`hydra.utils.instantiate`, with a mistake in a value told as itself and not as Hydra's wrapping of it."""
    try:
        return instantiate(cfg, _convert_="all", **extra)
    except InstantiationException as error:
        cause: BaseException = error
        while cause.__cause__ is not None and not isinstance(cause, UserError):
            cause = cause.__cause__
        if isinstance(cause, UserError):
            raise cause from error
        raise UserError(f"cannot build {cfg.get('_target_')} from these settings: {cause}") from error


def read_nerf(folder: Path, device: torch.device | str = "cpu") -> Nerf:
    """The NeRF that a run left in its folder. Raises UserError where it is missing or damaged."""
    settings, weights = folder / "config.yaml", folder / "nerf.safetensors"
    if not settings.is_file():
        raise UserError(f"no run in {folder}: expected config.yaml and nerf.safetensors; check the folder")
    tensors, _ = load_tensors(weights)
    try:
        nerf: Nerf = make(OmegaConf.load(settings).representation)
        nerf.load_state_dict(tensors)
    except (OSError, RuntimeError, AttributeError, YAMLError) as error:
        raise UserError(f"{weights} does not fit {settings}: repeat the run") from error
    return nerf.to(device).eval().requires_grad_(False)
