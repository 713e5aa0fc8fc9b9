"""What the rooms of the project agree on. Nothing here knows whether a picture, an object, a video or a sound is made.

x is [B, C, *S] in the space that a prior sees: C channels over a shape S, (H, W) for pictures, (F, H, W) for clips,
(T,) for sounds. Noise is variance exploding: x_sigma = x0 + sigma * n with n ~ N(0, I).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
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

    def given(self, shape: Shape) -> Tensor | None:
        """What a prior is shown of each view beforehand, at every place of it: [B, K, *shape]; None: nothing."""
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


Said = TypeVar("Said")
"""A world's captions: frozen dataclasses of plain values."""


@dataclass(frozen=True)
class Head:
    """One question about an example that a judge answers.

    name     of the head
    how      global: read off the whole example, its classes and one more: none of them;
             located: read where the judge finds it, once, or once for each of `places`;
             circular: an angle, its classes bins of equal width, the first centred on 0
    classes  the possible answers; located heads of the same classes share what tells them apart
    places   what a located head is asked of, such as parts; none: of the thing itself
    """

    name: str
    how: Literal["global", "located", "circular"]
    classes: tuple[str, ...]
    places: tuple[str, ...] = ()


@dataclass(frozen=True)
class Label:
    """The right answer of a global or a located head: one of its classes, at one of its places if it has any."""

    head: str
    answer: str
    place: str = ""


@dataclass(frozen=True)
class Example:
    """What was made in one go: a caption, and under each name of the world's `arrays` one row for each view."""

    caption: Any
    arrays: Mapping[str, NDArray[Any]]


class World(Protocol[Said]):
    """Captioned examples without end: what built-in priors and judges are trained on, and what their prompts mean.

    A world is a frozen dataclass whose fields are its settings: equal worlds give equal examples.

    name             in one word, as the world's files of weights have it
    channels, shape  an example as priors see it is x [B, channels, *shape], in about [-1, 1]
    medium           in words, what a prior of it sees and is conditioned on
    words            the vocabulary of its captions, sorted
    heads            what a judge of it is asked
    splits           seeds of examples that must not meet: training, validation, judge, judge_validation, and those of
                     evaluations
    unseen           captions of what no example shows, unless the world's settings say so: held out from priors
    arrays           how examples are stored: the shape of a row and its type, by the array's name
    light            unit normals [N, 3] -> irradiance [N] > 0 of the surfaces that examples show, about which each
                     example's own may vary: display colour = min(albedo * irradiance, 1); None: there is none to know
    """

    @property
    def name(self) -> str: ...

    @property
    def channels(self) -> int: ...

    @property
    def shape(self) -> Shape: ...

    @property
    def medium(self) -> str: ...

    @property
    def words(self) -> tuple[str, ...]: ...

    @property
    def heads(self) -> tuple[Head, ...]: ...

    @property
    def splits(self) -> Mapping[str, int]: ...

    @property
    def unseen(self) -> tuple[Said, ...]: ...

    @property
    def arrays(self) -> Mapping[str, tuple[tuple[int, ...], str]]: ...

    @property
    def light(self) -> Callable[[NDArray[Any]], NDArray[Any]] | None: ...

    def tokens(self, prompt: str, setting: str = "prompt") -> tuple[str, ...]:
        """A prompt as words, given as `setting`. Raises UserError for words that this world has not."""
        ...

    def read(self, prompt: str) -> Said:
        """What a prompt asks for. Raises UserError, in one line, for what the grammar does not understand."""
        ...

    def say(self, caption: Said, rng: np.random.Generator | None = None) -> str:
        """The plain phrase for a caption, or with `rng` one of the grammar's many, now and then telling less."""
        ...

    def caption(self, fields: Mapping[str, Any]) -> Said:
        """A caption from the JSON of its fields. Raises KeyError, TypeError or ValueError for other fields."""
        ...

    def example(self, seed: int, index: int, views: int) -> Example:
        """Example `index` of the world's `seed`, by so many views: the same whatever else is made."""
        ...

    def decode(self, arrays: Mapping[str, NDArray[Any]]) -> tuple[Tensor, Any]:
        """Stored rows -> x [B, channels, *shape] as priors see it, and the `Views` of its rows."""
        ...

    def labels(self, caption: Said) -> tuple[Label, ...]:
        """What a judge should answer about examples of this caption; empty: it cannot be asked."""
        ...

    def angles(self, captions: Sequence[Said], views: Any) -> Mapping[str, Tensor]:
        """The answers of the circular heads in degrees [B], NaN where there is none."""
        ...

    def judged(self) -> World[Said]:
        """The world that judges are trained on: with what is held out from priors, and only what labels can tell."""
        ...

    def corrupt(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """Examples [B, channels, *shape] as unfinished work might show them: a judge must know them all the same."""
        ...

    def scramble(self, x: Tensor, generator: torch.Generator) -> Tensor:
        """The pieces of examples in another order: none of the classes of a global head."""
        ...

    def showcase(self) -> tuple[list[Said], Any]:
        """Captions and views that show what a prior has learned, one sample each."""
        ...

    def shown(self, x: Tensor) -> Tensor:
        """Examples [B, channels, *shape] as pictures of them, in picture space [B, 4, H, W]."""
        ...

    def facts(self) -> list[str]:
        """What a model card says of the world, a line each."""
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


class Parted(Protocol):
    """Prompts, one for each of R parts of phi, and how much each counts at each place of phi: weights [R, *S]."""

    @property
    def prompts(self) -> Sequence[str]: ...

    @property
    def weights(self) -> Tensor: ...


class Task(Protocol):
    """What is made, and all that depends on it: how phi is built and prepared, shown, judged and exported.

    file      name of the file of phi's parameters
    columns   titles of the pictures that the contact sheet has of a stage
    single    whether one view shows all of phi, as of a picture
    regions   prompts for parts of phi; None: one is for all of it
    """

    @property
    def file(self) -> str: ...

    @property
    def columns(self) -> Sequence[str]: ...

    @property
    def single(self) -> bool: ...

    @property
    def regions(self) -> Parted | None: ...

    def build(self, section: Mapping[str, Any], seed: int, device: torch.device) -> Any:
        """phi as the configuration's section describes it, its first values from `seed`. Raises UserError for a
        representation of something else, and for values out of range."""

    def bound(self, views: Sampler, constraint: Constraint[Any], device: torch.device) -> Task:
        """This task for a run with these views and this constraint, in phi's own space. Raises UserError where they do
        not serve."""

    def prepare(self, phi: Any, iteration: int, draw: Callable[[str], torch.Generator]) -> None:
        """What phi has to do before an iteration."""

    def penalty(self, phi: Any, progress: float, draw: Callable[[str], torch.Generator]) -> Callable[[], Tensor] | None:
        """A loss [] of phi itself, as it is whenever it is asked, that the updates of an iteration at this progress in
        [0, 1] add to their own; None: none."""

    def fault(self, phi: Any) -> str:
        """What is wrong with phi as a whole, such as that it shows nothing; "": nothing."""

    def preview(self, phi: Any) -> Tensor:
        """The contact sheet's pictures of phi as it is, in picture space [len(columns), 4, H, W]."""

    def judged(self, phi: Any, shape: Shape) -> Sequence[Tensor]:
        """What the judge is to see of phi for each of the run's prompts, [B, C, *shape]; B may be 0."""

    def export(self, phi: Any, prompt: str, folder: Path, stage: Stage, progress: Progress) -> Exported:
        """Write the results into `folder`, each in a stage of its own. Raises UserError if one cannot be written."""
