"""The operations a radiance field needs, on whichever backend was chosen (see `backend`).

The compiled library of the tensors' device serves if it was built, otherwise the torch twins do; where nobody chose
between the two, nerfacc samples rays on CUDA if it loads. All compute the same function. Tensors are float32 or
float64, all of one dtype and device; non-contiguous ones are copied. A mistake in a call raises ValueError, and what
would not fit into memory UserError.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear

from text23d.kernels import native, nerfacc_march, reference
from text23d.kernels.backend import backend, choice
from text23d.kernels.layout import GridLayout
from text23d.memory import expect_room


class Samples(NamedTuple):
    """M points along R rays, packed: those of ray r are the rows offsets[r] to offsets[r + 1], in order of t.

    rays     [M] int64, the ray of each sample, ascending.
    t        [M], its distance from the ray's origin.
    steps    [M] int64, the step k in which it lies.
    offsets  [R + 1] int64; `offsets.diff()` counts the samples of each ray.
    """

    rays: Tensor
    t: Tensor
    steps: Tensor
    offsets: Tensor

    def positions(self, origins: Tensor, directions: Tensor) -> Tensor:
        """World positions [M, 3] of the samples of rays [R, 3]."""
        return origins[self.rays] + self.t[:, None] * directions[self.rays]


def encode(x: Tensor, table: Tensor, layout: GridLayout) -> Tensor:
    """Multiresolution hash-grid encoding (Müller et al. 2022), trilinear within each level.

    x       [N, 3] in [0, 1], clamped to it; N = 0 works.
    table   [layout.entries, layout.features].
    Returns [N, layout.out_features], level after level. Differentiable once in x (zero where clamped) and in table.
    The compiled gradient of the table is, on the CPU, the same bits whatever the number of threads; on CUDA its sums
    are in any order.
    """
    _expect(x, "x", (None, 3), x)
    _expect(table, "table", (layout.entries, layout.features), x)
    if _compiled(x):
        return native.hashgrid_encode(x, table, *native.layout_arguments(layout))
    return reference.encode(x, table, layout)


class Mlp(NamedTuple):
    """One hidden layer of H ReLU units: w1 [H, layout.out_features], b1 [H], w2 [4, H], b2 [4]."""

    w1: Tensor
    b1: Tensor
    w2: Tensor
    b2: Tensor


def field(
    x: Tensor,
    table: Tensor,
    mlp: Mlp,
    layout: GridLayout,
    gain: float,
    blob: float,
    radius: float,
    beta: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Density and colour at points of the cube, which is [-1, 1]^3 of the scene, as `encode` and a small network say.

        raw, raw_rgb = w2 relu(w1 encode(x) + b1) + b2,  d = |2 x - 1|,  y = raw + blob (1 - d / radius)
        density = gain softplus(y) where d < 1, else 0;  rgb = sigmoid(raw_rgb)

    With beta [] > 0, in scene units, -y / gain is a signed distance, and the density is `reference.laplace_density`.

    x       [N, 3] in [0, 1]; N = 0 works.
    table   [layout.entries, layout.features].
    Returns density [N] in the unit of `gain`, or 1 / beta, and rgb [N, 3]. Differentiable once in table, mlp and beta
    and, through the operations it is made of, in x. Gradients are the same bits for any number of threads, except on
    CUDA.
    """
    _expect(x, "x", (None, 3), x)
    _expect(table, "table", (layout.entries, layout.features), x)
    hidden = mlp.w1.shape[0]
    shapes = ((hidden, layout.out_features), (hidden,), (4, hidden), (4,))
    for name, tensor, shape in zip(Mlp._fields, mlp, shapes, strict=True):
        _expect(tensor, name, shape, x)
    if not (gain > 0 and radius > 0):
        raise ValueError(f"field: gain = {gain}, radius = {radius}, expected positive numbers")
    if not _compiled(x):
        return reference.field(x, table, *mlp, layout, gain, blob, radius, beta)
    learning = torch.is_grad_enabled()
    if learning and x.requires_grad:
        raw = linear(linear(encode(x, table, layout), mlp.w1, mlp.b1).relu(), mlp.w2, mlp.b2)
        return reference.activate(raw, 2 * x - 1, gain, blob, radius, beta)
    keep = learning and any(each.requires_grad for each in (table, *mlp))
    arguments = (*native.layout_arguments(layout), float(gain), float(blob), float(radius), _number(beta), keep)
    density, rgb, _ = native.field(x, table, *mlp, *arguments)
    if learning and beta is not None and beta.requires_grad:
        density = density + (beta - beta.detach()) * _slope(density.detach(), beta.detach())
    return density, rgb


def _number(beta: Tensor | None) -> float:
    """As the kernels take it: 0 for a density that is no signed distance's."""
    return 0.0 if beta is None else float(beta.detach())


def _slope(density: Tensor, beta: Tensor) -> Tensor:
    """d density / d beta [N] of `reference.laplace_density`, from the density itself. With t = |depth| / beta and the
    tail q = e^-t / (2 beta), it is (q t - density) / beta outside, where the density is q, and (-q t - density) / beta
    inside, where it is 1 / beta - q."""
    rest = 1 / beta - density
    tail = torch.minimum(density, rest)
    tail_t = -torch.special.xlogy(tail, 2 * beta * tail)
    return (torch.where(density <= rest, tail_t, -tail_t) - density) / beta


def march(
    origins: Tensor,
    directions: Tensor,
    occupancy: Tensor,
    dt: float,
    jitter: Tensor | None = None,
    near: float = 0.0,
    max_steps: int | None = None,
) -> Samples:
    """Equally spaced samples of the occupied cells of [-1, 1]^3, one jittered sample a step; not differentiable.

    Step k of a ray is the interval t_enter + [k, k + 1) dt, where t_enter >= near is where it enters the cube; its
    sample lies at t = t_enter + (k + jitter) dt and is kept where t < t_exit and the cell it falls in is occupied.

    origins, directions  [R, 3]; unit directions make t and dt scene units.
    occupancy            [G, G, G] bool or uint8; cell (i, j, k) spans -1 + 2 i / G to -1 + 2 (i + 1) / G in x.
    dt                   step, > 0.
    jitter               [R] in [0, 1); None: 0.5, the middle of each step.
    near                 smallest t at which steps may begin, >= 0.
    max_steps            only steps k < max_steps; None: enough to cross the cube along its diagonal.
    """
    rays = origins.shape[0]
    _expect(origins, "origins", (None, 3), origins)
    _expect(directions, "directions", (rays, 3), origins)
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"march: dt = {dt}, expected a positive step")
    if occupancy.dim() != 3 or len(set(occupancy.shape)) != 1 or occupancy.dtype not in (torch.bool, torch.uint8):
        given = f"{list(occupancy.shape)} {occupancy.dtype}"
        raise ValueError(f"march: occupancy is {given}, expected a cube [G, G, G] of bool or uint8")
    if occupancy.device != origins.device:
        raise ValueError(f"march: occupancy is on {occupancy.device}, origins on {origins.device}: move one")
    jitter = origins.new_full((rays,), 0.5) if jitter is None else jitter
    _expect(jitter, "jitter", (rays,), origins)
    steps = _steps_across(dt) if max_steps is None else max_steps
    arguments = (origins.detach(), directions.detach(), occupancy, jitter.detach(), float(dt), float(near), steps)
    if choice() == "auto" and nerfacc_march.serves(origins):
        return Samples(*nerfacc_march.march(*arguments))
    if _compiled(origins):
        return Samples(*native.march(*arguments))
    candidates = (8 + 3 * origins.itemsize) * rays * steps
    expect_room(candidates, origins.device, f"{rays} rays of {steps} steps", native.FEWER)
    return Samples(*reference.march(*arguments))


def composite(sigma_dt: Tensor, values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Emission-absorption along packed samples (Max 1995; Mildenhall et al. 2020, Eq. 3).

        alpha_i = 1 - exp(-sigma_dt_i),  T_i = exp(-sum_{j < i} sigma_dt_j),  w_i = T_i alpha_i

    sigma_dt  [M], density times step, >= 0.
    values    [M, C], what each sample emits: colours, distances, ones.
    offsets   [R + 1] int64, from 0 up to M: ray r owns rows offsets[r] to offsets[r + 1] (as `Samples.offsets`).
    Returns sum_i w_i values_i [R, C] and opacity sum_i w_i [R], in [0, 1]; zero for a ray without samples.
    Differentiable once in sigma_dt and values.
    """
    _expect(sigma_dt, "sigma_dt", (None,), sigma_dt)
    _expect(values, "values", (sigma_dt.shape[0], None), sigma_dt)
    if offsets.dtype != torch.int64 or offsets.dim() != 1 or offsets.numel() == 0:
        raise ValueError(f"composite: offsets are {list(offsets.shape)} {offsets.dtype}, expected [R + 1] int64")
    if offsets.device != sigma_dt.device:
        raise ValueError(f"composite: offsets are on {offsets.device}, sigma_dt on {sigma_dt.device}: move one")
    wrong = (offsets[0] != 0) | (offsets[-1] != len(sigma_dt)) | (offsets.diff() < 0).any()
    if bool(wrong):  # asked once: on CUDA every question waits for the device
        raise ValueError(f"composite: offsets must rise from 0 to the {len(sigma_dt)} samples given")
    if _compiled(sigma_dt):
        return native.composite(sigma_dt, values, offsets)
    return reference.composite(sigma_dt, values, offsets)


@torch.no_grad()
def render(
    origins: Tensor,
    directions: Tensor,
    occupancy: Tensor,
    dt: float,
    least: float,
    table: Tensor,
    mlp: Mlp,
    layout: GridLayout,
    gain: float,
    blob: float,
    radius: float,
    beta: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`composite` of the `field` at the samples of `march`: colour [R, 3] and opacity [R]. Rays, occupancy and dt are
    as there, and the others as in `field`.

    least  transmittance: nothing is asked behind samples that leave less, on the CPU's compiled backend, which does all
           in one. Results are at most so much below those of whole rays.
    """
    if _compiled(origins) and origins.device.type == "cpu":
        jitter, steps = origins.new_full((len(origins),), 0.5), _steps_across(dt)
        shape = float(gain), float(blob), float(radius), _number(beta)
        arguments = (*native.layout_arguments(layout), *shape, float(least))
        return native.render(origins, directions, occupancy, jitter, float(dt), steps, table, *mlp, *arguments)
    samples = march(origins, directions, occupancy, dt)
    at = (samples.positions(origins, directions) + 1) / 2
    density, rgb = field(at, table, mlp, layout, gain, blob, radius, beta)
    return composite(density * dt, rgb, samples.offsets)


def _steps_across(dt: float) -> int:
    """Steps that cross the cube along its diagonal."""
    return math.ceil(2 * math.sqrt(3) / dt) + 1


def _compiled(x: Tensor) -> bool:
    return backend(x.device.type) == "native"


def _expect(tensor: Tensor, name: str, shape: tuple[int | None, ...], like: Tensor) -> None:
    """Raise ValueError unless `tensor` has this shape (None: any length) and the dtype and device of `like`."""
    wanted = ["*" if n is None else n for n in shape]
    fits = tensor.dim() == len(shape) and all(n is None or n == m for n, m in zip(shape, tensor.shape, strict=True))
    if not fits:
        raise ValueError(f"{name} is {list(tensor.shape)}, expected {wanted}")
    if tensor.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"{name} is {tensor.dtype}, expected float32 or float64: convert it with .float()")
    if tensor.dtype != like.dtype or tensor.device != like.device:
        given = f"{tensor.dtype} on {tensor.device}"
        raise ValueError(f"{name} is {given}, expected {like.dtype} on {like.device} as the first argument is")
