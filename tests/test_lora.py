"""Low-rank adaptation: nothing changes until it learns, what is shared stays as it is, and only A and B learn."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from text23d.cameras import orbit
from text23d.errors import UserError
from text23d.method.learner import NetworkLearner
from text23d.prior.builtin import prior as builtin
from text23d.prior.wrappers.lora import adapt
from text23d.rng import generator


def stream() -> torch.Generator:
    return generator(0, 0, 0, "learner")


class Both(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.conv(x).mean((2, 3)))


def test_it_adds_a_low_rank_product_to_each_weight() -> None:
    network = Both().requires_grad_(False)
    adapted, x = adapt(network, 2, stream()), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(adapted(x), network(x), rtol=0, atol=0)
    learned = {name: each for name, each in adapted.named_parameters() if each.requires_grad}
    assert len(learned) == 4 and all(name.endswith((".A", ".B")) for name in learned)
    with torch.no_grad():
        for each in learned.values():
            each.copy_(torch.randn(each.shape))
    (a1, b1), (a2, b2) = ([learned[f"{n}.parametrizations.weight.0.{m}"] for m in "AB"] for n in ("conv", "linear"))
    conv = F.conv2d(x, network.conv.weight + (b1 @ a1).reshape(5, 3, 3, 3), network.conv.bias, 2, 1)
    expected = F.linear(conv.mean((2, 3)), network.linear.weight + b2 @ a2, network.linear.bias)
    torch.testing.assert_close(adapted(x), expected)
    shared = {each.data_ptr() for each in network.parameters()}
    assert {each.data_ptr() for each in adapted.parameters()} >= shared


def test_the_built_in_network_learns_to_denoise_one_picture(tiny_prior: Path) -> None:
    """Its own weights stay, bit for bit; its loss on the one picture falls by more than half; the rest of the state is
    read back into a second adaptation, which then computes the same."""
    prior = builtin.load(tiny_prior)
    c, before = (
        prior.condition(["a", "red", "car"], orbit(4, 0.0)),
        {name: each.clone() for name, each in prior.denoiser.state_dict().items()},
    )
    learner = NetworkLearner(adapt(prior.denoiser, 4, stream()), 0.01)
    x0, sigma, losses = torch.full((4, 4, 64, 64), 0.5), torch.tensor(1.0), []
    for i in range(40):
        x = x0 + torch.randn(x0.shape, generator=generator(0, 0, i, "n"))
        losses.append((learner(x0, x, sigma, c) - x0).square().mean().item())
    torch.testing.assert_close(
        losses[0],
        (prior.denoiser(x0 + torch.randn(x0.shape, generator=generator(0, 0, 0, "n")), sigma, c) - x0)
        .square()
        .mean()
        .item(),
        rtol=1e-4,
        atol=0,
    )
    assert losses[-1] < losses[0] / 2
    assert all(torch.equal(each, before[name]) for name, each in prior.denoiser.state_dict().items())
    second = NetworkLearner(adapt(prior.denoiser, 4, generator(1, 0, 0, "learner")), 0.01)
    second.load(learner.state())
    assert torch.equal(second(x0, x, sigma, c), learner(x0, x, sigma, c))
    assert torch.equal(second(x0, x, sigma, c), learner(x0, x, sigma, c)), "Adam's moments are part of the state"


def test_mistakes() -> None:
    with pytest.raises(UserError, match="rank = 0"):
        adapt(Both(), 0, stream())
    for without in (lambda x: x, nn.SiLU()):
        with pytest.raises(UserError, match="expected a network with linear or convolutional layers"):
            adapt(without, 4, stream())
