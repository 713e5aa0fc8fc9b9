"""From a configuration to a run: its state, which changes, and its parts, which do not."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch

from text23d.contracts import Constraint, Sampler, Shape, Task, Views, World, each
from text23d.engine.ranks import ALONE, Ranks
from text23d.engine.recipe import LangevinRecipe, Recipe
from text23d.engine.state import RunState
from text23d.errors import UserError
from text23d.guide import Guide, Request
from text23d.interlaced import FIELDS, Interlaced
from text23d.method.average import Average
from text23d.method.constraints import Inpaint, Unconstrained
from text23d.method.draft import Draft
from text23d.method.noise import gaussian
from text23d.method.step import StepReport
from text23d.method.update import InPixels, Reduce, Replace, Update, Updater, resample
from text23d.method.warm import SharedNoise, WarmStarts
from text23d.prior.wrappers.completing import completing
from text23d.prior.wrappers.regional import regional
from text23d.representation.canvas import Canvas
from text23d.representation.nerf import Nerf
from text23d.rng import generator
from text23d.settings import Seed, Text, build, checked
from text23d.tasks.constraints import Known
from text23d.tasks.fine import Fine

MISSING = "???"
"""What a configuration says of a setting that was not given."""


def unseen(report: StepReport) -> None:
    """For a run that nobody watches."""


@dataclass(frozen=True)
class Parts:
    """The immutable parts of a run. constraint: of targets in the prior's space. share: the global indices of the
    views that this process renders, of all `recipe.views` of an iteration, which it shares with `ranks`. one_by_one:
    whether the update renders one of them after another: on a CPU the temporaries of one stay in its cache. fine: what
    the end of the run sees instead of whole views; None: nothing else. request: what the prior was asked; known: the
    constraint in phi's own space. seen: is told what each iteration did."""

    prompt: str
    seed: int
    device: torch.device
    task: Task
    guide: Guide
    views: Sampler
    constraint: Constraint[Any]
    recipe: Recipe
    share: Sequence[int]
    world: World[Any]
    one_by_one: bool = False
    ranks: Ranks = ALONE
    fine: Fine | None = None
    request: Request | None = None
    known: Constraint[Any] = field(default_factory=Unconstrained)
    seen: Callable[[StepReport], None] = unseen

    def draft(self, progress: float) -> Draft | None:
        """The draft that an iteration at this progress belongs to; None: none, as always of Algorithm 1's rivals."""
        draft = self.fine.draft if self.fine is not None and isinstance(self.recipe, LangevinRecipe) else None
        return draft if draft is not None and draft.includes(progress) else None

    def updater(
        self, state: RunState, everyone: Views, progress: float, draw: Callable[[str], torch.Generator]
    ) -> Updater:
        """How phi follows its targets at this progress; everyone: all views of the iteration; draw: its streams."""
        latents, inner = self.guide.latents, self.recipe.inner
        if state.optimizer is None:
            gather = lambda _, x0_hat: (everyone, self.ranks.gathered(x0_hat, len(everyone)))  # noqa: E731
            replacing = Replace(None if self.ranks.alone else gather)
            if latents is None:
                return replacing
            known: Any = getattr(self.task, "constraint", None)  # in phi's own space
            shown = latents.shown(state.phi)  # type: ignore[arg-type]
            return InPixels(replacing, shown, latents.decode, latents.factor, known and known.project)
        constrained = self.constraint.penalty and partial(self.constraint.penalty, state.phi)  # type: ignore[arg-type]
        penalties = [each for each in (constrained, self.task.penalty(state.phi, progress, draw)) if each is not None]
        apart = split if self.one_by_one else None
        seen_by_rays = isinstance(state.phi, Nerf) and latents is None and inner % FIELDS == 0
        fields = interlaced if seen_by_rays else None
        update = Update(state.optimizer, inner, penalties, apart, reduction(self.recipe, self.ranks), fields)
        if self.recipe.loss == "pixels" and latents is not None:
            return InPixels(update, latents.shown(state.phi), latents.decode, latents.factor)  # type: ignore[arg-type]
        return update

    def update_shape(self, progress: float) -> Shape:
        """The shape of the update's rendering ([0036]). For a prior of latents it is no finer than what that sees: the
        code of a larger picture is not an enlarged code."""
        size, seen, latents = self.recipe.size, self.guide.shape, self.guide.latents
        if size is None or self.draft(progress) is not None:
            return seen
        coded = latents is not None and latents.factor > 1
        return tuple(min(int(size(progress)), side) if coded else int(size(progress)) for side in seen)


def reduction(recipe: Recipe, ranks: Ranks) -> Reduce | None:
    """How gradients of the ranks' means over their own views become that of the mean over all."""
    return None if ranks.alone else partial(ranks.add_gradients, len(ranks.share(recipe.views)) / recipe.views)


def split(views: Any) -> list[Any]:
    """One view after another."""
    return list(each(views))


def interlaced(views: Any) -> list[Interlaced]:
    """Their fields."""
    return [Interlaced(views, first) for first in range(FIELDS)]


def build_run(cfg: Mapping[str, Any], device: torch.device, ranks: Ranks = ALONE) -> tuple[RunState, Parts]:
    """The run that `cfg` describes, before its first iteration; phi's first values come from the seed.

    cfg: plain data (see `settings`). Raises UserError for a prompt the prior cannot read, for settings out of range,
    for pictures that do not serve, and for fewer views than ranks.
    """
    prompt, seed = checked(cfg.get("prompt"), Text, "prompt"), checked(cfg.get("seed"), Seed, "seed")
    task: Task = build(cfg.get("task"), "task", Task, settings=cfg)
    recipe: Recipe = build(cfg.get("method"), "method", Recipe)
    views: Sampler = build(cfg.get("views"), "views", Sampler)
    share = ranks.share(recipe.views)
    world: World[Any] = build(cfg.get("world"), "world", World)
    if cfg.get("regions") and task.regions is None:
        raise UserError("regions: this has one prompt; they are for panoramas, videos and sounds, so leave them out")
    asked = (prompt,) if task.regions is None else tuple(task.regions.prompts)
    request = Request(asked[0], world, views.words, device, asked[1:])
    guide: Guide = build(cfg.get("prior"), "prior", Guide, request=request)
    require_groups(recipe.views, share, guide.group)
    phi = task.build(cfg.get("representation", {}), seed, device)
    constraint: Constraint[Any] = Unconstrained()
    if cfg.get("constraint"):
        known: Known = build(cfg["constraint"], "constraint", Known)
        constraint, views = known.constrain(views, task.single, device)
    guide, optimizer = prepared(guide, constraint, task), None
    if recipe.optimizer is None:
        require_pixels(phi, guide, constraint)
    else:
        optimizer = recipe.optimizer(phi.param_groups(recipe.lr_grid, recipe.lr_mlp))
    state = RunState(
        phi,
        optimizer,
        Average(phi.parameters(), recipe.ema) if recipe.ema else None,
        noise_kept(views, phi, seed, device, guide),
        recipe.learner(guide.unguided, generator(seed, 0, 0, "learner"), reduction(recipe, ranks)),
    )
    fine = None
    if cfg.get("stage"):
        require_windows(phi, views, constraint, state)
        fine = build(cfg["stage"], "stage", Fine, request=request)
    task, inside = task.bound(views, constraint, device), as_seen(constraint, guide)
    one_by_one = device.type == "cpu" and not isinstance(phi, Canvas)  # whose gradient is as large as all of it
    parts = Parts(
        name_of(prompt, task), seed, device, task, guide, views, inside, recipe, share, world, one_by_one, ranks, fine
    )
    return state, replace(parts, request=request, known=constraint)


def retold(parts: Parts, cfg: Mapping[str, Any]) -> Parts:
    """The same run with the prior, the fine stage and the prompt of another configuration. Raises UserError for a
    prompt that the prior cannot read, and for settings out of range."""
    assert parts.request is not None, "a run that was built knows what it asked"
    request = parts.request
    prompt = checked(cfg.get("prompt"), Text, "prompt")
    if parts.task.regions is None:
        request = replace(request, prompt=prompt)
    guide = prepared(build(cfg.get("prior"), "prior", Guide, request=request), parts.known, parts.task)
    fine = build(cfg["stage"], "stage", Fine, request=request) if parts.fine is not None else None
    inside = as_seen(parts.known, guide)
    return replace(
        parts, prompt=name_of(prompt, parts.task), guide=guide, fine=fine, constraint=inside, request=request
    )


def name_of(prompt: str, task: Task) -> str:
    """What a run is called: its prompt, or, where none was given, those of its parts."""
    return prompt if prompt != MISSING or task.regions is None else ", ".join(task.regions.prompts)


def prepared(guide: Guide, constraint: Constraint[Any], task: Task) -> Guide:
    """A prior's guide as a run takes it: told what this constraint knows, and the prompts of the task's regions."""
    guide = replace(guide, watched=True)
    if isinstance(constraint, Inpaint):
        guide = completing(guide, constraint.known, constraint.keep)
    return guide if task.regions is None else regional(guide, task.regions.weights)


def as_seen(constraint: Constraint[Any], guide: Guide) -> Constraint[Any]:
    """A constraint in phi's own space, of targets in the prior's."""
    inside = constraint.within(guide.wrap)
    return inside if guide.latents is None else coarser(inside, guide.latents.factor)


def require_groups(views: int, share: range, group: int) -> None:
    """Raises UserError where a process would have a part of what the prior sees together."""
    if views % group or share.start % group or len(share) % group:
        raise UserError(
            f"method.views={views}: this prior sees {group} views together: expected a multiple of {group}, and of "
            f"{group} for each process"
        )


def coarser(constraint: Constraint[Any], factor: int) -> Constraint[Any]:
    """A constraint of codes, `factor` pixels along a side of each: it keeps as much of one as of its pixels."""
    if not isinstance(constraint, Inpaint):
        return constraint
    keep = constraint.keep
    return replace(
        constraint,
        keep=lambda views, shape: resample(keep(views, tuple(factor * side for side in shape)), shape),
    )


def noise_kept(
    views: Sampler, phi: Any, seed: int, device: torch.device, guide: Guide
) -> WarmStarts | SharedNoise | None:
    """Where views that come again find their noise. Raises UserError for windows that share it, of a prior whose codes
    have no place of their own in a canvas."""
    if not views.warm:
        return None
    if not isinstance(phi, Canvas):
        return WarmStarts()
    if guide.latents is not None:
        raise UserError("views.shared=true: a prior of latents has no noise for each pixel; use views.shared=false")
    return SharedNoise(gaussian(phi.values[None].detach(), generator(seed, 0, 0, "shared noise"))[0].to(device))


def require_windows(phi: Any, views: Sampler, constraint: Constraint[Any], state: RunState) -> None:
    """Raises UserError where an iteration cannot see windows instead of whole views."""
    if not isinstance(phi, Nerf) or views.warm or isinstance(constraint, Inpaint) or state.learner is not None:
        raise UserError(
            "stage=fine: expected an object (representation=nerf) from cameras that are not kept, without "
            "constraint=inpaint and method=vsd, which know whole views only; use stage=none"
        )


def require_pixels(phi: Any, guide: Guide, constraint: Constraint[Any]) -> None:
    """Raises UserError where targets cannot replace phi's pixels: those of a prior of latents are decoded to colour."""
    own = isinstance(phi, Canvas) and phi.values.shape[0] == 3 if guide.latents else hasattr(phi, "replace")
    if not own or constraint.penalty:
        raise UserError(
            "method/optimizer=replace: expected a representation that has pixels of its own, in the prior's space, "
            "and no constraint with a loss; use representation=image, or method/optimizer=adam"
        )


def task_alone(cfg: Mapping[str, Any], device: torch.device, note: Callable[[str], None]) -> Task:
    """The task of a configuration as a run has it, without a prior, to look at what it made. What was known beforehand
    and cannot be read any more is noted, and left out. Raises UserError where the configuration says no task."""
    task: Task = build(cfg.get("task"), "task", Task, settings=cfg)
    views: Sampler = build(cfg.get("views"), "views", Sampler)
    constraint: Constraint[Any] = Unconstrained()
    if cfg.get("constraint"):
        known: Known = build(cfg["constraint"], "constraint", Known)
        try:
            constraint, views = known.constrain(views, task.single, device)
        except UserError as error:
            note(f"{error}; what is shown is without it")
    return task.bound(views, constraint, device)
