"""How much a mesh looks like the field it came from: both seen by the same cameras."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from text23d.artifact.cast import photograph
from text23d.artifact.model import display, linear
from text23d.cameras import Cameras
from text23d.spaces import from_picture

if TYPE_CHECKING:
    import trimesh

LEAST_IOU, LEAST_PSNR = 0.92, 22.0  # below these a mesh is not what was asked for


def score(
    mesh: trimesh.Trimesh, cameras: Cameras, pictures: Tensor, factors: np.ndarray | None = None
) -> dict[str, float]:
    """mesh: in scene units, Z up, with a texture or vertex colours. pictures [B, 4, S, S]: the field's, in picture
    space, by the same cameras. factors [B, S, S]: display colours over the mesh's, where
    these are albedo; None: 1.

    iou   mean over the views of intersection over union of what is covered (alpha > 1/2; hit).
    psnr  dB, of the display colours over the pixels of all views that both cover; 0 where there is none.
    """
    premultiplied, alpha = (value.double().cpu().numpy() for value in from_picture(pictures))
    covered = alpha[:, 0] > 0.5
    colour = (premultiplied / np.maximum(alpha, 0.5)).transpose(0, 2, 3, 1)
    hit, shade = look(mesh, cameras, pictures.shape[-1])
    if factors is not None:
        shade = np.minimum(shade * factors[..., None], 1)
    both = covered & hit
    if not both.any():
        return {"iou": 0.0, "psnr": 0.0}
    error = np.square(colour[both].clip(0, 1) - shade[both]).mean()
    return {"iou": overlap(covered, hit), "psnr": float(-10 * np.log10(max(error, 1e-10)))}


def overlap(covered: np.ndarray, hit: np.ndarray) -> float:
    """Mean over the views [B, S, S] of intersection over union; 1 for a view where both are empty."""
    both, either = covered & hit, covered | hit
    union = np.maximum(either.sum((1, 2)), 1)
    return float(np.mean(np.where(either.any((1, 2)), both.sum((1, 2)) / union, 1.0)))


def half_covered(pictures: Tensor) -> float:
    """The share, of the pixels that a field covers in pictures [B, 4, S, S] (alpha > 0.1), of those that are neither
    opaque nor empty (alpha < 0.9); 0 where it covers none."""
    alpha = from_picture(pictures)[1]
    covered = alpha > 0.1
    return float((covered & (alpha < 0.9)).sum() / covered.sum().clamp(min=1))


def look(mesh: trimesh.Trimesh, cameras: Cameras, size: int) -> tuple[np.ndarray, np.ndarray]:
    """What the centre of each pixel sees of a mesh in scene units: whether anything, [B, size, size] bool, and its
    display colour [B, size, size, 3] in [0, 1], unlit, black where there is nothing."""
    hits = photograph(mesh.vertices, mesh.faces, cameras, size)
    met = hits.face >= 0
    shade = np.zeros((len(met), 3))
    shade[met] = colour_at(mesh, hits.face[met], hits.weight[met])
    shape = (len(cameras), size, size)
    return met.reshape(shape), shade.reshape(*shape, 3)


def colour_at(mesh: trimesh.Trimesh, face: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Display colour [N, 3] of points on faces [N] by weights [N, 3]; vertex colours blend as light, texels as they are
    in the file."""
    corners = mesh.faces[face]
    visual: Any = mesh.visual
    image = texture_of(mesh)
    if image is None:
        colours = linear(np.asarray(visual.vertex_colors)[corners][..., :3] / 255.0)
        return display((colours * weight[..., None]).sum(1))
    uv = (np.asarray(visual.uv)[corners] * weight[..., None]).sum(1)
    high, wide = image.shape[:2]
    at = np.stack([(1 - uv[:, 1]) * high, uv[:, 0] * wide], -1) - 0.5
    low = np.floor(at).astype(int)
    mixed = np.zeros((len(face), 3))
    for down, right in np.ndindex(2, 2):
        row, column = (low[:, 0] + down).clip(0, high - 1), (low[:, 1] + right).clip(0, wide - 1)
        share = np.abs(1 - down - (at[:, 0] - low[:, 0])) * np.abs(1 - right - (at[:, 1] - low[:, 1]))
        mixed += share[:, None] * image[row, column] / 255.0
    return mixed


def texture_of(mesh: trimesh.Trimesh) -> np.ndarray | None:
    """The base colour picture [H, W, 3] uint8 of a loaded mesh, or None."""
    material = getattr(mesh.visual, "material", None)
    picture = getattr(material, "baseColorTexture", None) or getattr(material, "image", None)
    return None if picture is None else np.asarray(picture.convert("RGB"))
