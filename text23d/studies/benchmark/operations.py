"""The operations to be measured, with inputs that are the same every time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from text23d.cameras import Cameras, orbit
from text23d.errors import UserError
from text23d.kernels import nerfacc_march, ops
from text23d.kernels.backend import select
from text23d.kernels.layout import GridLayout
from text23d.kernels.reference import enter_cube
from text23d.representation import volume
from text23d.representation.hashgrid import HashGrid
from text23d.representation.nerf import Nerf
from text23d.representation.tinycudann import TinyCudaGrid
from text23d.studies.benchmark import counts
from text23d.studies.benchmark.counts import Work
from text23d.studies.benchmark.timing import Call, alternate, medians, nothing, peak_bytes

NOT_COUNTED = Work(0, 0)
RUN = 32
"""Consecutive points of a ray in `points_on_rays`, as many as cross the untrained sphere."""


@dataclass(frozen=True)
class Operation:
    """make: prepares the call for the backend that is chosen at that moment; work: of a call, where it was counted;
    before: goes before each call, untimed."""

    name: str
    make: Callable[[], Call]
    work: Work = NOT_COUNTED
    before: Call = nothing


def prepared(operation: Operation, backends: Sequence[str]) -> dict[str, Call]:
    """The operation's call on each backend."""
    calls = {}
    for backend in backends:
        select(backend)
        calls[backend] = operation.make()
    return calls


@dataclass(frozen=True)
class Measured:
    """Median seconds, and the most bytes that tensors hold during a call, by backend."""

    seconds: dict[str, float]
    peak_bytes: dict[str, int]


def compare(operation: Operation, backends: Sequence[str], repeats: int, seconds: float) -> Measured:
    """Measure the operation on the backends in turn, within about `seconds`."""

    def prepare(backend: str) -> None:
        select(backend)
        operation.before()

    calls, peaks = prepared(operation, backends), {}
    for backend, call in calls.items():  # which warms them up
        prepare(backend)
        peaks[backend] = peak_bytes(call)
    return Measured(medians(alternate(calls, repeats, seconds, prepare)), peaks)


@dataclass(frozen=True)
class RayBatch:
    """Rays [R, 3] round the field and their samples, as they are when a run begins."""

    nerf: Nerf
    views: Cameras
    size: int
    origins: Tensor
    directions: Tensor
    samples: ops.Samples


def ray_batch(nerf: Nerf, views: int, size: int) -> RayBatch:
    """`views` pictures of `size` x `size`. Raises UserError where the field is not encoded by a hash grid."""
    if not isinstance(nerf.encoding, HashGrid):
        raise UserError(f"the encoding is {type(nerf.encoding).__name__}: this benchmark measures HashGrid; choose it")
    cameras = orbit(views).to(nerf.encoding.table.device)
    origins, directions = (each.reshape(-1, 3) for each in cameras.rays((size, size)))
    samples = ops.march(origins, directions, nerf.occupancy.mask, nerf.dt)
    return RayBatch(nerf, cameras, size, origins, directions, samples)


def kernels(batch: RayBatch) -> list[Operation]:
    """Each kernel, forward and backward, as a rendering of the scene calls it."""
    points = (batch.samples.positions(batch.origins, batch.directions) + 1) / 2
    layout = batch.nerf.encoding.layout
    hidden = batch.nerf.hidden
    return [
        *encoding(points, layout),
        *fields(points, layout, hidden),
        marching(batch),
        *compositing(batch.samples.offsets),
    ]


def rivals(batch: RayBatch) -> list[Operation]:
    """The same by other packages, where they load, whichever backend of ours is chosen."""
    points, found = batch.samples.positions(batch.origins, batch.directions), list[Operation]()
    layout, device = batch.nerf.encoding.layout, points.device
    try:
        shape = (layout.levels, layout.features, layout.log2_table, layout.base, layout.resolutions[-1])
        grid = TinyCudaGrid(*shape).to(device)
    except UserError:
        pass  # there is nothing to compare with
    else:
        found += [
            Operation("encode by tiny-cuda-nn", lambda: lambda: grid(points)),
            Operation("encode by tiny-cuda-nn, backward", lambda: gradient([grid(points)], list(grid.parameters()))),
        ]
    if nerfacc_march.serves(batch.origins) and volume.nerfacc_scans_load():
        depth, colour = points[:, 0].abs().clone().requires_grad_(), points.abs().clone().requires_grad_()
        middle = points.new_full((len(batch.origins),), 0.5)
        march = (batch.origins, batch.directions, batch.nerf.occupancy.mask, middle)
        found += [
            Operation("march by nerfacc", lambda: lambda: nerfacc_march.march(*march, batch.nerf.dt, 0.0, 1 << 20)),
            Operation("composite by nerfacc", lambda: lambda: volume.nerfacc_composite(depth, colour, batch.samples)),
            Operation(
                "composite by nerfacc, backward",
                lambda: gradient(volume.nerfacc_composite(depth, colour, batch.samples), [depth, colour]),
            ),
        ]
    return found


def marching(batch: RayBatch) -> Operation:
    origins, directions, nerf = batch.origins, batch.directions, batch.nerf
    return Operation(
        "march",
        lambda: lambda: ops.march(origins, directions, nerf.occupancy.mask, nerf.dt),
        counts.march(len(origins), candidates(origins, directions, nerf.dt), len(batch.samples.t)),
    )


def rendering(batch: RayBatch) -> Operation:
    """A picture and the gradient of its mean square in all parameters."""
    steps = candidates(batch.origins, batch.directions, batch.nerf.dt)
    work = render_work(batch.nerf, len(batch.origins), steps, len(batch.samples.t))
    parameters = list(batch.nerf.parameters())

    def call() -> object:
        loss = batch.nerf.render(batch.views, (batch.size, batch.size)).square().mean()
        return torch.autograd.grad(loss, parameters)

    return Operation("render, forward and backward", lambda: call, work)


def candidates(origins: Tensor, directions: Tensor, dt: float) -> int:
    """Steps inside the cube on all rays, sampled in their middle."""
    enter, leave = enter_cube(origins, directions, 0.0)
    return int(((leave - enter) / dt - 0.5).ceil().clamp(min=0).sum())


def render_work(nerf: Nerf, rays: int, steps: int, samples: int) -> Work:
    """The kernels, forward and backward; what lies between them is not counted."""
    layout, hidden = nerf.encoding.layout, nerf.hidden
    works = [
        counts.march(rays, steps, samples),
        counts.field(samples, layout, hidden),
        counts.composite(rays, samples, 3),
        counts.composite_backward(rays, samples, 3),
        counts.field_backward(samples, layout, hidden),
    ]
    return sum(works[1:], works[0])


def encoding(points: Tensor, layout: GridLayout) -> list[Operation]:
    """Points [N, 3] in [0, 1] looked up in a grid; the gradient is the table's, the only one a run needs."""
    generator = torch.Generator().manual_seed(0)
    table = torch.rand(layout.entries, layout.features, generator=generator).to(points).requires_grad_()
    return [
        Operation("encode", lambda: lambda: ops.encode(points, table, layout), counts.encode(len(points), layout)),
        Operation(
            "encode, backward",
            lambda: gradient([ops.encode(points, table, layout)], [table]),
            counts.encode_backward(len(points), layout),
        ),
    ]


def fields(points: Tensor, layout: GridLayout, hidden: int) -> list[Operation]:
    """Density and colour at points [N, 3] in [0, 1], and the gradients of table and network."""
    generator, rows = torch.Generator().manual_seed(0), layout.out_features
    shapes = ((layout.entries, layout.features), (hidden, rows), (hidden,), (4, hidden), (4,))
    learned = [torch.randn(shape, generator=generator).to(points).requires_grad_() for shape in shapes]
    table, mlp = learned[0], ops.Mlp(*learned[1:])

    def call() -> tuple[Tensor, Tensor]:
        return ops.field(points, table, mlp, layout, 25.0, 10.0, 0.5)

    count = len(points)
    return [
        Operation("field", lambda: call, counts.field(count, layout, hidden)),
        Operation("field, backward", lambda: gradient(call(), learned), counts.field_backward(count, layout, hidden)),
    ]


def compositing(offsets: Tensor, channels: int = 3) -> list[Operation]:
    """Samples of rays, packed as `offsets` [R + 1] says, of random density and colour."""
    generator, count, rays = torch.Generator().manual_seed(0), int(offsets[-1]), len(offsets) - 1
    depth = torch.rand(count, generator=generator).to(offsets.device).requires_grad_()
    colour = torch.rand(count, channels, generator=generator).to(offsets.device).requires_grad_()
    return [
        Operation(
            "composite",
            lambda: lambda: ops.composite(depth, colour, offsets),
            counts.composite(rays, count, channels),
        ),
        Operation(
            "composite, backward",
            lambda: gradient(ops.composite(depth, colour, offsets), [depth, colour]),
            counts.composite_backward(rays, count, channels),
        ),
    ]


def gradient(outputs: Sequence[Tensor], inputs: Sequence[Tensor]) -> Call:
    """Backward alone: the forward pass is done."""
    ones = [torch.ones_like(each) for each in outputs]
    return lambda: torch.autograd.grad(outputs, inputs, ones, retain_graph=True)


def points_on_rays(count: int, device: torch.device, dt: float = 2 / 64) -> Tensor:
    """`count` points [N, 3] of the unit cube, RUN after RUN along random lines with steps of dt / 2, as rays take."""
    generator = torch.Generator().manual_seed(0)
    lines = -(-count // RUN)
    start = torch.rand(lines, 1, 3, generator=generator)
    direction = torch.nn.functional.normalize(torch.randn(lines, 1, 3, generator=generator), dim=-1)
    points = start + torch.arange(RUN)[:, None] * (dt / 2) * direction
    return points.reshape(-1, 3)[:count].clamp(0, 1).to(device)
