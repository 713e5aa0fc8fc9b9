"""Low-rank adaptation of any network (Hu et al. 2022): W + B A in place of W, where only A and B learn."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

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


def adapt(network: object, rank: int, generator: torch.Generator) -> nn.Module:
    """A network that computes what `network` does until it learns, for only the A and B of its layers (see
    `adaptable`) require a gradient. It shares all other weights with `network`, which stays as it is.

    Raises UserError for what has no such layers, and for a rank below 1.
    """
    if type(rank) is not int or rank < 1:
        raise UserError(f"rank = {rank}: a low-rank adaptation is of a whole rank, at least 1; use 4")
    if not isinstance(network, nn.Module) or not adaptable(network):
        raise UserError(
            f"a low-rank adaptation of {type(network).__name__}: expected a network with linear or convolutional "
            "layers, as the built-in prior is; choose prior=builtin or another method"
        )
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
