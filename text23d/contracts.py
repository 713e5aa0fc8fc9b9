"""What the rooms of the project agree on. Nothing here knows whether a picture, an object, a video or a sound is made.

x is [B, C, *S] in the space that a prior sees: C channels over a shape S, (H, W) for pictures, (F, H, W) for clips,
(T,) for sounds. Noise is variance exploding: x_sigma = x0 + sigma * n with n ~ N(0, I).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

Shape = tuple[int, ...]
"""The extent S of what is rendered, without channels: (H, W) for pictures."""

Stage = Callable[[str], AbstractContextManager[object]]
"""Entered around a named stage of the work, to take its time."""


def unwatched(name: str) -> AbstractContextManager[object]:
    """A stage that is not timed."""
    return nullcontext()


V = TypeVar("V", bound="Views")


class Views(Protocol):
    """psi: a batch of B rendering parameters, such as cameras, crops or windows in time."""

    def __len__(self) -> int: ...

    def rows(self: V, which: slice | Tensor) -> V:
        """Some of these views."""
        ...

    def to(self: V, device: torch.device | str) -> V: ...

    def features(self) -> Tensor:
        """What a prior is told of each view as numbers [B, F], in about [-1, 1]; equal views have equal numbers."""
        ...

    def words(self) -> list[str]:
        """What a prior is told of each view as words, such as "front view"; "" where there is nothing to say."""
        ...


def each(views: V) -> Iterator[V]:
    """These views in batches of one."""
    for index in range(len(views)):
        yield views.rows(slice(index, index + 1))


class Sampler(Protocol):
    """p(psi): where the views of an iteration come from.

    words   all that its views may say of themselves
    count   how many different views there are; None: any number
    warm    whether a view starts from the noise of its last visit
    """

    @property
    def words(self) -> Sequence[str]: ...

    @property
    def count(self) -> int | None: ...

    @property
    def warm(self) -> bool: ...

    def sample(self, n: int, generator: torch.Generator | None = None) -> Any:
        """n views, all drawn from `generator`. Raises UserError where there cannot be so many."""
        ...


Psi = TypeVar("Psi")
Seen = TypeVar("Seen", contravariant=True)


class Denoiser(Protocol):
    """The one contract of every prior: D(x; sigma, c) = E[x0 | x, c]."""

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        """x [B, C, *S], sigma [] or [B] (noise level, > 0), c whatever this denoiser conditions on -> x0 as x."""
        ...


class Representation(Protocol[Seen]):
    """phi: what is optimised. The method sees nothing of it but its renderings and parameters."""

    def render(self, views: Seen, shape: Shape) -> Tensor:
        """Render `views` to [B, C, *shape], differentiable in the parameters."""
        ...

    def parameters(self) -> Iterable[torch.nn.Parameter]: ...


class Constraint(Protocol[Psi]):
    """What is known beforehand of the result ([0003], [0041]): a projection of targets, an extra loss, or both. A
    constraint only renders phi, and so composes with any representation."""

    @property
    def penalty(self) -> Callable[[Representation[Psi]], Tensor] | None:
        """phi -> a loss [], differentiable in phi, that the update adds to its own; None: none."""
        ...

    def within(self, wrap: Callable[[Representation[Psi]], Representation[Psi]]) -> Constraint[Psi]:
        """This constraint for targets in the space that wrap(phi) renders to."""
        ...

    def project(self, x0_hat: Tensor, views: Psi) -> Tensor:
        """A target x0_hat [B, C, *S] as it should be instead."""
        ...


class Learner(Protocol):
    """A denoiser that is trained during the run on the renderings: the D_phi of VSD."""

    @property
    def evaluations(self) -> int:
        """What a call costs, in network evaluations."""
        ...

    def __call__(self, x0: Tensor, x: Tensor, sigma: Tensor, c: Any) -> Tensor:
        """D_phi(x; sigma, c) as x, and then one step of learning that x came from x0, both [B, C, *S]."""
        ...

    def state(self) -> dict[str, Tensor]: ...

    def load(self, state: Mapping[str, Tensor]) -> None: ...


class World(Protocol):
    """A procedural world, which a prior is trained on and whose captions its prompts are."""

    def read(self, prompt: str) -> Any:
        """A prompt as a caption. Raises UserError for what is no caption of this world."""
        ...

    def tokens(self, prompt: str, setting: str = "prompt") -> tuple[str, ...]:
        """A prompt as words, given as `setting`. Raises UserError for words that this world has not."""
        ...


@dataclass(frozen=True)
class Exported:
    """What a finished task wrote into the run's folder: `summary` for summary.json, `message` in a few words, and
    `notes` that a person should know."""

    summary: dict[str, Any]
    message: str
    notes: Sequence[str] = ()


Progress = Callable[[str, int, int], None]
"""(what, done, total): told while something long is written."""


class Task(Protocol):
    """What is made, and all that depends on it: how phi is built and prepared, shown, judged and exported.

    file      name of the file of phi's parameters
    columns   titles of the pictures that the contact sheet has of a stage
    single    whether one view shows all of phi, as of a picture
    """

    @property
    def file(self) -> str: ...

    @property
    def columns(self) -> Sequence[str]: ...

    @property
    def single(self) -> bool: ...

    def build(self, section: Mapping[str, Any], seed: int, device: torch.device) -> Any:
        """phi as the configuration's section describes it, its first values from `seed`. Raises UserError for a
        representation of something else, and for values out of range."""
        ...

    def bound(self, views: Sampler, constraint: Constraint[Any], device: torch.device) -> Task:
        """This task for a run with these views and this constraint, in phi's own space. Raises UserError where they do
        not serve."""
        ...

    def prepare(self, phi: Any, iteration: int, draw: Callable[[str], torch.Generator]) -> None:
        """What phi has to do before an iteration."""
        ...

    def preview(self, phi: Any) -> Tensor:
        """The contact sheet's pictures of phi as it is, in picture space [len(columns), 4, H, W]."""
        ...

    def judged(self, phi: Any, shape: Shape) -> Tensor:
        """What the judge is to see of phi, [B, C, *shape]."""
        ...

    def export(self, phi: Any, prompt: str, folder: Path, stage: Stage, progress: Progress) -> Exported:
        """Write the results into `folder`, each in a stage of its own. Raises UserError if one cannot be written."""
        ...
