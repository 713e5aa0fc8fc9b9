"""What a pretrained model takes of memory, foretold and spared."""

from __future__ import annotations

import gc
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import hub_speed
import pipelines
import pytest
import torch
from tiny import NERF
from torch import Tensor, nn

from text23d.cameras import SIDES, orbit
from text23d.engine.estimate import pretrained
from text23d.errors import TooLarge, UserError
from text23d.guide import Guide, Request
from text23d.prior.hub import footprint, model, policy
from text23d.prior.hub.guide import guide
from text23d.prior.hub.index import read_index
from text23d.prior.hub.policy import Memory
from text23d.prior.wrappers.batches import in_batches
from text23d.worlds.objects.world import Objects

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pipelines.save("sd", tmp_path_factory.mktemp("hub") / "sd")


def made(folder: Path, **settings: Any) -> Guide:
    return guide(Request("a corgi", Objects(), SIDES, CPU), str(folder), **settings)


def allocated(compute: Any) -> int:
    """The largest number of bytes at once that torch's allocator had for compute(), by torch's profiler."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        compute()
    live = most = 0
    for each in profile.profiler.kineto_results.events():  # type: ignore[union-attr]
        if each.name() == "[memory]":
            live += each.nbytes()
            most = max(most, live)
    return most


def counted(compute: Any) -> int:
    """The largest number of bytes at once that the tensors of compute() had, numbers and all."""
    with footprint.Peak() as mode:
        compute()
    return mode.most


@pytest.mark.parametrize("name", ["sd", "sd3", "deepfloyd_if"])
def test_a_rehearsal_is_what_is_played(name: str, tmp_path: Path) -> None:
    """The tensors of the network, and of the autoencoder there and back, though nothing is computed for it."""
    told = made(pipelines.save(name, tmp_path / name)).footprint
    assert isinstance(told, footprint.Footprint)
    codec: Any = told.codec

    def evaluate() -> None:
        with torch.no_grad():
            told.D(torch.zeros(1, *told.shape), torch.ones(1), told.c(1))

    def encode() -> None:
        picture = torch.zeros(1, 3, *(codec.factor * side for side in told.shape[1:]), requires_grad=True)
        codec.encode(picture).square().mean().backward()

    assert told.network == pytest.approx(counted(evaluate), rel=0.02)
    assert told.encoding == pytest.approx(counted(encode), rel=0.02)
    if name == "deepfloyd_if":
        assert told.encoding < 10 * 3 * 4 * 8 * 8, "pixels are not encoded"


@pytest.mark.parametrize("name", ["sd", "sdxl", "sd3", "flux", "deepfloyd_if", "pixart"])
def test_a_rehearsal_foretells_what_the_allocator_gives(name: str, tmp_path: Path) -> None:
    """Of every family's network, within 15 %."""
    told = made(pipelines.save(name, tmp_path / name)).footprint
    assert isinstance(told, footprint.Footprint)
    x, sigma, c = torch.zeros(2, *told.shape), torch.ones(2), told.c(2)

    def evaluate() -> None:
        with torch.no_grad():
            told.D(x, sigma, c)

    evaluate()
    assert 2 * told.network == pytest.approx(allocated(evaluate), rel=0.15)


def test_a_rehearsal_remembers_what_a_gradient_does(tiny: Path) -> None:
    """Recomputed layers take less; a layer that is not computed again keeps what it needs."""
    remembered = made(tiny, autoencoder=policy_of(recompute=False), resolution=64).footprint
    recomputed = made(tiny, autoencoder=policy_of(recompute=True), resolution=64).footprint
    tiled = made(tiny, autoencoder=policy_of(recompute=True, tile=32), resolution=64).footprint
    assert remembered and recomputed and tiled
    assert tiled.encoding < recomputed.encoding < remembered.encoding
    assert tiled.decoding < recomputed.decoding


def policy_of(**how: Any) -> Any:
    from text23d.prior.wrappers.codec import Autoencoding

    return Autoencoding(**how)


def test_peak_of_known_tensors() -> None:
    """1000 numbers, 1000 more and their sum at once; views and what has gone do not count."""

    def compute(make: Any) -> None:
        a = make(1000)
        b = a.view(10, 100) + 1
        del a
        c = b * 2
        del b
        c.add_(1)
        (c + c).sum()

    assert footprint.peak(compute) == 2 * 4000 + 4


def test_needs_of_a_run_by_examples(tiny: Path) -> None:
    """Guidance doubles the examples of the network, batches bound them, and the autoencoder has pictures one at a
    time for a gradient."""
    found = made(tiny)
    told = found.footprint
    assert told is not None
    network, codec = pretrained(found, 6, None, 1)
    assert network.size == 12 * told.network and codec.size == max(told.encoding, 6 * told.decoding)
    network, codec = pretrained(found, 6, 2, 1)
    assert network.size == 2 * told.network and codec.size == max(told.encoding, 2 * told.decoding)
    assert in_batches(found, 2).footprint is told
    assert pretrained(Guide(found.main, found.aux), 6, None, 1) == []


def test_weights_that_cannot_fit_are_not_read(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = read_index(tiny)
    network = pipelines.unet()
    count = sum(each.numel() for each in network.parameters())
    assert footprint.elements(index, "unet") == count
    monkeypatch.setattr("text23d.memory.SMALL", 0)
    monkeypatch.setattr("text23d.memory.free_bytes", lambda device: 2 * count)
    reads = []
    monkeypatch.setattr(model, "load", lambda *given: reads.append(given))
    with pytest.raises(TooLarge, match=r"unet of .* needs .* free: set prior\.precision=float16"):
        footprint.expect_weights(index, "unet", torch.float32, CPU)
    footprint.expect_weights(index, "unet", torch.float16, CPU)
    assert reads == []


def test_a_network_elsewhere_is_rehearsed_where_its_weights_are(tiny: Path) -> None:
    """The device has no weights of it, which stay at home: here the device is one without numbers."""
    found = made(tiny).footprint
    assert isinstance(found, footprint.Footprint)
    away, seen = torch.device("meta"), list[Any]()

    def D(x: Tensor, sigma: Tensor, c: Any) -> Tensor:
        seen.extend(each.device.type for each in (x, sigma, c.said["text"]))
        return found.D(x, sigma, c)

    elsewhere = replace(found, D=D, c=lambda count: found.c(count).to(away), device=away, home=CPU)
    assert elsewhere.network > 0 and seen == ["cpu"] * 3


def test_encoders_that_cannot_fit_are_not_read(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("text23d.memory.SMALL", 0)
    monkeypatch.setattr("text23d.memory.free_bytes", lambda device: 100)
    monkeypatch.setattr(model, "load", lambda *given: pytest.fail("it was read"))
    with pytest.raises(TooLarge, match=r"text_encoder of .* needs .*: set prior\.precision=float16, or choose"):
        made(tiny)


def test_the_script_for_a_gpu_runs_the_main_job(tmp_path: Path) -> None:
    """On a tiny pipeline and a CPU, whose allocator tells no peak."""
    small = ("prior.resolution=16", "method.iterations=2", "method.views=2", "method.size.stages=[[0.0,8]]", "stages=1")
    found = hub_speed.job(CPU, 10, lambda folder: pipelines.save("sd21", folder), *small, *NERF)
    assert found["examples_in_network"] == 2 * 2 * 5, "2 iterations of 2 views; what is rehearsed does not count"
    assert found["share_in_network"] > 0
    assert found["foreseen_memory_gb"] > 0 and found["iterations_per_second"] > 0


def test_text_encoders_are_gone(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def load(*given: Any) -> Any:
        parts = original(*given)
        seen.extend(weakref.ref(each) for each in parts.values() if isinstance(each, nn.Module))
        return parts

    original = model.load
    monkeypatch.setattr(model, "load", load)
    found = made(tiny)
    gc.collect()
    alive = [type(each()).__name__ for each in seen if each() is not None]
    assert sorted(alive) == ["AutoencoderKL", "UNet2DConditionModel"] and len(seen) == 3 and found.shape


def test_compiled_networks_compute_the_same(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """D goes through what torch.compile makes of the network."""
    calls: list[Any] = []

    def compiler(function: Any, **settings: Any) -> Any:
        def compiled(*given: Any, **named: Any) -> Any:
            calls.append(given)
            return function(*given, **named)

        return compiled

    monkeypatch.setattr(torch, "compile", compiler)
    x, sigma = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0)), torch.ones(2)
    found, plain = made(tiny, memory=Memory(compile=True)), made(tiny)
    assert not calls, "the rehearsal is of the network itself"
    with torch.no_grad():
        told, expected = (each.conditioned_on(orbit(2)).D(x, sigma) for each in (found, plain))
    assert torch.equal(told, expected) and len(calls) == 1


def test_offloaded_weights_come_when_they_are_used() -> None:
    """While a layer computes its weights are on the device, and before and afterwards it holds none."""
    layers = nn.Sequential(nn.Linear(4, 4), nn.SiLU(), nn.Linear(4, 4))
    where = list[Any]()
    x = torch.randn(2, 4)
    expected = layers(x)
    compute = layers[2].forward

    def watched(given: Tensor) -> Tensor:
        where.extend(each.weight.device.type for each in (layers[0], layers[2]))
        found: Tensor = compute(given)
        return found

    layers[2].forward = watched  # type: ignore[method-assign]
    policy.offloaded(layers, CPU)
    assert {each.device.type for each in layers.parameters()} == {"meta"}
    assert torch.equal(layers(x), expected)
    assert where == ["meta", "cpu"] and {each.device.type for each in layers.parameters()} == {"meta"}


def test_offloading_needs_another_device(tiny: Path) -> None:
    with pytest.raises(UserError, match=r"prior\.memory\.offload=true: the device is the CPU"):
        made(tiny, memory=Memory(offload=True))


def test_a_table_on_pictures_serves_the_noise_ratio(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """D' told the empty prompt, on encoded pictures, by a direct evaluation."""
    from text23d.pictures import write_picture
    from text23d.prior.wrappers import reference
    from text23d.rng import generator

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "pictures").mkdir()
    levels = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    write_picture(tmp_path / "pictures" / "a.png", torch.cat([levels, torch.ones(1, 16, 16)]))
    found = made(tiny, pictures=str(tmp_path / "pictures"))
    assert found.reference_rms is not None and made(tiny).reference_rms is None
    codec: Any = found.footprint.codec  # type: ignore[union-attr]
    with torch.no_grad():
        x0 = codec.encode(reference.colour(tmp_path / "pictures" / "a.png", (16, 16)))
        c, _ = found.conditions(orbit(1))
        for step in (0, 7, 11):
            level = reference.LEVELS[step]
            x: Tensor = x0 + level * torch.randn(x0.shape, generator=generator(0, 0, step, "reference"))
            left = (x - found.aux(x, torch.tensor(level), c.unconditional())).square().mean().sqrt().item()
            assert found.reference_rms(level) == pytest.approx(left, rel=1e-5)
