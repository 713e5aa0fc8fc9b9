"""The cameras that a prior's training pictures are taken with."""

from __future__ import annotations

import numpy as np
import torch

from text23d.cameras import Cameras

ELEVATION = (-15.0, 60.0)
DISTANCE = (2.7, 3.3)
FOV = (37.0, 43.0)


def sample_cameras(n: int, generator: np.random.Generator) -> Cameras:
    """n cameras, uniform in azimuth [0, 360), elevation, distance and field of view; float32."""
    azimuth = generator.uniform(0.0, 360.0, n)
    elevation = generator.uniform(*ELEVATION, n)
    distance = generator.uniform(*DISTANCE, n)
    fov = generator.uniform(*FOV, n)
    return cameras_from(np.stack([azimuth, elevation, distance, fov], -1))


def cameras_from(rows: np.ndarray) -> Cameras:
    """Cameras from rows [N, 4] of azimuth, elevation, distance, fov: the layout of a data set's cameras.npy."""
    columns = torch.from_numpy(np.array(rows, dtype=np.float32)).unbind(-1)
    return Cameras(*columns)


def to_rows(cameras: Cameras) -> np.ndarray:
    """The inverse of `cameras_from`: [N, 4] float32."""
    return torch.stack([cameras.azimuth, cameras.elevation, cameras.distance, cameras.fov], -1).numpy()
