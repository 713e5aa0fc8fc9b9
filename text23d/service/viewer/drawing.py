"""Pictures of a snapshot: from anywhere, at the resolution that the time allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from text23d.artifact.media import composite_on, on_white
from text23d.contracts import Shape
from text23d.engine.snapshots import Snapshot
from text23d.spaces import from_picture

MOVING, RESTING = 0.1, 1.5
"""Seconds that a picture may take while the camera moves, and once it rests."""
LEAST, MOST = 24, 640
"""Pixels of a picture's height."""
WHITE, DARK = 1.0, 0.1
LATEST = 0.5
"""Weight of the latest picture in the estimate of how many pixels a second can be had."""


@dataclass(frozen=True)
class FreeCamera:
    """One pinhole camera that looks anywhere; it casts rays as `cameras.Cameras` do.

    origin [3] in scene units; rotation [3, 3] from the camera's axes, X right, Y down, Z forward, to the scene's;
    fov: vertical, in radians.
    """

    origin: Tensor
    rotation: Tensor
    fov: float

    @staticmethod
    def of(position: np.ndarray, wxyz: np.ndarray, fov: float) -> FreeCamera:
        """As a browser tells it: wxyz a unit quaternion from the camera's axes to the scene's."""
        w, x, y, z = (float(each) for each in wxyz / max(1e-9, float(np.linalg.norm(wxyz))))
        rotation = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
        return FreeCamera(torch.tensor(position, dtype=torch.float32), torch.tensor(rotation), float(fov))

    @staticmethod
    def towards_middle(position: Sequence[float], fov: float) -> FreeCamera:
        """At a position that is not on the Z axis, upright, looking at the origin."""
        origin = torch.tensor(position, dtype=torch.float32)
        forward = -origin / origin.norm()
        right = torch.linalg.cross(forward, torch.tensor([0.0, 0.0, 1.0]))
        right = right / right.norm()
        return FreeCamera(origin, torch.stack([right, torch.linalg.cross(forward, right), forward], 1), fov)

    def __len__(self) -> int:
        return 1

    def rows(self, which: slice | Tensor) -> FreeCamera:
        return self

    def rays(self, shape: Shape) -> tuple[Tensor, Tensor]:
        """Origins and unit directions [1, H, W, 3] through the centres of the pixels, row 0 at the top."""
        high, wide = shape
        row, column = ((torch.arange(side) + 0.5) / side * 2 - 1 for side in shape)
        half = float(np.tan(self.fov / 2))
        y, x = torch.meshgrid(half * row, half * wide / high * column, indexing="ij")
        direction = torch.stack([x, y, torch.ones_like(x)], -1) @ self.rotation.T
        direction = direction / direction.norm(dim=-1, keepdim=True)
        return self.origin.expand(1, high, wide, 3), direction[None]


@torch.no_grad()
def draw(snapshot: Snapshot, camera: Any, shape: Shape, ground: float = WHITE) -> np.ndarray:
    """The NeRF of a snapshot, by one camera, uint8 [H, W, 3] over a grey `ground`."""
    nerf: Any = snapshot.phi
    return composite_on(ground, *from_picture(nerf.render_image(camera, shape)))[0]


def sheet(pictures: Tensor) -> np.ndarray:
    """Pictures [K, 4, H, W] in picture space, below each other, uint8 [K H, W, 3] over white."""
    return np.concatenate(list(on_white(pictures)))


class Pace:
    """How many pixels a second are drawn, and so how many a picture may have."""

    def __init__(self) -> None:
        self.rate = 50_000.0

    def coarse(self, aspect: float) -> Shape:
        """The shape of a picture while the camera moves; aspect: its width over its height."""
        return self._shape(MOVING, aspect, MOST)

    def finest(self, aspect: float, height: int) -> Shape:
        """The shape once it rests, of a window `height` pixels high."""
        return self._shape(RESTING, aspect, min(MOST, max(LEAST, height)))

    def _shape(self, seconds: float, aspect: float, most: int) -> Shape:
        aspect = min(max(aspect, 0.2), 5.0)
        high = int(min(most, max(LEAST, (self.rate * seconds / aspect) ** 0.5)))
        return high, max(LEAST, round(high * aspect))

    def drew(self, shape: Shape, seconds: float) -> None:
        """A picture of this shape took so long."""
        self.rate += LATEST * (shape[0] * shape[1] / max(seconds, 1e-3) - self.rate)
