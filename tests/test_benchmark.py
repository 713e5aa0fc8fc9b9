"""The benchmark: what it counts against brute force, what it attributes against programs whose costs are known."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from torch import Tensor
from torch.profiler import record_function

from text23d import benchmark
from text23d.errors import UserError
from text23d.kernels import backend, ops
from text23d.kernels.layout import GridLayout
from text23d.paths import conf_dir
from text23d.prior.builtin.unet import UNet
from text23d.representation.nerf import Nerf
from text23d.settings import read
from text23d.studies.benchmark import counts, curves, machine, networks, operations, plot, report, stages, study
from text23d.studies.benchmark.counts import Work
from text23d.studies.benchmark.curves import Curve
from text23d.studies.benchmark.replay import Replay, random_prior
from text23d.studies.benchmark.study import Benchmark
from text23d.studies.benchmark.timing import alternate, peak_bytes, profiled

CPU = torch.device("cpu")
TINY = (
    "device=cpu",
    "method.iterations=12",
    "method.views=1",
    "method.inner=1",
    "method.size.stages=[[0,16]]",
    "network.widths=[16]",
    "network.attention=[false]",
    "network.embedding=32",
    "+network.text_width=32",
    "kernels.size=16",
    "seconds=0.01",
)


def composed(*changes: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("benchmark", [*TINY, *changes])


def plain(*changes: str) -> dict[str, Any]:
    found: dict[str, Any] = OmegaConf.to_container(composed(*changes), resolve=True)  # type: ignore[assignment]
    return found


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    cfg = plain()
    with random_prior(cfg["network"]) as weights:
        yield Replay(cfg, CPU, weights)


@pytest.fixture
def any_backend() -> Iterator[None]:
    """Whatever a test selects, the next finds what this one found."""
    before = backend.backend()
    yield
    backend.select(before)


# Timing


def test_calls_take_turns_and_the_prepared_time_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    now, order = [0.0], list[str]()
    monkeypatch.setattr("text23d.studies.benchmark.timing.time.perf_counter", lambda: now[0])

    def spend(seconds: float, name: str) -> None:
        now[0] += seconds
        order.append(name)

    calls: dict[str, Callable[[], object]] = {"a": lambda: spend(1, "a"), "b": lambda: spend(2, "b")}
    found = alternate(calls, 3, 100, lambda name: spend(10, f"before {name}"))
    assert found == {"a": [1, 1, 1], "b": [2, 2, 2]}
    assert order == ["before a", "a", "before b", "b"] * 3
    assert alternate(calls, 9, 10)["a"] == [1, 1, 1, 1], "10 seconds are spent in the fourth round"
    assert alternate(calls, 9, 0)["a"] == [1, 1], "two rounds at least"


def test_peak_memory_is_the_most_held_at_once_and_the_same_every_time() -> None:
    def call() -> None:
        first = torch.empty(1 << 20)  # 4 MiB
        second = torch.empty(1 << 19)
        del first
        third = torch.empty(1 << 18)
        del second, third

    assert peak_bytes(call) == peak_bytes(call) == 6 << 20
    assert peak_bytes(lambda: None) == 0


def test_profiles_leave_standard_error_alone(capfd: pytest.CaptureFixture[str]) -> None:
    profiled(lambda: torch.ones(3))
    assert capfd.readouterr().err == ""


# What an operation has to do, counted by numbers that count


class Counted:
    """A number that tallies what is done to it."""

    tally = 0

    def __init__(self, value: float) -> None:
        self.value = value

    def _combine(self, other: Counted | float, how: Callable[[float, float], float]) -> Counted:
        Counted.tally += 1
        return Counted(how(self.value, other.value if isinstance(other, Counted) else other))

    def __add__(self, other: Counted | float) -> Counted:
        return self._combine(other, lambda a, b: a + b)

    def __sub__(self, other: Counted | float) -> Counted:
        return self._combine(other, lambda a, b: a - b)

    def __rsub__(self, other: float) -> Counted:
        return self._combine(other, lambda a, b: b - a)

    def __rmul__(self, other: float) -> Counted:
        return self * other

    def __mul__(self, other: Counted | float) -> Counted:
        return self._combine(other, lambda a, b: a * b)

    def __truediv__(self, other: Counted | float) -> Counted:
        return self._combine(other, lambda a, b: a / b)

    def opaque(self) -> Counted:
        """1 - exp(-x), one function (expm1)."""
        return self._combine(0, lambda a, _: -math.expm1(-a))

    def clear(self) -> Counted:
        """exp(-x)."""
        return self._combine(0, lambda a, _: math.exp(-a))


def tallied(work: Callable[[], object]) -> int:
    Counted.tally = 0
    work()
    return Counted.tally


def some(n: int, seed: int = 0) -> list[Counted]:
    return [Counted(value) for value in np.random.default_rng(seed).uniform(0.1, 0.9, n).tolist()]


def place(x: list[Counted], cells: int) -> list[list[Counted]]:
    """The eight weights of a point in one level, by corner."""
    ends = []
    for coordinate in x:
        position = coordinate * cells
        fraction = position - math.floor(position.value)
        ends.append((1 - fraction, fraction))
    return [[ends[0][i] * ends[1][j] * ends[2][k]] for i in (0, 1) for j in (0, 1) for k in (0, 1)]


@pytest.mark.parametrize(("levels", "features"), [(1, 1), (3, 2), (5, 4)])
def test_flops_of_encoding(levels: int, features: int) -> None:
    layout = GridLayout(levels, features, 10, 4, 1.3)

    def forward() -> None:
        for cells in layout.resolutions:
            sums = [Counted(0.0) for _ in range(features)]
            for (weight,) in place(some(3), cells):
                sums = [each + weight * value for each, value in zip(sums, some(features), strict=True)]

    def backward() -> None:
        for cells in layout.resolutions:
            for (weight,) in place(some(3), cells):
                for gradient, entry in zip(some(features), some(features), strict=True):
                    entry + weight * gradient

    assert counts.encode(7, layout).flops == 7 * tallied(forward)
    assert counts.encode_backward(7, layout).flops == 7 * tallied(backward)


def test_flops_of_a_field() -> None:
    layout, hidden, n = GridLayout(3, 2, 10, 4, 1.3), 5, 7
    widths = (layout.out_features, hidden, 4)

    def activate() -> None:
        a, b, c = (2.0 * value - 1.0 for value in (Counted(v.value) for v in some(3)))
        distance = (a * a + b * b + c * c).clear()  # a square root, one function as exp is
        raised = Counted(0.3) + Counted(10.0) * (1 - distance / 0.5)
        Counted(25.0) * (raised + raised.clear().opaque())
        for raw in some(3):
            Counted(1.0) / (raw.clear() + 1.0)

    def slopes() -> None:
        density, gradient = some(2)
        gradient * (Counted(25.0) * (1 - (density / 25.0).clear()))
        for colour, incoming in zip(some(3), some(3), strict=True):
            incoming * (colour * (1 - colour))

    forward, backward = counts.field(n, layout, hidden), counts.field_backward(n, layout, hidden)
    products = counts.network(n, widths).flops
    assert forward.flops == counts.encode(n, layout).flops + products + n * tallied(activate)
    assert backward.flops == counts.encode_backward(n, layout).flops + 2 * products + n * tallied(slopes)


@pytest.mark.parametrize("channels", [1, 3])
def test_flops_of_compositing(channels: int) -> None:
    samples = 5

    def forward() -> None:
        before, sums = Counted(0.0), some(channels)
        for depth in some(samples):
            weight = before.clear() * depth.opaque()
            sums = [each + weight * value for each, value in zip(sums, some(channels), strict=True)]
            before = before + depth
        before.opaque()

    def backward() -> None:
        depths, incoming = some(samples), some(channels)
        before, befores = Counted(0.0), []
        for depth in depths:
            befores.append(before)
            before = before + depth
        through = Counted(0.5) * before.clear()
        behind = Counted(0.0)
        for depth, front in zip(reversed(depths), reversed(befores), strict=True):
            transmittance, alpha = front.clear(), depth.opaque()
            weight, inner = transmittance * alpha, Counted(0.0)
            for value, gradient in zip(some(channels), incoming, strict=True):
                inner = inner + value * gradient
                weight * gradient
            transmittance * (1 - alpha) * inner - behind + through
            behind = behind + weight * inner

    assert counts.composite(2, 2 * samples, channels).flops == 2 * tallied(forward)
    assert counts.composite_backward(2, 2 * samples, channels).flops == 2 * tallied(backward)


def test_flops_of_marching_and_of_networks() -> None:
    def ray() -> None:
        for origin, direction in zip(some(3), some(3), strict=True):
            (-1 - origin) / direction, (1 - origin) / direction

    def step() -> None:
        t = Counted(1.0) + (Counted(4.0) + 0.5) * 0.1
        for origin, direction in zip(some(3), some(3), strict=True):
            (origin + t * direction + 1) * 32

    assert counts.march(3, 50, 20).flops == 3 * tallied(ray) + 50 * tallied(step)
    rows, widths = 6, (5, 7, 2)
    x, weights = torch.randn(rows, 5, requires_grad=True), [torch.randn(5, 7), torch.randn(7, 2)]
    parameters = [weight.requires_grad_() for weight in weights]
    forward = networks.flops(lambda: x @ parameters[0] @ parameters[1])
    assert counts.network(rows, widths).flops == forward == 2 * rows * (5 * 7 + 7 * 2)
    y = x @ parameters[0] @ parameters[1]
    assert counts.network_backward(rows, widths).flops == networks.flops(lambda: y.sum().backward())


def test_bytes_are_those_of_the_tensors_and_the_look_ups() -> None:
    layout, n = GridLayout(3, 2, 8, 4, 1.5), 9
    x, table = torch.rand(n, 3), torch.rand(layout.entries, 2)
    out = ops.encode(x, table, layout)
    corners = n * layout.levels * 8 * 2 * 4
    assert counts.encode(n, layout).bytes == x.nbytes + out.nbytes + corners
    assert counts.encode_backward(n, layout).bytes == x.nbytes + out.nbytes + 2 * corners + table.nbytes
    origins, directions = torch.tensor([[0.0, -3, 0]]).expand(4, 3), torch.tensor([[0.0, 1, 0]]).expand(4, 3)
    kept = ops.march(origins, directions, torch.ones(2, 2, 2, dtype=torch.bool), 0.25)
    given = 4 * 7 * 4 + 4 * 8  # rays and jitter, and one byte for each step's cell
    assert counts.march(4, 4 * 8, 4 * 8).bytes == given + sum(each.nbytes for each in kept)
    depth, colour = torch.rand(32), torch.rand(32, 3)
    sums, opacity = ops.composite(depth, colour, kept.offsets)
    moved = sum(each.nbytes for each in (depth, colour, kept.offsets, sums, opacity))
    assert counts.composite(4, 32, 3).bytes == moved
    assert counts.composite_backward(4, 32, 3).bytes == moved + depth.nbytes + colour.nbytes
    assert Work(1, 2) + Work(3, 4) == Work(4, 6)


def test_candidates_are_the_samples_of_a_full_cube() -> None:
    nerf = Nerf(generator=torch.Generator().manual_seed(0))
    nerf.occupancy.mask.fill_(True)
    batch = operations.ray_batch(nerf, 2, 12)
    assert operations.candidates(batch.origins, batch.directions, nerf.dt) == len(batch.samples.t) > 1000


# Operations


def test_operations_are_measured_on_both_backends(any_backend: None) -> None:
    backends = list(dict.fromkeys([backend.select("auto"), "torch"]))
    batch = operations.ray_batch(Nerf(generator=torch.Generator().manual_seed(0)), 1, 8)
    names = []
    for operation in [*operations.kernels(batch), operations.rendering(batch)]:
        found = operations.compare(operation, backends, 2, 0.0)
        assert found.seconds.keys() == found.peak_bytes.keys() == set(backends)
        assert all(0 < value < 10 for value in found.seconds.values())
        assert all(value > 0 for value in found.peak_bytes.values())
        assert operation.work.flops > 0 and operation.work.bytes > 0
        names.append(operation.name)
    kernels = ["encode", "encode, backward", "field", "field, backward", "march", "composite", "composite, backward"]
    assert names == [*kernels, "render, forward and backward"]
    work = operations.rendering(batch).work
    layout, samples = batch.nerf.encoding.layout, len(batch.samples.t)
    assert work.flops > counts.field(samples, layout, 32).flops + counts.field_backward(samples, layout, 32).flops


def test_a_backward_call_is_the_gradient_alone() -> None:
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    made = []

    def forward() -> Tensor:
        made.append(1)
        return x**3

    call = operations.gradient([forward()], [x])
    for _ in range(2):
        found: Any = call()
        assert found[0].tolist() == [3.0, 12.0]
    assert made == [1]


def test_points_run_along_lines_inside_the_cube() -> None:
    points = operations.points_on_rays(100, CPU)
    assert points.shape == (100, 3) and points.min() >= 0 and points.max() <= 1
    assert torch.equal(points, operations.points_on_rays(100, CPU))
    inside = ((points > 0) & (points < 1)).all(1)
    steps = (points[1:] - points[:-1]).norm(dim=1)[inside[1:] & inside[:-1]]
    assert ((steps - 1 / 64).abs() < 1e-6).sum() > 0.8 * len(steps)


def test_other_encodings_are_refused() -> None:
    nerf = Nerf(encoding=Identity())
    with pytest.raises(UserError, match="Identity: this benchmark measures HashGrid"):
        operations.ray_batch(nerf, 1, 8)


class Identity(torch.nn.Identity):
    out_features = 3


# Where the time goes


class Slow(torch.autograd.Function):
    """The input, after 10 ms forward and 20 ms backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        time.sleep(0.01)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        time.sleep(0.02)
        return grad.clone()


def test_time_is_attributed_to_stages_and_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """To kernels by their operators' names, nested or not; to the network with its backward pass."""
    x = torch.ones(3, requires_grad=True)

    def work() -> None:
        for _ in range(2):
            with record_function(stages.WHOLE):
                with stages.stage("forward"):
                    with record_function(stages.NETWORK):
                        y = Slow.apply(x)
                    z = Slow.apply(y * 2)  # of no part
                with stages.stage("backward"):
                    z.sum().backward()
                with record_function("text23d::field"), record_function("text23d::field"):
                    time.sleep(0.01)
                time.sleep(0.005)

    found = stages.breakdown(profiled(work).events(), 2, gpu=False)
    assert found.keys() == {"forward", "backward", "other"}
    parts = {"forward": stages.NETWORK, "backward": stages.NETWORK, "other": "field"}
    assert all(found[stage].keys() == {"seconds", part} for stage, part in parts.items())
    least = {"forward": (0.02, 0.01), "backward": (0.04, 0.02), "other": (0.015, 0.01)}
    for stage, (seconds, inside) in least.items():
        times, part = found[stage], found[stage][parts[stage]]
        assert part >= inside
        assert times["seconds"] - part >= seconds - inside - 1e-4, "the rest is not the part's"
        assert times["seconds"] < 10 * seconds + 1
    least_share = sum(part for _, part in least.values()) / sum(seconds for seconds, _ in least.values())
    assert stages.share(found, ["field", stages.NETWORK]) == pytest.approx(least_share, abs=0.3)
    assert stages.share(found, ["field", "nothing"]) == stages.share(found, ["field"]) < 1


def test_stages_of_an_iteration(replay: Replay, any_backend: None) -> None:
    """The method's own stages; the network in those that ask it, and the compiled kernels where pictures are made."""
    for chosen in dict.fromkeys([backend.select("auto"), "torch"]):
        backend.select(chosen)
        found = stages.stage_seconds(replay, [0, 5])
        assert found.keys() == {"prepare", "render", "invert", "Langevin", "target", "update", "other"}
        for times in found.values():
            inside = sum(value for name, value in times.items() if name != "seconds")
            assert 0 <= inside <= times["seconds"] * 1.001
        for stage in ("invert", "Langevin", "target"):
            assert found[stage][stages.NETWORK] > 0 and set(found[stage]) == {"seconds", stages.NETWORK}
        kernels = set(stages.KERNELS) if chosen == "native" else set()
        for stage, own in (("render", kernels & {"picture"}), ("update", kernels - {"picture"})):
            assert set(found[stage]) == {"seconds", *own} and all(found[stage][name] > 0 for name in own)
        assert set(found["prepare"]) == {"seconds", *(kernels & {"field"})}
        assert set(found["other"]) == {"seconds"}
        assert 0 < stages.share(found, (*stages.KERNELS, stages.NETWORK)) < 1


def test_every_operator_of_ours_belongs_to_a_part() -> None:
    """The table of names is complete: a kernel that is added has to be put into it."""
    from text23d.kernels import native

    own = {name for name in dir(torch.ops.text23d) if not name.startswith("_") and name != "name"}
    assert native and {f"text23d::{name}" for name in own} == stages.OPERATORS.keys()


def test_networks_are_named_inside_only() -> None:
    """Also where they are called several at once; no hook stays."""
    before = len(torch.nn.modules.module._global_forward_hooks)

    class Twice(UNet):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

        def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
            return x + 1

    network, other = Twice(), torch.nn.Identity()

    def names() -> list[str]:
        events = profiled(lambda: other(network(network(torch.ones(2))))).events()
        return [event.name for event in events if event.name == stages.NETWORK]

    with stages.networks_named():
        assert len(names()) == 2
    assert names() == [] and len(torch.nn.modules.module._global_forward_hooks) == before


def test_a_replay_goes_back_to_where_it_was(replay: Replay) -> None:
    def once(index: int) -> tuple[dict[str, Any], dict[str, Any]]:
        replay.restore()
        figures = replay.iterate(index)
        return {name: value for name, value in figures.items() if name != "seconds"}, replay._state.snapshot()

    first, state = once(3)
    once(7)
    again, same = once(3)
    assert first == again and str(state) == str(same)
    assert torch.equal(state["phi"]["encoding.table"], same["phi"]["encoding.table"])
    assert not torch.equal(state["phi"]["encoding.table"], once(7)[1]["phi"]["encoding.table"])


def test_which_iterations_are_looked_at(replay: Replay) -> None:
    assert replay.spread(4) == [0, 4, 7, 11] and replay.spread(1) == [0] and replay.spread(99) == list(range(12))
    assert replay.typical == 7 and replay.typical % replay.untrained.refresh != 0
    assert (replay.views, replay.size, replay.iterations) == (1, 16, 12) and replay.is_algorithm1
    assert replay.iterate_at(2, 8)["size"] == 8 and replay.size == 16


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("repeats=0", "repeats=0: expected a whole number, at least 1"),
        ("threads=two", "threads=two: expected a whole number, 1 to 1024 or null"),
        ("seconds=-1", "seconds=-1: expected a number above 0 or null"),
        ("seconds=nan", "seconds=nan: expected a number above 0 or null"),
        ("full=1", "full=1: expected true or false"),
        ("stable_diffusion=0", "stable_diffusion=0: expected a whole number, at least 1 or null"),
        ("kernels.size=1.5", r"kernels\.size=1\.5: expected a whole number, at least 1"),
        ("kernels=null", "kernels=null: expected"),
        ("folder=null", "folder=null: expected the name of a file or folder"),
    ],
)
def test_mistakes_are_told(change: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        read(Benchmark, plain(change))


def test_settings_that_serve(tmp_path: Path) -> None:
    found = read(Benchmark, plain("stable_diffusion=2", "threads=1", "seconds=null", "full=true"))
    assert (found.stable_diffusion, found.threads, found.budget) == (2, 1, study.FULL_SECONDS)
    for change, said in (
        ("[16,32]", "network: 2 widths, 1 of attention"),
        ("wide", r"network\.widths=wide: expected a list"),
    ):
        network = plain(f"network.widths={change}")["network"]
        with pytest.raises(UserError, match=said), random_prior(network):
            pass
    with pytest.raises(UserError, match="prior=builtin"):
        Replay(plain("prior=hub"), CPU, tmp_path)
    cfg = plain("representation=image")
    with random_prior(cfg["network"]) as weights, pytest.raises(UserError, match="choose representation=nerf"):
        Replay(cfg, CPU, weights)


# The machine and the networks


def test_limits_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(machine.ELEMENTS, "cpu", 1000)
    monkeypatch.setitem(machine.SIDE, "cpu", 10)
    monkeypatch.setattr(machine, "fastest", lambda call, seconds: (call(), 0.5)[1])
    found = machine.measure(CPU, [torch.float32, torch.bfloat16], 1.0)
    assert found.bandwidth == 3 * 1000 * 4 / 0.5
    assert found.rates == {torch.float32: 2 * 10**3 / 0.5, torch.bfloat16: 2 * 10**3 / 0.5}
    assert found.facts["processor"] and found.facts["threads"] == torch.get_num_threads()


def test_the_network_of_stable_diffusion_is_the_full_one() -> None:
    unet = networks.architecture()
    assert sum(parameter.numel() for parameter in unet.parameters()) == 859_520_964
    assert networks.flops(lambda: networks.evaluate(unet, 1)) == pytest.approx(0.8e12, rel=0.2)


def test_a_network_without_weights_is_given_some() -> None:
    from diffusers import UNet2DConditionModel

    blocks: dict[str, Any] = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "block_out_channels": (8, 16),
        "norm_num_groups": 4,
    }
    with torch.device("meta"):
        unet: Any = UNet2DConditionModel(sample_size=8, cross_attention_dim=8, attention_head_dim=4, **blocks)
    networks.randomise(unet, CPU, torch.float32)
    found = networks.evaluate(unet, 3)
    assert found.shape == (3, 4, 8, 8) and found.isfinite().all() and found.std() > 0


# Curves, picture and report


def test_the_exponent_of_a_power_law() -> None:
    at = [1, 4, 16, 64]
    assert Curve("rays", "march", "torch", at, [3e-3 * n**1.5 for n in at], []).exponent == pytest.approx(1.5)


def test_every_axis_has_its_operations(replay: Replay, any_backend: None) -> None:
    nerf = Nerf(generator=torch.Generator().manual_seed(0))
    names = {axis: [each.name for each in curves.along(axis, 16, nerf, replay)] for axis in ("samples", "size")}
    assert names["samples"] == [
        "encode",
        "encode, backward",
        "field",
        "field, backward",
        "composite",
        "composite, backward",
    ]
    assert names["size"] == ["render, forward and backward", "iteration"]
    assert curves.QUICK.keys() <= curves.FULL.keys() == study.TITLES.keys()
    parts, chosen = replay._parts, backend.select("auto")
    grown = curves.grow("size", (8, 16), nerf, replay, [chosen], 1, 0.0)
    assert [(each.operation, each.backend, each.at) for each in grown] == [
        ("render, forward and backward", chosen, [8, 16]),
        ("iteration", chosen, [8, 16]),
    ]
    assert all(min(each.seconds) > 0 and min(each.peak_bytes) > 0 for each in grown)
    assert grown[0].peak_bytes[1] > 1.5 * grown[0].peak_bytes[0], "four times the rays"
    assert replay._parts is parts, "the run is as it was"
    encode, _ = curves.along("levels", 3, nerf, replay)
    assert encode.work.flops == counts.encode(curves.LEVELS_AT, GridLayout.spanning(3, 2, 15, 8, 128)).flops


def test_axes_are_logarithmic() -> None:
    panel = plot.Panel("title", "rays", [plot.Line("a", [1, 100], [1e-3, 1.0])])
    axes = plot.Axes(panel, (1000.0, 2000.0))
    (x0, y0), (x1, y1), (x2, y2) = axes.place(1, 1e-3), axes.place(10, 10**-1.5), axes.place(100, 1.0)
    assert x1 == pytest.approx((x0 + x2) / 2) and y1 == pytest.approx((y0 + y2) / 2)
    assert 1000 + plot.LEFT < x0 < x2 < 1000 + plot.WIDE - plot.RIGHT
    assert 2000 + plot.TOP < y2 < y0 < 2000 + plot.HIGH - plot.BOTTOM
    flat = plot.Axes(plot.Panel("title", "rays", [plot.Line("a", [5], [0.02])]), (0.0, 0.0))
    assert all(map(math.isfinite, flat.place(5, 0.02)))
    assert flat.y[0] <= math.log10(0.02) < flat.y[1] and flat.y[0] <= -2


def test_a_dashed_line_is_half_a_line() -> None:
    pieces = plot.dashes([(0.0, 0.0), (30.0, 40.0), (30.0, 140.0)])
    lengths = [math.dist(a, b) for a, b in zip(pieces[::2], pieces[1::2], strict=True)]
    assert sum(lengths) == pytest.approx(75) and len(lengths) > 10
    assert pieces[0] == (0, 0)


def test_the_picture_shows_every_line(tmp_path: Path) -> None:
    lines = [plot.Line("first", [1, 10], [1e-3, 1e-2]), plot.Line("second", [1, 10], [1e-1, 1], dashed=True)]
    plot.draw([plot.Panel("one", "rays", lines), plot.Panel("two", "views", lines[:1])], tmp_path / "p.png")
    picture = np.asarray(Image.open(tmp_path / "p.png").convert("RGB")).astype(int)
    assert picture.shape == (plot.HIGH, 2 * plot.WIDE, 3)

    def pixels(colour: str, part: np.ndarray) -> int:
        wanted = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
        return int((np.abs(part - wanted).max(-1) < 40).sum())

    left, right = picture[:, : plot.WIDE], picture[:, plot.WIDE :]
    assert pixels(plot.COLOURS[0], left) > 300 and pixels(plot.COLOURS[0], right) > 300
    assert 150 < pixels(plot.COLOURS[1], left) < pixels(plot.COLOURS[0], left) and pixels(plot.COLOURS[1], right) == 0


def test_numbers_as_people_write_them() -> None:
    assert [plot.in_seconds(10.0**e) for e in (-7, -5, -3, -1, 1)] == ["100 ns", "10 us", "1 ms", "100 ms", "10 s"]
    assert [plot.in_thousands(n) for n in (512, 4096, 1 << 20)] == ["512", "4k", "1M"]
    assert [report.number(n) for n in (None, 0.01234, 1.234, 12.34, 123.4, 12345.6)] == [
        "-", "0.0123", "1.23", "12.3", "123", "12346"
    ]  # fmt: skip
    assert report.percent(0.254) == "25 %" and report.percent(None) == "-"


def test_the_verb_leaves_table_numbers_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], any_backend: None
) -> None:
    monkeypatch.setitem(machine.ELEMENTS, "cpu", 1 << 16)
    monkeypatch.setitem(machine.SIDE, "cpu", 64)
    monkeypatch.setattr(study, "PROFILED", 2)
    monkeypatch.setattr(curves, "QUICK", {"rays": (256, 512), "samples": (64, 128)})
    benchmark.run(composed(f"folder={tmp_path}", "repeats=2"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cpu.json", "cpu.md", "cpu.png"]
    said = capsys.readouterr().out
    assert said.strip() == (tmp_path / "cpu.md").read_text().strip()
    found = json.loads((tmp_path / "cpu.json").read_text())
    chosen = found["backend"]
    assert chosen == backend.select("auto")
    for row in found["operations"]:
        seconds = row["seconds"][chosen]
        assert row["flops_share"] == pytest.approx(row["flops"] / seconds / found["machine"]["rates"]["float32"])
        assert row["bytes_share"] == pytest.approx(row["bytes"] / seconds / found["machine"]["bandwidth"])
    if chosen == "native":
        row = found["operations"][0]
        ratio = row["seconds"]["torch"] / row["seconds"]["native"]
        assert f"| {row['name']} | " in said and f" | {report.number(ratio)} | " in said
        assert 0 < found["busy_share"] < 1 and f"In kernels and networks: {report.percent(found['busy_share'])}" in said
    else:
        assert found["busy_share"] is None and "are not told apart from the rest" in said
    assert found["iteration"]["flops"] > found["networks"][0]["flops"] > 0
    assert len(found["curves"]) == 9 * len(found["operations"][0]["seconds"])
    assert Image.open(tmp_path / "cpu.png").size == (2 * plot.WIDE, plot.HIGH)
