"""Datasets of posed views: what their files say is read by code of its own, and compared with bodies known exactly."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import dataset_check
import numpy as np
import pytest
import torch
import trimesh
from exact_nerf import CENTRE, HALF, leave_run, marked_box
from hydra import compose, initialize_config_dir
from PIL import Image
from torch.nn.functional import grid_sample
from verbs import Verb

from text23d import cli, dataset, files
from text23d.artifact.formats import read as read_mesh
from text23d.cameras import orbit
from text23d.engine.folder import claimed
from text23d.errors import UserError
from text23d.representation.geometry import geometry
from text23d.representation.sdf import SdfNerf
from text23d.studies import runs
from text23d.studies.dataset.plan import Plan, Rig, Runs, Shards, Split
from text23d.studies.dataset.scene import make_scene
from text23d.studies.dataset.shards import Sample, cut
from text23d.studies.dataset.study import make_dataset
from text23d.studies.launcher import Job, Outcome

CPU = torch.device("cpu")
CENTRE_, HALF_ = CENTRE.numpy(), HALF.numpy()
SIZE, VIEWS = 64, 16


class Frame:
    """A frame of transforms.json as a stranger reads it: with json, numpy and Pillow, by nerfstudio's documentation."""

    def __init__(self, folder: Path, meta: dict[str, Any], frame: dict[str, Any]) -> None:
        self.name, self.folder, self.frame = frame["file_path"], folder, frame
        self.fx, self.fy = (meta.get(key, frame[key]) for key in ("fl_x", "fl_y"))
        self.cx, self.cy, self.unit = meta["cx"], meta["cy"], meta["depth_unit_scale_factor"]
        self.shape = meta["h"], meta["w"]
        self.pose = np.array(frame["transform_matrix"])

    def array(self, key: str) -> np.ndarray:
        path = self.folder / self.frame[key]
        return np.load(path) if path.suffix == ".npy" else np.asarray(Image.open(path))

    @property
    def depth(self) -> np.ndarray:
        return self.array("depth_file_path") * self.unit

    def directions(self) -> np.ndarray:
        """Of all pixels [H, W, 3], in the world, with a part of 1 along the camera's axis."""
        row, column = np.mgrid[: self.shape[0], : self.shape[1]] + 0.5
        local = np.stack([(column - self.cx) / self.fx, -(row - self.cy) / self.fy, -np.ones_like(row)], -1)
        return local @ self.pose[:3, :3].T

    def points(self) -> np.ndarray:
        """What all pixels see [H, W, 3], by their depths."""
        return self.pose[:3, 3] + self.depth[..., None] * self.directions()

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Column, row and depth of points [N, 3]; the centre of the first pixel is at (0.5, 0.5)."""
        x, y, z = ((points - self.pose[:3, 3]) @ self.pose[:3, :3]).T
        return self.cx + self.fx * x / -z, self.cy - self.fy * y / -z, -z


def frames_of(folder: Path, split: str = "") -> list[Frame]:
    meta = json.loads((folder / "transforms.json").read_text())
    wanted = meta[f"{split}_filenames"] if split else [frame["file_path"] for frame in meta["frames"]]
    return [Frame(folder, meta, frame) for frame in meta["frames"] if frame["file_path"] in wanted]


def marked(rgba: np.ndarray) -> np.ndarray:
    """Where on the box a pixel lies, by its colour [..., 3]."""
    red, green, blue = np.moveaxis((rgba[..., :3] / 255 - 0.5) / 0.45, -1, 0)
    return CENTRE_ + HALF_ * np.stack([blue, -red, green], -1)


def box_distance(points: np.ndarray) -> np.ndarray:
    """Of points, to the surface of the box, by the largest norm."""
    return (np.abs(points - CENTRE_) - HALF_).max(-1)


def absorbed_at(steep: np.ndarray) -> np.ndarray:
    """The expected depth below a side of the box, of density 25 softplus(s / 0.004) at depth s, of light that comes in
    at an angle of this cosine [N]; by integration."""
    s, step = np.linspace(-0.05, 0.1, 1500, retstep=True)
    passed = np.cumsum(25 * np.logaddexp(0, s / 0.004)) * step
    return s[0] + np.exp(-passed / steep[:, None]).sum(-1) * step


def sides(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The normals [N, 3] of the sides of the box that points lie on, and whether they are away from its edges."""
    at = (points - CENTRE_) / HALF_
    side = np.abs(at).argmax(-1)
    normal = np.eye(3)[side] * np.sign(np.take_along_axis(at, side[:, None], -1))
    return normal, np.sort(np.abs(at), -1)[:, 1] < 0.85


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an object: a box whose colours tell where they are."""
    root = tmp_path_factory.mktemp("box")
    leave_finished(root / "run", "a red car", 64)
    plan = Plan(["a red car"], str(root / "set"), SIZE, cameras=Rig(VIEWS, fov=(35.0, 45.0)))
    make_scene(plan, plan.things[0], root / "run", marked_box(), "1 of 1")
    return plan.place(plan.things[0])


# What the files say


def test_a_known_point_lies_where_the_cameras_say(box: Path) -> None:
    """The colour of each pixel tells its point in the world, which transforms.json alone brings back to that pixel."""
    frames = frames_of(box)
    assert len({frame.fx for frame in frames}) == len(frames) == VIEWS, "each has a field of view of its own"
    for frame in frames:
        rgba = frame.array("file_path")
        assert rgba.shape == (SIZE, SIZE, 4)
        row, column = np.nonzero(rgba[..., 3] == 255)
        x, y, _ = frame.project(marked(rgba[row, column]))
        off = np.hypot(x - (column + 0.5), y - (row + 0.5))
        assert len(off) > 200 and np.median(off) < 0.35 and np.quantile(off, 0.95) < 1.0


def test_depths_lead_back_to_the_surface(box: Path) -> None:
    for frame in frames_of(box):
        known = frame.depth > 0
        rgba = frame.array("file_path")
        assert frame.array("depth_file_path").dtype.itemsize >= 2
        assert np.array_equal(frame.array("mask_path") == 255, rgba[..., 3] >= 128)
        assert (known & (rgba[..., 3] < 128)).sum() == 0 and known.sum() > 0.98 * (rgba[..., 3] >= 128).sum()
        inside = known & (rgba[..., 3] == 255)
        points = frame.points()[inside]
        normal, flat = sides(points)
        ray = frame.directions()[inside] / np.linalg.norm(frame.directions()[inside], axis=-1, keepdims=True)
        steep = -(ray * normal).sum(-1)
        flat &= steep > 0.3
        assert flat.sum() > 100
        assert np.quantile(np.abs(box_distance(points) + absorbed_at(steep.clip(0.3)))[flat], 0.95) < 0.002
        assert np.quantile(np.abs(points - marked(rgba[inside])).max(-1), 0.9) < 0.03


def test_normals_are_those_of_the_sides_that_are_seen(box: Path) -> None:
    for frame in frames_of(box)[::4]:
        inside = (frame.depth > 0) & (frame.array("file_path")[..., 3] == 255)
        expected, flat = sides(frame.points()[inside])
        level = frame.array("normal_file_path")
        found = level[inside] / 127.5 - 1
        assert flat.sum() > 100 and np.quantile((found * expected).sum(-1)[flat], 0.02) > 0.99
        assert not level[frame.depth == 0].any()


def test_the_depths_of_two_views_agree(box: Path) -> None:
    """A point of one view, on a side of the convex box that another camera faces: what that sees there lies in the
    same plane."""
    one, *others = frames_of(box)
    inside = (one.depth > 0) & (one.array("file_path")[..., 3] == 255)
    points = one.points()[inside]
    normal, flat = sides(points)
    points, normal, compared = points[flat], normal[flat], 0
    for other in others:
        towards = other.pose[:3, 3] - points
        faced = (normal * towards).sum(-1) > 0.4 * np.linalg.norm(towards, axis=-1)
        x, y, _ = other.project(points[faced])
        seen = other.points()[y.astype(int), x.astype(int)]
        off = np.abs(((seen - points[faced]) * normal[faced]).sum(-1))
        compared += len(off)
        if len(off) > 50:
            assert np.median(off) < 0.008 and np.quantile(off, 0.9) < 0.016
    assert compared > 2000


def test_the_mesh_lies_in_the_world_of_the_cameras(box: Path) -> None:
    """Embree meets the GLB where the depths are; read by our reader, and as a stranger turns glTF's axes."""
    mesh = read_mesh(box / "mesh.glb")
    loaded: Any = trimesh.load(box / "mesh.glb", force="mesh")
    turned = np.asarray(loaded.vertices) @ np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]])  # (x, z, -y) -> (x, y, z)
    assert np.abs(turned.min(0) - mesh.bounds[0]).max() < 1e-6 and np.abs(turned.max(0) - mesh.bounds[1]).max() < 1e-6
    assert np.abs(mesh.bounds - (CENTRE_ + np.outer([-1, 1], HALF_))).max() < 0.03
    solid = trimesh.Trimesh(mesh.vertices, mesh.faces)
    for frame in frames_of(box)[::8]:
        directions = frame.directions().reshape(-1, 3)
        origins = np.broadcast_to(frame.pose[:3, 3], directions.shape)
        place, ray, _ = solid.ray.intersects_location(origins, directions, multiple_hits=False)
        met = np.zeros(len(directions))
        met[ray] = frame.project(place)[2]
        both = (met > 0) & (frame.depth.ravel() > 0)
        assert both.sum() > 0.97 * max((met > 0).sum(), (frame.depth > 0).sum())
        assert np.median(np.abs(met - frame.depth.ravel())[both]) < 0.03


def test_the_check_finds_what_is_right_and_what_is_not(box: Path, tmp_path: Path) -> None:
    """tests/dataset_check.py, which reads what the guide describes and nothing else."""
    seen = dataset_check.looked(box, 60, np.random.default_rng(0))
    assert seen.sound and seen.views == VIEWS and abs(seen.below) < 0.03 and seen.masks > 0.98
    turned = shutil.copytree(box, tmp_path / "turned")
    mesh = trimesh.load(turned / "mesh.glb", force="mesh")
    mesh.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, [0, 1, 0]))
    mesh.export(turned / "mesh.glb")
    assert not dataset_check.looked(turned, 60, np.random.default_rng(0)).sound


def sphere(beta: float) -> SdfNerf:
    """A ball of radius 0.6."""
    nerf = SdfNerf(radius=0.6, beta=beta).requires_grad_(False)
    last: Any = nerf.mlp[2]
    last.weight.zero_()
    last.bias.zero_()
    nerf.refresh_occupancy(0)
    return nerf


@pytest.mark.parametrize("beta", [0.003, 0.02])
def test_geometry_of_a_ball_in_closed_form(beta: float) -> None:
    """Against the integral of VolSDF's density along each ray, by 20 000 steps; and its normals, which are x / |x|."""
    nerf, camera = sphere(beta), orbit(1, 20.0)
    seen, width = geometry(nerf, camera, 32), float(nerf.beta)
    origins, directions = (each[0].double().numpy() for each in camera.rays((32, 32)))
    axis = -origins[0, 0] / np.linalg.norm(origins[0, 0])
    for row, column in ((16, 16), (10, 16), (16, 9), (12, 11)):
        origin, direction = origins[row, column], directions[row, column]
        t = np.linspace(2.0, 4.0, 20_001)
        along = np.linalg.norm(origin + t[:, None] * direction, axis=-1) - 0.6
        half = np.exp(-np.abs(along) / width) / 2
        density = np.where(along > 0, half, 1 - half) / width * (along + 0.6 < 1)
        depth = np.concatenate([[0], np.cumsum(density[:-1] * np.diff(t))])
        weight = np.exp(-depth[:-1]) - np.exp(-depth[1:])
        expected = (weight * t[:-1]).sum() / weight.sum() * (direction @ axis)
        assert seen.alpha[row, column] == pytest.approx(weight.sum(), abs=0.01)
        assert seen.depth[row, column] == pytest.approx(expected, abs=0.003)
        hit = origin + expected / (direction @ axis) * direction
        assert seen.normal[row, column].numpy() @ hit / np.linalg.norm(hit) > 0.999
    assert seen.depth[0, 0] == seen.alpha[0, 0] == 0 and not seen.normal[0, 0].any()


# Learning from it


def batches(frames: Sequence[Frame]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Origins, unit directions and colours on white [N, 3] of all pixels, as nerfstudio makes them of RGBA pictures."""
    rays = []
    for frame in frames:
        direction = frame.directions().reshape(-1, 3)
        rgba = frame.array("file_path").reshape(-1, 4) / 255
        colour = rgba[:, :3] * rgba[:, 3:] + 1 - rgba[:, 3:]
        origin = np.broadcast_to(frame.pose[:3, 3], direction.shape)
        rays.append(np.stack([origin, direction / np.linalg.norm(direction, axis=-1, keepdims=True), colour]))
    origin, direction, colour = torch.from_numpy(np.concatenate(rays, 1)).float()
    return origin, direction, colour


def voxels(grid: torch.Tensor, origin: torch.Tensor, direction: torch.Tensor) -> torch.Tensor:
    """Colours on white [N, 3] of rays through a grid [1, 4, G, G, G] of raw density and colours in [-1, 1]^3."""
    t = torch.linspace(2.0, 4.2, 56)
    x = origin[:, None] + t[:, None] * direction[:, None]
    raw = grid_sample(grid, x[None, None], align_corners=True)[0, :, 0]
    depth = 8 * torch.nn.functional.softplus(raw[0] - 2) * (x.abs().amax(-1) < 1) * (t[1] - t[0])
    before = torch.cumsum(depth, -1) - depth
    weight = torch.exp(-before) * -torch.expm1(-depth)
    return (weight * raw[1:].sigmoid()).sum(-1).T + 1 - weight.sum(-1)[:, None]


def test_a_field_learns_from_its_batches_what_views_show_that_were_held_out(box: Path) -> None:
    origin, direction, colour = batches(frames_of(box, "train"))
    held = batches(frames_of(box, "test"))
    grid = torch.zeros(1, 4, 24, 24, 24, requires_grad=True)
    optimizer, draw = torch.optim.Adam([grid], lr=0.3), torch.Generator().manual_seed(0)

    def psnr() -> float:
        with torch.no_grad():
            return float(-10 * (voxels(grid, held[0], held[1]) - held[2]).square().mean().log10())

    before = psnr()
    for _ in range(120):
        batch = torch.randint(len(origin), (1024,), generator=draw)
        loss = (voxels(grid, origin[batch], direction[batch]) - colour[batch]).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert before < 12 and psnr() > 21


# From end to end, with a stand-in for the launcher


@pytest.fixture(autouse=True)
def resolvers() -> None:
    cli.register_resolvers()


class Launch:
    """Stands in for `launch`: leaves a small run for every job but those that fail."""

    def __init__(self, failing: str = "nothing") -> None:
        self.failing, self.jobs = failing, list[Job]()

    def __call__(self, jobs: Sequence[Job], workers: int, device: str) -> list[Outcome]:
        self.jobs += jobs
        return [Outcome(job, self.failure(job)) for job in jobs]

    def failure(self, job: Job) -> str | None:
        if self.failing in job.overrides[0]:
            return "see the log"
        leave_finished(job.folder, job.overrides[0].partition("=")[2].strip("'"))
        return None


def leave_finished(folder: Path, prompt: str, resolution: int = 24) -> None:
    """What a run of this prompt leaves, the same each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        leave_run(folder, prompt)
    with open(folder / "config.yaml", "a") as file:
        file.write(f"mesh: {{resolution: {resolution}, colour: vertices}}\n")
    (folder / "summary.json").write_text("{}")


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> Launch:
    launch = Launch()
    monkeypatch.setattr(runs, "launch", launch)
    return launch


PROMPTS = ["a red car", "a blue mug"]
SMALL = Plan(PROMPTS, "here", 16, cameras=Rig(6), meshes=False, shards=Shards(3), runs=Runs(workers=1))


def plan_in(folder: Path, **changes: Any) -> Plan:
    return replace(SMALL, folder=str(folder), **changes)


def contents(folder: Path) -> dict[str, bytes]:
    """All that is handed on, by path: no runs, and nothing half written."""
    found = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in found.items() if not name.startswith("runs")}


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.glob("objects/**/*.*") if path.is_file()} | {
        path: path.stat().st_mtime_ns for path in folder.glob("shards/*")
    }


def test_a_dataset_from_end_to_end(launched: Launch, tmp_path: Path) -> None:
    assert make_dataset(plan_in(tmp_path), CPU) == {"objects": 2, "shards": 3 + 1 + 1, "failed": []}
    assert [job.folder for job in launched.jobs] == [
        tmp_path / "runs" / f"{name}-0" for name in ("a-red-car", "a-blue-mug")
    ]
    assert launched.jobs[0].overrides == ("prompt='a red car'", "seed=0", "outputs=minimal", "resume.folder=auto")
    card = json.loads((tmp_path / "dataset.json").read_text())
    assert card["counts"] == {"objects": 2, "views": {"train": 8, "val": 2, "test": 2}} and card["missing"] == []
    assert [each["caption"]["kind"] for each in card["objects"]] == ["car", "mug"]
    text = (tmp_path / "README.md").read_text()
    assert "2 objects, 12 views of 16 x 16 pixels: 8 train, 2 val, 2 test. Licence: Apache-2.0." in text
    assert str(tmp_path) not in text + json.dumps(card), "nothing of this machine"
    assert Image.open(tmp_path / "sheet.png").width > 7 * 128
    meta = json.loads((tmp_path / "objects" / "a-red-car-0" / "transforms.json").read_text())
    assert meta["camera_model"] == "OPENCV" and (meta["w"], meta["h"], meta["cx"], meta["cy"]) == (16, 16, 8, 8)
    assert meta["fl_x"] == meta["fl_y"] == pytest.approx(8 / math.tan(math.radians(20)))
    lists = [meta[f"{split}_filenames"] for split in ("train", "val", "test")]
    assert sorted(name for each in lists for name in each) == [f"images/{index:05d}.png" for index in range(6)]
    for frame in meta["frames"]:
        assert np.linalg.det(np.array(frame["transform_matrix"])[:3, :3]) == pytest.approx(1)


def tar_entries(path: Path) -> Iterator[tuple[str, bytes]]:
    """The files in a tar, by POSIX's description of its blocks."""
    data, at = path.read_bytes(), 0
    while data[at] != 0:
        head = data[at : at + 512]
        assert int(head[148:156].split(b"\0")[0], 8) == sum(head[:148]) + 8 * 32 + sum(head[156:])
        assert head[257:263] == b"ustar\0" and head[156:157] == b"0" and int(head[136:147], 8) == 0
        size = int(head[124:135], 8)
        yield head[:100].split(b"\0")[0].decode(), data[at + 512 : at + 512 + size]
        at += 512 + -(-size // 512) * 512
    assert not any(data[at:])


def test_shards_hold_the_files(launched: Launch, tmp_path: Path) -> None:
    """Read block by block, grouped as WebDataset does: by what stands before the first dot of a name."""
    make_dataset(plan_in(tmp_path, meshes=True, prompts=PROMPTS[:1]), CPU)
    seen: dict[str, dict[str, bytes]] = {}
    for path in sorted((tmp_path / "shards").iterdir()):
        keys = []
        for name, data in tar_entries(path):
            key, _, end = name.partition(".")
            keys.append(key)
            assert end not in seen.setdefault(key, {})
            seen[key][end] = data
        assert keys == sorted(keys, key=keys.index) and len(set(keys)) <= 3, "a sample's files lie together"
    assert len(seen) == 6 + 1 and list(dataset_check.shards(tmp_path)) == []
    for name, prompt in (("a-red-car-0", "a red car"),):
        folder = tmp_path / "objects" / name
        meta = json.loads((folder / "transforms.json").read_text())
        assert seen[name]["glb"] == (folder / "mesh.glb").read_bytes()
        for index, frame in enumerate(meta["frames"]):
            sample = seen[f"{name}-{index:05d}"]
            assert sorted(sample) == ["depth.png", "json", "mask.png", "normal.png", "png", "txt"]
            for end, key in (
                ("png", "file"),
                ("mask.png", "mask"),
                ("depth.png", "depth_file"),
                ("normal.png", "normal_file"),
            ):
                assert sample[end] == (folder / frame[f"{key}_path"]).read_bytes()
            assert sample["txt"].decode().strip() == prompt
            said = json.loads(sample["json"])
            assert said["transform_matrix"] == frame["transform_matrix"] and said["fl_x"] == meta["fl_x"]
            assert said["prompt"] == prompt and said["view"] == index
    card = json.loads((tmp_path / "dataset.json").read_text())
    assert {each["file"] for group in card["shards"].values() for each in group} == {
        f"shards/{path.name}" for path in (tmp_path / "shards").iterdir()
    }


def test_shards_are_bounded() -> None:
    stream = [("train", Sample(str(index), {"png": bytes(length)})) for index, length in enumerate([400_000] * 5 + [9])]
    by_bytes = [[each.key for each in group] for _, group in cut(iter(stream), Shards(100, 1.0))]
    assert by_bytes == [["0", "1"], ["2", "3"], ["4", "5"]]
    by_count = [[each.key for each in group] for _, group in cut(iter(stream), Shards(4))]
    assert by_count == [["0", "1", "2", "3"], ["4", "5"]]
    assert len(list(cut(iter(stream[:2]), Shards(100, 0.1)))) == 2, "one that is larger than the bound is alone"


# Going on


class Stop(BaseException):
    """As Ctrl-C."""


@pytest.mark.parametrize("after", [1, 12, 30, 57, 61, 63])
def test_a_dataset_goes_on_to_the_same_bytes(
    after: int, launched: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_dataset(plan_in(tmp_path / "whole"), CPU)
    whole, replaced, written = contents(tmp_path / "whole"), os.replace, [0]

    def replace_(source: Any, target: Any) -> None:
        if "runs" not in Path(target).parts:
            written[0] += 1
            if written[0] > after:
                raise Stop
        replaced(source, target)

    plan = plan_in(tmp_path / "broken")
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "replace", replace_)
        with pytest.raises(Stop):
            make_dataset(plan, CPU)
    before = times(tmp_path / "broken")
    assert contents(tmp_path / "broken").keys() < whole.keys()
    make_dataset(plan, CPU)
    assert contents(tmp_path / "broken") == whole
    views = {path: when for path, when in times(tmp_path / "broken").items() if path.suffix in (".png", ".tar")}
    assert all(views[path] == when for path, when in before.items() if path in views), "nothing is made twice"
    assert len({job.folder for job in launched.jobs}) == len(launched.jobs) == 4, "nor any run"
    again = times(tmp_path / "broken")
    make_dataset(plan, CPU)
    assert times(tmp_path / "broken") == again and contents(tmp_path / "broken") == whole


def test_prompts_may_be_added_and_objects_without_their_runs_stay(launched: Launch, tmp_path: Path) -> None:
    make_dataset(plan_in(tmp_path / "a"), CPU)
    for path in (tmp_path / "a" / "runs").rglob("*.*"):
        path.unlink()
    more = [*PROMPTS, "a green dog"]
    make_dataset(plan_in(tmp_path / "a", prompts=more), CPU)
    assert [job.folder.name for job in launched.jobs] == ["a-red-car-0", "a-blue-mug-0", "a-green-dog-0"]
    make_dataset(plan_in(tmp_path / "b", prompts=more), CPU)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_killed_process_leaves_nothing_half_made(tmp_path: Path) -> None:
    """SIGKILL while views are written; the same command then makes what an uninterrupted one does."""
    for prompt in PROMPTS:
        leave_finished(tmp_path / "old" / prompt, prompt)
    taken = Runs(reuse=str(tmp_path / "old"))
    changes: dict[str, Any] = {"cameras": Rig(24), "size": 32, "runs": taken}
    settings = ["size=32", "cameras.count=24", "shards.samples=3", "meshes=false", f"runs.reuse={tmp_path / 'old'}"]
    asked = [f"prompts=[{', '.join(PROMPTS)}]", f"folder={tmp_path / 'a'}", *settings, "device=cpu"]
    process = Verb(*asked, verb="dataset", cwd=tmp_path)
    last = tmp_path / "a" / "objects" / "a-red-car-0" / "images" / "00002.png"
    deadline = time.monotonic() + 120
    while not last.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL and not (tmp_path / "a" / "dataset.json").exists()
    for part in (tmp_path / "a").rglob(".part-*"):
        os.utime(part, (0, 0))  # as if a while ago
    assert make_dataset(plan_in(tmp_path / "a", **changes), CPU)["objects"] == 2
    make_dataset(plan_in(tmp_path / "b", **changes), CPU)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


# Mistakes


def test_one_that_fails_stops_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(runs, "launch", Launch("mug"))
    found = make_dataset(plan_in(tmp_path), CPU)
    assert found["objects"] == 1 and found["failed"] == ["'a blue mug' with seed 0 failed: see the log"]
    assert json.loads((tmp_path / "dataset.json").read_text())["missing"] == found["failed"]
    with pytest.raises(
        UserError, match=r"^1 of 2 objects are missing in .*; the same command tries again; the first: 'a"
    ):
        dataset.run(configured(f"prompts=[{', '.join(PROMPTS)}]", f"folder={tmp_path}", *AS_SMALL))
    monkeypatch.setattr(runs, "launch", Launch())
    assert make_dataset(plan_in(tmp_path), CPU)["failed"] == []
    monkeypatch.setattr(runs, "launch", Launch())
    make_dataset(plan_in(tmp_path.with_name("other")), CPU)
    assert contents(tmp_path) == contents(tmp_path.with_name("other"))


AS_SMALL = ("size=16", "cameras.count=6", "meshes=false", "shards.samples=3", "runs.workers=1", "device=cpu")


def configured(*overrides: str) -> Any:
    """The verb's configuration as its command line makes it."""
    from text23d.door import commandline

    line = commandline.read("dataset", overrides)
    with initialize_config_dir(line.config_path, version_base="1.3"):
        return compose(line.config_name, line.arguments)


def test_a_full_disk_is_told_and_made_good(launched: Launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced, left = os.fsync, [20]

    def full(handle: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(handle)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(UserError, match=r"cannot write .*: No space left on device; free some space"):
            make_dataset(plan_in(tmp_path / "a"), CPU)
    assert not list(tmp_path.rglob(".part-*"))
    make_dataset(plan_in(tmp_path / "a"), CPU)
    make_dataset(plan_in(tmp_path / "b"), CPU)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_a_folder_of_something_else_is_left_alone(launched: Launch, tmp_path: Path) -> None:
    make_dataset(plan_in(tmp_path), CPU)
    before = contents(tmp_path)
    for changes, said in (
        ({"size": 17}, "holds results of another size: remove it or choose another folder="),
        ({"cameras": Rig(7)}, "holds results of another cameras"),
        ({"runs": Runs([1])}, "holds results of another seeds"),
        ({"prompts": PROMPTS[::-1]}, r"holds a dataset of other prompts: keep those of its prompts\.json and add new"),
    ):
        with pytest.raises(UserError, match=said):
            make_dataset(plan_in(tmp_path, **changes), CPU)
    with claimed(tmp_path), pytest.raises(UserError, match="wait for it, or choose another folder"):
        make_dataset(plan_in(tmp_path), CPU)
    assert contents(tmp_path) == before
    (tmp_path / "runs" / "a-red-car-0" / "nerf.safetensors").write_bytes(b"damaged")
    (tmp_path / "objects" / "a-red-car-0" / "object.json").unlink()
    (failed,) = make_dataset(plan_in(tmp_path), CPU)["failed"]
    assert "cannot read" in failed and "\n" not in failed


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ((), "no prompts given: add one, for example prompts=<text file"),
        (
            ("prompts=nowhere.txt",),
            r"prompts=nowhere\.txt: there is no such file; expected a text file with one prompt",
        ),
        (("prompts=empty.txt",), r"prompts=empty\.txt: there is no prompt in it; expected one a line"),
        (("prompts=[]",), "prompts: there is none; expected a text file with one prompt a line, or a list"),
        (("prompts=[a car",), r"prompts=\[a car: expected a file, or a list as in 'prompts="),
        (("prompts=[{a: b}]",), r"prompts=\[\{a: b\}\]: expected a list of text in UTF-8"),
        (("prompts=[a red zebra]",), "the built-in prior does not know the word 'zebra'"),
        (("prompts=[a red car, 'A red, car!']",), "'a red car' and 'A red, car!' would share the name a-red-car-0"),
        (("prompts=[a mug]", "cameras.count=2"), "leave no view for training: ask for more views or smaller shares"),
        (("prompts=[a mug]", "cameras.elevation=[50,10]"), "camera elevation is"),
        (("prompts=[a mug]", "cameras.distance=[3,100]"), "do not fit into 16 bits"),
        (("prompts=[a mug]", "size=4"), "size=4: expected a whole number, 8 to 4096"),
        (("prompts=[a mug]", "maps=[colour]"), r"maps=\[colour\]: expected a list of one of mask, depth, normal"),
        (("prompts=[a mug]", "background=[0,1]"), r"background=\[0, 1\]: expected a number at least 0"),
        (("prompts=[a mug]", "shards.samples=0"), r"shards\.samples=0: expected a whole number, at least 1"),
        (("prompts=[a mug]", "runs.seeds=[]"), r"runs\.seeds=\[\]: expected whole numbers"),
        (("prompts=[a mug]", "runs.reuse=."), r"runs\.reuse=\.: no finished run below it"),
        (("prompts=[a mug]", "runs.settings=['seed=3']"), "the study itself chooses seed of each run"),
        (("prompts=[a mug]", "runs.settings=['method.vews=3']"), "did you mean method.views"),
    ],
)
def test_mistakes_are_told_before_anything_is_made(
    overrides: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("# nothing\n\n")
    with pytest.raises(UserError, match=said) as raised:
        dataset.run(configured(*overrides, "folder=made"))
    assert "\n" not in str(raised.value) and not (tmp_path / "made").exists()


# Settings


def test_what_is_asked_for_is_what_is_written(launched: Launch, tmp_path: Path) -> None:
    how: dict[str, Any] = {"background": (1.0, 0.0, 0.0), "maps": ["depth"], "depth": "npy", "shards": None}
    make_dataset(plan_in(tmp_path, prompts=["a mug", "a mug"], runs=Runs([0, 3, 0]), **how), CPU)
    names = ["a-mug-0", "a-mug-3"]
    assert sorted(path.name for path in (tmp_path / "objects").iterdir()) == names, "what is asked for twice is once"
    assert not (tmp_path / "shards").exists()
    frame, *_ = frames_of(tmp_path / "objects" / "a-mug-3")
    picture = frame.array("file_path")
    assert picture.shape == (16, 16, 3) and picture[0, 0].tolist() == [255, 0, 0]
    assert frame.array("depth_file_path").dtype == np.float32 and "mask_path" not in frame.frame
    assert 2 < frame.depth[8, 8] < 3 and frame.depth[0, 0] == 0


def test_cameras_are_the_samplers_and_hold_still(tmp_path: Path) -> None:
    plan = plan_in(tmp_path, cameras=Rig(40, 3, (-10, 60), (2.5, 3.5), (30, 50)))
    one, same, other = (plan.cameras.cameras(name) for name in ("x-0", "x-0", "y-0"))
    assert torch.equal(one.azimuth, same.azimuth) and not torch.equal(one.azimuth, other.azimuth)
    assert one.elevation.min() >= -10 and one.elevation.max() <= 60 and one.distance.max() <= 3.5
    splits = Split(0.1, 0.2).of(plan.cameras, "x-0")
    assert [splits.count(each) for each in ("train", "val", "test")] == [28, 4, 8]


def test_a_real_run_by_the_launcher(tiny_prior: Path, tmp_path: Path) -> None:
    """Nothing stands in for anything: the run is a process of its own, with a prior that has learned nothing."""
    settings = [
        *(f"prior.weights={tiny_prior}", "method.iterations=1", "method.views=1", "method.size.stages=[[0,16]]"),
        *("representation.steps=16", "stages=1", "stage=none"),
    ]
    plan = plan_in(tmp_path, prompts=["a mug"], runs=Runs(workers=1, settings=settings), device="cpu")
    assert make_dataset(plan, CPU)["failed"] == []
    said = json.loads((tmp_path / "objects" / "a-mug-0" / "object.json").read_text())
    assert said["views"] == 6 and len(said["nerf_sha256"]) == 64
    assert frames_of(tmp_path / "objects" / "a-mug-0")[0].depth.max() > 2
