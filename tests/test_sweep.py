"""Sweeps: prompts from a file, members that are finished, that fail and that go on, and the gallery in the end."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import verbs
import yaml
from hydra.core.global_hydra import GlobalHydra
from PIL import Image
from processes import awaited, children, ends
from test_run import ENVIRONMENT
from verbs import Verb

from text23d import cli
from text23d.compose import composing, register_resolvers
from text23d.door import commandline
from text23d.door.layout import configuration
from text23d.door.prompts import BYTES, PROMPTS, read_prompts
from text23d.errors import UserError
from text23d.paths import conf_dir
from text23d.studies import sweep as sweeps
from text23d.studies.launcher import Source, packaged, plain
from text23d.studies.sweep import Known, plan

TINY = ("representation=image", "method.iterations=2", "method.views=1", "outputs=minimal", "stages=1", "device=cpu")
BAD = "a red zebra"


@pytest.fixture(autouse=True)
def resolvers() -> None:
    register_resolvers()


# Files of prompts


NASTY = [
    "a red car, a blue chair",
    'say "car"',
    "it's (a) = {b}: [c]!",
    "a = b",
    "null",
    "${seed} ${now:%H}",
    "見 🚗 ü",
    "back\\slash\\",
    "tab\tinside",
    "~x +y ?z",
]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("begin", [b"", b"\xef\xbb\xbf"])
def test_every_line_is_a_prompt_as_it_stands(end: str, begin: bytes, tmp_path: Path) -> None:
    """But blank ones, and those that begin with #."""
    lines = ["# a comment", "", *NASTY, "   ", "  # another", NASTY[0]]
    (tmp_path / "prompts.txt").write_bytes(begin + end.join(lines).encode())
    assert read_prompts(tmp_path / "prompts.txt") == NASTY


def test_a_prompt_is_the_same_text_all_the_way_to_its_run(tmp_path: Path) -> None:
    """Whatever Hydra's grammar and OmegaConf would make of it."""
    path = tmp_path / "of, (my) = prompts.txt"
    path.write_text("\n".join(NASTY), encoding="utf-8")
    line = commandline.read("run", [f"prompts={path}", "seed=0,1", *TINY])
    assert line.sweep is not None and len(line.sweep.runs) == 2 * len(NASTY)
    with composing(), configuration(conf_dir()):
        source = Source(GlobalHydra.instance().config_loader(), "config")
        master = source.master(tmp_path)
        made = [plain(source.member(master, each)) for each in line.sweep.runs]
    assert [(each["prompt"], each["seed"]) for each in made] == [(each, seed) for each in NASTY for seed in (0, 1)]
    assert all(each["prompts"] is None and each["method"]["iterations"] == 2 for each in made)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (None, "there is no such file"),
        (b"", "there is no prompt in it"),
        (b"\n# nothing\n\r\n", "there is no prompt in it"),
        (b"a red car\n\x93NUMPY\xff", "its byte 11 is no UTF-8 text"),
        ("a red car".encode("utf-16"), "is no UTF-8 text"),
        (b"a red car\0", "it is binary"),
        (b"x" * (BYTES + 1), "it has more than 1 MB"),
        (b"\n".join(b"%d" % number for number in range(PROMPTS + 1)), f"it has {PROMPTS + 1} prompts"),
    ],
)
def test_other_files_are_told_in_one_line(data: bytes | None, said: str, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UserError, match=said) as raised:
        commandline.read("run", [f"prompts={path}"])
    assert "\n" not in str(raised.value) and str(raised.value).startswith(f"prompts={path}: ")
    with pytest.raises(UserError, match="it is a folder"):
        commandline.read("run", [f"prompts={tmp_path}"])


def test_a_file_of_prompts_is_a_sweep_by_itself(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a red car\na mug\n")
    for more in ([], ["-m"]):
        line = commandline.read("run", [f"prompts={tmp_path / 'a.txt'}", "hydra.sweep.dir=x", *more])
        assert line.sweep is not None and line.sweep.folder == "x"
        assert line.sweep.runs == [["prompt='a red car'"], ["prompt='a mug'"]]
    assert commandline.read("run", ["prompt=a red car"]).sweep is None
    shown = commandline.read("run", [f"prompts={tmp_path / 'a.txt'}", "--cfg", "job"])
    assert shown.sweep is None and not shown.runs


def test_values_are_combined_the_last_fastest() -> None:
    line = commandline.read(
        "run", ["-m", "prompt=a red car,'a, b'", "seed=range(0,2)", "method=sds,vsd", "hydra.verbose=true"]
    )
    assert line.sweep is not None and line.sweep.hydra == ["hydra.verbose=true"]
    wanted = [
        [f"prompt='{prompt}'", f"seed={seed}", f"method={method}"]
        for prompt in ("a red car", "a, b")
        for seed in (0, 1)
        for method in ("sds", "vsd")
    ]
    assert line.sweep.runs == wanted


# Members and their folders


def planned(folder: Path, *runs: list[str]) -> list[tuple[str, bool]]:
    """The folders of the members, and whether they are finished."""
    with packaged() as source:
        return [(each.job.folder.name, each.finished) for each in plan(runs, source, folder)]


def left(folder: Path, *overrides: str, finished: bool = True) -> None:
    """What a run leaves that is looked at."""
    with packaged() as source:
        cfg = plain(source.member(source.master(folder), overrides))
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(cfg))
    if finished:
        (folder / "summary.json").write_text(json.dumps({"iterations": cfg["method"]["iterations"]}))


def test_members_are_known_by_their_configuration(tmp_path: Path) -> None:
    """Not by their number: a file of prompts may grow at its beginning."""
    car, mug = ["prompt='a red car'", *TINY], ["prompt='a mug'", *TINY]
    assert planned(tmp_path, car, mug) == [("0-a-red-car", False), ("1-a-mug", False)]
    left(tmp_path / "0-a-red-car", *car)
    left(tmp_path / "1-a-mug", *mug, finished=False)
    (tmp_path / "2-a-red-car").mkdir()
    (tmp_path / "2-a-red-car" / "failure.txt").write_text("of an earlier sweep, before it began\n")
    assert planned(tmp_path, mug, ["prompt='a dog'", *TINY], [*car, "seed=1"], car) == [
        ("1-a-mug", False), ("1-a-dog", False), ("2-a-red-car", False), ("0-a-red-car", True),
    ]  # fmt: skip
    assert planned(tmp_path, [*car, "seed=7"]) == [("0-a-red-car-2", False)], "the name is another run's"
    assert planned(tmp_path, [*car, "method.iterations=3"]) == [("0-a-red-car-2", False)]
    assert planned(tmp_path, [*car, "checkpoint.every=3"]) == [("0-a-red-car", True)], "what makes the same"
    assert planned(tmp_path, car, car, [*car, "seed=0"]) == [("0-a-red-car", True)], "each once"
    (tmp_path / "0-a-red-car" / "summary.json").write_text("{")
    assert planned(tmp_path, car) == [("0-a-red-car", False)], "torn"


def test_members_go_on_where_they_stopped(tmp_path: Path) -> None:
    with packaged() as source:
        (member,) = plan([["prompt='a red car'"]], source, tmp_path)
        assert member.job.overrides == ("prompt='a red car'", "resume.folder=auto")
        (member,) = plan([["prompt='a red car'", "resume.folder=null"]], source, tmp_path)
        assert member.job.overrides[-1] == "resume.folder=null", "as it was asked for"


def test_damaged_members_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "0-x").mkdir()
    (tmp_path / "0-x" / "config.yaml").write_bytes(b"\xff{")
    assert Known(tmp_path).place("0-x", {"prompt": "x", "seed": 0}) == tmp_path / "0-x-2"


# Whole sweeps, in processes


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "text23d.run", *arguments, *TINY]
    return subprocess.run(command, cwd=folder, env=ENVIRONMENT, capture_output=True, text=True)


def times(folder: Path) -> dict[str, int]:
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("*/summary.json")}


def failed(folder: Path, said: str, names: list[str]) -> None:
    """Each of these members is told with its reason, which stands in its folder as well."""
    last = said.splitlines()[-1]
    assert last.startswith(f"text23d: {len(names)} of {2 * len(names)} runs failed, {names[0]} first: see ")
    for name in names:
        why = (folder / name / "failure.txt").read_text()
        assert "does not know the word 'zebra'" in why and why.count("\n") == 1
        assert f"text23d: {name} failed: {why}" in said


def told(said: str) -> list[str]:
    """The command that goes on, which is told at the beginning and in the end."""
    lines = [line.partition(": text23d run ")[2] for line in said.splitlines() if ": text23d run " in line]
    assert len(lines) == 2 and lines[0] == lines[1]
    return shlex.split(lines[0])


@pytest.mark.timeout(900)
def test_two_by_two(tmp_path: Path, tiny_prior: Path) -> None:
    """One bad prompt stops nobody else; by the command that is told, what is there is kept; mended, all is shown."""
    (tmp_path / "prompts.txt").write_text(f"a red car\n# not this one\n{BAD}\n")
    first = verbs.done("prompts=prompts.txt", "seed=0,1", f"prior.weights={tiny_prior}", *TINY, cwd=tmp_path)
    (folder,) = (tmp_path / "outputs").glob("*/*-sweep")
    assert first.returncode == 2 and "Traceback" not in first.stderr, first.stderr
    failed(folder, first.stderr, ["2-a-red-zebra", "3-a-red-zebra"])
    for seed in (0, 1):
        summary = json.loads((folder / f"{seed}-a-red-car" / "summary.json").read_text())
        assert (summary["prompt"], summary["seed"], summary["iterations"]) == ("a red car", seed, 2)
    results = json.loads((folder / "gallery.json").read_text())
    assert [each["seed"] for each in results["runs"]] == [0, 1] and results["skipped"] == []
    assert [(each["folder"], each["prompt"], each["seed"]) for each in results["failed"]] == [
        ("2-a-red-zebra", BAD, 0),
        ("3-a-red-zebra", BAD, 1),
    ]
    table = (folder / "gallery.md").read_text()
    assert table.count("| a red car |") == 2 and table.count("a-red-zebra failed: the built-in prior does not") == 2
    pixels = np.asarray(Image.open(folder / "gallery.png"))
    assert pixels.shape[:2] == (8 + 2 * (pixels.shape[0] // 2 - 4), 2 * 132 + 4)

    before = times(folder)
    (tmp_path / "prompts.txt").write_text("a red car\na mug\n")
    mended = verbs.done(*told(first.stderr), cwd=tmp_path)
    assert mended.returncode == 0, mended.stderr
    assert times(folder).items() >= before.items() and len(times(folder)) == 4, "what is finished is not made again"
    results = json.loads((folder / "gallery.json").read_text())
    assert [(each["prompt"], each["seed"]) for each in results["runs"]] == [
        ("a mug", 0), ("a mug", 1), ("a red car", 0), ("a red car", 1),
    ]  # fmt: skip
    assert results["failed"] == [] and "all 4 runs are done" in mended.stderr
    assert "4 runs in" in mended.stderr and "of which 2 are there already" in mended.stderr
    assert not list(folder.glob(".launched-*"))


LAUNCHERS = [
    pytest.param("joblib", id="joblib"),
    pytest.param("submitit_local", id="submitit"),
    pytest.param("ray", id="ray", marks=pytest.mark.needs("ray")),
]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_other_launchers_make_the_same(launcher: str, tmp_path: Path, tiny_prior: Path) -> None:
    """Of a good prompt and a bad one; the command that is told names the same members in the same folder."""
    asked = ("-m", f"prompt=a red car,{BAD}", f"hydra/launcher={launcher}", f"prior.weights={tiny_prior}")
    first = run(tmp_path, *asked)
    (folder,) = (tmp_path / "outputs").glob("*/*-sweep")
    assert first.returncode == 2 and "Traceback" not in first.stderr, first.stderr
    failed(folder, first.stderr, ["1-a-red-zebra"])
    summary = json.loads((folder / "0-a-red-car" / "summary.json").read_text())
    assert (summary["prompt"], summary["seed"], summary["iterations"]) == ("a red car", 0, 2)
    results = json.loads((folder / "gallery.json").read_text())
    assert [each["prompt"] for each in results["runs"]] == ["a red car"] and results["skipped"] == []
    assert [(each["folder"], each["prompt"]) for each in results["failed"]] == [("1-a-red-zebra", BAD)]
    assert not list(folder.glob(".launched-*"))
    again, before = commandline.read("run", told(first.stderr)), commandline.read("run", [*asked, *TINY])
    assert again.sweep is not None and before.sweep is not None and again.sweep.runs == before.sweep.runs
    assert f"hydra/launcher={launcher}" in again.sweep.hydra and tmp_path / str(again.sweep.folder) == folder


@pytest.mark.timeout(900)
def test_a_sweep_that_is_stopped_goes_on(tmp_path: Path, tiny_prior: Path) -> None:
    """To the bytes of one that was not: SIGTERM to the sweep stops its run, which keeps what it has."""
    asked = ("prompt=a red car", f"prior.weights={tiny_prior}", "method.iterations=16", "checkpoint.every=0")
    both = (*TINY, *asked, "-m", "seed=0,1", "hydra.sweep.dir=stopped")
    process = Verb(*both, cwd=tmp_path)
    metrics = tmp_path / "stopped" / "0-a-red-car" / "metrics.jsonl"
    awaited(lambda: True if metrics.exists() and metrics.read_bytes().count(b"\n") > 3 else None, 300)
    (worker,) = children(process.pid)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 128 + signal.SIGTERM and "Traceback" not in said and ends(worker)
    done = metrics.read_bytes().count(b"\n")
    assert 3 < done < 16 and not (tmp_path / "stopped" / "1-a-red-car" / "summary.json").exists()
    for each in (both, (*TINY, *asked, "hydra.run.dir=whole")):
        finished = verbs.done(*each, cwd=tmp_path)
        assert finished.returncode == 0, finished.stderr
    image = (tmp_path / "stopped" / "0-a-red-car" / "image.safetensors").read_bytes()
    assert image == (tmp_path / "whole" / "image.safetensors").read_bytes()
    assert (tmp_path / "stopped" / "1-a-red-car" / "image.safetensors").exists()


def test_a_launcher_that_cannot_be_used_is_told_in_one_line(tmp_path: Path, tiny_prior: Path) -> None:
    """Without a cluster: SLURM's own programs are not here."""
    path = os.pathsep.join(
        each for each in ENVIRONMENT["PATH"].split(os.pathsep) if not (Path(each) / "sbatch").exists()
    )
    command = [sys.executable, "-m", "text23d.run", "-m", "prompt=a red car", "hydra/launcher=slurm", *TINY]
    done = subprocess.run(command, cwd=tmp_path, env={**ENVIRONMENT, "PATH": path}, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("text23d: hydra/launcher=slurm cannot be used: ")
    assert list(tmp_path.iterdir()) == [], "nothing was made"


def test_runs_that_a_launcher_loses_are_told_and_the_others_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it raises: what the folders tell of is not lost."""
    from hydra._internal.core_plugins.basic_launcher import BasicLauncher

    from text23d.studies import launcher

    class Losing(BasicLauncher):
        def launch(self, job_overrides: Any, initial_job_idx: int) -> Any:
            first = Path(str(self.config.hydra.sweep.dir)) / "good"  # type: ignore[union-attr]
            (first / "output.txt").touch()
            (first / "summary.json").write_text("{}")
            raise RuntimeError("a worker\ndied")

    monkeypatch.setattr(launcher, "BASIC", "another")
    monkeypatch.setattr(launcher, "PATIENCE", 0.5)

    def instantiate(self: Any, hydra_context: Any, task_function: Any, config: Any) -> Losing:
        losing = Losing()
        losing.setup(hydra_context=hydra_context, task_function=task_function, config=config)
        return losing

    monkeypatch.setattr(launcher.Plugins, "instantiate_launcher", instantiate)
    jobs = [launcher.Job(("prompt=x",), tmp_path / name) for name in ("good", "lost")]
    good, lost = launcher.launch(jobs, 1)
    assert good.failure is None and lost.failure == "hydra/launcher=basic lost it: a worker died"


def test_the_gallery_of_a_large_sweep_fits() -> None:
    for runs in (1, 100, 10_000, 100_000):
        gallery = sweeps.fitting(Path("x"), runs)
        assert (runs + 2) * gallery.views * gallery.size**2 <= sweeps.PIXELS and 8 <= gallery.size <= 128


def test_nothing_but_hydras_launchers_is_instantiated() -> None:
    for target in ("os.system", "text23d.studies.member.Member", "hydra_plugins.other.Launcher", "joblib.Parallel"):
        with pytest.raises(UserError, match="expected a launcher or a sweeper of Hydra's"):
            commandline.read("run", ["prompt=a red car", "-m", f"hydra.launcher._target_={target}"])
    assert cli.VERBS
