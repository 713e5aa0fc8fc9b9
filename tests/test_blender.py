"""What the programs people use make of our files: Blender itself, and the Khronos Group's glTF validator."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import programs
import pytest
import torch
from exact_nerf import HALF, marked_box
from PIL import Image
from scipy.ndimage import binary_erosion

from text23d.artifact import portrait
from text23d.artifact.formats import read
from text23d.artifact.model import linear
from text23d.artifact.score import look
from text23d.cameras import Cameras
from text23d.tasks import meshing

NAME = "a red, tall bôx"
LOOK = Path(__file__).parent / "blender_look.py"
VALIDATE = """
const {validateBytes} = require("gltf-validator");
const bytes = new Uint8Array(require("fs").readFileSync(process.argv[1]));
validateBytes(bytes).then(report => console.log(JSON.stringify(report)));
"""


FRONT = Cameras(*(torch.tensor([value]) for value in (0.0, 0.0, 3.0, 40.0)))
"""The camera of LOOK, beside things that are half a metre lower."""


def opened(path: Path) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """What Blender says of a file, and its pictures of it [96, 96, 4] uint8, as it is and as clay."""
    picture, clay = (path.with_suffix(f".{path.suffix[1:]}.{name}.png") for name in ("picture", "clay"))
    command = [
        str(programs.found("blender")),
        "-b",
        "--python-exit-code",
        "1",
        "--python",
        str(LOOK),
        "--",
        str(path),
        str(picture),
        str(clay),
        *map(str, portrait.suns(FRONT)[0]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = (line for line in done.stdout.splitlines() if line.startswith("TOLD "))
    return json.loads(line.removeprefix("TOLD ")), np.asarray(Image.open(picture)), np.asarray(Image.open(clay))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The marked box, textured in every format, and with colours at its vertices."""
    made = {}
    for colour, formats in (("texture", ("glb", "obj", "ply")), ("vertices", ("glb", "obj"))):
        made[colour] = tmp_path_factory.mktemp(colour)
        settings = meshing.MeshSettings(formats, colour, 128, 200, 64, faces=3000)  # type: ignore[arg-type]
        meshing.export(marked_box(), NAME, made[colour], settings, torch.device("cpu"))
    return made


@pytest.fixture(scope="module")
def seen(folders: dict[str, Path]) -> dict[tuple[str, str], tuple[dict[str, Any], np.ndarray, np.ndarray]]:
    """Every file as Blender sees it, by colour and format."""
    files = {(colour, path.suffix[1:]): path for colour, folder in folders.items() for path in folder.glob("mesh.*")}
    meshes = {key: path for key, path in files.items() if key[1] in ("glb", "obj", "ply")}
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(meshes, pool.map(opened, meshes.values()), strict=True))


needs_blender = pytest.mark.needs("blender")
CASES = [("texture", "glb"), ("texture", "obj"), ("texture", "ply"), ("vertices", "glb"), ("vertices", "obj")]


@needs_blender
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_blender_finds_an_upright_object_of_the_right_size(seen: dict[tuple[str, str], Any], case: Any) -> None:
    told, *_ = seen[case]
    low, high = np.array(told["bounds"])
    assert np.allclose(high - low, (HALF / HALF.max()).numpy(), atol=0.03) and (high - low)[2] == pytest.approx(1)
    assert np.abs((low + high)[:2]).max() < 1e-4 and abs(low[2]) < 1e-4
    assert told["volume"] == pytest.approx(np.prod(high - low), rel=0.05), "closed, and wound outwards"
    assert told["faces"] == pytest.approx(3000, abs=60)
    expected = {"glb": NAME, "obj": "a_red_tall_bôx", "ply": "mesh"}[case[1]]
    assert told["object"] == expected and told["material"] == (None if case[1] == "ply" else expected)
    assert told["custom_normals"] or case[1] == "ply", "smooth as we say; Blender reads no normals of a PLY"


@needs_blender
@pytest.mark.parametrize("case", CASES[:2], ids="-".join)
def test_blender_finds_the_texture(seen: dict[tuple[str, str], Any], case: Any) -> None:
    told, *_ = seen[case]
    packed = case[1] == "glb"
    assert told["uv"] and told["images"] == [[[128, 128], "sRGB", packed]] and told["image_feeds"] == ["Base Color"]
    assert told["roughness"] == [pytest.approx(0.9, abs=0.01)] and told["metallic"] == [0]


@needs_blender
@pytest.mark.parametrize("case", CASES[2:], ids="-".join)
def test_blender_finds_the_vertex_colours(
    seen: dict[tuple[str, str], Any], folders: dict[str, Path], case: Any
) -> None:
    """As the light that we mean: the mean over the mesh, and over its upper half, against our own reading."""
    told, *_ = seen[case]
    assert told["colours"] is not None and told["images"] == []
    mesh = read(folders[case[0]] / f"mesh.{case[1]}")
    corners = mesh.faces.reshape(-1) if told["colours"][0] == "CORNER" else np.arange(len(mesh.vertices))
    light = linear(np.asarray(mesh.visual.vertex_colors)[corners, :3] / 255)  # type: ignore[union-attr]
    upper = mesh.vertices[corners, 2] > np.median(mesh.vertices[corners, 2])
    assert np.allclose(told["light_by_height"], [light[upper].mean(0), light.mean(0)], atol=0.02)
    assert light[upper].mean(0)[1] > light.mean(0)[1] + 0.1, "green at the top"


@needs_blender
@pytest.mark.parametrize("case", CASES, ids="-".join)
def test_blender_sees_what_we_see(seen: dict[tuple[str, str], Any], folders: dict[str, Path], case: Any) -> None:
    """A Cycles picture from the front: its silhouette beside that of our own ray caster, and red, not blue or green."""
    _, picture, _ = seen[case]
    mesh = read(folders[case[0]] / f"mesh.{case[1]}")
    mesh.vertices -= [0, 0, 0.5]  # as the camera of the script stands, 3 m in front and half a metre up
    hit, colour = look(mesh, FRONT, 96)
    covered = picture[..., 3] > 127
    assert (covered & hit[0]).sum() / (covered | hit[0]).sum() > 0.98
    if case in (("texture", "ply"), ("vertices", "obj")):
        return  # Blender reads these colours, as is tested above, and leaves it to a person to show them
    inside = covered & hit[0]
    rendered = picture[inside][:, :3] / 255
    assert np.corrcoef(rendered[:, 1], colour[0][inside][:, 1])[0, 1] > 0.95, "green rises with height"
    assert rendered[:, 0].mean() > 0.7 > rendered[:, 2].mean() + 0.1


@needs_blender
def test_blender_sees_the_clay_that_we_draw(
    seen: dict[tuple[str, str], Any], folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A side of the box under the same sun, as bright as there, where a pixel is wholly inside."""
    for name, value in (("SUN", 1.0), ("SKY", 0.0), ("GROUND", 0.0)):
        monkeypatch.setattr(portrait, name, value)
    _, _, clay = seen["texture", "glb"]
    mesh = read(folders["texture"] / "mesh.glb")
    mesh.apply_translation([0, 0, -0.5])
    ours = portrait.clay(mesh, FRONT, 96)[0].astype(int)
    inside = binary_erosion((clay[..., 3] == 255) & (ours < 255).all(-1), iterations=2)
    assert inside.sum() > 500 and 100 < ours[inside].mean() < 180
    assert np.abs(clay[inside][:, :3] - ours[inside]).mean() < 1.5


@pytest.mark.needs("gltf-validator")
@pytest.mark.parametrize("colour", ["texture", "vertices"])
def test_the_khronos_validator_has_nothing_to_say(folders: dict[str, Path], colour: str) -> None:
    environment = {**os.environ, "NODE_PATH": str(programs.found("gltf-validator"))}
    command = [str(programs.found("node")), "-e", VALIDATE, str(folders[colour] / "mesh.glb")]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["issues"]["numErrors"] == report["issues"]["numWarnings"] == 0, report["issues"]["messages"]
    assert report["info"]["totalTriangleCount"] > 2900 and report["info"]["hasTextures"] == (colour == "texture")
