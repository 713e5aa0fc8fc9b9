"""python tests/kill_harness.py kills=100: the main job, killed at random moments and resumed, ends with the same bytes.

Every trial begins a run, kills it, looks at what lies there, and resumes it, until it ends: then its results are
compared with those of a run that nobody disturbed. Moments are uniform over the time that such a run takes, or aimed at
what a run is doing, as its files show it. Half of the kills meet the process alone, the others its whole group, with
ffmpeg and the unwrapping process; half of the runs write a checkpoint after every iteration. Options are key=value:
kills, seed, cases="nerf|image" (see CASES) and folder.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trimesh
import yaml
from PIL import Image
from verbs import Verb

from text23d import checkpoint
from text23d.artifact.media import read_frames
from text23d.engine.folder import LOG, SUMMARY
from text23d.files import load_tensors

SMALL = ("prompt=a red car", "device=cpu", "stages=2")
NERF = (
    *("method.views=2", "method.inner=2", "method.size.stages=[[0,16]]"),
    *("mesh.faces=2000", "mesh.resolution=32", "mesh.texture=256"),
    *("representation.steps=16", "representation.hidden=8", "turntable.frames=8", "turntable.size=64"),
    *("representation.encoding.levels=4", "representation.encoding.log2_table=10"),
)
CASES: dict[str, tuple[str, ...]] = {
    "nerf": (*NERF, "method.iterations=12"),
    "vsd, formats": (*NERF, "method=vsd", "method.iterations=6", "mesh.format=[glb,obj,ply]"),
    "bank, random levels, ema": (
        *(*NERF, "views=bank", "views.count=3", "method/sigma=random", "method.ema=0.9", "method.iterations=8"),
        *("mesh.colour=vertices", "checkpoint.keep=1"),
    ),
    "image": ("representation=image", "method.views=1", "method.iterations=12"),
}
AIMS: dict[str, tuple[str, ...]] = {
    "checkpoint": ("checkpoints/.part-*",),
    "picture": (".part-*.png",),
    "phi": (".part-*.safetensors",),
    "video": (".part-*.mp4",),
    "mesh": ("turntable.mp4",),
    "mesh file": (".part-*.glb", ".part-*.obj", ".part-*.ply"),
    "summary": (".part-*.json",),
}
"""What a run is doing, and the files that show it; the last that is there tells."""
MARK = "TEXT23D_KILL_HARNESS"
"""In the environment of all processes of a trial, by which those that outlive it are found."""


@dataclass
class Counts:
    """What was seen. stages: kills by what the run was doing; means: by whom they met; lost: iterations done again."""

    stages: Counter[str] = field(default_factory=Counter)
    means: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    lost: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.stages.total()

    def lines(self) -> Iterator[str]:
        yield f"{self.kills} kills in {self.trials} runs; {len(self.faults)} faults"
        yield "the kills met: " + ", ".join(f"{name} {count}" for name, count in self.stages.most_common())
        yield "they met " + ", ".join(f"{name} {count}" for name, count in self.means.items())
        yield f"iterations done again: {self.lost}"
        yield from self.faults


@dataclass(frozen=True)
class Trial:
    """Runs of `overrides` in `folder`, with a checkpoint `every` so many seconds; `mark` is in their environment."""

    folder: Path
    overrides: Sequence[str]
    every: float = 1.0
    mark: str = field(default_factory=lambda: secrets.token_hex(8))

    def start(self, fork: bool = False) -> subprocess.Popen[bytes] | Verb:
        """Begin the run, or resume it; its words go to a file beside its folder. fork: as a copy of a process that has
        imported all that it needs."""
        given = [*self.overrides, f"hydra.run.dir={self.folder}", "resume=auto", f"checkpoint.every={self.every}"]
        with open(self.said, "ab") as words:
            if fork:
                return Verb(*given, cwd=self.folder.parent, words=words, environment={MARK: self.mark})
            return subprocess.Popen(
                [sys.executable, "-m", "text23d.run", *given], stdout=words, stderr=words, start_new_session=True,
                env={**os.environ, MARK: self.mark}, cwd=self.folder.parent,
            )  # fmt: skip

    @property
    def said(self) -> Path:
        return self.folder.with_name(self.folder.name + ".txt")

    def finish(self, fork: bool = False) -> list[str]:
        """Let the run go on to its end. Returns what is wrong with how it ended."""
        process = self.start(fork)
        status = process.wait(900)
        text = self.said.read_text(errors="replace")
        faults = [f"exit status {status}: {text.splitlines()[-1:]}"] if status else []
        return faults + ["a traceback"] * ("Traceback" in text)

    def alive(self) -> list[str]:
        """The commands of the processes of this trial that live."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if f"{MARK}={self.mark}".encode() in (entry / "environ").read_bytes():
                        found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:80])
                except OSError:
                    continue
        return found

    def survivors(self, patience: float = 10.0) -> list[str]:
        """Those that still live after `patience` seconds."""
        end = time.monotonic() + patience
        while (found := self.alive()) and time.monotonic() < end:
            time.sleep(0.05)
        return [f"a process survived: {each}" for each in found]


def results(folder: Path) -> dict[str, Any]:
    """All that a finished run left, but for the times: bytes by name, metrics and summary as values."""
    found: dict[str, Any] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix == ".jsonl":
            found[path.name] = [untimed(json.loads(line)) for line in path.read_text().splitlines()]
        elif path.suffix == ".json":
            found[path.name] = untimed(json.loads(path.read_text()))
        elif path.name == "config.yaml":
            found[path.name] = {**yaml.safe_load(path.read_text()), "resume": None, "checkpoint": None}
        elif path.is_file() and path.name != LOG:
            found[path.name] = path.read_bytes()
        elif path.is_dir():
            found[path.name] = sorted(each.name for each in path.iterdir())
    return found


def untimed(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name not in ("seconds", "loop", "peak_memory_mb")}


def torn(folder: Path) -> list[str]:
    """The files under their final names that are not whole."""
    readers: dict[str, Callable[[Path], Any]] = {
        ".png": lambda path: Image.open(path).load(),
        ".mp4": read_frames,
        ".json": lambda path: json.loads(path.read_text()),
        ".jsonl": lambda path: [json.loads(line) for line in path.read_text().splitlines()],
        ".yaml": lambda path: yaml.safe_load(path.read_text())["prompt"],
        ".safetensors": lambda path: checkpoint.load(path) if path.stem.isdigit() else load_tensors(path, path.stem),
        **dict.fromkeys((".glb", ".obj", ".ply"), lambda path: trimesh.load(path).bounds.shape),
        **dict.fromkeys((".mtl", ".txt"), Path.read_text),
    }
    faults = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            try:
                readers[path.suffix](path)
            except Exception as error:
                faults.append(f"{path.relative_to(folder)} is not whole: {type(error).__name__}: {error}")
    return faults


def doing(folder: Path) -> str:
    """What the run in `folder` is doing, as its files show it."""
    if (folder / SUMMARY).exists():
        return "after the end"
    shown = [name for name, patterns in AIMS.items() if any(any(folder.glob(each)) for each in patterns)]
    if shown:
        return shown[-1]
    metrics = folder / "metrics.jsonl"
    if not metrics.exists():
        return "start-up"
    return "iterations" if metrics.stat().st_size else "start-up, first picture"


def lost(folder: Path) -> int:
    """The iterations since the last checkpoint, which are to be done again."""
    metrics = folder / "metrics.jsonl"
    done = metrics.read_bytes().count(b"\n") if metrics.exists() else 0
    return max(0, done - max((int(each.stem) for each in folder.glob("checkpoints/[0-9]*.safetensors")), default=0))


def kill(trial: Trial, rng: random.Random, duration: float, counts: Counts, aim: str | None, fork: bool) -> bool:
    """Start or resume the run and kill it, at a random moment or where it does what `aim` names; whether it was
    killed before it ended."""
    process, end = trial.start(fork), time.monotonic() + rng.uniform(0, duration)
    while process.poll() is None:
        if (aim is None and time.monotonic() >= end) or (aim is not None and doing(trial.folder) == aim):
            break
        time.sleep(0.001 if aim else max(0.0, min(0.05, end - time.monotonic())))
    if aim == "mesh":
        time.sleep(rng.uniform(0, 1.5))
    means = rng.choice(["the process alone", "the whole group"])
    stage = doing(trial.folder)
    if process.poll() is not None:
        if process.returncode:
            counts.faults.append(f"{trial.folder.name}: exit status {process.returncode}")
        return False
    with suppress(ProcessLookupError):  # it ended this moment
        if means == "the process alone" or os.getpgid(process.pid) != process.pid:  # it has no group of its own yet
            os.kill(process.pid, signal.SIGKILL)
        else:
            os.killpg(process.pid, signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        return False
    counts.stages[stage] += 1
    counts.means[means] += 1
    counts.lost += lost(trial.folder)
    counts.faults += [f"{trial.folder.name}, killed in {stage}: {each}" for each in torn(trial.folder)]
    counts.faults += [f"{trial.folder.name}, killed in {stage}: {each}" for each in trial.survivors()]
    return True


def examine(trial: Trial, expected: dict[str, Any], counts: Counts, fork: bool) -> None:
    """Let a run that was killed go on to its end, and compare what it left with what is `expected`."""
    faults = trial.finish(fork)
    found = results(trial.folder)
    faults += [f"{name} differs" for name in expected | found if expected.get(name) != found.get(name)]
    faults += torn(trial.folder) + trial.survivors(2)
    counts.faults += [f"{trial.folder.name}: {each}" for each in faults]


def harness(
    cases: Sequence[Sequence[str]], kills: int, seed: int, folder: Path, aimed: float = 0.4, forked: float = 0.0
) -> Counts:
    """`kills` kills, in runs of one case after another. aimed, forked: shares of them; the second of processes that
    need not import anything."""
    rng, counts = random.Random(seed), Counts()
    whole: list[tuple[dict[str, Any], float]] = []
    for number, case in enumerate(cases):
        trial, start = Trial(folder / f"whole-{number}", case), time.monotonic()
        counts.faults += [f"undisturbed {each}" for each in [*trial.finish(forked > 0), *torn(trial.folder)]]
        whole.append((results(trial.folder), time.monotonic() - start))
    while counts.kills < kills and len(counts.faults) < 20:
        number = counts.trials % len(cases)
        trial = Trial(folder / f"run-{counts.trials:03d}", cases[number], rng.choice([0.0, 1.0]))
        expected, duration = whole[number]
        for _ in range(rng.choice([1, 2, 3, 4, 6])):
            aim, fork = rng.choice(list(AIMS)) if rng.random() < aimed else None, rng.random() < forked
            if counts.kills >= kills or not kill(trial, rng, duration, counts, aim, fork):
                break
        examine(trial, expected, counts, rng.random() < forked)
        counts.trials += 1
        print(" | ".join(counts.lines()), file=sys.stderr, flush=True)
    return counts


def main(arguments: Sequence[str]) -> int:
    given = dict(each.split("=", 1) for each in arguments)
    names = given.get("cases", "|".join(CASES)).split("|")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(given.get("folder", place)).absolute()
        folder.mkdir(parents=True, exist_ok=True)
        cases = [(*SMALL, *CASES[name]) for name in names]
        counts = harness(cases, int(given.get("kills", 100)), int(given.get("seed", 0)), folder, forked=0.75)
    print("\n".join(counts.lines()))
    return bool(counts.faults)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
