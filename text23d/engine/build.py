"""From the configuration to the parts of a run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from yaml import YAMLError

from text23d.cameras import Cameras
from text23d.contracts import Constraint
from text23d.engine.recipe import Plan
from text23d.engine.warm import WarmStarts
from text23d.errors import UserError
from text23d.files import load_tensors
from text23d.method.average import Average
from text23d.method.constraints import Unconstrained
from text23d.method.update import InPixels, Replace, Update, Updater
from text23d.prior.hub.stable_diffusion import LatentPair
from text23d.prior.pair import Pair, builtin_pair
from text23d.prior.wrappers.codec import OnGrey
from text23d.representation.nerf import Nerf
from text23d.representation.views import CameraBank, FixedCamera
from text23d.tasks.known import Given, KnownPixels, KnownView, Sampler
from text23d.tasks.object import Solid
from text23d.tasks.picture import Flat, Image
from text23d.tasks.task import Phi, Subject
from text23d.worlds.objects.caption import Caption, known_tokens, parse, tokenize


@dataclass
class Run:
    """Everything a run is made of; `iteration`, phi and the optimiser are what changes. constraint: of targets in the
    prior's space."""

    prompt: str
    caption: Caption | None
    seed: int
    device: torch.device
    subject: Subject
    pair: Pair
    cameras: Sampler
    constraint: Constraint[Cameras]
    plan: Plan
    optimizer: torch.optim.Optimizer | None
    update: Updater
    average: Average | None = None
    warm: WarmStarts | None = None
    iteration: int = 0

    @property
    def phi(self) -> Any:
        """What is optimised."""
        return self.subject.phi


def build(cfg: DictConfig, device: torch.device) -> Run:
    """Make the parts that `cfg` describes; phi's first values come from the seed.

    Raises UserError for a prompt the prior cannot read, for settings out of range and for pictures that do not serve.
    """
    if type(cfg.seed) is not int or cfg.seed < 0:
        raise UserError(f"seed={cfg.seed}: expected a whole number, 0 or more")
    plan: Plan = make(cfg.method)
    given: Given = make(cfg.views)
    caption, pair = make_prior(cfg, device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)
        phi: Phi = make(cfg.representation).to(device)
    constraint, cameras = make_constraint(cfg, given, phi, device)
    optimizer = plan.optimizer and plan.optimizer(phi.param_groups(plan.lr_grid, plan.lr_mlp))
    update = make_update(plan, optimizer, phi, pair, constraint)
    average = Average(phi.parameters(), plan.ema) if plan.ema else None
    warm = WarmStarts() if isinstance(given, CameraBank) else None
    subject, inside = make_subject(phi, given, constraint, device), constraint.within(pair.wrap)
    parts = (subject, pair, cameras, inside, plan, optimizer, update, average, warm)
    return Run(cfg.prompt, caption, cfg.seed, device, *parts)


def make_update(
    plan: Plan, optimizer: torch.optim.Optimizer | None, phi: Phi, pair: Pair, constraint: Constraint[Cameras]
) -> Updater:
    """How phi follows its targets. Raises UserError where they cannot replace its pixels."""
    if optimizer is None:
        if not hasattr(pair.wrap(phi), "replace") or constraint.penalty:
            raise UserError(
                "method/optimizer=replace: expected a representation that has pixels of its own, in the prior's space, "
                "and no constraint with a loss; use representation=image, or method/optimizer=adam"
            )
        return Replace()
    penalty = constraint.penalty and partial(constraint.penalty, phi)
    on_cpu = next(iter(phi.parameters())).device.type == "cpu"
    update = Update(optimizer, plan.inner, penalty, Cameras.each if on_cpu else None)
    if plan.loss == "pixels" and isinstance(pair, LatentPair):
        return InPixels(update, OnGrey(phi, pair.background), pair.codec.decode, pair.codec.factor)
    return update


def make_constraint(
    cfg: DictConfig, cameras: Given, phi: Phi, device: torch.device
) -> tuple[Constraint[Cameras], Sampler]:
    """The constraint, in picture space, and the cameras, with its own where its targets need that. Raises UserError for
    pictures and cameras that do not serve."""
    if not cfg.get("constraint"):
        return Unconstrained(), cameras
    known: KnownPixels | KnownView = make(cfg.constraint)
    return known.constrain(cameras, not isinstance(phi, Nerf), device)


def make_subject(phi: Phi, cameras: Sampler, constraint: Constraint[Cameras], device: torch.device) -> Subject:
    """What a run with this phi makes. Raises UserError for a picture that is not seen by one camera alone."""
    if isinstance(phi, Nerf):
        return Solid(phi, device)
    if not isinstance(cameras, FixedCamera) and not (isinstance(cameras, CameraBank) and cameras.count == 1):
        raise UserError("an image is seen by one camera, which the prior is told: choose views=one")
    return Flat(cast(Image, phi), cameras.sample(1).to(device), constraint)


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
    if (folder / "image.safetensors").is_file():
        raise UserError(f"the run in {folder} made an image, which has no mesh and no other sides: see image.png there")
    tensors, _ = load_tensors(weights)
    try:
        nerf: Nerf = make(OmegaConf.load(settings).representation)
        nerf.load_state_dict(tensors)
    except (OSError, RuntimeError, AttributeError, YAMLError) as error:
        raise UserError(f"{weights} does not fit {settings}: repeat the run") from error
    return nerf.to(device).eval().requires_grad_(False)
