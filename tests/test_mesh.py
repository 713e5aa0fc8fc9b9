"""Meshes of analytic fields against their closed forms, and the GLB against an independent reading of its bytes."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from torch import Tensor

from text23d.artifact.mesh import (
    EmptyField,
    decimated,
    extract,
    read_back,
    sample,
    silhouette_level,
    smoothed,
    write_glb,
)
from text23d.contracts import UserError

Field = Callable[[Tensor], Tensor]


def ball(radius: float, centre: tuple[float, float, float] = (0, 0, 0), width: float = 0.004) -> Field:
    """100 per scene unit inside, almost 0 outside."""
    return lambda p: 100 * torch.sigmoid((radius - (p - torch.tensor(centre)).norm(dim=-1)) / width)


def position(p: Tensor) -> Tensor:
    return (p + 1) / 2


def colours(mesh: trimesh.Trimesh) -> np.ndarray:
    assert isinstance(mesh.visual, trimesh.visual.ColorVisuals)
    return np.asarray(mesh.visual.vertex_colors).astype(int)


def closed(mesh: trimesh.Trimesh) -> bool:
    return bool(mesh.is_watertight and mesh.is_winding_consistent and mesh.volume > 0)


def test_a_ball() -> None:
    mesh = extract(ball(0.6), position, resolution=96, threshold=50.0)
    radius = np.linalg.norm(mesh.vertices, axis=1)
    assert closed(mesh) and mesh.body_count == 1 and len(mesh.faces) <= 20_000
    assert abs(radius.mean() - 0.6) < 0.002 and radius.std() < 0.002
    assert abs(mesh.volume / (4 / 3 * np.pi * 0.6**3) - 1) < 0.01
    outward = np.einsum("vi,vi->v", mesh.vertex_normals, mesh.vertices / radius[:, None])
    assert outward.mean() > 0.998 and outward.min() > 0.8
    # Opaque within half a cell, so the colour is that of a point up to a cell below the surface.
    assert np.abs(colours(mesh)[:, :3] / 255.0 - (mesh.vertices + 1) / 2).max() < 0.015
    assert (colours(mesh)[:, 3] == 255).all()


def test_colours_come_from_inside() -> None:
    """A field's colour outside its surface means nothing: here it is blue, and must not be seen."""

    def colour(p: Tensor) -> Tensor:
        inside = (p.norm(dim=-1) < 0.603)[:, None]
        return torch.where(inside, torch.tensor([1.0, 0.5, 0.0]), torch.tensor([0.0, 0.0, 1.0]))

    mesh = extract(ball(0.6, width=0.001), colour, resolution=64, threshold=50.0)
    assert np.abs(colours(mesh)[:, :3] - [255, 128, 0]).max() < 40
    assert np.abs(np.median(colours(mesh)[:, :3], axis=0) - [255, 128, 0]).max() <= 2


def test_floaters_go_and_parts_stay() -> None:
    crown, trunk, dust = ball(0.5, (0, 0, 0.3)), ball(0.25, (0, 0, -0.6)), ball(0.08, (0.8, 0.8, 0.8))
    mesh = extract(lambda p: crown(p) + trunk(p) + dust(p), position, resolution=64, threshold=50.0)
    assert closed(mesh) and mesh.body_count == 2
    assert mesh.bounds[0, 2] < -0.8 and mesh.bounds[1, 0] < 0.55


def test_an_inner_shell_goes() -> None:
    outer, inner = ball(0.7), ball(0.4)
    mesh = extract(lambda p: outer(p) - inner(p), position, resolution=64, threshold=50.0)
    assert closed(mesh) and mesh.body_count == 1 and np.linalg.norm(mesh.vertices, axis=1).min() > 0.65
    assert abs(mesh.volume / (4 / 3 * np.pi * 0.7**3) - 1) < 0.02


def test_an_open_cup_keeps_its_inside() -> None:
    outer, inner = ball(0.7), ball(0.5)
    mesh = extract(lambda p: (outer(p) - inner(p)) * (p[:, 2] < 0.3), position, resolution=64, threshold=50.0)
    assert closed(mesh) and np.linalg.norm(mesh.vertices, axis=1).min() < 0.55


def test_a_slanted_thin_leg_stays() -> None:
    """A leg one cell wide along a diagonal hangs on its body by corners only, cell by cell."""
    axis = torch.tensor([1.0, 1.0, 1.0]) / 3**0.5

    def leg(p: Tensor) -> Tensor:
        along = p @ axis
        return 100.0 * (((p - along[:, None] * axis).norm(dim=-1) < 0.02) & (along.abs() < 0.7))

    body = ball(0.3, (0.4, 0.4, 0.4))
    mesh = extract(lambda p: leg(p) + body(p), position, resolution=64, threshold=10.0)
    assert closed(mesh) and (mesh.vertices @ axis.numpy()).min() < -0.65


@pytest.mark.parametrize("threshold", [None, 10.0])
def test_a_solid_field_becomes_the_box(threshold: float | None) -> None:
    mesh = extract(lambda p: torch.full((len(p),), 30.0), position, resolution=32, threshold=threshold)
    assert closed(mesh) and np.abs(np.abs(mesh.bounds) - 1).max() < 1 / 32
    assert abs(mesh.volume / 8 - 1) < 0.05


def test_overflowed_densities_are_merely_opaque() -> None:
    def density(p: Tensor) -> Tensor:
        return torch.where(p.norm(dim=-1) < 0.5, torch.inf, 0.0)

    mesh = extract(density, position, resolution=48)
    assert closed(mesh) and abs(np.linalg.norm(mesh.vertices, axis=1).mean() - 0.5) < 0.01
    assert np.abs(colours(mesh)[:, :3] / 255.0 - (mesh.vertices + 1) / 2).max() < 0.05


def test_an_empty_field_says_so() -> None:
    def nothing(p: Tensor) -> Tensor:
        return torch.zeros(len(p))

    with pytest.raises(EmptyField, match=r"nothing is denser than 10 .*densest point has 0"):
        extract(nothing, position, resolution=16, threshold=10.0)
    with pytest.raises(EmptyField, match=r"too thin to see: its densest point has 0\.3"):
        extract(lambda p: nothing(p) + 0.3, position, resolution=16)


def test_mistakes_are_named() -> None:
    with pytest.raises(UserError, match=r"not a number at 4096 of 4096 points.*diverged"):
        extract(lambda p: torch.full((len(p),), float("nan")), position, resolution=16)
    for setting in ({"resolution": 1}, {"faces": 0}, {"threshold": 0.0}):
        with pytest.raises(UserError, match=f"{next(iter(setting))}=.*expected"):
            extract(ball(0.5), position, **setting)  # type: ignore[arg-type]


def test_sampling_visits_cell_centres_and_only_where_occupied() -> None:
    visited: list[Tensor] = []

    def density(p: Tensor) -> Tensor:
        visited.append(p)
        return p @ torch.tensor([1.0, 10.0, 100.0]) + 200

    centre = (np.arange(8) + 0.5) / 4 - 1
    x, y, z = np.meshgrid(centre, centre, centre, indexing="ij")
    expected = x + 10 * y + 100 * z + 200
    assert np.abs(sample(density, 8) - expected).max() < 1e-4
    visited.clear()
    assert np.abs(sample(density, 8, lambda p: p[:, 0] > 0) - expected * (x > 0)).max() < 1e-4
    assert sum(len(p) for p in visited) == 8**3 // 2 and min(p[:, 0].min() for p in visited) > 0


@pytest.mark.parametrize("width", [0.01, 0.03, 0.06])
def test_the_automatic_level_keeps_the_silhouette(width: float) -> None:
    """A soft ball is half covered where the chord's integral is ln 2: found here by quadrature and bisection."""
    field, along = ball(0.5, width=width), torch.linspace(-1, 1, 4001, dtype=torch.float64)

    def depth(offset: float) -> float:
        points = torch.stack([torch.full_like(along, offset), torch.zeros_like(along), along], -1)
        return float(torch.trapezoid(field(points), along))

    low, high = 0.3, 0.99
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if depth(middle) > np.log(2) else (low, middle)
    mesh = extract(field, position, resolution=96)
    assert abs(np.linalg.norm(mesh.vertices, axis=1).mean() - low) < 1 / 96


def test_the_automatic_level_sits_between_fog_and_object() -> None:
    field = sample(lambda p: ball(0.5, width=0.001)(p) + 0.2, 64)
    level = silhouette_level(field, 2 / 64)
    assert 0.2 < level < 100
    assert abs((field > level).mean() - 4 / 3 * np.pi * 0.5**3 / 8) < 0.005


@pytest.mark.parametrize("faces", [500, 5000])
def test_the_face_budget(faces: int) -> None:
    box = torch.tensor([0.6, 0.4, 0.25])

    def table(p: Tensor) -> Tensor:
        return 100 * torch.sigmoid(-(p.abs() - box).amax(-1) / 0.004)

    mesh = extract(table, position, resolution=64, threshold=50.0, faces=faces)
    assert closed(mesh) and faces * 0.9 <= len(mesh.faces) <= faces
    assert abs(mesh.volume / (8 * 0.6 * 0.4 * 0.25) - 1) < 0.03


def test_a_rough_surface_stays_closed_after_decimation() -> None:
    """Edge collapses make sheets of a noisy field touch: the budget holds and the mesh is still closed."""
    noise = 6 * torch.randn(1, 1, 12, 12, 12, generator=torch.Generator().manual_seed(0))

    def rough(p: Tensor) -> Tensor:
        at = p.view(1, 1, 1, -1, 3)
        value = torch.nn.functional.grid_sample(noise, at, align_corners=False).view(-1)
        return torch.exp(value + 30 * (0.6 - p.norm(dim=-1)).clamp(max=0.1))

    mesh = extract(rough, position, resolution=64, threshold=3.0, faces=4000)
    assert closed(mesh) and len(mesh.faces) <= 4000
    merged = trimesh.Trimesh(mesh.vertices.round(6), mesh.faces)
    assert closed(merged), "vertices that were parted stay apart when a reader merges the equal ones"


def test_smoothing_takes_the_noise_and_leaves_the_volume() -> None:
    sphere = trimesh.creation.icosphere(5)
    noisy = sphere.copy()
    noisy.vertices *= 1 + 0.01 * np.random.default_rng(0).standard_normal((len(sphere.vertices), 1))
    smooth = smoothed(noisy)
    assert np.linalg.norm(smooth.vertices, axis=1).std() < 0.4 * np.linalg.norm(noisy.vertices, axis=1).std()
    assert abs(smooth.volume / noisy.volume - 1) < 0.002


def test_decimation_gives_way_before_it_ruins_the_shape() -> None:
    """A tetrahedron's worth of faces cannot hold a torus: more are kept."""
    torus = trimesh.creation.torus(0.6, 0.2)
    fewer = decimated(torus, 4)
    assert closed(fewer) and fewer.euler_number == 0 and abs(fewer.volume / torus.volume - 1) < 0.05


def chunks(path: Path) -> tuple[dict[str, Any], bytes]:
    """The two chunks of a GLB, by the container's definition."""
    data = path.read_bytes()
    magic, version, length, size, kind = struct.unpack("<4sIII4s", data[:20])
    assert (magic, version, kind, length) == (b"glTF", 2, b"JSON", len(data)) and size % 4 == 0
    body = 20 + size + 8
    assert struct.unpack("<I4s", data[20 + size : body]) == (len(data) - body, b"BIN\0")
    return json.loads(data[20 : 20 + size]), data[body:]


def accessor(path: Path, name: str) -> np.ndarray:
    document, data = chunks(path)
    primitive = document["meshes"][0]["primitives"][0]
    entry = document["accessors"][primitive["indices"] if name == "indices" else primitive["attributes"][name]]
    kind = {5126: "<f4", 5123: "<u2", 5125: "<u4"}[entry["componentType"]]
    width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[entry["type"]]
    start = document["bufferViews"][entry["bufferView"]]["byteOffset"]
    return np.frombuffer(data, kind, entry["count"] * width, start).reshape(-1, width)


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> tuple[trimesh.Trimesh, Path]:
    """A tall box off the origin: a red mark on its front (-Y), a green one on its top, grey elsewhere."""
    centre, half = torch.tensor([0.2, 0.1, -0.05]), torch.tensor([0.2, 0.3, 0.6])

    def density(p: Tensor) -> Tensor:
        return 100 * torch.sigmoid(-((p - centre).abs() - half).amax(-1) / 0.004)

    def colour(p: Tensor) -> Tensor:
        local = (p - centre) / half
        grey, red, green = torch.full((len(p), 3), 0.5), torch.tensor([1.0, 0, 0]), torch.tensor([0, 1.0, 0])
        seen = torch.where((local[:, 1] < -0.7)[:, None], red, grey)
        return torch.where((local[:, 2] > 0.85)[:, None], green, seen)

    mesh = extract(density, colour, resolution=64, threshold=50.0)
    path = tmp_path_factory.mktemp("glb") / "mesh.glb"
    write_glb(mesh, path, "a red, tall bôx")
    return mesh, path


def test_glb_stands_on_the_floor_with_its_longest_side_one(marked: tuple[trimesh.Trimesh, Path]) -> None:
    mesh, path = marked
    scene = trimesh.load_scene(path)
    low, high = scene.bounds
    assert np.allclose(low + high, [0, 1, 0], atol=1e-6) and low[1] == pytest.approx(0, abs=1e-6)
    assert (high - low).max() == pytest.approx(1) and np.argmax(high - low) == 1
    assert np.allclose(high - low, mesh.extents[[0, 2, 1]] / mesh.extents.max(), atol=1e-6)
    document, _ = chunks(path)
    assert np.allclose([document["accessors"][0]["min"], document["accessors"][0]["max"]], [low, high])


def test_glb_front_is_plus_z_and_top_is_plus_y(marked: tuple[trimesh.Trimesh, Path]) -> None:
    at, normal, colour = (accessor(marked[1], name) for name in ("POSITION", "NORMAL", "COLOR_0"))
    colour = colour / 65535
    red = (colour[:, 0] > 0.9) & (colour[:, 1] < 0.1) & (normal[:, 2] > 0.9)
    green = (colour[:, 1] > 0.9) & (colour[:, 0] < 0.1) & (normal[:, 1] > 0.9)
    assert red.sum() > 20 and np.ptp(at[red, 2]) < 0.03 and at[red, 2].min() > 0.95 * at[:, 2].max()
    assert green.sum() > 20 and at[green, 1].min() > 0.97
    assert not (colour[normal[:, 2] < -0.9, 0] > 0.9).any(), "the back is not red"
    assert np.abs(np.linalg.norm(normal, axis=1) - 1).max() < 1e-4
    triangles = at[accessor(marked[1], "indices").reshape(-1, 3)]
    volume = np.einsum("fi,fi->f", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])).sum() / 6
    assert volume > 0, "counter-clockwise from outside after the change of axes"


def test_glb_is_named_and_has_a_material(marked: tuple[trimesh.Trimesh, Path]) -> None:
    document, _ = chunks(marked[1])
    assert {document[key][0]["name"] for key in ("nodes", "meshes", "materials")} == {"a red, tall bôx"}
    assert document["meshes"][0]["primitives"][0]["material"] == 0
    surface = document["materials"][0]["pbrMetallicRoughness"]
    assert surface["metallicFactor"] == 0 and surface["roughnessFactor"] == 0.9
    assert document["accessors"][2]["normalized"] and document["asset"]["version"] == "2.0"


def test_glb_colours_are_linear_light(tmp_path: Path) -> None:
    mesh = trimesh.creation.box()
    srgb = np.array([0, 1, 10, 11, 64, 128, 188, 255], np.uint8)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=np.stack([srgb, srgb, srgb, srgb * 0 + 255], 1))
    write_glb(mesh, tmp_path / "box.glb", "box", scale=2.5)
    value = accessor(tmp_path / "box.glb", "COLOR_0")[:, 0] / 65535
    # Known pairs of the sRGB curve: 10 and 11 lie on either side of its knee, 188 is half of the light.
    expected = [0, 0.000303527, 0.00303527, 0.00334654, 0.0512695, 0.215861, 0.502886, 1]
    assert np.abs(value - expected).max() < 1e-5
    assert np.ptp(accessor(tmp_path / "box.glb", "POSITION"), axis=0) == pytest.approx([2.5, 2.5, 2.5])


def test_read_back(marked: tuple[trimesh.Trimesh, Path], tmp_path: Path) -> None:
    mesh, path = marked
    told = read_back(path)
    assert told == {
        "name": "a red, tall bôx",
        "faces": len(mesh.faces),
        "vertices": len(mesh.vertices),
        "size": pytest.approx((mesh.extents[[0, 2, 1]] / mesh.extents.max()).tolist(), abs=1e-5),
        "watertight": True,
        "upright": True,
        "bytes": path.stat().st_size,
    }
    json.dumps({**told, "size": list(told["size"])})
    shifted = mesh.copy()
    shifted.faces = shifted.faces[:-5]
    write_glb(shifted, tmp_path / "open.glb", "open")
    assert read_back(tmp_path / "open.glb")["watertight"] is False
    lying = trimesh.load_scene(path).to_mesh()
    lying.apply_translation([0, -0.3, 0])
    (tmp_path / "lying.glb").write_bytes(trimesh.Scene(lying).export(file_type="glb"))
    assert read_back(tmp_path / "lying.glb")["upright"] is False
    for content in (path.read_bytes()[:-1000], path.read_bytes()[:50], b"", b"not a mesh at all"):
        (tmp_path / "bad.glb").write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*bad\.glb"):
            read_back(tmp_path / "bad.glb")
    with pytest.raises(UserError, match=r"cannot read .*none\.glb"):
        read_back(tmp_path / "none.glb")


def test_glb_is_whole_or_absent(marked: tuple[trimesh.Trimesh, Path], tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*mesh\.glb"):
        write_glb(marked[0], tmp_path / "taken" / "mesh.glb", "x")
    assert os.listdir(tmp_path) == ["taken"]
