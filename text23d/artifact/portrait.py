"""A mesh as a person meets it in a viewer: grey clay under one sun, and its colours without any light."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from text23d.artifact.cast import photograph
from text23d.artifact.model import display, linear
from text23d.artifact.score import colour_at
from text23d.cameras import Cameras

if TYPE_CHECKING:
    import trimesh

SAMPLES = 2  # along each side of a pixel
ALBEDO = 0.5  # of clay: linear light
SUN, SKY, GROUND = 1.0, 0.3, 0.1  # light that a surface gets which faces the sun, straight up, or straight down
ABOVE, ASIDE = 40.0, -50.0  # where the sun stands beside the camera: degrees above the horizon, and to the right

VIEW = (35.0, 25.0, 3.0, 40.0)  # azimuth, elevation, distance and field of view: three quarters from the front
FILLED = 1.0  # radius of the ball around it that such a picture shows, scene units


def portraits(mesh: trimesh.Trimesh, size: int = 192) -> list[np.ndarray]:
    """A mesh in any units as clay and unlit, three quarters from the front: [size, size, 3] uint8 each."""
    mesh = mesh.copy()
    mesh.apply_translation(-mesh.bounds.mean(0))
    mesh.apply_scale(FILLED / np.linalg.norm(mesh.vertices, axis=1).max())
    camera = Cameras(*(torch.tensor([value]) for value in VIEW))
    return [*clay(mesh, camera, size), *unlit(mesh, camera, size)]


def clay(mesh: trimesh.Trimesh, cameras: Cameras, size: int) -> np.ndarray:
    """Pictures [B, size, size, 3] uint8, on white, of a mesh as grey, matte clay, shaded by its own normals: the
    Lambert reflection of a sun over the photographer's left shoulder and of a sky brighter than the ground, without
    shadows."""
    hits = photograph(mesh.vertices, mesh.faces, cameras, SAMPLES * size)
    met = hits.face >= 0
    corners = np.asarray(mesh.vertex_normals)[mesh.faces[hits.face[met]]]
    normals = (corners * hits.weight[met, :, None]).sum(1)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-9)
    sun = suns(cameras).repeat(len(met) // len(cameras), 0)[met]
    light = SUN * (normals * sun).sum(1).clip(0) + GROUND + (SKY - GROUND) * (0.5 + 0.5 * normals[:, 2])
    return _developed(met, np.repeat(ALBEDO * light[:, None], 3, 1), len(cameras), size)


def unlit(mesh: trimesh.Trimesh, cameras: Cameras, size: int) -> np.ndarray:
    """Pictures [B, size, size, 3] uint8, on white, of the colours of its texture or its vertices as they are."""
    hits = photograph(mesh.vertices, mesh.faces, cameras, SAMPLES * size)
    met = hits.face >= 0
    return _developed(met, linear(colour_at(mesh, hits.face[met], hits.weight[met])), len(cameras), size)


def suns(cameras: Cameras) -> np.ndarray:
    """Unit vectors [B, 3] towards the sun of each camera."""
    azimuth, above = np.radians(cameras.azimuth.numpy() + ASIDE - 90.0), np.radians(ABOVE)
    flat = np.cos(above)
    return np.stack([flat * np.cos(azimuth), flat * np.sin(azimuth), np.full(len(azimuth), np.sin(above))], -1)


def _developed(met: np.ndarray, light: np.ndarray, count: int, size: int) -> np.ndarray:
    """The mean light over the samples of each pixel, white where they met nothing, as display colour."""
    samples = np.ones((len(met), 3))
    samples[met] = light.clip(0, 1)
    pixels = samples.reshape(count, size, SAMPLES, size, SAMPLES, 3).mean((2, 4))
    return np.rint(255 * display(pixels)).astype(np.uint8)
