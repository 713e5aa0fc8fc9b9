"""Where the scene is looked at from: the rendering parameters psi of a 3-D representation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor

from text23d import rng
from text23d.cameras import FULL_TURN, GROUP, SIDES, Cameras, check_count, check_ranges
from text23d.contracts import Sampler
from text23d.errors import UserError
from text23d.settings import Finite, Seed, number, whole

Range = tuple[Finite, Finite]
"""(low, high)."""
Angle = Annotated[float, number(least=-FULL_TURN, most=FULL_TURN)]


@dataclass(frozen=True)
class CameraSampler:
    """Random cameras around the object (p(psi) of the method), azimuths spread evenly within every batch.

    elevation  (low, high) degrees above the horizon, inside (-90, 90); uniform in its sine, so that equal areas of
               the sphere of directions are equally likely.
    distance   (low, high) scene units from the origin, outside the ball of radius 1 that bounds every field.
    fov        (low, high) degrees, inside (0, 180).
    Raises UserError where a range is empty, reversed or outside these limits.
    """

    words: ClassVar = SIDES
    count: ClassVar = None
    warm: ClassVar = False

    elevation: Range = (-10.0, 50.0)
    distance: Range = (2.8, 3.2)
    fov: Range = (38.0, 42.0)

    def __post_init__(self) -> None:
        check_ranges(self.elevation, self.distance, self.fov)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Cameras:
        """n cameras on the generator's device, all drawn from `generator` (None: torch's global one).

        Azimuths: the circle, turned by one random offset, is cut into n equal bins, with one camera anywhere in each.
        """
        check_count(n)
        device = torch.device("cpu") if generator is None else generator.device
        offset = torch.rand(1, generator=generator, device=device)
        u = torch.rand(4, n, generator=generator, device=device)
        azimuth = FULL_TURN * ((offset + torch.arange(n, device=device) + u[0]) / n % 1.0)
        low, high = torch.deg2rad(torch.tensor(self.elevation, device=device)).sin()
        elevation = torch.rad2deg(torch.asin(low + (high - low) * u[1]))
        return Cameras(azimuth, elevation, _within(self.distance, u[2]), _within(self.fov, u[3]))


@dataclass(frozen=True)
class OrthogonalCameras(CameraSampler):
    """Groups of GROUP random cameras, a quarter of a turn apart, which share all but their azimuth: as MVDream was
    trained (Shi et al. 2024, section 3.3).

    Raises UserError as CameraSampler.
    """

    def sample(self, n: int, generator: torch.Generator | None = None) -> Cameras:
        """n cameras, a multiple of GROUP, group after group. Azimuths of the groups are spread over a quarter of a
        turn as CameraSampler spreads cameras over a whole one. Raises UserError for another n."""
        if n % GROUP:
            raise UserError(f"method.views={n}: expected a multiple of {GROUP}, as views=orthogonal makes groups")
        first = super().sample(n // GROUP, generator)
        which = torch.arange(n, device=first.azimuth.device)
        every = first.rows(which // GROUP)
        return replace(every, azimuth=(every.azimuth / GROUP + FULL_TURN / GROUP * (which % GROUP)) % FULL_TURN)


@dataclass(frozen=True)
class FixedCamera:
    """One camera, in degrees and scene units: p(psi) of a picture, or of a photo that something should look like.

    Raises UserError as CameraSampler.
    """

    words: ClassVar = SIDES
    count: ClassVar = 1
    warm: ClassVar = False

    azimuth: Angle = 30.0
    elevation: Finite = 15.0
    distance: Finite = 3.0
    fov: Finite = 40.0

    def __post_init__(self) -> None:
        check_ranges(*((value, value) for value in (self.elevation, self.distance, self.fov)))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Cameras:
        """It, n times; nothing is drawn."""
        check_count(n)
        values = (self.azimuth, self.elevation, self.distance, self.fov)
        return Cameras(*(torch.full((n,), float(value)) for value in values))


@dataclass(frozen=True)
class CameraBank:
    """A fixed set of `count` cameras, drawn once from `seed` as `CameraSampler` draws them within its ranges.

    Raises UserError as CameraSampler.
    """

    words: ClassVar = SIDES
    warm: ClassVar = True

    count: Annotated[int, whole(1, 65_536)]
    seed: Seed
    elevation: Range = (-10.0, 50.0)
    distance: Range = (2.8, 3.2)
    fov: Range = (38.0, 42.0)

    def __post_init__(self) -> None:
        self.all()

    def all(self) -> Cameras:
        """The whole set, once round the circle."""
        ranges = CameraSampler(self.elevation, self.distance, self.fov)
        return ranges.sample(self.count, rng.generator(self.seed, 0, 0, "camera bank"))

    def sample(self, n: int, generator: torch.Generator | None = None) -> Cameras:
        """n different cameras, one from each n-th part of the set, which is turned at random. Raises UserError for more
        than there are."""
        if n > self.count:
            raise UserError(
                f"method.views={n} of views.count={self.count} cameras: ask for fewer views or more cameras"
            )
        u = torch.rand(n + 1, generator=generator)
        edges = torch.arange(n + 1) * self.count // n
        which = edges[:-1] + (u[:n] * edges.diff()).long()
        return self.all().rows((which + int(u[n] * self.count)) % self.count)


@dataclass(frozen=True)
class WithCamera:
    """Another sampler's cameras, and among them always this one."""

    words: ClassVar = SIDES
    count: ClassVar = None
    warm: ClassVar = False

    others: Sampler
    camera: FixedCamera

    def sample(self, n: int, generator: torch.Generator | None = None) -> Cameras:
        """n - 1 of the others' and, last, the camera. Raises UserError for n < 2."""
        return Cameras.cat([self.others.sample(n - 1, generator), self.camera.sample(1)])


def _within(bounds: Sequence[float], u: Tensor) -> Tensor:
    return bounds[0] + (bounds[1] - bounds[0]) * u
