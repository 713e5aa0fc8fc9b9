"""One network for examples of one, two and three dimensions, and what it says to programs that misuse it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from small_prior import SIDE, TINY, batch, perturbed

from text23d.errors import UserError
from text23d.prior.builtin.condition import Condition
from text23d.prior.builtin.unet import Level, UNet, UNetConfig, fold, unfold
from text23d.prior.wrappers.guidance import Guided
from text23d.prior.wrappers.lora import LowRank, adapt
from text23d.rng import generator

ONE_LEVEL = UNetConfig(5, patch=4, widths=(16,), blocks=1, attention=(True,), embedding=32, text_length=4)


def examples(channels: int, *shape: int) -> torch.Tensor:
    return torch.randn(2, channels, *shape, generator=torch.Generator().manual_seed(0))


def condition(config: UNetConfig, count: int = 2) -> Condition:
    stream = torch.Generator().manual_seed(1)
    text = torch.randint(1, config.words + 1, (count, config.text_length), generator=stream)
    features = torch.randn(count, config.features, generator=stream)
    return Condition(text, torch.cat([features, torch.ones(count, 1)], -1))


@pytest.mark.parametrize(
    ("shape", "patches"), [((12,), (3,)), ((8, 12), (4, 2)), ((4, 6, 8), (2, 3, 4)), ((6, 8, 8), (1, 4, 4))]
)
def test_folding_place_by_place(shape: tuple[int, ...], patches: tuple[int, ...]) -> None:
    x = examples(2, *shape)
    folded = fold(x, patches)
    assert folded.shape == (2, 2 * math.prod(patches), *(s // p for s, p in zip(shape, patches, strict=True)))
    for place in torch.cartesian_prod(*(torch.arange(s) for s in shape)).reshape(-1, len(shape)).tolist():
        at = [side // patch for side, patch in zip(place, patches, strict=True)]
        inside = 0
        for side, patch in zip(place, patches, strict=True):
            inside = inside * patch + side % patch
        for channel in range(2):
            to: Any = (slice(None), channel * math.prod(patches) + inside, *at)
            source: Any = (slice(None), channel, *place)
            assert torch.equal(folded[to], x[source])
    assert torch.equal(unfold(folded, patches), x)


def test_folding_pictures_is_pixel_unshuffle() -> None:
    x = examples(3, 16, 24)
    assert torch.equal(fold(x, (4, 4)), F.pixel_unshuffle(x, 4))
    assert torch.equal(unfold(fold(x, (4, 4)), (4, 4)), F.pixel_shuffle(F.pixel_unshuffle(x, 4), 4))


def embedded(low: dict[str, torch.Tensor], like: dict[str, torch.Tensor], sketch: int) -> dict[str, torch.Tensor]:
    """The weights of a 1-D network as those of one of more dimensions that sees nothing along the others: kernels lie
    in the middle of those axes, and every place along them has the same sketch. Those of clips leave time alone."""
    found = {
        name: weight.clone() if name.endswith(".time") else torch.zeros_like(weight) for name, weight in like.items()
    }
    for name, weight in low.items():
        target = found[name]
        if name.startswith("sketch.2"):
            rows = weight.reshape(-1, sketch, *weight.shape[1:])
            times = target.shape[0] // weight.shape[0]
            target = rows.repeat_interleave(times, 0).reshape(target.shape)
        elif weight.dim() == 3 and target.dim() > 3:
            others = target.shape[2 : target.dim() - 1]
            middle: Any = (slice(None), slice(None), *(side // 2 for side in others))
            target[middle] = weight
        else:
            target = weight
        found[name] = target
    return found


@pytest.mark.parametrize("dimensions", [2, 3])
def test_a_row_of_a_picture_is_a_sound(dimensions: int) -> None:
    """A network of more dimensions, flat along all but the last, against the network of one dimension with the same
    kernels: another implementation of every layer."""
    others = dimensions - 1
    sound = perturbed(replace(ONE_LEVEL, dimensions=1)).network
    flat_config = replace(ONE_LEVEL, dimensions=dimensions, patch=(*[1] * others, 4))
    flat = UNet(flat_config).requires_grad_(False)
    flat.load_state_dict(embedded(sound.state_dict(), flat.state_dict(), ONE_LEVEL.sketch))
    x, noise, c = examples(4, 48), torch.tensor([0.1, -0.4]), condition(ONE_LEVEL)
    found = flat(x.reshape(2, 4, *[1] * others, 48), noise, c).reshape(2, 4, 48)
    torch.testing.assert_close(found, sound(x, noise, c), rtol=1e-4, atol=1e-5)
    assert (found - x).abs().mean() > 0.1


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_a_mask_multiplies_each_element_of_x(dimensions: int) -> None:
    """A network whose factors are the numbers in the last layer's bias, beside the same network without a mask."""
    config = replace(TINY, dimensions=dimensions, channels=3, patch=2, features=2, sketch=2)
    plain = perturbed(config).network
    masked = UNet(replace(config, mask=True)).requires_grad_(False)
    factors = examples(1, 3 * 2**dimensions)[0, 0]
    weights = dict(plain.state_dict())
    told = UNet(config).outward.state_dict() | {"bias": factors}  # A new one has weights of zero.
    weights |= {f"outward.{name}": torch.cat([tensor, weights[f"outward.{name}"]]) for name, tensor in told.items()}
    masked.load_state_dict(weights)
    x, noise, c = examples(3, *[16] * dimensions), torch.tensor([0.1, -0.4]), condition(config)
    everywhere = factors.reshape(1, -1, *[1] * dimensions).expand(2, -1, *[8] * dimensions)
    expected = plain(x, noise, c) + unfold(everywhere, (2,) * dimensions) * x
    torch.testing.assert_close(masked(x, noise, c), expected)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_levels_may_differ_and_every_weight_counts(dimensions: int) -> None:
    """Blocks of each level as told; a gradient reaches every parameter."""
    levels: dict[str, Any] = {"widths": (8, 16, 24), "blocks": (1, 2, 3), "attention": (False, True, False)}
    config = replace(TINY, dimensions=dimensions, channels=3, patch=2, features=2, sketch=2, mask=True, **levels)
    d = perturbed(config).requires_grad_(True)
    count = {width: 0 for width in config.widths}
    for layer in d.network.down:
        if isinstance(layer, Level):
            count[layer.block.conv1.in_channels] += 1
    assert list(count.values()) == [1, 2, 3]
    x, c = examples(3, *[16] * dimensions), condition(config)
    answer = d(x, torch.tensor(0.8), c)
    assert answer.shape == x.shape
    answer.square().sum().backward()
    silent = [name for name, each in d.named_parameters() if each.grad is None or not each.grad.any()]
    assert not silent


def test_views_of_no_features() -> None:
    """A world without views has conditions of the flag alone."""
    config = replace(TINY, features=0)
    d, c = perturbed(config), condition(config)
    x = examples(4, SIDE, SIDE)
    assert not torch.equal(d(x, torch.tensor(0.8), c), d(x, torch.tensor(0.8), c.without_views()))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"widths": ()}, "0 widths"),
        ({"attention": (True,)}, "2 widths, 1 of attention"),
        ({"blocks": (1, 2, 3)}, "3 of blocks"),
        ({"patch": (2, 2, 2)}, r"patch=\(2, 2, 2\): expected a number, or 2 of them"),
        ({"widths": (16, 20)}, "a width of 20"),
        ({"widths": (16, 200)}, "a width of 200: expected a multiple of 8 that 3 heads share"),
    ],
)
def test_networks_that_cannot_be(changes: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        replace(TINY, **changes)


@pytest.mark.parametrize("dimensions", [1, 2, 3])
def test_low_rank_adaptations_are_of_the_layers_over_examples(dimensions: int) -> None:
    """Convolutions over the words of captions are adapted only where examples have one dimension, as sounds have."""
    config = replace(TINY, dimensions=dimensions, sketch=2)
    adapted = adapt(perturbed(config), 2, generator(0, 0, 0, "learner"))
    names = {name.split(".parametrizations")[0] for name, each in adapted.named_modules() if isinstance(each, LowRank)}
    assert {"network.inward", "network.outward", "network.mix.1", "network.middle.0.block.conv1"} <= names
    assert ("network.text.neighbours" in names) == (dimensions == 1)
    x, c = examples(4, *[SIDE] * dimensions), condition(config)
    torch.testing.assert_close(adapted(x, torch.tensor(0.8), c), perturbed(config)(x, torch.tensor(0.8), c))


# What programs are told


D = perturbed()
X, C = batch(0, 3)
SIGMA = torch.tensor(0.8)


@pytest.mark.parametrize("d", [D, Guided(D, 2.0)], ids=["D", "guided"])
@pytest.mark.parametrize(
    ("x", "sigma", "c", "problem"),
    [
        (X, 0.8, C, r"sigma is float: expected a tensor \[\] or \[3\], as torch.tensor\(1.0\)"),
        (X, torch.ones(2), C, r"sigma is a tensor \[2\] of torch.float32"),
        (X[:, :3], SIGMA, C, r"x is \[\d, 3, 16, 16\]: this prior sees \[B, 4, a multiple of 8, a multiple of 8\]"),
        (X[:, :, :12], SIGMA, C, r"x is \[\d, 4, 12, 16\]"),
        (X[:, :, 0], SIGMA, C, r"x is \[\d, 4, 16\]"),
        (X[:, :, :0], SIGMA, C, r"x is \[\d, 4, 0, 16\]"),
        (X[:2], SIGMA, C, "c is of . views with 5 features each, x of . examples"),
        (X.double(), SIGMA, C, r"x is torch.float64 on cpu: this prior computes in torch.float32 on cpu"),
        (X.int(), SIGMA, C, r"x is a tensor \[3, 4, 16, 16\] of torch.int32: expected a float tensor"),
        (X.numpy(), SIGMA, C, r"x is ndarray: expected a float tensor"),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(d: Any, x: Any, sigma: Any, c: Any, problem: str) -> None:
    with pytest.raises(UserError, match=problem) as raised:
        d(x, sigma, c)
    assert "\n" not in str(raised.value)


def test_no_condition_at_all_is_told_in_one_line() -> None:
    for c in (None, "a red car", C.text):
        with pytest.raises(UserError, match=rf"c is {type(c).__name__}: expected what the prior's condition"):
            D(X, SIGMA, c)  # type: ignore[arg-type]
    with pytest.raises(UserError, match="c is NoneType"):
        D(X, SIGMA)
    narrow = Condition(C.text, C.views[:, 1:])
    with pytest.raises(UserError, match=r"with 4 features each, .* with 5 features"):
        D(X, SIGMA, narrow)
