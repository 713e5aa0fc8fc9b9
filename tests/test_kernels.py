"""The kernels against brute force, against their torch twins and against numerical derivatives.

The sources of the CUDA kernels are tested too, compiled as C++ so that a loop on the CPU stands in for their launch.
"""

from __future__ import annotations

import ctypes
import math
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise, product
from pathlib import Path
from types import ModuleType, SimpleNamespace

import programs
import pytest
import torch
from torch import Tensor

from text23d import memory
from text23d.errors import UserError
from text23d.kernels import backend, gpu_check, native, nerfacc_march, ops, reference
from text23d.kernels.layout import GridLayout

# Only a machine that cannot compile may do without the library: elsewhere a missing one fails these tests.
needs_compiler = pytest.mark.needs("c++")
BACKENDS = [pytest.param("native", marks=needs_compiler), "torch", pytest.param("cuda sources", marks=needs_compiler)]
# Levels on both sides of the dense limit; the second has a number of features without a specialised kernel.
LAYOUTS = [GridLayout(5, 2, 9, 4, 1.7), GridLayout(4, 3, 7, 2, 2.0)]


CUDA_SOURCES = sorted((Path(__file__).parent.parent / "cuda_ext" / "cuda").glob("*.cu"))


@pytest.fixture(scope="session")
def cuda_sources(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The CUDA library's sources, compiled as C++."""
    out = tmp_path_factory.mktemp("cuda_sources") / "library.so"
    flags = ["-shared", "-fPIC", "-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-x", "c++"]
    subprocess.run([str(programs.found("c++")), *flags, *map(str, CUDA_SOURCES), "-o", str(out)], check=True)
    return ctypes.CDLL(str(out))


@pytest.fixture(params=BACKENDS)
def chosen(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Each backend in turn, and the sources of the CUDA kernels in place of the CPU's."""
    if request.param == "cuda sources":
        library = request.getfixturevalue("cuda_sources")
        monkeypatch.setattr(native, "library", lambda device: library)
        planes = native._planes
        monkeypatch.setattr(native, "_planes", lambda x, rows, keep: planes(x, rows, True))
    backend.select("torch" if request.param == "torch" else "native")
    yield request.param
    backend.select("auto")


def points(count: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def table_for(layout: GridLayout, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(layout.entries, layout.features, generator=torch.Generator().manual_seed(1), dtype=dtype)


def brute_encode(point: list[float], table: list[list[float]], layout: GridLayout) -> list[float]:
    """Müller et al. 2022, section 3, one point, in Python's integers and floats."""
    out: list[float] = []
    start = 0
    for level in range(layout.levels):
        cells = math.floor(layout.base * layout.growth**level)
        dense = (cells + 1) ** 3 <= 2**layout.log2_table
        scaled = [min(max(value, 0.0), 1.0) * cells for value in point]
        cell = [min(int(value), cells - 1) for value in scaled]
        sums = [0.0] * layout.features
        for shift in product((0, 1), repeat=3):
            i, j, k = (c + s for c, s in zip(cell, shift, strict=True))
            weight = math.prod((v - c) if s else 1 - (v - c) for v, c, s in zip(scaled, cell, shift, strict=True))
            hashed = (i ^ (j * 2654435761) ^ (k * 805459861)) % 2**layout.log2_table
            row = table[start + (i + (cells + 1) * (j + (cells + 1) * k) if dense else hashed)]
            sums = [total + weight * value for total, value in zip(sums, row, strict=True)]
        out += sums
        start += (cells + 1) ** 3 if dense else 2**layout.log2_table
    assert start == layout.entries
    return out


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_encode_equals_brute_force(chosen: str, layout: GridLayout, dtype: torch.dtype) -> None:
    assert set(layout.dense) == {True, False}
    corners = torch.tensor(list(product((0.0, 1.0, 0.5), repeat=3)), dtype=dtype)
    outside = torch.tensor([[-0.5, 0.3, 1.5], [2.0, -1.0, 0.25]], dtype=dtype)
    x, table = torch.cat([points(100, dtype), corners, outside]), table_for(layout, dtype)
    expected = torch.tensor([brute_encode(p, table.tolist(), layout) for p in x.tolist()], dtype=dtype)
    torch.testing.assert_close(ops.encode(x, table, layout), expected)


@pytest.mark.parametrize("features", [1, 2, 3, 4, 8])
def test_encode_gradients_equal_numerical_ones(chosen: str, features: int) -> None:
    layout = GridLayout(3, features, 6, 2, 1.6)
    x, table = points(7).requires_grad_(), table_for(layout).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, table: ops.encode(x, table, layout), (x, table))


def test_encode_gradient_stops_where_x_is_clamped(chosen: str) -> None:
    x = torch.tensor([[1.5, 0.4, -0.1]], dtype=torch.float64, requires_grad=True)
    ops.encode(x, table_for(LAYOUTS[0]), LAYOUTS[0]).sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0] == 0 and x.grad[0, 2] == 0 and x.grad[0, 1] != 0


def test_encode_passes_nan_on(chosen: str) -> None:
    x = torch.tensor([[math.nan, 0.5, 0.5], [0.5, 0.5, 0.5]])
    out = ops.encode(x, table_for(LAYOUTS[0], torch.float32), LAYOUTS[0])
    assert out[0].isnan().all() and out[1].isfinite().all()


def test_encode_of_no_points(chosen: str) -> None:
    x = torch.zeros(0, 3, requires_grad=True)
    table = table_for(LAYOUTS[0], torch.float32).requires_grad_()
    out = ops.encode(x, table, LAYOUTS[0])
    out.sum().backward()
    assert out.shape == (0, LAYOUTS[0].out_features)
    assert table.grad is not None and not table.grad.any()


def test_encode_takes_non_contiguous_tensors(chosen: str) -> None:
    layout = LAYOUTS[0]
    x, table = points(64).t().contiguous().t(), table_for(layout).t().contiguous().t()
    assert not x.is_contiguous() and not table.is_contiguous()
    torch.testing.assert_close(ops.encode(x, table, layout), ops.encode(x.contiguous(), table.contiguous(), layout))


def test_wrong_arguments_are_named(chosen: str) -> None:
    layout = LAYOUTS[0]
    x, table = points(4), table_for(layout)
    with pytest.raises(ValueError, match=r"x is torch\.float16"):
        ops.encode(x.half(), table, layout)
    with pytest.raises(ValueError, match=r"table is torch\.float64 on cpu, expected torch\.float32"):
        ops.encode(x.float(), table, layout)
    with pytest.raises(ValueError, match=r"x is \[4, 2\]"):
        ops.encode(x[:, :2], table, layout)
    with pytest.raises(ValueError, match="table is"):
        ops.encode(x, table[:-1], layout)
    with pytest.raises(ValueError, match="dt = 0"):
        ops.march(x, x, torch.ones(2, 2, 2, dtype=torch.bool), 0.0)
    with pytest.raises(ValueError, match="occupancy"):
        ops.march(x, x, torch.ones(2, 2, 3, dtype=torch.bool), 0.1)
    with pytest.raises(ValueError, match="jitter"):
        ops.march(x, x, torch.ones(2, 2, 2, dtype=torch.bool), 0.1, jitter=x[:2, 0])
    for offsets in ([0, 3], [1, 4], [0, 3, 2, 4]):
        with pytest.raises(ValueError, match="offsets must rise"):
            ops.composite(x[:, 0], x, torch.tensor(offsets))


def test_layouts_that_cannot_be() -> None:
    for wrong in (
        (0, 2, 16, 16, 1.5),
        (8, 2, 31, 16, 1.5),
        (8, 2, 16, 16, 0.5),
        (8, 2, 16, 16, math.nan),
        (20, 2, 16, 16, 3.0),
    ):
        with pytest.raises(ValueError, match="GridLayout"):
            GridLayout(*wrong)
    assert GridLayout.spanning(12, 2, 16, 8, 256).resolutions[::11] == (8, 256)


def encoding_and_gradients(dtype: torch.dtype, features: int = 2, count: int = 10_000) -> tuple[Tensor, ...]:
    """The encoding and both gradients, for points enough to be shared out between threads."""
    layout = GridLayout.spanning(8, features, 12, 4, 64)
    x, table = points(count, dtype).requires_grad_(), table_for(layout, dtype).requires_grad_()
    out = ops.encode(x, table, layout)
    out.backward(torch.randn(out.shape, generator=torch.Generator().manual_seed(2), dtype=dtype))
    assert x.grad is not None and table.grad is not None
    return out.detach(), x.grad, table.grad


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("features", "count"), [(1, 99), (2, 10_000), (3, 99), (4, 99), (8, 99)])
def test_compiled_encode_equals_its_twin(chosen: str, dtype: torch.dtype, features: int, count: int) -> None:
    results = encoding_and_gradients(dtype, features, count)
    backend.select("torch")
    for compiled, twin in zip(results, encoding_and_gradients(dtype, features, count), strict=True):
        assert (compiled - twin).abs().max() <= 20 * torch.finfo(dtype).eps * twin.abs().max()


@needs_compiler
def test_gradients_are_the_same_bits_for_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    backend.select("native")
    results = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        results.append(encoding_and_gradients(torch.float32))
    torch.set_num_threads(before)
    backend.select("auto")
    for one, two, again in zip(*results, strict=True):
        assert torch.equal(one, two) and torch.equal(two, again)


SHAPE = (3.0, 2.0, 0.5)
"""gain, blob and radius of the fields below."""
BETAS = [None, 0.3]
"""Of densities that are softened, and of those that are a signed distance's."""


def mlp_for(layout: GridLayout, hidden: int, dtype: torch.dtype = torch.float64) -> ops.Mlp:
    generator = torch.Generator().manual_seed(2)
    shapes = ((hidden, layout.out_features), (hidden,), (4, hidden), (4,))
    return ops.Mlp(*(torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes))


def spread_points(count: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Points inside and outside the ball, and some outside the cube."""
    return 1.2 * points(count, dtype) - 0.1


def field_and_gradients(
    dtype: torch.dtype, count: int, hidden: int, features: int = 2, beta: float | None = None
) -> tuple[Tensor, ...]:
    layout = GridLayout.spanning(5, features, 9, 4, 32)
    x, learned = spread_points(count, dtype), [table_for(layout, dtype), *mlp_for(layout, hidden, dtype)]
    table, *mlp = (each.requires_grad_() for each in learned)
    reach = None if beta is None else torch.tensor(beta, dtype=dtype, requires_grad=True)
    density, rgb = ops.field(x, table, ops.Mlp(*mlp), layout, *SHAPE, reach)
    generator = torch.Generator().manual_seed(3)
    loss = sum((out * torch.randn(out.shape, generator=generator, dtype=dtype)).sum() for out in (density, rgb))
    assert isinstance(loss, Tensor)
    asked = [table, *mlp] if reach is None else [table, *mlp, reach]
    return density.detach(), rgb.detach(), *torch.autograd.grad(loss, asked)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_field_equals_brute_force(chosen: str, dtype: torch.dtype, beta: float | None) -> None:
    """Encoding by brute force, the network neuron by neuron, activations by the mathematics library."""
    layout, hidden = LAYOUTS[0], 5
    x, table, mlp = spread_points(60, dtype), table_for(layout, dtype), mlp_for(layout, hidden, dtype)
    gain, blob, radius = SHAPE
    densities, colours = [], []
    for point in x.tolist():
        inputs = brute_encode(point, table.tolist(), layout)
        rows = zip(mlp.w1.tolist(), mlp.b1.tolist(), strict=True)
        units = [max(0.0, math.fsum([b, *map(math.prod, zip(w, inputs, strict=True))])) for w, b in rows]
        rows = zip(mlp.w2.tolist(), mlp.b2.tolist(), strict=True)
        raw = [math.fsum([b, *map(math.prod, zip(w, units, strict=True))]) for w, b in rows]
        distance = math.dist([2 * value - 1 for value in point], [0, 0, 0])
        raised = raw[0] + blob * (1 - distance / radius)
        tail = 0.5 * math.exp(-abs(raised) / gain / (beta or 1))
        inside = gain * (max(raised, 0) + math.log1p(math.exp(-abs(raised))))
        if beta is not None:
            inside = (1 - tail if raised > 0 else tail) / beta
        densities.append(inside if distance < 1 else 0.0)
        colours.append([1 / (1 + math.exp(-value)) for value in raw[1:]])
    assert 5 < densities.count(0.0) < 50
    reach = None if beta is None else torch.tensor(beta, dtype=dtype)
    for found, expected in zip(ops.field(x, table, mlp, layout, *SHAPE, reach), (densities, colours), strict=True):
        torch.testing.assert_close(
            found, torch.tensor(expected, dtype=dtype), atol=2e-5 if dtype.itemsize == 4 else 1e-12, rtol=1e-5
        )


@pytest.mark.parametrize(("features", "hidden"), [(1, 3), (2, 8), (3, 1)])
def test_field_gradients_equal_numerical_ones(chosen: str, features: int, hidden: int) -> None:
    layout = GridLayout(3, features, 6, 2, 1.6)
    learned = [each.requires_grad_() for each in (table_for(layout), *mlp_for(layout, hidden))]
    x = points(9).requires_grad_()

    def field(*given: Tensor) -> tuple[Tensor, Tensor]:
        at, table, *mlp = given
        return ops.field(at, table, ops.Mlp(*mlp), layout, *SHAPE)

    assert torch.autograd.gradcheck(lambda *given: field(x.detach(), *given), learned)
    assert torch.autograd.gradcheck(field, (x, *learned))

    def signed(reach: Tensor, *given: Tensor) -> tuple[Tensor, Tensor]:
        at, table, *mlp = given
        return ops.field(at, table, ops.Mlp(*mlp), layout, *SHAPE, reach)

    beta = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda reach, *given: signed(reach, x.detach(), *given), (beta, *learned))
    assert torch.autograd.gradcheck(signed, (beta, x, *learned))


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize(("count", "hidden", "features"), [(1, 32, 2), (65, 7, 3), (5000, 32, 2), (2048, 16, 4)])
def test_compiled_field_equals_its_twin(
    chosen: str, dtype: torch.dtype, count: int, hidden: int, features: int, beta: float | None
) -> None:
    results = field_and_gradients(dtype, count, hidden, features, beta)
    backend.select("torch")
    for compiled, twin in zip(results, field_and_gradients(dtype, count, hidden, features, beta), strict=True):
        assert (compiled - twin).abs().max() <= 100 * torch.finfo(dtype).eps * twin.abs().max().clamp(min=1)


@needs_compiler
def test_field_and_its_gradients_are_the_same_bits_for_any_number_of_threads() -> None:
    before = torch.get_num_threads()
    backend.select("native")
    results = []
    for threads in (1, 2, 2):
        torch.set_num_threads(threads)
        results.append(field_and_gradients(torch.float32, 10_000, 32, beta=0.3))
    torch.set_num_threads(before)
    backend.select("auto")
    for one, two, again in zip(*results, strict=True):
        assert torch.equal(one, two) and torch.equal(two, again)


@pytest.mark.parametrize("one", [0, 1])
def test_gradients_of_density_or_colour_alone(chosen: str, one: int) -> None:
    """What the other would add is nothing, and not missing."""
    layout = LAYOUTS[0]
    learned = [each.requires_grad_() for each in (table_for(layout), *mlp_for(layout, 4))]
    out = ops.field(spread_points(70), learned[0], ops.Mlp(*learned[1:]), layout, *SHAPE)
    alone = torch.autograd.grad(out[one].sum(), learned, retain_graph=True)
    both = torch.autograd.grad(out[one].sum() + 0 * out[1 - one].sum(), learned)
    assert all(torch.equal(*pair) for pair in zip(alone, both, strict=True)) and alone[0].any()


def test_field_of_no_points_and_without_gradients(chosen: str) -> None:
    layout = LAYOUTS[0]
    table, mlp = table_for(layout).requires_grad_(), mlp_for(layout, 4)
    density, rgb = ops.field(torch.zeros(0, 3, dtype=torch.float64), table, mlp, layout, *SHAPE)
    (density.sum() + rgb.sum()).backward()
    assert density.shape == (0,) and rgb.shape == (0, 3)
    assert table.grad is not None and table.grad.shape == table.shape and not table.grad.any()
    x = spread_points(70)
    with torch.no_grad():
        free = ops.field(x, table, mlp, layout, *SHAPE)
    assert not free[0].requires_grad
    for one, other in zip(free, ops.field(x, table, mlp, layout, *SHAPE), strict=True):
        assert other.requires_grad and torch.equal(one, other)


def test_field_takes_non_contiguous_tensors_and_passes_nan_on(chosen: str) -> None:
    layout = LAYOUTS[0]
    x, table, mlp = spread_points(64), table_for(layout), mlp_for(layout, 6)
    turned = [each.t().contiguous().t() if each.dim() == 2 else each for each in (x, table, *mlp)]
    assert not turned[0].is_contiguous() and not turned[2].is_contiguous()
    expected = ops.field(x, table, mlp, layout, *SHAPE)
    for one, other in zip(ops.field(turned[0], turned[1], ops.Mlp(*turned[2:]), layout, *SHAPE), expected, strict=True):
        torch.testing.assert_close(one, other)
    x[3, 1] = math.nan
    density, rgb = ops.field(x, table, mlp, layout, *SHAPE)
    assert density.isnan().nonzero().tolist() == [[3]] and rgb.isnan().any(1).nonzero().tolist() == [[3]]


def test_wrong_arguments_of_a_field_are_named(chosen: str) -> None:
    layout = LAYOUTS[0]
    x, table, mlp = points(4), table_for(layout), mlp_for(layout, 6)
    with pytest.raises(ValueError, match=r"w1 is \[6, 9\], expected \[6, 10\]"):
        ops.field(x, table, mlp._replace(w1=mlp.w1[:, 1:]), layout, *SHAPE)
    with pytest.raises(ValueError, match=r"b2 is torch\.float32 on cpu, expected torch\.float64"):
        ops.field(x, table, mlp._replace(b2=mlp.b2.float()), layout, *SHAPE)
    with pytest.raises(ValueError, match=r"x is torch\.int64"):
        ops.field(x.long(), table, mlp, layout, *SHAPE)
    with pytest.raises(ValueError, match="gain = 0"):
        ops.field(x, table, mlp, layout, 0.0, 1.0, 1.0)


def rays(count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Rays from everywhere about the cube, outside and inside; some miss it, some run along an axis."""
    generator = torch.Generator().manual_seed(3)
    origins = 4 * torch.rand(count, 3, generator=generator, dtype=dtype) - 2
    directions = 1.6 * torch.rand(count, 3, generator=generator, dtype=dtype) - 0.8 - origins
    directions[: count // 8] = torch.eye(3, dtype=dtype)[torch.arange(count // 8) % 3]
    return origins, directions / directions.norm(dim=-1, keepdim=True)


def blobs(cells: int) -> Tensor:
    return torch.rand(cells, cells, cells, generator=torch.Generator().manual_seed(4)) < 0.4


def brute_march(
    o: list[float], d: list[float], occupied: list, dt: float, jitter: float, near: float, max_steps: int
) -> list[tuple[int, float]]:
    """One ray in Python: enter the slabs, then ask every step."""
    enter, leave = near, math.inf
    for a, b in zip(o, d, strict=True):
        if b:
            low, high = sorted(((-1 - a) / b, (1 - a) / b))
            enter, leave = max(enter, low), min(leave, high)
        elif abs(a) > 1:
            leave = -math.inf
    kept = []
    for k in range(max_steps):
        t = enter + (k + jitter) * dt
        if t >= leave:
            break
        i, j, m = (
            min(max(math.floor((a + t * b + 1) * len(occupied) / 2), 0), len(occupied) - 1)
            for a, b in zip(o, d, strict=True)
        )
        if occupied[i][j][m]:
            kept.append((k, t))
    return kept


@pytest.mark.parametrize(("near", "max_steps"), [(0.0, None), (1.1, 20)])
def test_march_equals_brute_force(chosen: str, near: float, max_steps: int | None) -> None:
    origins, directions = rays(200, torch.float64)
    jitter, occupied, dt = points(200)[:, 0], blobs(7), 0.09
    found = ops.march(origins, directions, occupied, dt, jitter, near, max_steps)
    expected = [
        brute_march(o, d, occupied.tolist(), dt, u, near, max_steps or 1000)
        for o, d, u in zip(origins.tolist(), directions.tolist(), jitter.tolist(), strict=True)
    ]
    assert found.offsets.diff().tolist() == [len(kept) for kept in expected]
    assert min(map(len, expected)) == 0 and max(map(len, expected)) > 10
    assert found.rays.tolist() == [r for r, kept in enumerate(expected) for _ in kept]
    assert found.steps.tolist() == [k for kept in expected for k, _ in kept]
    torch.testing.assert_close(found.t, torch.tensor([t for kept in expected for _, t in kept], dtype=torch.float64))
    at = found.positions(origins, directions)
    cell = ((at + 1) * 3.5).floor().long().clamp(0, 6)
    assert occupied[tuple(cell.unbind(-1))].all()


@needs_compiler
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_march_is_its_twin_bit_for_bit(chosen: str, dtype: torch.dtype) -> None:
    origins, directions = rays(3000, dtype)
    origins[0], directions[1, 2] = math.nan, math.nan
    origins[2], directions[2] = torch.tensor([1.0, -1.0, 0.3]), torch.tensor([0.0, 0.0, -1.0])
    given = (origins, directions, blobs(32).to(torch.uint8), points(3000, dtype)[:, 0], 0.03, 0.2, 117)
    compiled, twin = native.march(*given), reference.march(*given)
    for one, other in zip(compiled, twin, strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)
    assert len(compiled[0]) > 10_000


def test_march_of_nothing(chosen: str) -> None:
    none = ops.march(torch.zeros(0, 3), torch.zeros(0, 3), blobs(4), 0.1)
    assert len(none.t) == 0 and none.offsets.tolist() == [0]
    origins, directions = rays(5, torch.float32)
    empty = ops.march(origins, directions, torch.zeros(4, 4, 4, dtype=torch.bool), 0.1)
    assert len(empty.rays) == 0 and empty.offsets.tolist() == [0] * 6


def rendering(dtype: torch.dtype, least: float, count: int = 3000, beta: float | None = None) -> tuple[Tensor, Tensor]:
    """Random rays through a field that is opaque in places."""
    layout = GridLayout.spanning(5, 2, 9, 4, 32)
    table, mlp, (origins, directions) = table_for(layout, dtype), mlp_for(layout, 8, dtype), rays(count, dtype)
    reach, gain = (None, 200.0) if beta is None else (torch.tensor(beta, dtype=dtype), 4.0)
    return ops.render(origins, directions, blobs(16), 0.05, least, table, mlp, layout, gain, 2.0, 0.5, reach)


@needs_compiler
@pytest.mark.parametrize("beta", [None, 0.01])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_compiled_rendering_is_march_field_and_composite_in_turn(dtype: torch.dtype, beta: float | None) -> None:
    close = 2e-5 if dtype == torch.float32 else 1e-12
    backend.select("torch")
    whole = rendering(dtype, 0.1, beta=beta)
    backend.select("native")
    for least in (1e-30, 1e-4, 0.1):
        for all_of_it, seen in zip(whole, rendering(dtype, least, beta=beta), strict=True):
            missing = all_of_it - seen
            assert missing.min() >= -close and missing.max() <= least + close
            assert least < 0.1 or missing.max() > 0.01
    backend.select("auto")


@needs_compiler
def test_compiled_rendering_ends_where_a_loop_along_each_ray_does() -> None:
    backend.select("native")
    seen, opacity = rendering(torch.float64, 0.1, 300)
    layout, given = GridLayout.spanning(5, 2, 9, 4, 32), rays(300, torch.float64)
    samples = ops.march(*given, blobs(16), 0.05)
    at = (samples.positions(*given) + 1) / 2
    density, rgb = ops.field(at, table_for(layout), mlp_for(layout, 8), layout, 200.0, 2.0, 0.5)
    backend.select("auto")
    ended = 0
    for ray, (first, last) in enumerate(pairwise(samples.offsets.tolist())):
        colour, clear = torch.zeros(3, dtype=torch.float64), 1.0
        for index in range(first, last):
            if clear < 0.1:
                ended += 1
                break
            alpha = 1 - math.exp(-density[index].item() * 0.05)
            colour, clear = colour + clear * alpha * rgb[index], clear * (1 - alpha)
        assert opacity[ray].item() == pytest.approx(1 - clear, abs=1e-10)
        assert torch.allclose(seen[ray], colour, atol=1e-10)
    assert ended > 30


@needs_compiler
def test_rendering_is_the_same_bits_for_any_number_of_threads_and_of_no_rays_nothing() -> None:
    before = torch.get_num_threads()
    backend.select("native")
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        results.append(rendering(torch.float32, 1e-4))
    torch.set_num_threads(before)
    none = rendering(torch.float32, 1e-4, 0)
    backend.select("auto")
    for one, two in zip(*results, strict=True):
        assert torch.equal(one, two)
    assert [len(each) for each in none] == [0, 0]


OFFSETS = torch.tensor([0, 0, 3, 4, 4, 9, 10, 10])


def packed(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    sigma_dt = 2 * points(10, dtype, 5)[:, 0]
    sigma_dt[6:8] = torch.tensor([0.0, 30.0])  # nothing there, and a wall
    return sigma_dt, points(10, dtype, 6).repeat(1, 2)[:, :4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_composite_equals_brute_force(chosen: str, dtype: torch.dtype) -> None:
    sigma_dt, values = packed(dtype)
    sums, opacity = ops.composite(sigma_dt, values, OFFSETS)
    for ray, (first, last) in enumerate(zip(OFFSETS[:-1].tolist(), OFFSETS[1:].tolist(), strict=True)):
        through, expected = 1.0, [0.0] * 4
        for i in range(first, last):
            alpha = 1 - math.exp(-float(sigma_dt[i]))
            expected = [e + through * alpha * v for e, v in zip(expected, values[i].tolist(), strict=True)]
            through *= 1 - alpha
        torch.testing.assert_close(sums[ray], torch.tensor(expected, dtype=dtype))
        torch.testing.assert_close(opacity[ray], torch.tensor(1 - through, dtype=dtype))


def test_composite_gradients_equal_numerical_ones(chosen: str) -> None:
    sigma_dt, values = (tensor.requires_grad_() for tensor in packed())
    assert torch.autograd.gradcheck(lambda s, v: ops.composite(s, v, OFFSETS), (sigma_dt, values))
    assert torch.autograd.gradcheck(lambda s: ops.composite(s, values.detach(), OFFSETS)[1], (sigma_dt,))


def test_composite_of_nothing(chosen: str) -> None:
    sums, opacity = ops.composite(torch.zeros(0), torch.zeros(0, 3), torch.zeros(4, dtype=torch.long))
    assert sums.shape == (3, 3) and not sums.any() and not opacity.any()
    sums, opacity = ops.composite(torch.zeros(0), torch.zeros(0, 3), torch.zeros(1, dtype=torch.long))
    assert sums.shape == (0, 3) and opacity.shape == (0,)


@needs_compiler
def test_compiled_composite_equals_its_twin_in_float32(chosen: str) -> None:
    counts = torch.randint(0, 90, (500,), generator=torch.Generator().manual_seed(7))
    offsets = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    total = int(offsets[-1])
    results = []
    for op in (native.composite, reference.composite):
        sigma_dt, values = (0.2 * points(total, torch.float32)[:, 0]).requires_grad_(), points(total, torch.float32, 8)
        values.requires_grad_()
        sums, opacity = op(sigma_dt, values, offsets)
        (sums.square().sum() + opacity.square().sum()).backward()
        results.append((sums, opacity, sigma_dt.grad, values.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=2e-5, rtol=1e-4)


@needs_compiler
def test_operators_are_registered_as_torch_expects() -> None:
    layout = LAYOUTS[0]
    x, table = points(20).requires_grad_(), table_for(layout).requires_grad_()
    arguments = native.layout_arguments(layout)
    grad = torch.ones(20, layout.out_features, dtype=torch.float64)
    origins, directions = rays(20, torch.float32)
    sigma_dt, values = (tensor.requires_grad_() for tensor in packed())
    ones = (torch.ones(7, 4, dtype=torch.float64), torch.ones(7, dtype=torch.float64))
    torch.library.opcheck(native.hashgrid_encode, (x, table, *arguments))
    torch.library.opcheck(native.hashgrid_backward_table, (grad, x.detach(), *arguments))
    torch.library.opcheck(native.hashgrid_backward_x, (grad, x.detach(), table.detach(), *arguments))
    mlp = mlp_for(layout, 6)
    learned, shape = [each.requires_grad_() for each in (table, *mlp)], (*arguments, *SHAPE, 0.3)
    for keep in (True, False):
        torch.library.opcheck(
            native.field, (x.detach(), *([each.detach() for each in learned] if not keep else learned), *shape, keep)
        )
    with torch.no_grad():
        out = native.field(x, *learned, *shape, True)
        given = (torch.ones_like(out[0]), torch.ones_like(out[1]), x.detach(), *(each.detach() for each in mlp[:3]))
        torch.library.opcheck(native.field_backward, (*given, *out, *arguments, SHAPE[0], 0.3))
    torch.library.opcheck(native.march, (origins, directions, blobs(4), torch.zeros(20), 0.1, 0.0, 40))
    learned = [each.detach().float() for each in (table, *mlp)]
    march = (origins, directions, blobs(4), torch.zeros(20), 0.1, 40)
    torch.library.opcheck(native.render, (*march, *learned, *arguments, *SHAPE, 0.3, 1e-4))
    torch.library.opcheck(native.composite, (sigma_dt, values, OFFSETS))
    torch.library.opcheck(native.composite_backward, (*ones, sigma_dt.detach(), values.detach(), OFFSETS))


def test_what_does_not_fit_is_refused_before_it_is_allocated(chosen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    origins, directions = rays(2000, torch.float32)
    everywhere = torch.ones(4, 4, 4, dtype=torch.bool)
    monkeypatch.setattr(memory, "SMALL", 0)
    monkeypatch.setattr(memory, "free_bytes", lambda device: 10**6)
    with pytest.raises(UserError, match=r"2000 rays.* GiB, and cpu has 0\.0 GiB free: march fewer rays"):
        ops.march(origins, directions, everywhere, 0.001)
    assert len(ops.march(origins[:500], directions[:500], everywhere, 0.1).t) > 1000


def test_march_through_nerfaccs_sampler_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    """Their traversal exists on CUDA only, so a loop over its documented steps stands in: all around it is ours."""

    def traverse_grids(
        origins: Tensor, directions: Tensor, binaries: Tensor, aabbs: Tensor, *, near_planes: Tensor,
        far_planes: Tensor, step_size: float, rays_mask: Tensor,
    ) -> tuple[None, SimpleNamespace, None]:  # fmt: skip
        assert aabbs.tolist() == [[-1, -1, -1, 1, 1, 1]] and near_planes.isfinite().all()
        found = []
        for r in rays_mask.nonzero()[:, 0].tolist():
            low = near_planes[r].item()
            while low + step_size / 2 < far_planes[r].item():
                at = origins[r] + (low + step_size / 2) * directions[r]
                cell = ((at + 1) / 2 * binaries.shape[1]).floor().long().clamp(0, binaries.shape[1] - 1)
                if binaries[0][tuple(cell)]:
                    found.append((r, low + step_size / 2))
                low += step_size
        ray, t = zip(*found, strict=True)
        return None, SimpleNamespace(ray_indices=torch.tensor(ray), vals=origins.new_tensor(t)), None

    monkeypatch.setattr("nerfacc.grid.traverse_grids", traverse_grids)
    origins, directions = rays(60, torch.float64)
    origins[0], directions[1] = math.nan, 0
    given = (origins, directions, blobs(6), points(60)[:, 1], 0.11, 0.4, 12)
    theirs, ours = nerfacc_march.march(*given), reference.march(*given)
    assert len(ours[0]) > 100 and int(ours[2].max()) == 11
    for one, other in zip(theirs, ours, strict=True):
        torch.testing.assert_close(one, other)


def test_nerfaccs_sampler_serves_cuda_only_and_says_when_it_is_not_there(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert not nerfacc_march.serves(torch.zeros(1, 3))
    half = ModuleType("nerfacc.cuda._backend")
    monkeypatch.setitem(sys.modules, "nerfacc.cuda._backend", half)
    assert nerfacc_march.loads.__wrapped__() is False and "our own instead" in caplog.text
    for given, there in ((object(), True), (None, False)):
        monkeypatch.setattr(half, "_C", given, raising=False)
        assert nerfacc_march.loads.__wrapped__() is there


@needs_compiler
def test_gpu_check_compares_every_kernel_and_fails_where_one_differs(
    chosen: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "milliseconds", lambda call, device: 0.0)
    assert gpu_check.main("cpu", 2000) == 0
    assert len(capsys.readouterr().out.splitlines()) == 19
    right = reference.composite
    monkeypatch.setattr(reference, "composite", lambda s, v, offsets: right(1.01 * s, v, offsets))
    assert gpu_check.main("cpu", 2000) == 4
    assert capsys.readouterr().out.count("DIFFERENT") == 4
