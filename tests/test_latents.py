"""Between pictures and codes: how an autoencoder computes, what a model leaves of real pictures, and its adaptation."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from text23d.errors import UserError
from text23d.method.learner import NetworkLearner
from text23d.pictures import write_picture
from text23d.prior.analytic import Gaussian
from text23d.prior.hub import sd
from text23d.prior.hub.condition import TextCondition
from text23d.prior.hub.family import Network
from text23d.prior.hub.policy import offloaded
from text23d.prior.wrappers import reference
from text23d.prior.wrappers.codec import Autoencoding, LatentCodec
from text23d.prior.wrappers.lora import adapt, network_of
from text23d.prior.wrappers.vp import Rescaled, VariancePreserving, sigma_table
from text23d.rng import generator
from text23d.settings import read

CPU = torch.device("cpu")
SIDE = 64


def autoencoder(layers: int = 1) -> Any:
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    vae: Any = AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, latent_channels=4, layers_per_block=layers,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    return vae.eval().requires_grad_(False)


def codec(**how: Any) -> LatentCodec:
    return LatentCodec(Autoencoding(**how).of(autoencoder(), CPU, SIDE), 0.5)


def smooth(side: int = SIDE) -> Tensor:
    small = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return nn.functional.interpolate(small, size=(side, side), mode="bicubic")


def gradient(of: LatentCodec) -> tuple[Tensor, Tensor]:
    """A code, and the gradient of a loss of it with respect to the picture."""
    picture = smooth().requires_grad_()
    code = of.encode(picture)
    towards = torch.randn(code.shape, generator=torch.Generator().manual_seed(2))
    (code - towards).square().mean().backward()
    assert picture.grad is not None
    return code.detach(), picture.grad


class Calls:
    """Counts how often modules are called."""

    def __init__(self, *modules: nn.Module) -> None:
        self.count = 0
        for each in modules:
            each.register_forward_pre_hook(self.add)

    def add(self, *_: Any) -> None:
        self.count += 1


def test_layers_computed_again_have_the_same_gradient() -> None:
    """To the bit, and each block a second time on the way back."""
    plain, again = codec(recompute=False), codec(recompute=True)
    calls = [Calls(each.vae.encoder.mid_block) for each in (plain, again)]
    for found, expected in zip(gradient(again), gradient(plain), strict=True):
        assert torch.equal(found, expected)
    assert [each.count for each in calls] == [1, 2]


def test_tiles_are_blended_where_they_overlap() -> None:
    """Tiles of 32 pixels, 24 apart, are 3 x 3 of a side of 64. Each one's own middle is what encoding it alone gives;
    what is encoded and decoded in tiles is about what it is at once."""
    whole, tiled = codec(), codec(tile=32)
    calls = Calls(tiled.vae.encoder)
    code, _ = gradient(tiled)
    assert calls.count == 9 and code.shape == (1, 4, 32, 32)
    alone = whole.encode(smooth()[..., 24:56, 24:56])
    torch.testing.assert_close(code[..., 16:24, 16:24], alone[..., 4:12, 4:12], rtol=1e-4, atol=1e-5)
    expected, _ = gradient(whole)
    assert 1e-5 < (code - expected).square().mean().sqrt() < 0.6 * expected.std()
    shown, at_once = tiled.decode(expected), whole.decode(expected)
    assert shown.shape == at_once.shape and (shown - at_once).square().mean().sqrt() < at_once.std()


def test_the_gradient_through_tiles_is_that_of_what_they_encode() -> None:
    tiled = LatentCodec(Autoencoding(tile=32).of(autoencoder().double(), CPU, SIDE), 0.5)
    tiled.vae.double()
    picture, direction = smooth().double(), torch.randn(1, 3, SIDE, SIDE, dtype=torch.float64)

    def loss(x: Tensor) -> Tensor:
        return tiled.encode(x).square().sum()

    (slope,) = torch.autograd.grad(loss(moved := picture.clone().requires_grad_()), moved)
    up, down = (loss(picture + sign * 1e-5 * direction) for sign in (1, -1))
    torch.testing.assert_close((slope * direction).sum(), (up - down) / 2e-5, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_half_precision_computes_in_it_and_returns_what_it_got(precision: str) -> None:
    half = codec(precision=precision)
    assert half.vae.dtype == getattr(torch, precision)
    code, slope = gradient(half)
    expected, wanted = gradient(codec())
    assert code.dtype == slope.dtype == torch.float32
    assert 0 < (code - expected).abs().max() < 0.03
    assert torch.nn.functional.cosine_similarity(slope.flatten(), wanted.flatten(), 0) > 0.98
    assert half.decode(code).dtype == torch.float32


@pytest.mark.parametrize("tile", [SIDE, 36, 256])
def test_tiles_that_are_no_parts(tile: int) -> None:
    with pytest.raises(UserError, match=rf"tile={tile}: expected a multiple of 8 below the {SIDE} pixels"):
        codec(tile=tile)


def test_settings_of_an_autoencoder() -> None:
    assert read(Autoencoding, {"precision": "bfloat16", "tile": 64, "recompute": False}) == Autoencoding(
        "bfloat16", 64, False
    )
    with pytest.raises(UserError, match="precision=int8: expected one of float32, bfloat16, float16"):
        read(Autoencoding, {"precision": "int8"})


# What is left of real pictures


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for index in range(6):
        noise = torch.randn(3, 16, 16, generator=torch.Generator().manual_seed(index)) / 4
        write_picture(folder / f"{index}.png", torch.cat([noise.clamp(-1, 1), torch.ones(1, 16, 16)]))
    return folder


class Model:
    """The denoiser of N(0, 0.25^2), which counts what it is asked; and a folder of weights to be its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder / "model", 0
        self.folder.mkdir()
        (self.folder / "a.safetensors").write_bytes(b"weights")

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        self.calls += 1
        return Gaussian(0.0, 0.25)(x, sigma)

    def table(self, pictures: Path, how: str = "") -> reference.Table:
        return reference.reference_rms(
            self, lambda n: None, lambda rgb: rgb, (16, 16), str(pictures), self.folder, CPU, how
        )


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Model:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Model(tmp_path)


def test_what_is_left_of_pictures_is_the_closed_form(model: Model, pictures: Path) -> None:
    """x - D'(x) = sigma^2 / (s^2 + sigma^2) x, whose rms follows from that of the pictures; between levels it is
    interpolated, and beyond them it is the same share of sigma."""
    table = model.table(pictures)
    power = sum(reference.colour(path, (16, 16)).square().mean().item() for path in pictures.iterdir()) / 6
    for sigma in (*reference.LEVELS, 0.3, 2.5):
        expected = sigma**2 / (0.25**2 + sigma**2) * (power + sigma**2) ** 0.5
        assert table(sigma) == pytest.approx(expected, rel=0.04)
    low, high = reference.LEVELS[0], reference.LEVELS[-1]
    assert table(low / 10) / (low / 10) == pytest.approx(table(low) / low)
    assert table(high * 10) / (high * 10) == pytest.approx(table(high) / high)


def test_it_is_measured_once(model: Model, pictures: Path, tmp_path: Path) -> None:
    first, calls = model.table(pictures), model.calls
    assert calls == 6 * len(reference.LEVELS)
    assert model.table(pictures) == first and model.calls == calls, "the second time it is read"
    (kept,) = (tmp_path / "cache" / "text23d" / "reference_rms").iterdir()
    for damage in ("{", "{}", json.dumps({"sigma": [1.0], "rms": []}), json.dumps({"sigma": [1.0], "rms": [-1.0]})):
        before = model.calls
        kept.write_text(damage)
        assert model.table(pictures) == first and model.calls == before + calls


def test_other_pictures_weights_and_settings_are_measured_anew(model: Model, pictures: Path) -> None:
    model.table(pictures)
    calls = model.calls
    changes = [
        lambda: (pictures / "0.png").unlink(),
        lambda: (model.folder / "a.safetensors").write_bytes(b"Weights"),
    ]
    for change in changes:
        change()
        before = model.calls
        model.table(pictures)
        assert model.calls > before
    before = model.calls
    model.table(pictures, "float16")
    assert model.calls > before and calls


def test_a_cache_that_cannot_be_written(model: Model, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = model.folder / "file"
    blocked.write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert model.table(pictures) == model.table(pictures)


def test_no_pictures(model: Model, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"prior\.pictures=.*: no such folder; expected a folder of pictures such as"):
        model.table(tmp_path / "nowhere")


# The adaptation of a network inside adapters


@dataclass(frozen=True)
class Unet:
    model: Any

    def __call__(self, x: Tensor, t: Tensor, c: Any) -> Tensor:
        predicted: Tensor = self.model(x, t, c).sample
        return predicted


def denoiser() -> Rescaled:
    from diffusers import UNet2DConditionModel

    torch.manual_seed(0)
    unet: Any = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, norm_num_groups=4, cross_attention_dim=32,
        attention_head_dim=4, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    sigmas = sigma_table(torch.cumprod(1 - betas, 0)).float()
    return Rescaled(VariancePreserving(Unet(unet.eval().requires_grad_(False)), sigmas), 0.5)


def test_a_network_in_float16_learns_from_the_same_gradient() -> None:
    """A mean over 4 x 4 x 64 x 64 numbers, of which float16 alone would lose a twentieth and more."""
    found = {}
    for dtype in (torch.float32, torch.float16):
        D = denoiser()
        inner: Any = D.inner
        half = Network(inner.network.model.to(dtype), sd.predict, dtype)
        learner = NetworkLearner(
            adapt(replace(D, inner=replace(inner, network=half)), 2, generator(0, 0, 0, "l")), 1e-9
        )
        x0, text = torch.full((4, 4, 64, 64), 0.3), torch.randn(4, 5, 32, generator=torch.Generator().manual_seed(3))
        x = x0 + torch.randn(x0.shape, generator=generator(0, 0, 0, "n"))
        with torch.no_grad():  # as in a run
            learner(x0, x, torch.tensor(1.0), TextCondition({"text": text}, {"text": text[0]}))
        found[dtype] = {name: each.grad for name, each in learner.weights.items() if name.endswith("B")}
    for name, expected in found[torch.float32].items():
        rounded = found[torch.float16][name]
        assert rounded is not None and expected is not None
        assert (rounded - expected).norm() < 0.02 * expected.norm(), name


def test_a_network_whose_weights_come_and_go_is_not_adapted() -> None:
    D = denoiser()
    offloaded(network_of(D), CPU)
    with pytest.raises(UserError, match=r"set prior\.memory\.offload=false, or choose another method"):
        adapt(D, 2, generator(0, 0, 0, "learner"))


def test_a_pretrained_network_is_adapted_inside_its_adapters() -> None:
    """D_phi is D until it learns; then its loss on one example falls, and D is what it was; its state is read back."""
    D = denoiser()
    network = network_of(D)
    assert network is D.inner.network.model  # type: ignore[attr-defined]
    before = {name: each.clone() for name, each in network.state_dict().items()}
    learner = NetworkLearner(adapt(D, 2, generator(0, 0, 0, "learner")), 0.01)
    x0, c = torch.full((2, 4, 8, 8), 0.3), torch.randn(2, 5, 32, generator=torch.Generator().manual_seed(3))
    sigma, losses = torch.tensor(1.0), []
    for step in range(30):
        x = x0 + torch.randn(x0.shape, generator=generator(0, 0, step, "n"))
        found = learner(x0, x, sigma, c)
        if step == 0:
            torch.testing.assert_close(found, D(x, sigma, c), rtol=1e-5, atol=1e-6)
        losses.append((found - x0).square().mean().item())
    assert losses[-1] < 0.85 * losses[0]
    assert all(torch.equal(each, before[name]) for name, each in network.state_dict().items())
    assert (learner(x0, x, sigma, c) - D(x, sigma, c)).abs().max() > 1e-3
    second = NetworkLearner(adapt(D, 2, generator(1, 0, 0, "learner")), 0.01)
    second.load(learner.state())
    assert torch.equal(second(x0, x, sigma, c), learner(x0, x, sigma, c))
    learned = {name for name in learner.weights}
    assert learned and all(name.endswith((".A", ".B")) for name in learned)
    with pytest.raises(UserError, match="low-rank adaptation of Rescaled: expected a network"):
        adapt(Rescaled(Gaussian(0.0, 1.0), 0.5), 2, generator(0, 0, 0, "learner"))
