"""Pictures of objects, by ray casting: what the prior is taught with.

Pictures are RGBA uint8 with the colour PREMULTIPLIED by alpha; row 0 is the top. The light is fixed to the world, so
that a picture's shading depends on the surface alone and never on the camera: a NeRF can hold it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from text23d.contracts import Shape
from text23d.spaces import to_picture
from text23d.worlds.objects.parts import OBJECT_RADIUS, Mesh, Object

SUPERSAMPLE = 2
CREASE = 40.0


class Rays(Protocol):
    """B cameras, or windows into what cameras see; each sees from one place."""

    def __len__(self) -> int: ...

    def rays(self, shape: Shape) -> tuple[torch.Tensor, torch.Tensor]:
        """As `Cameras.rays`."""
        ...


@dataclass(frozen=True)
class Light:
    """One sun and a hemisphere of ambient light; a surface facing the sun fully gets about 1.1 in all.

    sun: unit vector towards it. strength: its irradiance. sky, ground: ambient from straight above and below.
    """

    sun: tuple[float, float, float] = (-0.46, -0.62, 0.64)
    strength: float = 0.37
    sky: float = 0.77
    ground: float = 0.58

    def irradiance(self, normals: NDArray[np.float32]) -> NDArray[np.float32]:
        """Unit normals [..., 3] -> irradiance [...] = ambient (lerped by height) + strength max(0, n . sun)."""
        sun = np.asarray(self.sun, dtype=np.float32)
        ambient = self.ground + (self.sky - self.ground) * (0.5 + 0.5 * normals[..., 2])
        return ambient + self.strength * np.maximum(normals @ sun, 0)


def sample_light(rng: np.random.Generator, variation: float = 1.0) -> Light:
    """A light near the default one. variation 0 is exactly it; 1 moves the sun by about 12 degrees and its strength by
    6 percent (one standard deviation); more is for judges that must not depend on the prior's light."""
    base = Light()
    sun = np.asarray(base.sun) + variation * 0.15 * rng.standard_normal(3)
    sun /= np.linalg.norm(sun)
    change = np.exp(variation * 0.06 * rng.standard_normal(3))
    return Light(
        (float(sun[0]), float(sun[1]), float(sun[2])),
        float(base.strength * change[0]),
        float(base.sky * change[1]),
        float(base.ground * change[2]),
    )


def corner_normals(mesh: Mesh) -> NDArray[np.float32]:
    """Normals [F, 3, 3] of each face's three corners: the area-weighted mean over the faces around the vertex that
    meet this face at less than CREASE degrees, so that round parts look round and edges stay sharp."""
    a, b, c = np.moveaxis(mesh.vertices[mesh.faces], 1, 0)
    area = np.cross(b - a, c - a)
    unit = area / np.maximum(np.linalg.norm(area, axis=1, keepdims=True), 1e-12)
    vertex = mesh.faces.reshape(-1)
    order = np.argsort(vertex, kind="stable")
    valence = np.bincount(vertex, minlength=len(mesh.vertices))
    begin = np.cumsum(valence) - valence
    pairs = valence[vertex]
    mine = np.repeat(np.arange(len(vertex)), pairs)
    step = np.arange(len(mine)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    other = order[begin[vertex[mine]] + step]
    smooth = (unit[mine // 3] * unit[other // 3]).sum(-1) > np.cos(np.deg2rad(CREASE))
    weighted = area[other // 3] * smooth[:, None]
    normals = np.add.reduceat(weighted, np.cumsum(pairs) - pairs)
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    return normals.reshape(-1, 3, 3).astype(np.float32)


def render(thing: Object, cameras: Rays, light: Light | None = None, size: int = 64) -> NDArray[np.uint8]:
    """Pictures [B, size, size, 4] of `thing`, premultiplied RGBA uint8, with SUPERSAMPLE^2 samples a pixel."""
    light = light or Light()
    scene, normals, albedo = _scene(thing)
    fine = size * SUPERSAMPLE
    pictures = np.empty((len(cameras), size, size, 4), np.uint8)
    origins, directions = (rays.reshape(len(cameras), -1, 3).float().numpy() for rays in cameras.rays((fine, fine)))
    for index, (origin, direction) in enumerate(zip(origins, directions, strict=True)):
        rays = np.flatnonzero(_meets_ball(origin[0], direction))
        hits: dict[str, Any] = scene.run(origin[rays], direction[rays], output=1)
        met = hits["primID"] >= 0
        face, u, v = hits["primID"][met], hits["u"][met, None], hits["v"][met, None]
        corners = normals[face]
        normal = corners[:, 0] * (1 - u - v) + corners[:, 1] * u + corners[:, 2] * v
        normal /= np.linalg.norm(normal, axis=1, keepdims=True)
        samples = np.zeros((fine * fine, 4), np.float32)
        samples[rays[met], :3] = np.minimum(albedo[face] * light.irradiance(normal)[:, None], 1)
        samples[rays[met], 3] = 1
        pictures[index] = np.rint(_box_filter(samples.reshape(fine, fine, 4)) * 255)
    return pictures


def pictures(images: NDArray[np.uint8]) -> torch.Tensor:
    """Premultiplied RGBA uint8 [B, H, W, 4] -> picture space [B, 4, H, W]."""
    unit = torch.from_numpy(np.array(images)).permute(0, 3, 1, 2).float() / 255
    return to_picture(unit[:, :3], unit[:, 3:])


def _scene(thing: Object) -> tuple[EmbreeScene, NDArray[np.float32], NDArray[np.float32]]:
    """The ray caster's scene, and per face its corner normals [F, 3, 3] and albedo [F, 3]."""
    meshes = [part.mesh for part in thing.parts]
    offsets = np.cumsum([0, *(len(mesh.vertices) for mesh in meshes)])
    vertices = np.concatenate([mesh.vertices for mesh in meshes]).astype(np.float32)
    faces = np.concatenate([mesh.faces + offset for mesh, offset in zip(meshes, offsets, strict=False)])
    normals = np.concatenate([corner_normals(mesh) for mesh in meshes])
    albedo = np.repeat(np.asarray([p.colour for p in thing.parts], np.float32), [len(m.faces) for m in meshes], axis=0)
    scene = EmbreeScene()
    TriangleMesh(scene, vertices, faces.astype(np.int32))
    return scene, normals, albedo


def _meets_ball(origin: NDArray[np.float32], direction: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Which unit directions [N, 3] from `origin` [3] pass the ball that holds every object: only those are cast."""
    along = direction @ origin
    return (origin @ origin) - along**2 <= (1.01 * OBJECT_RADIUS) ** 2


def _box_filter(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """[s H, s W, C] -> [H, W, C], the mean over blocks of s x s with s = SUPERSAMPLE."""
    rows = samples[0::SUPERSAMPLE]
    for offset in range(1, SUPERSAMPLE):
        rows = rows + samples[offset::SUPERSAMPLE]
    total = rows[:, 0::SUPERSAMPLE]
    for offset in range(1, SUPERSAMPLE):
        total = total + rows[:, offset::SUPERSAMPLE]
    return total / np.float32(SUPERSAMPLE**2)
