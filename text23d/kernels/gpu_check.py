"""python -m text23d.kernels.gpu_check: on a GPU, compare every kernel with its torch twin and time both.

Prints a line per operation: the largest difference, relative to the twin's largest value, and the milliseconds of
each. Ends with status 1 where a difference is too large, or with a line saying what is missing.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from time import perf_counter

import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.kernels import backend, native, nerfacc_march, ops, reference
from text23d.kernels.layout import GridLayout

Call = Callable[[], Sequence[Tensor]]
SHAPE = (25.0, 10.0, 0.5)
"""gain, blob and radius of the field."""
BETA = 0.02
"""Of the field that is a signed distance."""


def main(device: str = "cuda", size: int = 1 << 18) -> int:
    """Compare and time on `device` with `size` points; the number of operations that differ."""
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}" if device == "cuda" else device)
    backend.library(device)
    differing = 0
    for dtype, tolerance in ((torch.float32, 1e-4), (torch.float64, 1e-10)):
        for name, compiled, twin in operations(torch.device(device), dtype, size):
            apart = difference(compiled(), twin())
            differing += not apart <= tolerance
            times = f"{milliseconds(compiled, device):9.3f} ms, torch {milliseconds(twin, device):9.3f} ms"
            verdict = "same" if apart <= tolerance else "DIFFERENT"
            print(f"{name:26} {str(dtype)[6:]}  {apart:8.1e} {verdict:9}  {times}")
    return differing


def operations(device: torch.device, dtype: torch.dtype, size: int) -> list[tuple[str, Call, Call]]:
    """Name, compiled kernel and torch twin of everything there is to compare."""
    layout, rays = GridLayout.spanning(12, 2, 16, 8, 256), size // 32
    generator = torch.Generator().manual_seed(0)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, generator=generator, dtype=dtype).to(device)

    x, table = uniform(size, 3).requires_grad_(), uniform(layout.entries, layout.features).requires_grad_()
    grad = uniform(size, layout.out_features)
    origins, jitter = 4 * uniform(rays, 3) - 2, uniform(rays)
    directions = torch.nn.functional.normalize(uniform(rays, 3) - 0.5 - origins, dim=-1)
    occupancy = uniform(64, 64, 64) < 0.4
    march = (origins, directions, occupancy, jitter, 2 / 64, 0.0, 112)
    offsets = reference.march(*march)[3]
    samples = int(offsets[-1])
    depth, colour = uniform(samples).requires_grad_(), uniform(samples, 3).requires_grad_()
    weight = uniform(rays, 3)
    grid = native.layout_arguments(layout)

    def encode(name: str) -> Tensor:
        return native.hashgrid_encode(x, table, *grid) if name == "native" else reference.encode(x, table, layout)

    shapes = ((32, layout.out_features), (32,), (4, 32), (4,))
    mlp = ops.Mlp(*(uniform(*shape).sub(0.5).requires_grad_() for shape in shapes))
    grads = uniform(size), uniform(size, 3)

    def field(name: str, beta: float = 0.0) -> tuple[Tensor, Tensor]:
        at = x.detach()
        if name == "native":
            return native.field(at, table, *mlp, *grid, *SHAPE, beta, True)[:2]
        return reference.field(at, table, *mlp, layout, *SHAPE, x.new_tensor(beta) if beta else None)

    def composite(name: str) -> tuple[Tensor, Tensor]:
        return (native if name == "native" else reference).composite(depth, colour, offsets)

    def composite_gradients(name: str) -> Sequence[Tensor]:
        sums, opacity = composite(name)
        return torch.autograd.grad((sums * weight).sum() + opacity.square().sum(), (depth, colour))

    def both(name: str, make: Callable[[str], Sequence[Tensor]]) -> tuple[str, Call, Call]:
        return name, lambda: make("native"), lambda: make("torch")

    found = [
        both("encode", lambda name: [encode(name)]),
        both("encode + gradient of table", lambda name: torch.autograd.grad(encode(name), (table,), grad)),
        both("encode + gradient of x", lambda name: torch.autograd.grad(encode(name), (x,), grad)),
        both("field", field),
        both("field + gradients", lambda name: torch.autograd.grad(field(name), (table, *mlp), grads)),
        both("distance + gradients", lambda name: torch.autograd.grad(field(name, BETA), (table, *mlp), grads)),
        ("march", lambda: native.march(*march), lambda: reference.march(*march)),
        both("composite", composite),
        both("composite + gradients", composite_gradients),
    ]
    if nerfacc_march.serves(origins):  # samples on the faces of cells may fall on either side: their number is compared
        found.append(
            ("march by nerfacc", lambda: [nerfacc_march.march(*march)[3][-1]], lambda: [reference.march(*march)[3][-1]])
        )
    return found


def difference(one: Sequence[Tensor], other: Sequence[Tensor]) -> float:
    """The largest difference relative to the largest value; infinite where shapes differ."""
    if [each.shape for each in one] != [each.shape for each in other]:
        return float("inf")
    pairs = [(a.detach().double(), b.detach().double()) for a, b in zip(one, other, strict=True)]
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in pairs if b.numel())


def milliseconds(call: Call, device: str, repeats: int = 10) -> float:
    """Median time of one call after a warm-up."""

    def once() -> float:
        start = perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        return 1e3 * (perf_counter() - start)

    once()
    return sorted(once() for _ in range(repeats))[repeats // 2]


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit(
            "gpu_check: torch sees no GPU; run it on a machine with one (python -m torch.utils.collect_env says why)"
        )
    try:
        sys.exit(1 if main() else 0)
    except UserError as error:
        sys.exit(f"gpu_check: {error}")
