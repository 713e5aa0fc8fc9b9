"""Close-ups: windows into what cameras see, in which pixels show four times the detail of the whole ([0036])."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from text23d.cameras import Cameras
from text23d.contracts import Shape

SHARE = 0.5
"""Side of a window, of the side of the whole."""


@dataclass(frozen=True)
class Closeups:
    """A batch of B windows: psi of the fine stage.

    cameras  B of them, which see the whole
    corner   [B, 2] the window's left and upper edge, in sides of the whole, in [0, 1 - SHARE]
    whole    [B, C, H, W] what the cameras see, coarsely, in picture space
    """

    cameras: Cameras
    corner: Tensor
    whole: Tensor

    def __len__(self) -> int:
        return len(self.cameras)

    def to(self, device: torch.device | str) -> Closeups:
        return Closeups(self.cameras.to(device), self.corner.to(device), self.whole.to(device))

    def rows(self, which: slice | Tensor) -> Closeups:
        """Some of these windows."""
        return Closeups(self.cameras.rows(which), self.corner[which], self.whole[which])

    def rays(self, shape: Shape, jitter: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """As `Cameras.rays`, through pictures of the windows alone."""
        return self.cameras.rays(shape, jitter, self.window())

    def window(self) -> Tensor:
        """[B, 3]: left and upper edge and side, in sides of the whole."""
        return torch.cat([self.corner, torch.full_like(self.corner[:, :1], SHARE)], 1)

    def features(self) -> Tensor:
        """Those of the cameras [B, 5]: where the window lies is a part of what is `given`."""
        return self.cameras.features()

    def given(self, shape: Shape) -> Tensor:
        """The window out of the whole, enlarged to `shape`, and the place of each pixel in the whole, from -1 at its
        left and upper edge to 1: [B, C + 2, *shape]."""
        centre = 2 * self.corner + SHARE - 1
        affine = torch.cat([SHARE * torch.eye(2).to(centre).expand(len(self), 2, 2), centre[:, :, None]], 2)
        grid = F.affine_grid(affine, [len(self), 1, *shape], align_corners=False)
        coarse = F.grid_sample(self.whole, grid, padding_mode="border", align_corners=False)
        return torch.cat([coarse, grid.permute(0, 3, 1, 2)], 1)

    def words(self) -> list[str]:
        return self.cameras.words()


def draw_corners(count: int, generator: torch.Generator | None = None) -> Tensor:
    """Corners [count, 2] of windows, uniform, on the generator's device."""
    device = torch.device("cpu") if generator is None else generator.device
    return (1 - SHARE) * torch.rand(count, 2, generator=generator, device=device)
