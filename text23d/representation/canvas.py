"""A canvas: what is larger than a prior's examples, element by element in the prior's own space."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from text23d.contracts import Shape
from text23d.errors import UserError
from text23d.memory import expect_room
from text23d.settings import whole
from text23d.windows import CanvasViews, mean

Extent = Annotated[int, whole(1, 2**24)]


class Canvas(nn.Module):
    """values [C, *S] that windows are cut out of; implements `contracts.Representation`. They are 0 at first, which is
    mid grey of pictures and silence of sounds.

    Raises UserError where it would not fit into memory.
    """

    def __init__(self, channels: Annotated[int, whole(1, 64)], shape: tuple[Extent, ...]) -> None:
        super().__init__()
        if not 1 <= len(shape) <= 3:
            raise UserError(f"representation.shape={list(shape)}: expected 1 to 3 extents")
        what = f"a canvas of {' x '.join(map(str, shape))} elements"
        wanted = 4 * 8 * channels * math.prod(shape)  # with gradient, Adam's moments and the copies of a run
        expect_room(wanted, torch.device("cpu"), what, "make it shorter")
        self.values = nn.Parameter(torch.zeros(channels, *shape))

    @property
    def shape(self) -> Shape:
        """S."""
        return tuple(self.values.shape[1:])

    def render(self, views: CanvasViews, shape: Shape) -> Tensor:
        """[B, C, *shape]: what the windows show."""
        return views.cut(self.values, shape)

    @torch.no_grad()
    def replace(self, views: CanvasViews, x0_hat: Tensor) -> None:
        """Set what the windows see ([0045]) to what they should look like, x0_hat [B, C, *S]: see `windows.mean`."""
        self.values.copy_(mean(views, x0_hat, self.values))

    def param_groups(self, lr_grid: float, lr_mlp: float) -> list[dict[str, Any]]:
        """One optimiser group, "grid"."""
        return [{"name": "grid", "params": [self.values], "lr": lr_grid}]
