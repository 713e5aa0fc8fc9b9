"""The radiance field phi: a hash grid and a small network, rendered by `volume`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, cast
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from text23d.cameras import Cameras
from text23d.contracts import Shape, each
from text23d.kernels import ops, reference
from text23d.memory import recomputed
from text23d.representation.hashgrid import Encoding, HashGrid
from text23d.representation.occupancy import Occupancy
from text23d.representation.surface import Surface
from text23d.representation.volume import HIDDEN, Points, Remembered, points_on_rays, render_points
from text23d.settings import Count, number, whole
from text23d.spaces import to_picture


class Nerf(nn.Module):
    """Density and view-independent colour in the ball of radius 1; implements `contracts.Representation`.

        density(x) = gain * softplus(raw(x) + blob * (1 - |x| / radius)) for |x| < 1, else 0
        rgb(x)     = sigmoid(raw_rgb(x))

    with raw the output of encoding -> hidden ReLU units -> 4. The blob makes the untrained field a soft sphere
    (as in Magic3D, Lin et al. 2023), and a thin one: behind an opaque wall no picture says that there should be a hole,
    so a field that begins opaque keeps the hull of what it was first shown, such as a block for a table's legs. `gain`
    is in 1 / scene unit: with dt = 2 / 64 a raw of 1 makes one step 0.64 opaque, a raw of 4 makes it
    0.96, so that a surface needs no more than a step or two.

    encoding   points [N, 3] in [-1, 1] -> [N, encoding.out_features]; None: a hash grid of 8 levels of 2 features, from
               8 to 128 cells per axis, in tables of 2^15 entries.
    hidden     width of the one hidden layer.
    steps      samples a ray takes along an edge of the cube: dt = 2 / steps.
    occupancy  where samples are worth taking; None: the default grid.
    refresh    iterations between updates of the occupancy. It forgets by the update, so that the
               ball which every field begins as is let go after four of them.
    surface    what keeps its surfaces together; None: nothing.
    generator  draws the initial weights, on the CPU (None: torch's global one).

    `chunk` is the number of rays that are rendered at once, for as much memory as those require: the gradient renders
    each chunk once more instead of remembering it, and is the same up to rounding. None: all rays of a rendering with
    gradient, and of others as many as suit the device.
    """

    chunk: int | None = None

    def __init__(
        self,
        encoding: Encoding | None = None,
        hidden: Annotated[int, whole(1, 1024)] = 32,
        steps: Annotated[int, whole(1, 1024)] = 64,
        gain: Annotated[float, number(above=0, most=10_000)] = 25.0,
        blob: Annotated[float, number(least=-1000, most=1000)] = 1.0,
        radius: Annotated[float, number(least=0.01, most=100)] = 0.5,
        occupancy: Occupancy | None = None,
        refresh: Count = 4,
        surface: Surface | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        grid: Any = encoding if encoding is not None else HashGrid(8, 2, 15, 8, 128, generator)
        first, last = nn.Linear(grid.out_features, hidden), nn.Linear(hidden, 4)
        for layer in (first, last):
            nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu", generator=generator)
            nn.init.zeros_(layer.bias)
        self.encoding, self.mlp = grid, nn.Sequential(first, nn.ReLU(inplace=True), last)
        self.occupancy = Occupancy() if occupancy is None else occupancy
        self.hidden, self.surface = hidden, surface
        self.dt, self.gain, self.blob, self.radius, self.refresh = 2 / steps, gain, blob, radius, refresh
        self._remembered: WeakKeyDictionary[Cameras, tuple[Tensor, tuple[Any, ...], Remembered]] = WeakKeyDictionary()

    @property
    def beta(self) -> Tensor | None:
        """Of a field that is a signed distance, see `ops.field`; this one is not."""
        return None

    def query(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Points [N, 3] -> density [N] per scene unit, >= 0, and colour [N, 3] in (0, 1)."""
        return self._field(x, self.gain, self.beta)

    def _field(self, x: Tensor, gain: float, beta: Tensor | None) -> tuple[Tensor, Tensor]:
        """`ops.field` at points [N, 3] in [-1, 1]."""
        shape = (gain, self.blob, self.radius, beta)
        if not isinstance(self.encoding, HashGrid):
            return reference.activate(self.mlp(self.encoding(x)), x, *shape)
        return ops.field((x + 1) / 2, self.encoding.table, self._network(), self.encoding.layout, *shape)

    def _network(self) -> ops.Mlp:
        first, last = cast(nn.Linear, self.mlp[0]), cast(nn.Linear, self.mlp[2])
        return ops.Mlp(first.weight, first.bias, last.weight, last.bias)

    def density(self, x: Tensor) -> Tensor:
        """Points [N, 3] -> density [N] per scene unit, >= 0; zero outside the ball of radius 1."""
        return self.query(x)[0]

    def render(self, views: Cameras, shape: Shape, generator: torch.Generator | None = None) -> Tensor:
        """`views` in picture space [B, 4, *shape], differentiable in the parameters.

        With a generator the samples of every ray start at a random part of a step, without it in its middle. Repeated
        without it for the very same `views`, it leaves out what lies hidden, up to 1e-4: see `volume.Remembered`.
        """
        if generator is None and not torch.is_grad_enabled():
            return self.render_image(views, shape)
        if generator is None and self.chunk is None:
            shaded = torch.cat(self._remembered_points(views, shape).render(self.query, self.dt), -1)
        else:
            rays = self._rays(views, shape)
            jitter = rays[0].new_full((len(rays[0]),), 0.5)
            if generator is not None:
                jitter = torch.rand(len(jitter), generator=generator, device=generator.device).to(jitter)
            shaded = self._shade_rays(*rays, jitter)
        pixels = shaded.reshape(len(views), *shape, 4).permute(0, 3, 1, 2)
        return to_picture(pixels[:, :3], pixels[:, 3:])

    def _shade_rays(self, *rays: Tensor) -> Tensor:
        """`_shade` of rays: origins [R, 3], directions [R, 3] and jitter [R], `chunk` of them at a time."""

        def shade(origins: Tensor, directions: Tensor, jitter: Tensor) -> Tensor:
            return self._shade(points_on_rays(origins, directions, self.occupancy.mask, self.dt, jitter))

        if self.chunk is None:
            return shade(*rays)
        parts = zip(*(each.split(self.chunk) for each in rays), strict=True)
        return torch.cat([recomputed(shade, *part) for part in parts])

    def _remembered_points(self, views: Cameras, shape: Shape) -> Remembered:
        """Where the rays of these cameras ask the field: the same for all steps of an optimiser on one target, so it is
        remembered for as long as these very cameras are in use and the occupancy stays."""
        mask, like = self.occupancy.mask, next(self.mlp.parameters())
        state = mask._version, shape, like.dtype
        seen_in, seen_as, points = self._remembered.get(views, (None, None, None))
        if points is None or seen_in is not mask or seen_as != state:
            points = Remembered(points_on_rays(*self._rays(views, shape), mask, self.dt))
            self._remembered[views] = mask, state, points
        return points

    def _look(self, origins: Tensor, directions: Tensor) -> Tensor:
        """Premultiplied colour and alpha [R, 4] along rays [R, 3] (unit directions), without gradients and as far as
        light of half the transmittance HIDDEN reaches, which is HIDDEN in picture space."""
        if not isinstance(self.encoding, HashGrid) or origins.is_cuda:
            return self._shade(points_on_rays(origins, directions, self.occupancy.mask, self.dt))
        field = self.encoding.table, self._network(), self.encoding.layout
        march = origins, directions, self.occupancy.mask, self.dt, HIDDEN / 2
        colour, alpha = ops.render(*march, *field, self.gain, self.blob, self.radius, self.beta)
        return torch.cat([colour, alpha[:, None]], -1)

    @torch.no_grad()
    def render_image(self, views: Cameras, shape: Shape | int, chunk: int | None = None) -> Tensor:
        """`render` to `shape`, or to a square of that side, without gradients or jitter, and to HIDDEN
        without what lies behind.

        A view and at most `chunk` rays at a time, so that memory is bounded for any shape; None: as many as suit the
        device, on a CPU those whose temporaries stay in its cache.
        """
        shape = (shape, shape) if isinstance(shape, int) else shape
        suited = 1 << 18 if self.occupancy.mask.is_cuda else 1 << 12
        pictures, chunk = [], chunk or min(self.chunk or suited, suited)
        for view in each(views):
            rays = self._rays(view, shape)
            parts = [self._look(o, d) for o, d in zip(*(r.split(chunk) for r in rays), strict=True)]
            pixels = torch.cat(parts).T.reshape(4, *shape)
            pictures.append(to_picture(pixels[:3], pixels[3:]))
        return torch.stack(pictures)

    def _rays(self, views: Cameras, shape: Shape) -> tuple[Tensor, Tensor]:
        """Origins and directions [B * H * W, 3], where and as what the network computes."""
        like = next(self.mlp.parameters())
        origins, directions = (rays.reshape(-1, 3).to(like) for rays in views.rays(shape))
        return origins, directions

    def _shade(self, points: Points) -> Tensor:
        """Premultiplied colour and alpha [R, 4]."""
        return torch.cat(render_points(points, self.query, self.dt), -1)

    def refresh_occupancy(self, step: int, generator: torch.Generator | None = None) -> bool:
        """Every `refresh`-th step, from step 0, look again where matter is. Says whether this step was one."""
        due = step % self.refresh == 0
        if due:
            self.occupancy.update(self.density, self.dt, generator)
        return due

    def penalty(self, progress: float, generator: torch.Generator) -> Callable[[], Tensor] | None:
        """What an update at this progress in [0, 1] adds to its loss, at points drawn now; None: nothing."""
        if self.surface is None:
            return None
        return self.surface.penalty(self.density, self.occupancy, self.dt, progress, generator)

    def param_groups(self, lr_grid: float, lr_mlp: float) -> list[dict[str, Any]]:
        """Optimiser groups "grid" and "mlp", which want learning rates of their own (grid about 0.02, MLP 0.006)."""
        return [
            {"name": "grid", "params": list(self.encoding.parameters()), "lr": lr_grid},
            {"name": "mlp", "params": list(self.mlp.parameters()), "lr": lr_mlp},
        ]
