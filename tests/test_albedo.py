"""Albedo from lit colours: the toy box's own objects, whose albedo is known, and NeRFs with so much of its light."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import trimesh
import yaml
from bumps import Bumps
from exact_nerf import leave_run, nerf_of
from omegaconf import OmegaConf
from torch import Tensor

from text23d.artifact.albedo import Shading, lit, shading, unlit, weighted_median
from text23d.artifact.cast import photograph
from text23d.artifact.colour import Painter, Photographs
from text23d.artifact.model import Model
from text23d.artifact.score import look, score
from text23d.cameras import Cameras, orbit
from text23d.compose import compose
from text23d.errors import UserError
from text23d.representation.nerf import Nerf
from text23d.tasks import meshing
from text23d.tasks.lighting import light_of
from text23d.worlds.objects.parts import Mesh, Object, Part
from text23d.worlds.objects.render import Light, pictures, render
from text23d.worlds.objects.world import Objects

CPU = torch.device("cpu")
LIGHT = Light().irradiance
ALBEDO = np.array([[0.85, 0.1, 0.1], [0.16, 0.66, 0.22], [0.6, 0.6, 0.6], [0.1, 0.1, 0.12]])


def directions(count: int) -> np.ndarray:
    given = np.random.default_rng(0).standard_normal((count, 3))
    return given / np.linalg.norm(given, axis=1, keepdims=True)


def test_the_weighted_median_is_the_least_sum_of_deviations() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        values, weights = rng.standard_normal(9), rng.uniform(0.1, 2.0, 9)
        sums = (weights * np.abs(values[:, None] - values)).sum(1)
        assert weighted_median(values, weights) == values[sums.argmin()]


@pytest.mark.parametrize("share", [0.0, 0.35, 1.0])
def test_the_share_of_the_light_is_found_and_taken_out(share: float) -> None:
    """Four colours at random, with noise in each and places that are of neither."""
    rng, normals = np.random.default_rng(1), directions(4000)
    albedo = ALBEDO[rng.integers(4, size=4000)] * rng.uniform(0.95, 1.05, (4000, 1))
    albedo[:200] = rng.uniform(0, 0.9, (200, 3))
    colours = np.rint(255 * (albedo * LIGHT(normals)[:, None] ** share).clip(0, 1)).astype(np.uint8)
    found = shading(colours, normals, rng.uniform(0.5, 1.5, 4000), LIGHT)
    assert found.share == pytest.approx(share, abs=0.06)
    error = np.abs(found.removed(colours, normals) / 255 - albedo).mean(1)
    assert error.mean() < 0.01


def test_what_has_no_area_says_nothing_of_the_light() -> None:
    normals, areas = directions(2000), np.arange(2000) < 1000.0
    factor = np.where(areas, LIGHT(normals) ** 0.5, 1 / LIGHT(normals))
    colours = np.rint(200 * np.ones((2000, 3)) * factor[:, None]).clip(0, 255).astype(np.uint8)
    assert shading(colours, normals, areas.astype(float), LIGHT).share == pytest.approx(0.5, abs=0.03)


def test_no_light_is_taken_out_where_nothing_tells_of_it() -> None:
    """One direction only, or a colour that grows darker towards the light."""
    colours = np.random.default_rng(0).integers(0, 256, (100, 3)).astype(np.uint8)
    assert shading(colours, np.tile([0.0, 0.0, 1.0], (100, 1)), np.ones(100), LIGHT).share == 0
    normals = directions(1000)
    against = np.rint(100 / LIGHT(normals))[:, None].repeat(3, 1).astype(np.uint8)
    assert shading(against, normals, np.ones(1000), LIGHT).share == 0


def test_a_clipped_colour_has_the_least_albedo_that_it_may() -> None:
    up, colours = np.array([[0.0, 0.0, 1.0]]), np.array([[255, 128, 0]], np.uint8)
    bright = Shading(lambda normals: np.full(len(normals), 1.25))
    assert bright.removed(colours, up).tolist() == [[204, 102, 0]]
    dark = Shading(lambda normals: np.full(len(normals), 0.25), 0.5)
    assert dark.removed(colours, up).tolist() == [[255, 255, 0]]


def two_balls() -> tuple[Object, trimesh.Trimesh]:
    """A red and a white ball beside each other, as an object of the world and as one mesh."""
    balls = [trimesh.creation.icosphere(4, radius=0.4) for _ in range(2)]
    for x, ball in zip((-0.45, 0.45), balls, strict=True):
        ball.apply_translation([x, 0, 0])
    parts = [
        Part("part", Mesh(np.array(b.vertices), np.array(b.faces)), c) for b, c in zip(balls, COLOURS, strict=True)
    ]
    both = trimesh.util.concatenate(balls)
    assert isinstance(both, trimesh.Trimesh)
    return Object(tuple(parts)), both


COLOURS = ((0.85, 0.1, 0.1), (0.92, 0.92, 0.92))


def test_the_albedo_of_the_worlds_own_objects() -> None:
    """Painted from the world's own pictures: the colours of the parts, where lit ones are ten times further off."""
    thing, mesh = two_balls()
    cameras = Cameras.cat([orbit(8, 10.0), orbit(8, 45.0), orbit(8, -25.0), orbit(2, 85.0)])
    seen = pictures(render(thing, cameras, size=128))
    paint = Painter(Photographs(cameras, seen), nothing, mesh.vertices, mesh.faces, 1 / 64)
    at = mesh.vertices[np.abs(mesh.vertices[:, 0]) > 0.2]  # what the other ball does not hide
    normals = np.array(mesh.vertex_normals)[np.abs(mesh.vertices[:, 0]) > 0.2]
    true = np.where(at[:, :1] < 0, *np.array(COLOURS)[:, None])
    colours = paint(at, normals)
    found = shading(colours, normals, np.ones(len(at)), Objects().light)
    before, after = (np.abs(c / 255 - true).mean() for c in (colours, unlit(paint, found)(at, normals)))
    assert found.share > 0.95 and before > 0.08 and after < 0.1 * before


def nothing(p: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros(len(p)), torch.zeros(len(p), 3)


def test_scores_compare_what_both_show_lit() -> None:
    """The mesh's albedo under the light that was taken out of it is what the pictures show."""
    thing, mesh = two_balls()
    cameras = orbit(4, 20.0)
    normals, colour = np.array(mesh.vertex_normals), np.where(mesh.vertices[:, :1] < 0, *np.array(COLOURS)[:, None])
    model = Model(np.array(mesh.vertices), normals, np.array(mesh.faces), np.rint(255 * colour).astype(np.uint8))
    mesh.visual = trimesh.visual.ColorVisuals(mesh, vertex_colors=model.colours)
    factors = lit(model, Shading(LIGHT), cameras, 96)
    hits = photograph(mesh.vertices, mesh.faces, cameras, 96)
    assert (factors.ravel()[hits.face < 0] == 1).all() and factors.min() < 0.7
    seen = pictures(render(thing, cameras, size=96))
    assert score(mesh, cameras, seen, factors)["psnr"] > 30 > 20 > score(mesh, cameras, seen)["psnr"]


def shaded_ball(share: float) -> Nerf:
    """An orange ball, lit by so much of the world's light."""

    def colour(p: Tensor) -> Tensor:
        normals = torch.nn.functional.normalize(p, dim=-1).numpy()
        factor = torch.from_numpy(LIGHT(normals)).float()[:, None] ** share
        return torch.tensor([0.8, 0.4, 0.1]) * factor

    return nerf_of(lambda p: (0.6 - p.norm(dim=-1)) / 0.004, colour)


@pytest.mark.parametrize("kind", ["texture", "vertices"])
def test_a_mesh_has_albedo_unless_its_light_is_to_stay(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(meshing, "PICTURE", 64)
    reports, spread = {}, {}
    for light in ("none", "baked"):
        settings = meshing.MeshSettings(
            ("glb",), kind, texture=128, resolution=48, faces=1500, light=light  # type: ignore[arg-type]
        )  # fmt: skip
        report = meshing.export(shaded_ball(0.8), "ball", tmp_path / light, settings, CPU, light=LIGHT)
        mesh = meshing.read(tmp_path / light / "mesh.glb")
        mesh.apply_translation(-mesh.bounds.mean(0))
        mesh.apply_scale(1.2)
        hit, colour = look(mesh, orbit(6, 10.0), 64)
        reports[light], spread[light] = report, float(colour[hit][:, 0].std())
    assert reports["none"]["light_removed"] == pytest.approx(0.8, abs=0.05) and not reports["baked"]["light_removed"]
    assert spread["none"] < 0.2 * spread["baked"]
    assert abs(reports["none"]["psnr"] - reports["baked"]["psnr"]) < 1.5, "of what both show lit"


def test_colours_stay_where_the_light_is_not_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meshing, "PICTURE", 32)
    settings = meshing.MeshSettings(("ply",), "vertices", resolution=32, faces=500)
    assert meshing.export(shaded_ball(0.8), "ball", tmp_path, settings, CPU)["light_removed"] == 0


def test_whose_light_it_is() -> None:
    """The world's, with the prior that is trained on it; of other priors nobody knows."""
    cfg = compose("config", ["prompt=a red car"])
    light, up = light_of(cfg), np.array([[0.0, 0.0, 1.0]])
    assert light is not None and light(up) == pytest.approx(0.77 + 0.37 * 0.64)
    assert light_of(compose("config", ["prompt=a red car", "prior=hub"])) is None
    assert light_of({}) is None and Bumps().light is None
    with pytest.raises(UserError, match=r"prior\._target_=os\.system"):
        light_of({"world": cfg["world"], "prior": {"_target_": "os.system"}})


def test_the_export_of_a_finished_run_knows_its_light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from text23d import export

    leave_run(tmp_path)
    path = tmp_path / "config.yaml"
    cfg = compose("config", ["prompt=a red car"])
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "world": cfg["world"], "prior": cfg["prior"]}))
    given: list[Any] = []

    def exported(*arguments: object) -> dict[str, object]:
        given.extend(arguments)
        return {"files": {}, "notes": []}

    monkeypatch.setattr(export, "export", exported)
    export.run(OmegaConf.create(compose("export", [f"run={tmp_path}"])))
    assert given[-1](np.array([[0.0, 0.0, -1.0]])) == pytest.approx(0.58)
