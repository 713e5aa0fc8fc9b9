"""Low-rank adaptation of any network (Hu et al. 2022): W + B A in place of W, where only A and B learn."""

from __future__ import annotations

import copy
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from text23d.contracts import Denoiser
from text23d.errors import UserError

CONVOLUTIONS = (nn.Conv3d,), (nn.Conv2d,), (nn.Conv1d,)


class LowRank(nn.Module):
    """W + B A (Hu et al. 2022, Eq. 3) for a weight W [out, ...]: B [out, rank] begins at 0, A [rank, ...] at random."""

    def __init__(self, weight: Tensor, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        rest = weight[0].numel()
        a = torch.randn(rank, rest, generator=generator) / rest**0.5
        self.A = nn.Parameter(a.to(weight.device))
        self.B = nn.Parameter(torch.zeros(len(weight), rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.B @ self.A).reshape(weight.shape).to(weight.dtype)


class Denoising(nn.Module):
    """A denoiser whose network is one of its own parts, as a module: what learns in it is what learns in `network`."""

    def __init__(self, denoiser: Denoiser, network: nn.Module) -> None:
        super().__init__()
        self.denoiser, self.network = denoiser, network

    def forward(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        return self.denoiser(x, sigma, c)


def adapt(denoiser: object, rank: int, generator: torch.Generator) -> nn.Module:
    """A denoiser that computes what `denoiser` does until it learns, for only the A and B of its network's layers (see
    `adaptable`) require a gradient. It shares all other weights with `denoiser`, which stays as it is: a network, or
    adapters of one that is in a field of theirs (see `prior.wrappers.vp`).

    Raises UserError for what has no such layers, and for a rank below 1.
    """
    if type(rank) is not int or rank < 1:
        raise UserError(f"rank = {rank}: a low-rank adaptation is of a whole rank, at least 1; use 4")
    network = network_of(denoiser)
    if network is None or not adaptable(network):
        raise UserError(
            f"a low-rank adaptation of {type(denoiser).__name__}: expected a network with linear or convolutional "
            "layers, as the built-in prior is; choose prior=builtin or another method"
        )
    if any(each.is_meta for each in network.parameters()):
        raise UserError(
            "a low-rank adaptation of a network whose weights come and go: set prior.memory.offload=false, or choose "
            "another method"
        )
    adapted = adapted_network(network, rank, generator)
    if network is denoiser:
        return adapted
    return Denoising(with_network(denoiser, adapted), adapted)


def network_of(denoiser: object) -> nn.Module | None:
    """The network inside a denoiser: itself, or in a field of dataclasses inside each other."""
    if isinstance(denoiser, nn.Module):
        return denoiser
    inside = [getattr(denoiser, each.name) for each in fields(denoiser)] if is_dataclass(denoiser) else []
    return next((found for found in map(network_of, inside) if found is not None), None)


def with_network(denoiser: Any, network: nn.Module) -> Any:
    """The same with another network inside."""
    if isinstance(denoiser, nn.Module):
        return network
    of = {each.name: getattr(denoiser, each.name) for each in fields(denoiser)}
    return replace(denoiser, **{name: with_network(each, network) for name, each in of.items() if network_of(each)})


def adapted_network(network: nn.Module, rank: int, generator: torch.Generator) -> nn.Module:
    """A network that shares the weights of `network`, with A and B to learn."""
    adapted = copy.deepcopy(network, {id(each): each for each in network.parameters()})
    frozen = {id(each) for each in network.parameters()}
    for layer in adaptable(adapted):
        register_parametrization(layer, "weight", LowRank(layer.weight, rank, generator))  # type: ignore[arg-type]
    for each in adapted.parameters():
        if id(each) not in frozen:
            each.requires_grad_()
    return adapted


def adaptable(network: nn.Module) -> list[nn.Module]:
    """The linear layers of a network, and its convolutions over the examples themselves: those of the most dimensions.
    A network of pictures may have others, over the words of captions."""
    layers = list(network.modules())
    over_examples = next((kind for kind in CONVOLUTIONS if any(isinstance(each, kind) for each in layers)), ())
    return [each for each in layers if isinstance(each, (nn.Linear, *over_examples))]
