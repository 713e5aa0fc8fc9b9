"""The compiled kernels as torch operators `text23d::*`, with gradients and shapes registered, on the CPU and on CUDA.

Arguments are as `ops` has checked them. Gradients are not differentiable again: the twins' are.
"""

from __future__ import annotations

import ctypes
from contextlib import nullcontext
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from text23d.kernels.backend import library
from text23d.kernels.layout import GridLayout
from text23d.memory import expect_room

LayoutArguments = tuple[int, int, int, int, float]
FEWER = "march fewer rays at a time, or take longer steps"
SUFFIX = {torch.float32: "f32", torch.float64: "f64"}


def layout_arguments(layout: GridLayout) -> LayoutArguments:
    """A layout as an operator takes it."""
    return layout.levels, layout.features, layout.log2_table, layout.base, layout.growth


@lru_cache(maxsize=64)
def _layout(*arguments: Any) -> tuple[GridLayout, ctypes.Array[ctypes.c_int64]]:
    """The layout and its Text23dLevel records."""
    layout = GridLayout(*arguments)
    levels = zip(layout.resolutions, layout.offsets, layout.sizes, layout.dense, strict=True)
    numbers = [int(number) for level in levels for number in level]
    return layout, (ctypes.c_int64 * len(numbers))(*numbers)


def _call(name: str, like: Tensor, *arguments: Tensor | int | float | ctypes.Array[ctypes.c_int64]) -> None:
    """Call the kernel for the dtype and device of `like`, handing over tensors by pointer and integers as int64.

    On CUDA the work is added to torch's current stream. Raises MemoryError where its own memory cannot be had, and
    RuntimeError where the driver refuses the work.
    """
    compiled = library(like.device.type)
    kernel = getattr(compiled, f"text23d_{name}_{SUFFIX[like.dtype]}")
    stream = torch.cuda.current_stream(like.device).cuda_stream if like.is_cuda else None
    with torch.cuda.device(like.device) if like.is_cuda else nullcontext():
        code = kernel(*map(_as_c, arguments), ctypes.c_int32(torch.get_num_threads()), ctypes.c_void_p(stream))
    if code != 0:
        words = compiled.text23d_error(code).decode()
        if "out of memory" in words:
            raise MemoryError(f"{name} on {like.device}: {words}")
        raise RuntimeError(f"{name} on {like.device}: {words}; build for this GPU and driver, or choose backend=torch")


def _as_c(argument: Tensor | int | float | ctypes.Array[ctypes.c_int64]) -> Any:
    if isinstance(argument, Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    if isinstance(argument, int):
        return ctypes.c_int64(argument)
    return ctypes.c_double(argument) if isinstance(argument, float) else argument


@torch.library.custom_op("text23d::hashgrid_encode", mutates_args=())
def hashgrid_encode(
    x: Tensor, table: Tensor, levels: int, features: int, log2_table: int, base: int, growth: float
) -> Tensor:
    """`ops.encode`."""
    grid = _layout(levels, features, log2_table, base, growth)[1]
    x, table = x.contiguous(), table.contiguous()
    out = x.new_empty(len(x), levels * features)
    _call("hashgrid_forward", x, len(x), x, table, grid, levels, features, out)
    return out


@torch.library.custom_op("text23d::hashgrid_backward_table", mutates_args=())
def hashgrid_backward_table(
    grad: Tensor, x: Tensor, levels: int, features: int, log2_table: int, base: int, growth: float
) -> Tensor:
    """Gradient of the table from that of the encoding [N, levels * features]."""
    layout, grid = _layout(levels, features, log2_table, base, growth)
    grad, x = grad.contiguous(), x.contiguous()
    out = x.new_zeros(layout.entries, features)
    _call("hashgrid_backward_table", x, len(x), x, grad, grid, levels, features, out)
    return out


@torch.library.custom_op("text23d::hashgrid_backward_x", mutates_args=())
def hashgrid_backward_x(
    grad: Tensor, x: Tensor, table: Tensor, levels: int, features: int, log2_table: int, base: int, growth: float
) -> Tensor:
    """Gradient of x [N, 3] from that of the encoding."""
    grid = _layout(levels, features, log2_table, base, growth)[1]
    grad, x, table = grad.contiguous(), x.contiguous(), table.contiguous()
    out = torch.empty_like(x)
    _call("hashgrid_backward_x", x, len(x), x, table, grad, grid, levels, features, out)
    return out


@hashgrid_encode.register_fake
def _(x: Tensor, table: Tensor, levels: int, features: int, log2_table: int, base: int, growth: float) -> Tensor:
    return x.new_empty(x.shape[0], levels * features)


@hashgrid_backward_table.register_fake
def _(grad: Tensor, x: Tensor, levels: int, features: int, log2_table: int, base: int, growth: float) -> Tensor:
    return x.new_empty(_layout(levels, features, log2_table, base, growth)[0].entries, features)


@hashgrid_backward_x.register_fake
def _(
    grad: Tensor, x: Tensor, table: Tensor, levels: int, features: int, log2_table: int, base: int, growth: float
) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _encode_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, table, *ctx.layout = inputs
    ctx.save_for_backward(x, table)


def _encode_backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    x, table = ctx.saved_tensors
    grad_x = hashgrid_backward_x(grad, x, table, *ctx.layout) if ctx.needs_input_grad[0] else None
    grad_table = hashgrid_backward_table(grad, x, *ctx.layout) if ctx.needs_input_grad[1] else None
    return grad_x, grad_table, None, None, None, None, None


hashgrid_encode.register_autograd(_encode_backward, setup_context=_encode_context)


@torch.library.custom_op("text23d::field", mutates_args=())
def field(
    x: Tensor, table: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, levels: int, features: int,
    log2_table: int, base: int, growth: float, gain: float, blob: float, radius: float, beta: float, keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """`ops.field`, and the features in planes [levels * features, N or a little more], for the gradient: on the
    CPU none unless `keep`."""
    grid = _layout(levels, features, log2_table, base, growth)[1]
    x, table, w1, b1, w2, b2 = (each.contiguous() for each in (x, table, w1, b1, w2, b2))
    density, rgb, kept = x.new_empty(len(x)), x.new_empty(len(x), 3), _planes(x, levels * features, keep)
    given = (len(x), x, table, grid, levels, features, len(b1), w1, b1, w2, b2, gain, blob, radius, beta)
    _call("field_forward", x, *given, density, rgb, kept, kept.shape[1])
    return density, rgb, kept


@torch.library.custom_op("text23d::field_backward", mutates_args=())
def field_backward(
    grad_density: Tensor, grad_rgb: Tensor, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, density: Tensor,
    rgb: Tensor, kept: Tensor, levels: int, features: int, log2_table: int, base: int, growth: float, gain: float,
    beta: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Gradients of the table, and of w1, b1, w2 and b2 one behind another."""
    layout, grid = _layout(levels, features, log2_table, base, growth)
    hidden = len(b1)
    x, w1, b1, w2, grad_density, grad_rgb = (
        each.contiguous() for each in (x, w1, b1, w2, grad_density, grad_rgb)
    )  # fmt: skip
    table, network = x.new_zeros(layout.entries, features), x.new_zeros(_network_size(levels * features, hidden))
    given = (len(x), x, grid, levels, features, hidden, w1, b1, w2, gain, beta, density, rgb, kept, kept.shape[1])
    _call("field_backward", x, *given, grad_density, grad_rgb, torch.empty_like(kept), network, table)
    return table, network


def _planes(x: Tensor, rows: int, keep: bool) -> Tensor:
    """Room for `rows` numbers of each point, a multiple of 64 points: on CUDA always, since its kernels need it."""
    return x.new_empty(rows, (x.shape[0] + 63) // 64 * 64 if keep or x.is_cuda else 0)


def _network_size(inputs: int, hidden: int) -> int:
    return hidden * (inputs + 1) + 4 * (hidden + 1)


@field.register_fake
def _(
    x: Tensor, table: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, levels: int, features: int,
    log2_table: int, base: int, growth: float, gain: float, blob: float, radius: float, beta: float, keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return x.new_empty(x.shape[0]), x.new_empty(x.shape[0], 3), _planes(x, levels * features, keep)


@field_backward.register_fake
def _(
    grad_density: Tensor, grad_rgb: Tensor, x: Tensor, w1: Tensor, b1: Tensor, w2: Tensor, density: Tensor,
    rgb: Tensor, kept: Tensor, levels: int, features: int, log2_table: int, base: int, growth: float, gain: float,
    beta: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    entries = _layout(levels, features, log2_table, base, growth)[0].entries
    return x.new_empty(entries, features), x.new_empty(_network_size(levels * features, b1.shape[0]))


def _field_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, _, w1, b1, w2, _, *ctx.layout, ctx.gain, _, _, ctx.beta, _ = inputs
    ctx.set_materialize_grads(False)  # the features' would be zeros, as large as they
    ctx.save_for_backward(x, w1, b1, w2, *output)


def _field_backward(
    ctx: Any, grad_density: Tensor | None, grad_rgb: Tensor | None, _: None
) -> tuple[Tensor | None, ...]:
    x, w1, b1, w2, density, rgb, kept = ctx.saved_tensors
    grad_density = torch.zeros_like(density) if grad_density is None else grad_density
    grad_rgb = torch.zeros_like(rgb) if grad_rgb is None else grad_rgb
    given = (x, w1, b1, w2, density, rgb, kept, *ctx.layout, ctx.gain, ctx.beta)
    table, network = field_backward(grad_density, grad_rgb, *given)
    parts = network.split([w1.numel(), b1.numel(), w2.numel(), 4])
    return None, table, parts[0].view_as(w1), parts[1], parts[2].view_as(w2), parts[3], *[None] * 10


field.register_autograd(_field_backward, setup_context=_field_context)


@torch.library.custom_op("text23d::march", mutates_args=())
def march(
    origins: Tensor, directions: Tensor, occupancy: Tensor, jitter: Tensor, dt: float, near: float, max_steps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`ops.march`: ray, t, k [M] and offsets [R + 1]."""
    origins, directions, jitter = origins.contiguous(), directions.contiguous(), jitter.contiguous()
    cells, rays = occupancy.shape[0], len(origins)
    occupied = occupancy.contiguous().view(torch.uint8)
    arguments = (rays, origins, directions, occupied, cells, jitter, dt, near, max_steps)
    offsets = origins.new_zeros(rays + 1, dtype=torch.long)
    _call("march_count", origins, *arguments, offsets[1:])
    offsets = offsets.cumsum(0)
    total = int(offsets[-1])
    expect_room((16 + origins.itemsize) * total, origins.device, f"{total} samples of {rays} rays", FEWER)
    ray, step = offsets.new_empty(total), offsets.new_empty(total)
    t = origins.new_empty(total)
    _call("march_fill", origins, *arguments, offsets, ray, t, step)
    return ray, t, step, offsets


@march.register_fake
def _(
    origins: Tensor, directions: Tensor, occupancy: Tensor, jitter: Tensor, dt: float, near: float, max_steps: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    total = torch.library.get_ctx().new_dynamic_size()
    index = origins.new_empty(total, dtype=torch.long)
    offsets = origins.new_empty(origins.shape[0] + 1, dtype=torch.long)
    return index, origins.new_empty(total), torch.empty_like(index), offsets


@torch.library.custom_op("text23d::composite", mutates_args=())
def composite(sigma_dt: Tensor, values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """`ops.composite`."""
    sigma_dt, values, offsets = sigma_dt.contiguous(), values.contiguous(), offsets.contiguous()
    rays, channels = len(offsets) - 1, values.shape[1]
    sums, opacity = values.new_empty(rays, channels), values.new_empty(rays)
    _call("composite_forward", values, rays, channels, sigma_dt, values, offsets, sums, opacity)
    return sums, opacity


@torch.library.custom_op("text23d::composite_backward", mutates_args=())
def composite_backward(
    grad_sums: Tensor, grad_opacity: Tensor, sigma_dt: Tensor, values: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor]:
    """Gradients of sigma_dt and values from those of the two results."""
    sigma_dt, values, offsets = sigma_dt.contiguous(), values.contiguous(), offsets.contiguous()
    given = (sigma_dt, values, offsets, grad_sums.contiguous(), grad_opacity.contiguous())
    out = torch.empty_like(sigma_dt), torch.empty_like(values)
    _call("composite_backward", values, len(offsets) - 1, values.shape[1], *given, *out)
    return out


@composite.register_fake
def _(sigma_dt: Tensor, values: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    rays = offsets.shape[0] - 1
    return values.new_empty(rays, values.shape[1]), values.new_empty(rays)


@composite_backward.register_fake
def _(
    grad_sums: Tensor, grad_opacity: Tensor, sigma_dt: Tensor, values: Tensor, offsets: Tensor
) -> tuple[Tensor, Tensor]:
    return sigma_dt.new_empty(sigma_dt.shape), values.new_empty(values.shape)


def _composite_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _composite_backward(ctx: Any, grad_sums: Tensor, grad_opacity: Tensor) -> tuple[Tensor, Tensor, None]:
    grad_sigma_dt, grad_values = composite_backward(grad_sums, grad_opacity, *ctx.saved_tensors)
    return grad_sigma_dt, grad_values, None


composite.register_autograd(_composite_backward, setup_context=_composite_context)


@torch.library.custom_op("text23d::render", mutates_args=())
def render(
    origins: Tensor, directions: Tensor, occupancy: Tensor, jitter: Tensor, dt: float, max_steps: int, table: Tensor,
    w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, levels: int, features: int, log2_table: int, base: int,
    growth: float, gain: float, blob: float, radius: float, beta: float, least: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`ops.render`, on the CPU."""
    grid = _layout(levels, features, log2_table, base, growth)[1]
    origins, directions, jitter, table, w1, b1, w2, b2 = (
        each.contiguous() for each in (origins, directions, jitter, table, w1, b1, w2, b2)
    )
    rays, occupied = len(origins), occupancy.contiguous().view(torch.uint8)
    march = (rays, origins, directions, occupied, occupancy.shape[0], jitter, dt, max_steps)
    field = (table, grid, levels, features, len(b1), w1, b1, w2, b2, gain, blob, radius, beta)
    out = origins.new_empty(rays, 3), origins.new_empty(rays)
    _call("render", origins, *march, *field, least, *out)
    return out


@render.register_fake
def _(
    origins: Tensor, directions: Tensor, occupancy: Tensor, jitter: Tensor, dt: float, max_steps: int, table: Tensor,
    w1: Tensor, b1: Tensor, w2: Tensor, b2: Tensor, levels: int, features: int, log2_table: int, base: int,
    growth: float, gain: float, blob: float, radius: float, beta: float, least: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    rays = origins.shape[0]
    return origins.new_empty(rays, 3), origins.new_empty(rays)
