"""From a field to the files of a mesh: colours against closed forms, files against other readings of them; the verb."""

from __future__ import annotations

import io
import json
import os
import re
import resource
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
from exact_nerf import CENTRE, HALF, leave_run, marked_box, nerf_of
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from PIL import Image
from processes import awaited, children, ends, uses
from safetensors.torch import save_file
from torch import Tensor

import text23d
from text23d import export as verb
from text23d.artifact import atlas
from text23d.artifact.colour import Painter, Photographs, composited
from text23d.artifact.formats import WRITERS, facts, files_of, read
from text23d.artifact.glb import write_glb
from text23d.artifact.model import Model, Placement, display, linear
from text23d.artifact.obj import write_obj
from text23d.artifact.score import look, score, texture_of
from text23d.cameras import Cameras, orbit
from text23d.door.text import text_value
from text23d.errors import UserError
from text23d.files import load_tensors
from text23d.paths import conf_dir
from text23d.settings import read as checked_settings
from text23d.spaces import to_picture
from text23d.tasks import meshing

CPU = torch.device("cpu")
NAME = "a red, tall bôx"


def settings(**changes: Any) -> meshing.MeshSettings:
    return checked_settings(meshing.MeshSettings, {"texture": 128, "resolution": 64, "faces": 3000, **changes}, "m.")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The marked box in every format, textured, two metres high."""
    folder = tmp_path_factory.mktemp("exported")
    return folder, meshing.export(marked_box(), NAME, folder, settings(format="glb,obj,ply", scale=2.0), CPU)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The marked box with colours at its vertices."""
    folder = tmp_path_factory.mktemp("plain")
    return folder, meshing.export(marked_box(), NAME, folder, settings(format="glb,obj", colour="vertices"), CPU)


def visual(path: Path) -> Any:
    return read(path).visual


# Colour


def shell(p: Tensor) -> tuple[Tensor, Tensor]:
    """A ball of radius 0.6, opaque; orange inside, and blue in the empty space around it."""
    radius = p.norm(dim=-1)
    inside = (radius < 0.603)[:, None]
    return 1000.0 * (radius < 0.6), torch.where(inside, torch.tensor([1.0, 0.5, 0.0]), torch.tensor([0.0, 0.0, 1.0]))


def nothing(p: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros(len(p)), torch.zeros(len(p), 3)


def painted(cameras: Cameras, colours: list[tuple[float, float, float]], alpha: float, mesh: Any) -> Painter:
    """One even picture a camera, of a colour and of a coverage."""
    colour = torch.tensor(colours)[:, :, None, None].expand(-1, -1, 128, 128)
    pictures = to_picture(alpha * colour, torch.full((len(cameras), 1, 128, 128), alpha))
    return Painter(Photographs(cameras, pictures), nothing, mesh.vertices, mesh.faces, 1 / 32)


def test_a_colour_is_the_mean_of_the_pictures_that_see_it() -> None:
    """By the square of the cosine at which they do, and a half-covered pixel as if it were whole."""
    cameras = Cameras.cat([orbit(1, 0.0), orbit(1, 60.0), orbit(2, 0.0).rows(slice(1, 2))])
    sphere = trimesh.creation.icosphere(4, radius=0.5)
    for alpha in (1.0, 0.5):
        paint = painted(cameras, [(0.8, 0.0, 0.2), (0.0, 0.6, 0.2), (1.0, 1.0, 1.0)], alpha, sphere)
        front = np.array([[0.0, -0.5, 0.0]])
        towards = cameras.positions()[:2].numpy() - front
        cosine = -((towards / np.linalg.norm(towards, axis=1, keepdims=True))[:, 1] ** 2)
        expected = np.abs(cosine) @ [[0.8, 0.0, 0.2], [0.0, 0.6, 0.2]] / np.abs(cosine).sum()
        assert np.abs(paint(front, front / 0.5) / 255 - expected).max() < 0.004, "and not white: that is behind"


def test_a_picture_is_read_where_the_point_is_seen() -> None:
    """Photographs of a marked ball, whose colour is its place: painted from them, each point has the colour it had."""
    sphere = trimesh.creation.icosphere(5, radius=0.6)
    sphere.visual = trimesh.visual.ColorVisuals(sphere, vertex_colors=by_place(sphere.vertices, sphere.vertices))
    cameras = Cameras.cat([orbit(6, 30.0), orbit(6, -40.0)])
    hit, colour = look(sphere, cameras, 128)
    alpha = torch.tensor(hit)[:, None].float()
    pictures = to_picture(torch.tensor(colour).float().permute(0, 3, 1, 2) * alpha, alpha)
    paint = Painter(Photographs(cameras, pictures), nothing, sphere.vertices, sphere.faces, 1 / 64)
    found = paint(sphere.vertices, sphere.vertices / 0.6).astype(int)
    assert np.abs(found - by_place(sphere.vertices, sphere.vertices)).max() <= 6


def test_what_hides_a_point_lends_it_no_colour() -> None:
    """A small ball before a large one: the camera in front sees the small, the one above paints what lies behind it."""
    small, large = trimesh.creation.icosphere(3, radius=0.2), trimesh.creation.icosphere(4, radius=0.4)
    small.apply_translation([0, -0.7, 0])
    paint = painted(
        Cameras.cat([orbit(1, 0.0), orbit(1, 50.0)]),
        [(1.0, 0.0, 0.0), (0.0, 0.0, 1.0)],
        1.0,
        trimesh.util.concatenate([small, large]),
    )
    at = np.array([[0, -0.9, 0.0], [0, -0.4, 0.0]])
    normals = np.array([[0, -1.0, 0], [0, -1.0, 0]])
    before, behind = paint(at, normals)
    assert before[0] > 200 and behind.tolist() == [0, 0, 255]


def test_what_no_picture_sees_has_the_colour_of_the_matter_behind_it() -> None:
    sphere = trimesh.creation.icosphere(3, radius=0.6)
    cameras = orbit(1, 0.0)
    pictures = to_picture(torch.ones(1, 3, 32, 32), torch.ones(1, 1, 32, 32))
    paint = Painter(Photographs(cameras, pictures), shell, sphere.vertices, sphere.faces, 2 / 64)
    found = paint(np.array([[0, -0.6, 0], [0, 0.6, 0]]), np.array([[0.0, -1, 0], [0, 1, 0]]))
    assert found[0].tolist() == [255] * 3 and np.abs(found[1].astype(int) - [255, 128, 0]).max() <= 1


def test_matter_is_composited_along_the_normal() -> None:
    """Even matter with a colour that depends on the place, by the formula."""
    cell, towards = 0.1, np.array([0.0, 1.0, 0.0])
    depth, passed = np.linspace(-1, 4, 6) * cell, np.exp(-10.0 * cell * np.arange(6))
    expected = (passed[:, None] * (1 - depth[:, None] * towards) / 2).sum(0) / passed.sum()
    found = composited(
        lambda p: (10.0 + 0 * p[:, 0], (p + 1) / 2), torch.zeros(1, 3), torch.tensor(towards)[None].float(), cell
    )
    assert np.abs(found[0].numpy() - expected).max() < 1e-5


# Atlas


def unit_ball(faces: int = 2) -> Model:
    sphere = trimesh.creation.icosphere(faces)
    at = np.array(sphere.vertices)
    return Model(at, at.copy(), np.array(sphere.faces), by_place(at, at))


def by_place(points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    return np.rint((points + 1) / 2 * 255).clip(0, 255).astype(np.uint8)


def test_faces_at_texels_against_brute_force() -> None:
    rng, size = np.random.default_rng(0), 24
    uv = np.array([[0.05, 0.05], [0.9, 0.1], [0.5, 0.55], [0.1, 0.6], [0.6, 0.95], [0.98, 0.7]]) + rng.normal(0, 0.01)
    faces = np.array([[0, 1, 2], [3, 5, 4]])  # the second the other way round
    found, weight = atlas.faces_at_texels(uv, faces, size)
    for row in range(size):
        for column in range(size):
            centre = np.array([(column + 0.5) / size, 1 - (row + 0.5) / size])
            inside = -1
            for number, face in enumerate(faces):
                share = np.linalg.solve(np.vstack([uv[face].T, np.ones(3)]), [*centre, 1])
                if share.min() > 1e-6:
                    inside = number
                    assert np.abs(weight[row, column] - share).max() < 1e-4
            assert found[row, column] == inside


def test_a_texture_holds_what_was_painted() -> None:
    """Points all over a ball, looked up in the texture, have the colour that was painted there, seams included."""
    model = atlas.textured(unit_ball(3), by_place, 256, 120)
    assert model.atlas is not None and model.atlas.texture.shape == (256, 256, 3)
    assert np.array_equal(model.atlas.vertex[model.atlas.faces], model.faces)
    mesh = trimesh.Trimesh(model.vertices[model.atlas.vertex], model.atlas.faces, process=False)
    image = Image.fromarray(model.atlas.texture)
    mesh.visual = trimesh.visual.TextureVisuals(model.atlas.uv, trimesh.visual.material.SimpleMaterial(image))
    views = orbit(6, 10.0)
    _, colour = look(mesh, views, 64)
    origins, directions = (rays.double().numpy() for rays in views.rays((64, 64)))
    along = (origins * directions).sum(-1)
    inside = along**2 - 9 + 1  # of the square root for the nearer hit of the unit ball
    well = inside > 0.1
    place = (origins + (-along - np.sqrt(inside.clip(0)))[..., None] * directions)[well]
    error = np.abs(colour[well] - (place + 1) / 2)
    assert error.max() < 0.05 and error.mean() < 0.01


def test_no_texel_is_left_without_a_colour() -> None:
    model = atlas.textured(unit_ball(1), lambda p, n: np.full((len(p), 3), 200, np.uint8), 64, 120)
    assert model.atlas is not None
    spread = np.abs(model.atlas.texture.astype(int) - 200).max(-1)
    assert (spread == 0).mean() > 0.5, "painted, and spread to between the charts"
    own = {tuple(colour) for colour in model.colours.tolist()} | {(200, 200, 200)}
    assert {tuple(colour) for colour in model.atlas.texture.reshape(-1, 3).tolist()} <= own


def test_a_texture_is_drawn_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model = unit_ball(2)
    flat = atlas.unwrapped(model, 100, 120)
    whole = atlas.drawn(model, *flat, by_place, 100)
    monkeypatch.setattr(atlas, "TEXELS", 300)
    assert np.array_equal(atlas.drawn(model, *flat, by_place, 100), whole)


def test_the_same_mesh_gives_the_same_atlas() -> None:
    first, second = (atlas.unwrapped(unit_ball(3), 128, 120) for _ in range(2))
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_an_unwrap_that_hangs_or_dies_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(atlas.UnwrapError, match=r"unwrapping 320 faces took more than 0\.001 s"):
        atlas.unwrapped(unit_ball(), 64, 0.001)
    model = unit_ball()
    with pytest.raises(atlas.UnwrapError, match=r"unwrapping 320 faces failed \(status 1: .*Error"):
        atlas.unwrapped(Model(model.vertices[:, :2], model.normals, model.faces, model.colours), 64, 120)


UNWRAPPING = """
import numpy as np, trimesh
from text23d.artifact.atlas import unwrapped
from text23d.artifact.model import Model
ball = trimesh.creation.icosphere(5)
at = np.array(ball.vertices) * np.random.default_rng(0).uniform(0.5, 1, (len(ball.vertices), 1))
while True:
    unwrapped(Model(at, at, np.array(ball.faces), np.zeros((len(at), 3), np.uint8)), 1024, 600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_an_unwrap_that_hangs_ends_with_its_killed_parent() -> None:
    """Stopped while xatlas works, as one that listens to nothing."""
    with subprocess.Popen([sys.executable, "-c", UNWRAPPING]) as parent:
        child = awaited(lambda: next((pid for pid in children(parent.pid) if uses(pid, "xatlas")), None))
        os.kill(child, signal.SIGSTOP)
        parent.kill()
    assert ends(child)


# Conventions, in every format


def test_names_sizes_and_closedness(exported: tuple[Path, dict[str, Any]]) -> None:
    folder, report = exported
    there = sorted(path.name for path in folder.iterdir())
    assert there == ["mesh.glb", "mesh.mtl", "mesh.obj", "mesh.ply", "mesh.png"]
    assert report["notes"] == [] and list(report["files"]) == ["mesh.glb", "mesh.obj", "mesh.ply"]
    names = {"mesh.glb": NAME, "mesh.obj": "a_red_tall_bôx", "mesh.ply": None}
    for file, found in report["files"].items():
        assert found["name"] == names[file] and found["watertight"] and found["upright"], file
        assert found["size"] == pytest.approx((2 * HALF / 0.6).tolist(), abs=0.04) and max(found["size"]) == 2
        assert found["faces"] == report["faces"] <= 3000 and found["vertices"] == found["faces"] / 2 + 2
        assert found["iou"] > 0.97 and found["psnr"] > 25 and (found["bodies"], found["genus"]) == (1, 0)
        assert found["roughness"] == pytest.approx(report["roughness"], abs=0.1) and found["roughness"] < 10
        assert found["bytes"] == (folder / file).stat().st_size
    assert [found["colour"] for found in report["files"].values()] == ["128 x 128", "128 x 128", "vertices"]
    assert {key: report[key] for key in ("faces", "iou", "psnr")} == {
        key: report["files"]["mesh.glb"][key] for key in ("faces", "iou", "psnr")
    }
    assert 0 < report["level"] < 1000 and 0 <= report["half_covered"] < 0.1
    json.dumps(report)


@pytest.mark.parametrize("file", ["mesh.glb", "mesh.obj", "mesh.ply"])
def test_marks_are_where_they_should_be(exported: tuple[Path, dict[str, Any]], file: str) -> None:
    """Seen by the cameras of our world."""
    mesh = read(exported[0] / file)
    mesh.vertices = (mesh.vertices - [0, 0, 1]) * 0.6
    for azimuth, elevation, channel, level in ((0, 0, 0, 0.95), (2, 0, 0, 0.05), (1, 0, 2, 0.95), (3, 0, 2, 0.05)):
        hit, colour = look(mesh, orbit(4, float(elevation)).rows(slice(azimuth, azimuth + 1)), 65)
        expected = np.insert(np.full(2, 0.5), channel, level)
        assert hit[0, 32, 32] and np.abs(colour[0, 32, 32] - expected).max() < 0.06, azimuth
    _, above = look(mesh, orbit(1, 89.0), 65)
    assert np.abs(above[0, 32, 32] - [0.5, 0.95, 0.5]).max() < 0.06


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
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[entry["type"]]
    start = document["bufferViews"][entry["bufferView"]]["byteOffset"]
    assert start % 4 == 0
    return np.frombuffer(data, kind, entry["count"] * width, start).reshape(-1, width)


@pytest.mark.parametrize("kind", ["exported", "plain"])
def test_glb_by_its_bytes(kind: str, request: pytest.FixtureRequest) -> None:
    path = request.getfixturevalue(kind)[0] / "mesh.glb"
    document, _ = chunks(path)
    at, normal = accessor(path, "POSITION"), accessor(path, "NORMAL")
    low, high = at.min(0), at.max(0)
    assert np.allclose((low + high)[[0, 2]], 0, atol=1e-5) and low[1] == pytest.approx(0, abs=1e-6)
    assert np.argmax(high - low) == 1, "Y is up"
    assert np.allclose([document["accessors"][0]["min"], document["accessors"][0]["max"]], [low, high])
    assert np.abs(np.linalg.norm(normal, axis=1) - 1).max() < 1e-4
    triangles = at[accessor(path, "indices").reshape(-1, 3)]
    volume = np.einsum("fi,fi->f", triangles[:, 0], np.cross(triangles[:, 1], triangles[:, 2])).sum() / 6
    assert volume > 0, "counter-clockwise from outside after the change of axes"
    assert {document[key][0]["name"] for key in ("nodes", "meshes", "materials")} == {NAME}
    surface = document["materials"][0]["pbrMetallicRoughness"]
    assert surface["metallicFactor"] == 0 and 0.5 <= surface["roughnessFactor"] <= 1
    attributes = document["meshes"][0]["primitives"][0]["attributes"]
    assert ("TEXCOORD_0" in attributes, "COLOR_0" in attributes) == (kind == "exported", kind == "plain")


def test_glb_front_is_plus_z(plain: tuple[Path, dict[str, Any]]) -> None:
    at, normal, colour = (accessor(plain[0] / "mesh.glb", name) for name in ("POSITION", "NORMAL", "COLOR_0"))
    colour = display(colour / 65535)
    for axis, channel in ((2, 0), (1, 1), (0, 2)):  # red to the front, green to the top, blue to the right
        ahead, behind = (colour[sign * normal[:, axis] > 0.95, channel] for sign in (1, -1))
        assert len(ahead) > 5 and len(behind) > 5 and ahead.min() > 0.85 and behind.max() < 0.15
    assert colour[:, 3].min() > 0.9999 and at[:, 1].max() == pytest.approx(1)


def test_glb_texture_is_an_srgb_png_the_right_way_up(exported: tuple[Path, dict[str, Any]]) -> None:
    """Every vertex's texel, by glTF's rule that v runs down from the picture's top."""
    path = exported[0] / "mesh.glb"
    document, data = chunks(path)
    view = document["bufferViews"][document["images"][0]["bufferView"]]
    image = Image.open(io.BytesIO(data[view["byteOffset"] :][: view["byteLength"]]))
    assert image.format == "PNG" and image.mode == "RGB" and image.size == (128, 128)
    at, uv = accessor(path, "POSITION"), accessor(path, "TEXCOORD_0")
    assert uv.min() >= 0 and uv.max() <= 1
    texels = np.asarray(image)[(uv[:, 1] * 127.99).astype(int), (uv[:, 0] * 127.99).astype(int)] / 255
    low, high = at.min(0), at.max(0)
    expected = 0.05 + 0.9 * ((at - low) / (high - low))[:, [2, 1, 0]]
    assert np.abs(texels - expected).mean() < 0.02 and np.abs(texels - expected).max() < 0.15


def test_glb_colours_are_linear_light(tmp_path: Path) -> None:
    box = trimesh.creation.box()
    srgb = np.array([0, 1, 10, 11, 64, 128, 188, 255], np.uint8)
    model = Model(np.array(box.vertices), np.array(box.vertex_normals), np.array(box.faces), np.stack([srgb] * 3, 1))
    write_glb(Placement.standing(model, 2.5).place(model), tmp_path / "box.glb", "box")
    value = accessor(tmp_path / "box.glb", "COLOR_0")[:, 0] / 65535
    # Known pairs of the sRGB curve: 10 and 11 lie on either side of its knee, 188 is half of the light.
    expected = [0, 0.000303527, 0.00303527, 0.00334654, 0.0512695, 0.215861, 0.502886, 1]
    assert np.abs(value - expected).max() < 1e-5
    assert np.ptp(accessor(tmp_path / "box.glb", "POSITION"), axis=0) == pytest.approx([2.5, 2.5, 2.5])
    assert np.abs(np.asarray(visual(tmp_path / "box.glb").vertex_colors)[:, 0].astype(int) - srgb).max() <= 1
    every = np.linspace(0, 1, 1001)
    assert np.abs(display(linear(every)) - every).max() < 1e-6


def test_obj_by_its_lines(exported: tuple[Path, dict[str, Any]], plain: tuple[Path, dict[str, Any]]) -> None:
    folder, report = exported
    lines = (folder / "mesh.obj").read_text().splitlines()
    rows = {key: [line.split()[1:] for line in lines if line.startswith(f"{key} ")] for key in ("v", "vt", "vn", "f")}
    assert len(rows["v"]) == len(rows["vn"]) == report["vertices"], "welded, seams or not"
    assert len(rows["vt"]) > len(rows["v"]) and len(rows["f"]) == report["faces"]
    index = np.array([[corner.split("/") for corner in face] for face in rows["f"]], int)
    assert (index.min((0, 1)) == 1).all()
    assert (index.max((0, 1)) == [len(rows["v"]), len(rows["vt"]), len(rows["vn"])]).all()
    material = (folder / "mesh.mtl").read_text().splitlines()
    assert "mtllib mesh.mtl" in lines and "usemtl a_red_tall_bôx" in lines and "newmtl a_red_tall_bôx" in material
    assert "map_Kd mesh.png" in material and (folder / "mesh.png").read_bytes().startswith(b"\x89PNG")
    lines = (plain[0] / "mesh.obj").read_text().splitlines()
    coloured = np.array([line.split()[1:] for line in lines if line.startswith("v ")], float)
    assert coloured.shape[1] == 6 and coloured[:, 3:].min() >= 0 and coloured[:, 3:].max() <= 1
    assert "map_Kd" not in (plain[0] / "mesh.mtl").read_text()


def test_a_name_cannot_break_a_file(tmp_path: Path) -> None:
    model = unit_ball()
    for name, expected in (("two\nlines # and 'more'", "two_lines_and_more"), ("!?", "object")):
        write_obj(model, tmp_path / "x.obj", name)
        assert facts(read(tmp_path / "x.obj"), tmp_path / "x.obj")["name"] == expected
    write_glb(model, tmp_path / "x.glb", 'a "quoted"\n name')
    assert facts(read(tmp_path / "x.glb"), tmp_path / "x.glb")["name"] == 'a "quoted"\n name'


@pytest.mark.parametrize("side", [1e-6, 0.0001, 0.3, 1.0, 7.0, 1e6])
@pytest.mark.parametrize("format", ["glb", "obj", "ply"])
def test_a_mesh_of_any_size_is_closed_and_true(tmp_path: Path, format: str, side: float) -> None:
    model, path = unit_ball(4), tmp_path / f"mesh.{format}"
    placement = Placement.standing(model, side)
    WRITERS[format](placement.place(model), path, "x")
    mesh = read(path)
    told = facts(mesh, path)
    assert told["watertight"] and told["upright"] and told["vertices"] == len(model.vertices)
    assert told["size"] == pytest.approx([side] * 3, rel=1e-5)
    assert np.abs(placement.back(np.asarray(mesh.vertices)) - model.vertices).max() < 2e-6


def test_an_obj_of_a_metre_has_six_digits_after_the_point(tmp_path: Path) -> None:
    write_obj(Placement.standing(unit_ball(), 1.0).place(unit_ball()), tmp_path / "x.obj", "x")
    line = next(line for line in (tmp_path / "x.obj").read_text().splitlines() if line.startswith("v "))
    assert all(re.fullmatch(r"-?\d\.\d{6}", number) for number in line.split()[1:])


@pytest.mark.parametrize("name", ["two words", "100%", "größe", "赤い車", "-dash", "a#b", "x.y", "(1), =2"])
def test_an_obj_of_any_name_finds_its_texture(tmp_path: Path, name: str) -> None:
    model = atlas.textured(unit_ball(), by_place, 64, 120)
    write_obj(model, tmp_path / f"{name}.obj", name)
    assert np.array_equal(texture_of(read(tmp_path / f"{name}.obj")), model.atlas.texture)  # type: ignore
    assert sorted(tmp_path.iterdir()) == sorted(files_of(tmp_path / f"{name}.obj"))
    assert not any(" " in path.name or path.name.startswith("-") for path in files_of(tmp_path / f"{name}.obj")[1:])


def test_facts_and_damage(tmp_path: Path) -> None:
    model = unit_ball()
    placed = Placement.standing(model, 0.001).place(model)
    path = tmp_path / "mesh.glb"
    write_glb(placed, path, "x")
    told = facts(read(path), path)
    assert told["watertight"] and told["upright"] and told["vertices"] == 162 and told["size"] == [0.001] * 3
    write_glb(Model(placed.vertices, placed.normals, placed.faces[:-5], placed.colours), path, "open")
    assert facts(read(path), path)["watertight"] is False
    write_glb(Model(placed.vertices, placed.normals, placed.faces[:, ::-1], placed.colours), path, "inside out")
    assert facts(read(path), path)["watertight"] is False
    write_glb(model, path, "sunk")
    assert facts(read(path), path)["upright"] is False
    whole = path.read_bytes()
    for content in (whole[:-1000], whole[:50], b"", b"not a mesh at all"):
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"cannot read .*mesh\.glb"):
            read(path)
    with pytest.raises(UserError, match=r"cannot read .*none\.ply"):
        read(tmp_path / "none.ply")


def test_files_are_whole_or_absent(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    for write in (write_glb, write_obj):
        with pytest.raises(UserError, match=r"cannot write .*taken"):
            write(unit_ball(), tmp_path / "taken" / "mesh", "x")
    assert os.listdir(tmp_path) == ["taken"]


# The score


def disc(radius: float, size: int, grey: float) -> Tensor:
    """What a camera at distance 3 sees of a grey ball of that radius, in picture space [1, 4, size, size]."""
    _, directions = orbit(1, 0.0).rays((size, size))
    covered = (directions @ torch.tensor([0.0, 1.0, 0.0]) > (1 - (radius / 3) ** 2) ** 0.5)[:, None].float()
    return to_picture((covered * grey).expand(-1, 3, -1, -1), covered)


def grey_ball(radius: float, level: int) -> trimesh.Trimesh:
    mesh = trimesh.creation.icosphere(5, radius=radius)
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=np.full((len(mesh.vertices), 3), level, np.uint8))
    return mesh


def test_the_score_of_balls_is_known() -> None:
    views = orbit(1, 0.0)
    same = score(grey_ball(0.6, 102), views, disc(0.6, 256, 0.4))
    assert same["iou"] > 0.995 and same["psnr"] > 60
    found = score(grey_ball(0.5, 102), views, disc(0.7, 256, 0.5))
    area = [np.tan(np.arcsin(radius / 3)) ** 2 for radius in (0.5, 0.7)]
    assert found["iou"] == pytest.approx(area[0] / area[1], abs=0.01)
    assert found["psnr"] == pytest.approx(-20 * np.log10(0.1), abs=0.01)
    off = grey_ball(0.2, 102)
    off.apply_translation([3, 0, 0])
    assert score(off, views, disc(0.5, 64, 0.4)) == {"iou": 0.0, "psnr": 0.0}


# The engine: fallbacks, and what is told


def test_an_unwrap_that_hangs_leaves_colours_at_the_vertices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that never answers is stopped, and the files are written without it."""
    hanging = tmp_path / "hanging"
    hanging.write_text("#!/bin/sh\necho $$ > $(dirname $0)/pid\nexec sleep 600\n")
    hanging.chmod(0o755)
    monkeypatch.setattr(atlas.sys, "executable", str(hanging))
    report = meshing.export(marked_box(), "x", tmp_path, settings(unwrap_seconds=1, resolution=32), CPU)
    assert report["colour"] == "vertices" and report["watertight"] and report["iou"] > 0.97
    (note,) = report["notes"]
    assert "took more than 1 s" in note and "at the vertices" in note
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_more_faces_than_were_asked_for_are_told() -> None:
    solid, _, notes = meshing.build(marked_box(), settings(faces=4, resolution=32, colour="vertices"), CPU)
    assert 4 < len(solid.faces) <= 24
    (note,) = notes
    assert note.startswith(f"faces=4 cannot hold this surface: {len(solid.faces)} faces are about the fewest that keep")
    assert meshing.build(marked_box(), settings(faces=60, resolution=32, colour="vertices"), CPU)[2] == []


def test_colours_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    def colour(p: Tensor) -> Tensor:
        return torch.where(p[:, :1] > 0, torch.nan, 0.5).expand(-1, 3)

    nerf = nerf_of(lambda p: (0.5 - p.norm(dim=-1)) / 0.004, colour)
    with pytest.raises(UserError, match=r"the colours of the surface are not numbers: .* diverged"):
        meshing.export(nerf, "x", tmp_path, settings(resolution=32), CPU)
    assert list(tmp_path.iterdir()) == []


def test_a_score_that_is_not_a_number_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meshing, "score", lambda *_: {"iou": 0.99, "psnr": float("nan")})
    report = meshing.export(marked_box(), "x", tmp_path, settings(resolution=32, colour="vertices", faces=500), CPU)
    assert any("differs from the NeRF: silhouette IoU 0.990" in note for note in report["notes"])


def test_a_bad_mesh_is_told(tmp_path: Path) -> None:
    """A level far inside a soft ball."""
    leave_run(tmp_path)
    nerf = verb.read_nerf(tmp_path)
    report = meshing.export(nerf, "x", tmp_path, settings(threshold=25.0, resolution=32, colour="vertices"), CPU)
    assert report["iou"] < 0.5 and any("differs from the NeRF: silhouette IoU 0." in note for note in report["notes"])


def test_a_huge_resolution_is_cut_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meshing, "FINEST", 32)
    *_, notes = meshing.build(marked_box(), settings(resolution=100_000, colour="vertices", faces=500), CPU)
    assert notes == ["resolution=100000 would not fit into memory: 32 cells a side were used"]


def test_a_resolution_without_room_is_cut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meshing, "free_bytes", lambda device: 24 * 40**3 + 1)
    *_, notes = meshing.build(marked_box(), settings(resolution=64, colour="vertices", faces=500), CPU)
    assert notes == ["resolution=64 would not fit into memory: 40 cells a side were used"]
    monkeypatch.setattr(meshing, "free_bytes", lambda device: None)
    assert meshing.finest() == meshing.FINEST


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": "glb,stl"}, r"m\.format=glb,stl: expected one or more of glb, obj, ply \(as in glb,obj\) or null"),
        ({"format": ""}, r"m\.format=: expected one or more"),
        ({"format": []}, r"m\.format=\[\]: expected one or more"),
        ({"format": [["glb"]]}, r"m\.format=\[\[glb\]\]: expected one or more"),
        ({"format": 3}, r"m\.format=3: expected one or more"),
        ({"texture": 8}, r"m\.texture=8: expected a whole number, 16 to 8192"),
        ({"texture": 100_000}, r"m\.texture=100000: expected a whole number, 16 to 8192"),
        ({"resolution": 64.5}, r"m\.resolution=64\.5: expected a whole number, at least 2"),
        ({"faces": True}, r"m\.faces=true: expected a whole number, at least 4"),
        ({"scale": 0}, r"m\.scale=0: expected a number at least 1e-06 and at most 1e\+06"),
        ({"scale": 1e-300}, r"m\.scale=1e-300: expected a number at least 1e-06"),
        ({"scale": float("nan")}, r"m\.scale=nan: expected a number"),
        ({"unwrap_seconds": "long"}, r"m\.unwrap_seconds=long: expected a number above 0 and at most 86400"),
        ({"unwrap_seconds": 1e300}, r"m\.unwrap_seconds=1e\+300: expected a number above 0 and at most 86400"),
        ({"threshold": -1}, r"m\.threshold=-1: expected a number above 0 and below 1e\+06 or null"),
        ({"threshold": 99999999999}, r"m\.threshold=99999999999: expected a number above 0 and below 1e\+06 or null"),
        ({"threshold": float("nan")}, r"m\.threshold=nan: expected a number above 0"),
        ({"colour": "paint"}, r"m\.colour=paint: expected one of texture, vertices"),
    ],
)
def test_settings_are_checked(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        settings(**change)


def test_formats_are_read_as_a_person_writes_them() -> None:
    for given in ("glb,obj", "GLB, .obj", "[glb,obj]", ["glb", "obj"], "glb,obj,glb"):
        assert settings(format=given).format == ("glb", "obj")
    assert text_value("format", "glb,obj", "glb", False) == "'glb,obj'"


# The verb


def configuration(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("export", [*overrides, "device=cpu"])


SMALL = ("resolution=32", "texture=64", "faces=800")


def test_the_verb_in_a_process_of_its_own(tmp_path: Path) -> None:
    leave_run(tmp_path / "a run, (1)")
    (tmp_path / "a run, (1)" / "summary.json").write_text('{"prompt": "an orange ball", "mesh": {"faces": 1}}')
    environment = {**os.environ, "PYTHONPATH": str(Path(text23d.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "text23d.export", "run=a run, (1)", "format=glb,obj,ply", *SMALL]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stderr.splitlines()
    assert len(said) == 4 and all(line.startswith("text23d: ") for line in said), done.stderr
    assert said[0].startswith("text23d: mesh.glb: ") and "closed, colour 64 x 64, silhouette IoU 0.9" in said[0]
    folder = tmp_path / "a run, (1)"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml", "nerf.safetensors", "summary.json", "mesh.glb", "mesh.obj", "mesh.mtl", "mesh.png", "mesh.ply",
    }  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["prompt"] == "an orange ball" and summary["mesh"]["iou"] > 0.92 and summary["mesh"]["psnr"] > 22
    assert visual(folder / "mesh.glb").material.name == "an orange ball"
    assert [path.name for path in tmp_path.iterdir()] == ["a run, (1)"], "nothing beside it"


def test_another_folder_and_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_run(tmp_path / "run")
    verb.run(configuration(f"run={tmp_path}/run", f"out={tmp_path}/out", "scale=0.5", "format=ply", *SMALL))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["run.ply"]
    assert max(read(tmp_path / "out" / "run.ply").extents) == pytest.approx(0.5)
    assert not (tmp_path / "run" / "summary.json").exists(), "an interrupted run stays one"
    assert capsys.readouterr().err.count("\n") == 2


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every field becomes the same small ball, for tests of where files go."""
    ball = atlas.textured(unit_ball(), by_place, 32, 120)
    monkeypatch.setattr(meshing, "build", lambda *_: (ball, 10.0, []))
    monkeypatch.setattr(meshing, "SCORED", ((1, 0.0),))
    monkeypatch.setattr(meshing, "score", lambda *_: {"iou": 1.0, "psnr": 60.0})


@pytest.mark.usefixtures("quick")
def test_exports_of_several_runs_into_one_folder_keep_apart(tmp_path: Path) -> None:
    """Also those of two folders of one name."""
    out, kept = tmp_path / "all of them", dict[str, bytes]()
    for folder, names in {
        "a/0-a red car": ["0-a_red_car"],
        "b/0-a red car": ["0-a_red_car-2"],
        "c/1-größe": ["1-größe"],
    }.items():
        leave_run(tmp_path / folder, prompt=folder)
        verb.run(configuration(f"run='{tmp_path / folder}'", f"out='{out}'", "format=obj", *SMALL))
        new = {path.name: path.read_bytes() for path in out.iterdir()}
        assert kept.items() <= new.items(), "nothing of another run has changed"
        assert new.keys() - kept.keys() == {f"{name}.{suffix}" for name in names for suffix in ("obj", "mtl", "png")}
        kept = new
        mesh = read(out / f"{names[0]}.obj")
        assert texture_of(mesh) is not None and facts(mesh, out / f"{names[0]}.obj")["name"] == re.sub(
            r"\W+", "_", folder
        )
    verb.run(configuration(f"run='{tmp_path / folder}'", f"out='{out}'", *SMALL))
    assert (out / "1-größe.glb").is_file()


@pytest.mark.usefixtures("quick")
def test_a_name_that_no_file_can_hold_is_held_as_far_as_it_goes(tmp_path: Path) -> None:
    report = meshing.export(marked_box(), "a \udc80 car", tmp_path, settings(format="glb,obj,ply"), CPU)
    assert [found["name"] for found in report["files"].values()] == ["a ? car", "a_car", None]


@pytest.mark.usefixtures("quick")
def test_a_file_of_its_own_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    leave_run(tmp_path / "run")

    def export_to(name: str, *more: str) -> list[str]:
        verb.run(configuration(f"run='{tmp_path}/run'", f"out='{tmp_path}/out/{name}'", *SMALL, *more))
        said = capsys.readouterr().err.splitlines()
        assert said[0].startswith(f"text23d: {name}: ") and said[1:] == [f"text23d: see {tmp_path}/out/{name}"]
        return sorted(path.name for path in (tmp_path / "out").iterdir())

    assert export_to("Auto.GLB") == ["Auto.GLB"]
    before = (tmp_path / "out" / "Auto.GLB").read_bytes()
    assert export_to("Auto.GLB", "scale=2", "format=glb") == ["Auto.GLB"]
    assert (tmp_path / "out" / "Auto.GLB").read_bytes() != before
    assert export_to("my car.obj") == ["Auto.GLB", "my car.obj", "my_car.mtl", "my_car.png"]
    (tmp_path / "out" / "holiday.png").write_bytes(b"a photo")
    for name, format, problem in (
        ("holiday.obj", "obj", r"holiday\.obj would overwrite .*holiday\.png, which is there already"),
        ("car.glb", "glb,obj", r"car\.glb names a file of the format glb, which is not glb,obj: leave format out"),
        ("car.ply", "obj", r"car\.ply names a file of the format ply, which is not obj"),
        ("car.stl", "glb", r"car\.stl: expected a folder, or a name that ends in \.glb, \.obj, \.ply"),
    ):
        with pytest.raises(UserError, match=problem):
            export_to(name, f"format='{format}'")
    assert (tmp_path / "out" / "holiday.png").read_bytes() == b"a photo"
    (tmp_path / "out" / "folder.glb").mkdir()
    verb.run(configuration(f"run='{tmp_path}/run'", f"out='{tmp_path}/out/folder.glb'", "format=ply", *SMALL))
    assert [path.name for path in (tmp_path / "out" / "folder.glb").iterdir()] == ["run.ply"]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("odd", [b"[1, 2]", b'"text"', b"\x80\x03\xff", b"", b"[" * 100_000, b"null"])
def test_an_odd_summary_stays_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str], odd: bytes) -> None:
    leave_run(tmp_path)
    (tmp_path / "summary.json").write_bytes(odd)
    verb.run(configuration(f"run='{tmp_path}'", "colour=vertices", *SMALL))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 3 and said[1].startswith("text23d: the run's summary stays as it is: cannot read ")
    assert (tmp_path / "summary.json").read_bytes() == odd and (tmp_path / "mesh.glb").is_file()


def test_weights_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    leave_run(tmp_path)
    tensors, _ = load_tensors(tmp_path / "nerf.safetensors", "nerf")
    tensors["mlp.2.bias"][2] = torch.nan
    save_file(tensors, tmp_path / "nerf.safetensors")
    with pytest.raises(UserError, match=r"cannot read .*nerf\.safetensors: mlp\.2\.bias holds values"):
        verb.run(configuration(f"run='{tmp_path}'", *SMALL))


def test_what_cannot_be_exported_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no run in .*nowhere"):
        verb.run(configuration(f"run={tmp_path}/nowhere"))
    leave_run(tmp_path / "empty", density=-100.0)
    with pytest.raises(UserError, match="too thin to see"):
        verb.run(configuration(f"run={tmp_path}/empty", *SMALL))
    leave_run(tmp_path / "cut")
    weights = tmp_path / "cut" / "nerf.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(UserError, match="cut short"):
        verb.run(configuration(f"run={tmp_path}/cut"))
    for folder in ("empty", "cut"):
        assert sorted(path.name for path in (tmp_path / folder).iterdir()) == ["config.yaml", "nerf.safetensors"]


@pytest.mark.parametrize("bytes", [2_000, 30_000])
def test_a_disk_that_fills_up_leaves_no_half_of_a_file(tmp_path: Path, bytes: int) -> None:
    """No file may grow past a limit, as on a full disk: told in one line, and what was there before stays."""
    leave_run(tmp_path / "run")
    before = {"mesh.glb": b"an older mesh"}
    (tmp_path / "run" / "mesh.glb").write_bytes(before["mesh.glb"])
    cfg = configuration(f"run={tmp_path}/run", "format=[glb,obj,ply]", "colour=vertices", *SMALL)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (bytes, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*File too large.*free some space"):
            verb.run(cfg)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    there = {path.name: path.stat().st_size for path in (tmp_path / "run").iterdir()}
    assert all(there.values()) and not any(name.startswith(".") for name in there)
    whole = read(tmp_path / "run" / "mesh.glb") if bytes > 2_000 else None
    assert (whole is None) == ((tmp_path / "run" / "mesh.glb").read_bytes() == before["mesh.glb"])


def test_an_obj_that_does_not_fit_leaves_the_old_one_with_its_texture(tmp_path: Path) -> None:
    """Its texture would fit and is written first."""
    model = atlas.textured(unit_ball(3), by_place, 32, 120)
    write_obj(model, tmp_path / "x.obj", "old")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(before["x.png"]) < 10_000 < len(before["x.obj"])
    other = replace(model, atlas=replace(model.atlas, texture=255 - model.atlas.texture))  # type: ignore
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"cannot write .*x\.obj: File too large"):
            write_obj(other, tmp_path / "x.obj", "new")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    leave_run(tmp_path / "run")
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(UserError, match=r"cannot write .*taken.*choose a folder"):
        verb.run(configuration(f"run={tmp_path}/run", f"out={tmp_path}/taken/out", "colour=vertices", *SMALL))
    assert (tmp_path / "taken").read_text() == "a file"


def test_pure_noise_ends_in_a_mesh_and_a_warning(tmp_path: Path) -> None:
    """Each of 24^3 cells as dense as a draw says: whatever the surface, it is within reach of its budget."""
    noise = torch.randn(24**3, generator=torch.Generator().manual_seed(0)) * 4 - 3

    def raw(p: Tensor) -> Tensor:
        x, y, z = ((p + 1) * 12).long().clamp(0, 23).unbind(-1)
        return noise[x * 576 + y * 24 + z]

    nerf = nerf_of(raw, lambda p: (p + 1) / 2)
    report = meshing.export(nerf, "noise", tmp_path, settings(format="glb,ply", faces=1000, resolution=48), CPU)
    assert 100 < report["faces"] <= 8000 and (tmp_path / "mesh.ply").stat().st_size > 1000


def test_a_solid_field_becomes_the_ball_that_bounds_it(tmp_path: Path) -> None:
    leave_run(tmp_path, density=100.0)
    verb.run(configuration(f"run={tmp_path}", "format=glb", *SMALL))
    mesh = read(tmp_path / "mesh.glb")
    assert mesh.volume == pytest.approx(np.pi / 6, rel=0.08) and facts(mesh, tmp_path / "mesh.glb")["watertight"]


def test_placement_there_and_back() -> None:
    model = unit_ball()
    placement = Placement.standing(model, 3.0)
    placed = placement.place(model)
    assert placed.vertices[:, 2].min() == pytest.approx(0) and np.ptp(placed.vertices, axis=0).max() == pytest.approx(3)
    assert np.allclose(placement.back(placed.vertices), model.vertices)


def test_the_marked_box_is_what_it_says() -> None:
    """The fixture itself, against its definition."""
    nerf = marked_box()
    points = torch.stack([CENTRE, CENTRE + 1.01 * HALF, CENTRE - torch.tensor([0, 0.44, 0])])
    density, colour = nerf.query(points)
    assert density[0] > 400 and density[1] < 30 and density[2] > 50
    assert torch.allclose(colour[[0, 2]], torch.tensor([[0.5, 0.5, 0.5], [0.94, 0.5, 0.5]]), atol=0.01)
