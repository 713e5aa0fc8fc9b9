"""The main job as a function: twice, in threads, in processes, beside others in a folder, and whatever ends it."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo  # sets a variable of the environment when an optimiser first loads it
import yaml
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf
from tiny import IMAGE, MLP_IMAGE, settings

from text23d.engine import folder as folders
from text23d.engine import job
from text23d.engine.events import Event, Exporting, Finished, Iterated, Looked, Noted, Started
from text23d.engine.saved import read_nerf
from text23d.errors import Diverged, Interrupted, UserError
from text23d.files import JsonLines
from text23d.kernels import backend
from text23d.method import baselines

FILES = {"config.yaml", "metrics.jsonl", "contact.png", "summary.json", "log.txt", "checkpoints"}
OF_AN_IMAGE = FILES | {"image.safetensors", "image.png"}


@pytest.fixture
def cfg(tiny_prior: Path) -> dict[str, Any]:
    """A picture of 16 x 16 pixels by four iterations, all of it exported."""
    return settings(tiny_prior, *IMAGE, "outputs=all")


@pytest.fixture
def nerf(tiny_prior: Path) -> dict[str, Any]:
    return settings(tiny_prior)


def left(folder: Path) -> dict[str, bytes]:
    """The files of a run by name, without the times that it took."""
    found = {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file() and each.name != "log.txt"}
    lines = [json.loads(line) for line in found["metrics.jsonl"].splitlines()]
    found["metrics.jsonl"] = json.dumps([{k: v for k, v in line.items() if k != "seconds"} for line in lines]).encode()
    if "summary.json" in found:
        times = ("seconds", "loop", "peak_memory_mb")
        summary = json.loads(found["summary.json"])
        found["summary.json"] = json.dumps({k: v for k, v in summary.items() if k not in times}).encode()
    return found


def test_a_job_leaves_its_files_and_tells_what_it_does(cfg: dict[str, Any], tmp_path: Path) -> None:
    events: list[Event] = []
    summary = job.execute(cfg, tmp_path / "a" / "b", events.append)
    folder = tmp_path / "a" / "b"
    assert {each.name for each in folder.iterdir()} == OF_AN_IMAGE
    assert json.loads((folder / "summary.json").read_text()) == json.loads(json.dumps(summary))
    assert yaml.safe_load((folder / "config.yaml").read_text()) == cfg
    assert [type(each) for each in events] == [Started, Looked, *[Iterated] * 3, Looked, Iterated, Finished]
    started, last = events[0], events[-1]
    assert isinstance(started, Started) and isinstance(last, Finished) and last.summary == summary
    assert (started.prompt, started.iterations, started.folder) == ("a red car", 4, folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line, event in zip(lines, [*events[2:5], events[6]], strict=True):
        assert isinstance(event, Iterated) and line == json.loads(json.dumps(event.figures))
        assert event.iteration == line["iteration"]
    assert summary["iterations"] == 4 and summary["nfe"] == sum(line["nfe"] for line in lines)
    loop = sum(line["seconds"] for line in lines)
    assert summary["seconds"]["optimise"] == pytest.approx(loop) == sum(summary["loop"].values())


# The process is as before


def world() -> dict[str, Any]:
    """What a job could change of its process."""
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": repr(np.random.get_state()),
        "random": random.getstate(),
        "flush": (torch.tensor(2.0**-126) / 2).item() == 0,
        "backend": (backend._choice, backend._meanwhile.get(), backend.choice(), backend.backend()),
        "folder": os.getcwd(),
        "argv": list(sys.argv),
        "path": list(sys.path),
        "environment": dict(os.environ),
        "hydra": GlobalHydra.instance().hydra,
        "dtype": torch.get_default_dtype(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "umask": os.umask(os.umask(0o022)) if threading.current_thread() is threading.main_thread() else None,
        "excepthook": sys.excepthook,
        "alive": {each.name for each in threading.enumerate()},
    }


def changed(before: dict[str, Any]) -> list[str]:
    now = world()
    return [name for name in before if now[name] != before[name]]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder, arguments, a kernel backend and a random state unlike those of any job."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["notebook", "--flag", "method=nothing"])
    monkeypatch.setattr(backend, "_choice", "torch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1234)
        yield tmp_path


@pytest.mark.parametrize("flush", [False, True])
def test_nothing_of_the_process_stays_changed(flush: bool, cfg: dict[str, Any], nerf: Any, elsewhere: Path) -> None:
    torch.set_flush_denormal(flush)
    try:
        before = world()
        assert before["flush"] == flush
        job.execute({**cfg, "backend": "auto"}, "run")
        assert changed(before) == []
        with pytest.raises(UserError):
            job.execute({**cfg, "prompt": "a red zeppelin of doom"}, "none")
        assert changed(before) == []
        with pytest.raises(KeyboardInterrupt):
            job.execute(nerf, "stopped", stop_at(1))
        assert changed(before) == []
    finally:
        torch.set_flush_denormal(False)


def test_what_the_process_had_is_of_no_matter(cfg: dict[str, Any], elsewhere: Path) -> None:
    """Nor does a generator or a mode of the caller's change what a job makes."""
    job.execute(cfg, "first")
    random.seed(5), np.random.seed(5), torch.manual_seed(5)
    with torch.no_grad():
        job.execute(cfg, "second")
    with torch.inference_mode():
        job.execute(cfg, "third")
    assert left(Path("first")) == left(Path("second")) == left(Path("third"))
    torch.set_default_dtype(torch.float64)
    try:
        with pytest.raises(
            UserError, match=r"torch makes torch\.float64 by default: expected torch\.set_default_dtype"
        ):
            job.execute(cfg, "fourth")
    finally:
        torch.set_default_dtype(torch.float32)
    assert not Path("fourth").exists()


def test_under_a_verb_of_hydra(cfg: dict[str, Any], tmp_path: Path) -> None:
    """The configuration may come as Hydra's own, made plain; Hydra's global stays as it was."""
    GlobalHydra.instance().clear()
    plain = OmegaConf.to_container(OmegaConf.create(cfg), resolve=True)
    assert isinstance(plain, dict)
    job.execute({str(key): value for key, value in plain.items()}, tmp_path / "run")
    assert GlobalHydra.instance().hydra is None and (tmp_path / "run" / "summary.json").is_file()


# Twice, in threads, in processes


def child(cfg: dict[str, Any], folder: str) -> None:
    job.execute(cfg, folder)


def test_twice_in_threads_and_in_a_spawned_process(
    cfg: dict[str, Any], nerf: dict[str, Any], tiny_prior: Path, tmp_path: Path
) -> None:
    """The same bytes each; those at once are of different kinds and backends, that they may disturb each other."""
    other = settings(tiny_prior, *MLP_IMAGE, "seed=7", "method=vsd", "backend=torch")
    process = multiprocessing.get_context("spawn").Process(target=child, args=(cfg, str(tmp_path / "spawned")))
    process.start()
    jobs = {"image": cfg, "mlp": other, "nerf": nerf}
    for name, each in jobs.items():
        job.execute(each, tmp_path / name)
    job.execute(cfg, tmp_path / "again")
    before = world()
    with ThreadPoolExecutor(3) as pool:
        twins = [pool.submit(job.execute, each, tmp_path / f"{name} in a thread") for name, each in jobs.items()]
        summaries = [each.result() for each in twins]
    assert changed(before) == []
    process.join(120)
    assert process.exitcode == 0
    for name, summary in zip(jobs, summaries, strict=True):
        assert left(tmp_path / f"{name} in a thread") == left(tmp_path / name)
        assert summary["prompt"] == jobs[name]["prompt"]
    assert left(tmp_path / "again") == left(tmp_path / "spawned") == left(tmp_path / "image")
    assert json.loads((tmp_path / "mlp in a thread" / "summary.json").read_text())["backend"] == "torch"


# Folders


def test_a_folder_in_use_is_refused_and_its_run_finishes_whole(cfg: dict[str, Any], nerf: Any, tmp_path: Path) -> None:
    job.execute(cfg, tmp_path / "alone")
    refusals: list[str] = []

    def intrude(event: Event) -> None:
        if isinstance(event, Iterated):
            with pytest.raises(UserError, match="another run is writing to") as raised:
                job.execute(nerf, tmp_path / "run")
            refusals.append(str(raised.value))

    job.execute(cfg, tmp_path / "run", intrude)
    assert len(refusals) == 4 and all("\n" not in line for line in refusals)
    assert left(tmp_path / "run") == left(tmp_path / "alone")


def test_a_folder_in_use_by_another_process(cfg: dict[str, Any], tmp_path: Path) -> None:
    """Whose lock ends with it, even where it is killed and its file stays."""
    script = f"import fcntl, time; f = open({str(tmp_path / folders.LOCK)!r}, 'w'); fcntl.flock(f, fcntl.LOCK_EX)"
    other = subprocess.Popen([sys.executable, "-c", f"{script}; print('held', flush=True); time.sleep(60)"], stdout=-1)
    assert other.stdout is not None and other.stdout.readline() == b"held\n"
    with pytest.raises(UserError, match="another run is writing to"):
        job.execute(cfg, tmp_path)
    other.kill()
    other.wait()
    other.stdout.close()
    assert [each.name for each in tmp_path.iterdir()] == [folders.LOCK]
    job.execute(cfg, tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == OF_AN_IMAGE


def test_an_image_and_then_a_nerf_in_one_folder(cfg: dict[str, Any], nerf: dict[str, Any], tmp_path: Path) -> None:
    for name in ("notes.txt", "mesh.glb"):
        (tmp_path / name).write_text("mine, and an earlier run's")
    job.execute(cfg, tmp_path)
    with pytest.raises(UserError, match="made an image, which has no mesh"):
        read_nerf(tmp_path)
    job.execute(nerf, tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == FILES | {"nerf.safetensors", "notes.txt"}
    assert len(read_nerf(tmp_path).mlp) == 3
    job.execute(cfg, tmp_path)
    assert {each.name for each in tmp_path.iterdir()} == OF_AN_IMAGE | {"notes.txt"}


@pytest.mark.parametrize(
    "change",
    [{"prompt": "a zeppelin"}, {"seed": -1}, {"prior": None}, {"stages": 0}, {"device": "tpu"}, {"method": {}}],
    ids=str,
)
def test_a_mistake_leaves_no_folder_behind(change: dict[str, Any], cfg: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(UserError) as raised:
        job.execute({**cfg, **change}, tmp_path / "a" / "b")
    assert "\n" not in str(raised.value) and list(tmp_path.iterdir()) == []
    job.execute(cfg, tmp_path)
    before = left(tmp_path)
    with pytest.raises(UserError):
        job.execute({**cfg, **change}, tmp_path)
    assert left(tmp_path) == before, "an earlier run stays until the next has begun"


def test_what_is_no_folder(cfg: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for folder in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(UserError, match="cannot write to the folder"):
            job.execute(cfg, folder)
    assert (tmp_path / "file").read_text() == "mine"


def test_folders_of_any_name(cfg: dict[str, Any], tmp_path: Path) -> None:
    for name in ("a (b), c=d %s ${seed} '\"", "Rösti 車", ".hidden", "-m"):
        job.execute({**cfg, "outputs": "minimal"}, tmp_path / name)
        assert (tmp_path / name / "image.safetensors").is_file()


# Whatever ends it


def stop_at(iteration: int, problem: BaseException | None = None) -> Callable[[Event], None]:
    """Raises at that iteration's event: Ctrl-C, unless another problem is given."""

    def on_event(event: Event) -> None:
        if isinstance(event, Iterated) and event.iteration == iteration:
            raise problem or KeyboardInterrupt

    return on_event


def test_ctrl_c_amid_the_loop_keeps_phi(nerf: dict[str, Any], tiny_prior: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted, match=r"interrupted after 2 of 4 iterations: what there is of it is in"):
        job.execute(nerf, tmp_path / "run", stop_at(2))
    assert {each.name for each in (tmp_path / "run").iterdir()} == FILES - {"summary.json"} | {"nerf.safetensors"}
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["iteration"] for line in lines] == [1, 2]
    found = read_nerf(tmp_path / "run")
    job.execute(nerf, tmp_path / "whole")
    whole = read_nerf(tmp_path / "whole")
    table, other = found.state_dict()["encoding.table"], whole.state_dict()["encoding.table"]
    assert table.isfinite().all() and not torch.equal(table, other)


def test_ctrl_c_amid_an_iteration_keeps_the_last_whole_one(
    cfg: dict[str, Any], tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sds = settings(tiny_prior, *IMAGE, "method=sds")
    with pytest.raises(Interrupted):
        job.execute(sds, tmp_path / "between", stop_at(2))
    calls, at = [], baselines.Guided.at

    def interrupted(*given: Any) -> Any:
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return at(*given)

    monkeypatch.setattr(baselines.Guided, "at", staticmethod(interrupted))
    with pytest.raises(Interrupted, match="interrupted after 2 of 4 iterations"):
        job.execute(sds, tmp_path / "amid")
    assert left(tmp_path / "amid") == left(tmp_path / "between")


def test_a_run_that_diverges_keeps_what_it_was(
    tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sds = settings(tiny_prior, *IMAGE, "method=sds")
    with pytest.raises(Interrupted):
        job.execute(sds, tmp_path / "stopped", stop_at(2))
    calls, at = [], baselines.Guided.at

    def broken(*given: Any) -> Any:
        calls.append(0)
        found = at(*given)
        return baselines.Guided(found.D * (torch.nan if len(calls) >= 3 else 1), found.nfe, found.noise_ratio)

    monkeypatch.setattr(baselines.Guided, "at", staticmethod(broken))
    with pytest.raises(
        Diverged, match=r"diverged: the update's loss is nan; gave up after 3 .* 2 iterations"
    ) as raised:
        job.execute(sds, tmp_path / "broken")
    assert "\n" not in str(raised.value)
    broken_off, stopped = left(tmp_path / "broken"), left(tmp_path / "stopped")
    assert broken_off["image.safetensors"] == stopped["image.safetensors"]


def test_a_run_that_diverges_once_goes_on(tiny_prior: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sds, calls, at = settings(tiny_prior, *IMAGE, "method=sds"), [], baselines.Guided.at
    events: list[Event] = []

    def broken(*given: Any) -> Any:
        calls.append(0)
        found = at(*given)
        return baselines.Guided(found.D * (torch.nan if len(calls) == 3 else 1), found.nfe, found.noise_ratio)

    monkeypatch.setattr(baselines.Guided, "at", staticmethod(broken))
    summary = job.execute(sds, tmp_path / "run", events.append)
    assert summary["iterations"] == 4 and len(calls) == 5
    (trouble,) = summary["troubles"]
    assert "went back to iteration 2, with learning rates times 0.5" in trouble
    assert notes_of(events) == [trouble]
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [1, 2, 3, 4]


def notes_of(events: list[Event]) -> list[str]:
    return [each.text for each in events if isinstance(each, Noted)]


class Unheard(Exception):
    """Of whoever listens."""


@pytest.mark.parametrize("kind", [Started, Iterated, Finished])
def test_what_a_listener_raises_comes_through_and_leaves_files_whole(
    kind: type, cfg: dict[str, Any], tmp_path: Path
) -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, kind):
            raise Unheard

    with pytest.raises(Unheard):
        job.execute(cfg, tmp_path, on_event)
    names = {each.name for each in tmp_path.iterdir()}
    assert not any(name.startswith(".") for name in names), names
    expected = {Started: {"config.yaml", "log.txt"}, Iterated: FILES - {"summary.json"} | {"image.safetensors"}}
    assert names == expected.get(kind, OF_AN_IMAGE)
    for name in names & {"metrics.jsonl"}:
        assert all(json.loads(line) for line in (tmp_path / name).read_text().splitlines())
    job.execute(cfg, tmp_path)


def test_a_disk_that_fills_is_told_and_keeps_phi(
    cfg: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: JsonLines, record: Any) -> None:
        raise UserError("cannot write metrics.jsonl: No space left on device")

    monkeypatch.setattr(JsonLines, "write", full)
    with pytest.raises(UserError, match="No space left"):
        job.execute(cfg, tmp_path)
    assert (tmp_path / "image.safetensors").is_file()


def test_exporting_is_told_step_by_step(tiny_prior: Path, tmp_path: Path) -> None:
    small = ("turntable.frames=3", "turntable.size=16", "mesh.resolution=8", "mesh.colour=vertices")
    events: list[Event] = []
    cfg = settings(tiny_prior, "outputs=all", "method.iterations=1", *small)
    summary = job.execute(cfg, tmp_path, events.append)
    steps = [(each.what, each.done, each.total) for each in events if isinstance(each, Exporting)]
    assert [each for each in steps if each[0] == "turntable"][:3] == [("turntable", done, 3) for done in (1, 2, 3)]
    assert (tmp_path / "turntable.mp4").is_file() and "mesh" in summary
