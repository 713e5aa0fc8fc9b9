"""What a viewer sees of a run: snapshots, and pictures of them from anywhere, for little of the run's time."""

from __future__ import annotations

import base64
import importlib.util
import json
import re
import socket
import threading
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
import zstandard
from safetensors.torch import load_file
from tiny import IMAGE, settings
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from text23d.artifact.media import on_white
from text23d.cameras import orbit
from text23d.compose import compose
from text23d.engine import job, live, snapshots
from text23d.engine.commands import Pause
from text23d.engine.events import Event, Iterated
from text23d.engine.folder import CONFIG, claimed
from text23d.engine.live import Live, ViewerSettings, colour
from text23d.engine.resume import write_config
from text23d.errors import UserError
from text23d.files import load_tensors
from text23d.guide import Guide
from text23d.method.proposal import Proposal
from text23d.method.step import StepReport
from text23d.representation.canvas import Canvas
from text23d.representation.nerf import Nerf
from text23d.service.viewer import recording
from text23d.service.viewer.drawing import FreeCamera, Pace, draw, sheet
from text23d.service.viewer.page import as_it_is
from text23d.service.viewer.recording import evenly, record
from text23d.service.viewer.site import Site, free_port, is_local, require_loopback
from text23d.service.viewer.source import Source
from text23d.settings import build

WATCHED = ("viewer=on", "viewer.start=false")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def watched(tiny_prior: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny run that somebody watched all the time, with all of its four iterations as snapshots."""
    folder = tmp_path_factory.mktemp("watched")
    cfg = settings(tiny_prior, *WATCHED, "viewer.every=0.000001", "viewer.snapshots=4")
    share, live.SHARE = live.SHARE, 1e6

    def watch(event: Event) -> None:
        if isinstance(event, Iterated):
            (folder / live.WATCHED).touch()

    try:
        job.execute(cfg, folder, watch)
    finally:
        live.SHARE = share
    return folder


@pytest.fixture
def source(watched: Path) -> Source:
    return Source(watched, CPU, print)


# Snapshots


def test_a_watched_run_ends_with_the_same_bytes(tiny_prior: Path, watched: Path, tmp_path: Path) -> None:
    job.execute(settings(tiny_prior), tmp_path)
    assert (watched / "nerf.safetensors").read_bytes() == (tmp_path / "nerf.safetensors").read_bytes()
    assert (watched / "contact.png").read_bytes() == (tmp_path / "contact.png").read_bytes()
    own, other = (
        [{**json.loads(line), "seconds": 0} for line in (each / "metrics.jsonl").open()] for each in (watched, tmp_path)
    )
    assert own == other and len(own) == 4
    assert not (tmp_path / "viewer").exists() and not (watched / "commands.jsonl").exists()


def test_there_are_snapshots_of_the_whole_run_and_none_is_half(watched: Path) -> None:
    assert list(snapshots.listed(watched)) == [0, 1, 2, 3, 4]
    for path in (watched / snapshots.SNAPSHOTS).iterdir():
        assert re.fullmatch(r"\d{6}\.safetensors", path.name), "no file that is being written is left"
        load_tensors(path, "snapshot")  # compared with its checksum


def test_a_snapshot_is_the_run_up_to_half_precision(watched: Path, source: Source) -> None:
    seen = source.snapshot(snapshots.path_of(watched, 4))
    final = load_tensors(watched / "nerf.safetensors", "nerf")[0]
    assert seen is not None and seen.iteration == 4
    own = seen.phi.state_dict()
    for name, value in final.items():
        if name != "occupancy.density" and value.is_floating_point():
            assert torch.allclose(own[name], value, rtol=2**-11, atol=1e-7), name
    assert torch.equal(own["occupancy.mask"], final["occupancy.mask"])
    assert not any(each.requires_grad for each in seen.phi.parameters())


def test_the_viewers_rendering_is_the_runs_own_of_the_same_snapshot(watched: Path, source: Source) -> None:
    """The NeRF read by hand from the file, rendered as contact.png is."""
    path = snapshots.path_of(watched, 3)
    raw = {name[4:]: value for name, value in load_file(path).items() if name.startswith("phi.")}
    nerf: Nerf = build(source.cfg["representation"], "representation", Nerf)
    nerf.load_state_dict({name: value.to(nerf.state_dict()[name].dtype) for name, value in raw.items()}, strict=False)
    view, snapshot = orbit(8, 15.0).rows(slice(3, 4)), source.snapshot(path)
    assert snapshot is not None
    expected = on_white(nerf.render_image(view, (48, 64)))[0]
    assert np.array_equal(draw(snapshot, view, (48, 64)), expected) and expected.std() > 1
    pose = view.to_world()[0]
    rotation = pose[:3, :3] * torch.tensor([1.0, -1.0, -1.0])  # OpenGL's axes -> X right, Y down, Z forward
    free = FreeCamera(pose[:3, 3], rotation, float(torch.deg2rad(view.fov[0])))
    assert np.abs(draw(snapshot, free, (48, 64)).astype(int) - expected).max() <= 1


def test_a_free_camera_casts_the_rays_of_a_pinhole() -> None:
    """Against the cameras of the method, and its quaternion against a rotation in closed form."""
    view = orbit(7, 25.0, 2.8, 50.0).rows(slice(2, 3))
    pose = view.to_world()[0]
    rotation = pose[:3, :3] * torch.tensor([1.0, -1.0, -1.0])
    found = FreeCamera(pose[:3, 3], rotation, float(torch.deg2rad(view.fov[0]))).rays((5, 9))
    for own, expected in zip(found, view.rays((5, 9)), strict=True):
        assert torch.allclose(own, expected, atol=1e-6)
    position = tuple(view.positions()[0].tolist())
    own, expected = FreeCamera.towards_middle(position, 0.6).rotation, rotation
    assert torch.allclose(own, expected, atol=1e-6)
    half = np.sqrt(0.5)
    turned = FreeCamera.of(np.array([1.0, 2.0, 3.0]), np.array([half, -half, 0, 0]), 0.7)  # looks along +Y, Z up
    assert torch.allclose(turned.rotation @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, 1.0, 0.0]), atol=1e-6)
    assert torch.allclose(turned.rotation @ torch.tensor([0.0, 1.0, 0.0]), torch.tensor([0.0, 0.0, -1.0]), atol=1e-6)


def test_pictures_of_the_last_iteration_in_closed_form(tmp_path: Path) -> None:
    x0, target = torch.full((5, 4, 2, 3), -1.0), torch.full((5, 4, 2, 3), 1.0)
    x0[:, :3] = 0.0  # nothing is covered: mid grey; the target is white, and covered
    report = StepReport(x0, Proposal(target, x0, 1, x0[:, 0, 0, 0], x0[:, 0, 0, 0]), target, [0.0])
    shown = Live(tmp_path, ViewerSettings(active=True), 4, print)
    assert shown.pictures(Guide(None, None), None) is None  # type: ignore[arg-type]
    shown.see(report)
    found = shown.pictures(Guide(None, None), None)  # type: ignore[arg-type]
    assert found is not None and found.dtype == torch.uint8 and found.shape == (3, 2, live.SIDE_BY_SIDE * 3, 3)
    rendered, wanted, difference = (set(each.flatten().tolist()) for each in found)
    assert (rendered, wanted, difference) == ({128}, {255}, {191})
    assert torch.equal(colour(target[:, :3], Guide(None, None), None), torch.ones(5, 3, 2, 3))  # type: ignore[arg-type]


def test_snapshots_are_fewer_where_they_cost_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by hand: an iteration takes a second, a snapshot another; they may take SHARE of the time."""
    now, wrote = [0.0], list[int]()
    monkeypatch.setattr(live.time, "monotonic", lambda: now[0])

    def write(folder: Path, iteration: int, *rest: Any) -> None:
        now[0] += 1.0
        wrote.append(iteration)

    monkeypatch.setattr(snapshots, "write", write)
    monkeypatch.setattr(Live, "watched", True)
    shown, total = Live(tmp_path, ViewerSettings(active=True, snapshots=24), 1000, print), 1000
    for iteration in range(total + 1):
        shown.show(iteration, torch.nn.Identity, Guide(None, None), None, {})  # type: ignore[arg-type]
        now[0] += 1.0
    assert len(wrote) <= 1 + live.SHARE * now[0] and len(wrote) >= 0.9 * live.SHARE * now[0]
    assert all(later - earlier >= 1 / live.SHARE - 2 for earlier, later in pairwise(wrote))


def test_of_each_part_of_a_run_the_last_snapshot_stays(tmp_path: Path) -> None:
    shown = Live(tmp_path, ViewerSettings(active=True, snapshots=5, every=1e-9), 20, print)
    (tmp_path / live.WATCHED).touch()
    for iteration in range(21):
        shown._wait = 0.0
        shown.show(iteration, lambda: Canvas(3, (2, 2)), Guide(None, None), None, {})  # type: ignore[arg-type]
    assert list(snapshots.listed(tmp_path)) == [3, 7, 11, 15, 19, 20]
    shown.back_to(12)
    assert list(snapshots.listed(tmp_path)) == [3, 7, 11]


def test_without_anybody_who_looks_there_are_those_of_the_scrubber(tmp_path: Path) -> None:
    shown = Live(tmp_path, ViewerSettings(active=True, snapshots=4, every=1e-9), 100, print)
    due = []
    for iteration in range(101):
        shown._wait = 0.0
        if shown.due(iteration):
            due.append(iteration)
            shown._last = iteration
    assert due == [0, 25, 50, 75, 100]


def test_a_disk_that_is_full_stops_the_snapshots_and_not_the_run(
    tiny_prior: Path, watched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any) -> None:
        raise UserError("cannot write: No space left on device")

    monkeypatch.setattr(snapshots, "write", full)
    summary = job.execute(settings(tiny_prior, *WATCHED), tmp_path)
    assert summary["troubles"] == ["cannot write: No space left on device; the viewer gets no more snapshots"]
    assert (tmp_path / "nerf.safetensors").read_bytes() == (watched / "nerf.safetensors").read_bytes()


# A folder as the viewer reads it


def test_figures_and_what_the_run_says(source: Source) -> None:
    figures = source.figures()
    lines = [json.loads(line) for line in (source.folder / "metrics.jsonl").open()]
    assert figures["iteration"].tolist() == [1, 2, 3, 4]
    assert figures["noise_ratio"].tolist() == [line["noise_ratio"] for line in lines]
    at, score = source.scores()
    summary = json.loads((source.folder / "summary.json").read_text())["score"]
    named = [value for name, value in summary.items() if name.endswith("probability")]
    assert at.tolist() == [4.0] and score.tolist() == [pytest.approx(sum(named) / len(named))]
    assert not source.running and not source.listens and source.is_object


def test_the_final_parameters_stand_for_the_last_iteration(source: Source) -> None:
    frames = source.frames()
    assert list(frames) == [0, 1, 2, 3, 4] and frames[4].name == "nerf.safetensors"
    last = source.snapshot(frames[4])
    assert last is not None and last.seen is not None and last.seen.shape[0] == 3
    with claimed(source.folder):  # while it goes on, they are of an earlier time
        assert source.running and source.frames()[4].parent.name == "snapshots"


def test_what_is_damaged_is_left_out_and_told_once(watched: Path, tmp_path: Path) -> None:
    told: list[str] = []
    (tmp_path / CONFIG).write_bytes((watched / CONFIG).read_bytes())
    for number in (1, 2, 3):
        path = snapshots.path_of(tmp_path, number)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(snapshots.path_of(watched, number).read_bytes())
    data = bytearray(path.read_bytes())
    data[-10] ^= 1
    path.write_bytes(data)
    snapshots.path_of(tmp_path, 2).write_bytes(data[: len(data) // 2])
    source = Source(tmp_path, CPU, told.append)
    for _ in range(2):
        read = [source.snapshot(each) for each in snapshots.listed(tmp_path).values()]
        assert [each is not None for each in read] == [True, False, False]
    assert list(source.frames()) == [1] and len(told) == 2 and "differs from its checksum; copy it again" in told[1]


def test_another_runs_snapshot_and_no_run_at_all(watched: Path, tiny_prior: Path, tmp_path: Path) -> None:
    cfg = settings(tiny_prior, *IMAGE)
    with pytest.raises(UserError, match=r"another representation than config\.yaml"):
        snapshots.read(snapshots.path_of(watched, 1), cfg)
    with pytest.raises(UserError, match=r"no run in .*: expected the config\.yaml"):
        Source(tmp_path, CPU, print)


def test_checkpoints_are_snapshots_of_a_run_that_nobody_watched(tiny_prior: Path, tmp_path: Path) -> None:
    """The average of phi where there is one, as results have it."""
    cfg = settings(tiny_prior, *IMAGE, "method.ema=0.5", "checkpoint.every=0", "checkpoint.keep=9")
    job.execute(cfg, tmp_path)
    (path,) = snapshots.listed(tmp_path).values()
    found = Source(tmp_path, CPU, print).snapshot(path)
    final = load_tensors(tmp_path / "image.safetensors", "image")[0]
    assert found is not None and torch.equal(found.phi.state_dict()["pixels"], final["pixels"])


@pytest.mark.parametrize(
    ("overrides", "shape"),
    [
        (("representation=panorama", "representation.width=128", "prompt=a forest"), (3, 64, 128)),
        (("representation=video", "representation.frames=16", "prompt=a red car turning left"), (4, 16, 32, 32)),
        (("representation=audio", "representation.seconds=2", "prompt=a flute melody"), None),
    ],
)
def test_canvases_are_seen_as_the_run_sees_them(overrides: tuple[str, ...], shape: Any, tmp_path: Path) -> None:
    cfg = compose("config", list(overrides))
    canvas: Any = build(cfg["representation"], "representation", torch.nn.Module)
    if shape is not None:
        assert tuple(canvas.values.shape) == shape
    canvas.values.data = torch.linspace(-0.9, 0.9, canvas.values.numel()).view_as(canvas.values)
    write_config(tmp_path, cfg)
    snapshots.write(tmp_path, 7, canvas, cfg["representation"], None)
    source = Source(tmp_path, CPU, print)
    found = source.snapshot(source.frames()[7])
    assert found is not None and not source.is_object
    picture = sheet(source.preview(found))
    task: Any = build(cfg["task"], "task", settings=cfg)
    expected = sheet(task.preview(canvas.requires_grad_(False)))
    assert picture.shape == expected.shape and np.abs(picture.astype(int) - expected).max() <= 1 and picture.std() > 5


# Drawing


def test_pictures_are_as_fine_as_the_time_allows() -> None:
    pace = Pace()
    for _ in range(20):
        pace.drew((100, 100), 1.0)  # 10 000 pixels a second
    assert pace.coarse(1.0) == (31, 31), "a tenth of a second"
    assert pace.coarse(4.0) == (24, 96), "at least so high, however slow"
    high, wide = pace.finest(1.0, 800)
    assert 0.8 * 15_000 <= high * wide <= 15_000
    for _ in range(20):
        pace.drew((100, 100), 0.001)
    assert pace.finest(1.5, 300) == (300, 450), "no finer than what it is seen in"


# The server


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.5", "::", "example.org", ""])
def test_a_host_that_others_reach_is_refused(host: str) -> None:
    with pytest.raises(UserError, match=r"expected an address of this machine alone.* ssh -L 8080"):
        require_loopback(host)


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost", "127.0.0.9"])
def test_its_own_is_not(host: str) -> None:
    require_loopback(host)


def test_a_port_in_use_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert port < free_port("127.0.0.1", port) < port + 100
        monkeypatch.setattr("text23d.service.viewer.site.PORTS", 1)
        with pytest.raises(UserError, match=f"port={port}: it and the 1 after it are in use"):
            free_port("127.0.0.1", port)


@pytest.mark.parametrize(
    ("origin", "local"),
    [
        ("http://127.0.0.1:8080", True),
        ("http://localhost:1", True),
        ("http://[::1]:8080", True),
        ("https://example.org", False),
        ("http://127.0.0.1.example.org", False),
        ("http://localhost.example.org:8080", False),
        ("null", False),
        ("", False),
    ],
)
def test_pages_of_the_web_are_told_from_our_own(origin: str, local: bool) -> None:
    assert is_local(origin) == local


@pytest.fixture(scope="module")
def site(watched: Path) -> Iterator[Site]:
    site, over = Site(Source(watched, CPU, print), "127.0.0.1", 8300, False), threading.Event()
    thread = threading.Thread(target=site.serve, args=(over.is_set,))
    thread.start()
    yield site
    over.set()
    thread.join()
    site.close()


def test_the_page_is_served_on_loopback_and_to_nobody_elses_page(site: Site) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"{site.address}/", timeout=20) as answer:
        assert answer.status == 200 and b"<html" in answer.read(2000)
    where, version = site.address.replace("http", "ws"), importlib.import_module("viser").__version__
    protocol: Any = [f"viser-v{version}"]
    with connect(where, subprotocols=protocol, origin="http://localhost:5000") as own:  # type: ignore[arg-type]
        assert own.recv(timeout=20)
    with connect(where, subprotocols=protocol, origin="http://example.org") as foreign:  # type: ignore[arg-type]
        with pytest.raises(ConnectionClosed):
            for _ in range(100):
                foreign.recv(timeout=20)
        assert foreign.close_code == 1008
    assert site.server.request_share_url() is None, "no tunnel to a server of others"


def test_the_page_says_what_the_run_did(site: Site) -> None:
    page = site.page
    assert "a red car" in page.title.content and "finished, iteration 4 of 4" in page.title.content
    assert page.pause.disabled and page.resume.disabled and page.stop.disabled and not page.wishes.visible
    assert page.plots["loss"].visible and page.plots["loss"].data[0].tolist() == [1, 2, 3, 4]
    page.send(Pause())
    assert page.said == "nothing to tell: no run that listens is on its way"


def test_what_a_folder_says_is_neither_a_link_nor_a_tag() -> None:
    assert as_it_is("![x](/etc/passwd)") == r"\!\[x\]\(\/etc\/passwd\)"
    assert as_it_is("<b onclick='x'>\n1 & 2") == r"\<b onclick\=\'x\'\> 1 \& 2" and as_it_is("a red car") == "a red car"


# Without viser, and without anybody who watches


def test_without_viser_a_line_says_how_to_get_it(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("text23d.engine.beside.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r'viewer=on: viser is not installed; pip install -e "\.\[viewer\]"'):
        job.execute(settings(tiny_prior, "viewer=on"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Recordings


def test_a_recording_holds_the_run_from_its_beginning_to_its_end(source: Source, tmp_path: Path) -> None:
    path = tmp_path / "run.html"
    said = record(source, path, 3, False)
    assert said.startswith(f"{path}: 3 snapshots, from iteration 0 to 4, ")
    page = path.read_text()
    data = base64.b64decode(re.search(r'__VISER_EMBED_DATA__="([^"]+)"', page)[1])  # type: ignore[index]
    inner = zstandard.ZstdDecompressor().decompress(data[8:], int.from_bytes(data[:8], "little"))
    size = int.from_bytes(inner[:8], "little")
    told = msgspec.msgpack.decode(inner[8 : 8 + size])
    shown = [(at, each) for at, each in told["messages"] if each["type"] == "GlbMessage"]
    assert [at for at, _ in shown] == pytest.approx([0, recording.SECONDS, 2 * recording.SECONDS])
    assert told["durationSeconds"] == pytest.approx(3 * recording.SECONDS + recording.LAST)
    with pytest.raises(UserError, match=r"expected a name that ends in \.html or \.viser"):
        record(source, tmp_path / "run.mp4", 3, False)


def test_frames_of_a_recording_are_even_and_end_with_the_last() -> None:
    assert evenly([1, 5, 9], 5) == [1, 5, 9]
    assert evenly(list(range(101)), 5) == [0, 25, 50, 75, 100]
    assert evenly([4, 8], 1) == [8] and evenly([], 3) == []


def test_a_run_without_a_snapshot_has_nothing_to_record(watched: Path, tmp_path: Path) -> None:
    (tmp_path / CONFIG).write_bytes((watched / CONFIG).read_bytes())
    with pytest.raises(UserError, match=r"nothing to record in .*: no snapshot"):
        record(Source(tmp_path, CPU, print), tmp_path / "x.html", 3, False)
    assert not (tmp_path / "x.html").exists()
