"""Several processes, one scene: two ranks do what one process does, and what ends one ends all, in one line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import ranked
import verbs
from processes import awaited
from ranked import CASES, TRAININGS
from tiny import NERF
from torch import Tensor
from verbs import Verb

from text23d import checkpoint
from text23d.engine import training
from text23d.engine.meeting import Environment
from text23d.engine.ranks import ALONE, Ranks
from text23d.errors import UserError
from text23d.files import load_tensors

pytestmark = pytest.mark.timeout(900)  # one fixture does the work of most tests here
TESTS = Path(__file__).parent
SAME, FIGURES = 5e-4, 2e-3
"""How far two ranks may be from one process, relatively: a ray that ends a step earlier, by the last bit of its
transmittance, changes a pixel by up to 1e-4."""


TRAINED = 1e-4
"""The same for trainings, whose first steps of AdamW are as long where a gradient is rounding alone."""


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


def environment(rank: int | None = None, size: int = 2, port: str = "") -> dict[str, str]:
    """Of one process on a single thread, or of one of several ranks."""
    paths = os.pathsep.join([str(TESTS), str(TESTS.parent), os.environ.get("PYTHONPATH", "")])
    own = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths}
    if rank is not None:
        own |= {"RANK": str(rank), "WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return own


def start(arguments: Sequence[str], folder: Path, script: Path | None = None, size: int = 2) -> list[Verb]:
    """The same on several ranks, by hand."""
    port = free_port()
    return [
        Verb(*arguments, script=script, cwd=folder, environment=environment(rank, size, port)) for rank in range(size)
    ]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Path:
    """The folder in which one process, and then two ranks, have left all cases and trainings."""
    folder = tmp_path_factory.mktemp("ranks")
    ranked.known(folder)
    program, given = TESTS / "ranked.py", (str(folder), str(tiny_prior))
    alone = verbs.done(*given, script=program, cwd=folder, timeout=900)
    assert alone.returncode == 0, alone.stderr
    both = start(given, folder, program)
    said = [process.communicate(timeout=900)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    return folder


def named(state: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    for name, value in sorted(state.items()):
        if isinstance(value, Tensor):
            yield prefix + name, value
        elif isinstance(value, Mapping):
            yield from named(value, f"{prefix}{name}/")


def apart(found: Mapping[str, Any], expected: Mapping[str, Any]) -> float:
    """||found - expected|| / ||expected|| over all tensors."""
    ours, theirs = dict(named(found)), dict(named(expected))
    assert ours.keys() == theirs.keys()
    difference = sum((ours[name].double() - theirs[name].double()).square().sum().item() for name in ours)
    return float((difference / max(sum(each.double().square().sum().item() for each in theirs.values()), 1e-30)) ** 0.5)


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_give_what_one_process_gives(case: str, done: Path) -> None:
    """After all steps; every second case from half-way of one process, the others left half-way to one."""
    whole, first, second = (checkpoint.load(done / f"{case}-{each}.safetensors") for each in ("alone", "0", "1"))
    expected, half = whole["state"], checkpoint.load(done / f"{case}-half.safetensors")["state"]
    assert apart(expected["phi"], half["phi"]) > 1e-3, "phi moves"
    for part in ("phi", "average", "warm", "learner"):
        assert apart(first["state"][part], expected[part]) < SAME, part
        assert not apart(second["state"][part], first["state"][part]), "the ranks have the same bits"
    for found, figures in zip(first["figures"], whole["figures"], strict=True):
        measured = {name: value for name, value in figures.items() if value is not None}
        assert {name: found[name] for name in measured} == pytest.approx(measured, rel=FIGURES)


@pytest.mark.parametrize("case", list(CASES)[::2])
def test_one_process_goes_on_where_two_ranks_were(case: str, done: Path, tiny_prior: Path) -> None:
    state, parts = ranked.made(done, tiny_prior, case)
    state.load(checkpoint.load(done / f"{case}-half-0.safetensors")["state"])
    assert state.iteration == ranked.STEPS // 2
    ranked.run(state, parts)
    expected = checkpoint.load(done / f"{case}-alone.safetensors")["state"]
    assert state.iteration == ranked.STEPS and apart(state.state()["phi"], expected["phi"]) < SAME


def test_ranks_wait_and_change_what_they_ask_for_together(done: Path) -> None:
    alone, first, second = (
        checkpoint.load(done / f"steered-{each}.safetensors")["state"] for each in ("alone", "0", "1")
    )
    assert apart(first["phi"], alone["phi"]) < SAME and not apart(second["phi"], first["phi"])


@pytest.mark.parametrize("name", TRAININGS)
def test_two_ranks_train_as_one_process_does(name: str, done: Path) -> None:
    """The whole; and the second half of what one process began, and the other way round."""
    one, *two = (checkpoint.load(done / f"{name}-gradient-{each}.safetensors") for each in ("alone", "0", "1"))
    for found in two:
        assert apart(found["grads"], one["grads"]) < SAME and found["loss"] == pytest.approx(one["loss"], rel=SAME)
    whole, facts = load_tensors(done / f"{name}-alone.safetensors", "training")
    for file in (f"{name}-ranks", f"{name}-half"):
        found, said = load_tensors(done / f"{file}.safetensors", "training")
        assert apart(found, whole) < TRAINED
        assert said | {"seconds": 0} == facts | {"seconds": 0}
    state, give = TRAININGS[name](done, ranked.ODD)
    half = done / f"{name}-half-ranks.safetensors"
    training.load(half, state)
    assert state.step == ranked.HALF
    training.train(state, give, half, lambda loss: None)
    assert apart(load_tensors(half, "training")[0], whole) < TRAINED


def test_what_one_rank_meets_all_act_upon(done: Path) -> None:
    """The second's prior returned what is no number, and later ran out of memory: the first was told, and both went
    on."""
    first, second = (json.loads((done / f"sick-{rank}.json").read_text()) for rank in range(2))
    assert first["told"] == "iteration 1 of 8 diverged: rank 1 of 2 could not go on" and first["restored"]
    assert first["level"] == second["level"] == 1
    assert first["iteration"] == second["iteration"] == 4 and first["phi"] == second["phi"]


# What ends one rank


RUN = ["prompt=a red car", "outputs=minimal", "stages=1", "hydra.run.dir=made", "method.views=2"]


def command(prior: Path, *settings: str) -> list[str]:
    """The main job at the size of `tiny`, for longer than anybody waits."""
    return [*RUN, f"prior.weights={prior}", "prior.precision=float32", "method.iterations=100000", *NERF, *settings]


def lines(folder: Path) -> int:
    """Iterations that are in metrics.jsonl."""
    metrics = folder / "made" / "metrics.jsonl"
    return len(metrics.read_text().splitlines()) if metrics.exists() else 0


def under_way(folder: Path, processes: Sequence[Verb]) -> None:
    """Wait until a run has taken some iterations."""
    awaited(lambda: lines(folder) > 2 or any(each.poll() is not None for each in processes) or None, 120)
    assert all(each.poll() is None for each in processes), [each.communicate() for each in processes]


def told(said: str) -> list[str]:
    """The lines of ours that are no progress."""
    found = [line for line in said.replace("\r", "\n").splitlines() if line.startswith("text23d: ")]
    return [line for line in found if not line.startswith(("text23d: 'a red car'", "text23d: iteration"))]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_rank_that_ends_or_hangs_ends_the_other_in_one_line(
    victim: int, number: int, tmp_path: Path, tiny_prior: Path
) -> None:
    both = start(command(tiny_prior), tmp_path)
    try:
        under_way(tmp_path, both)
        begin, done = time.monotonic(), lines(tmp_path)
        both[victim].send_signal(number)
        said = both[1 - victim].communicate(timeout=60)[1]
        assert time.monotonic() - begin < 60 and both[1 - victim].returncode == 2
        (line,) = told(said)
        how = "another of the 2 ranks has ended" if number == signal.SIGKILL else f"rank {victim} of 2 was not heard of"
        assert how in line and "Traceback" not in said
        if victim == 1:  # the first has kept all that was done
            kept = max(map(int, (each.stem for each in (tmp_path / "made" / "checkpoints").glob("*.safetensors"))))
            assert kept >= done and f"resume={tmp_path / 'made'} goes on" in line
            if number == signal.SIGKILL:
                goes_on(tmp_path, tiny_prior, kept)
    finally:
        for each in both:
            each.kill()
            each.communicate()


def goes_on(folder: Path, prior: Path, kept: int) -> None:
    """One process goes on where two ranks were."""
    program = command(prior, "resume=made", f"method.iterations={kept + 1}", "resume.force=true")
    done = verbs.done(*program, cwd=folder, timeout=120)
    assert done.returncode == 0, done.stderr
    assert lines(folder) == kept + 1


def test_a_signal_to_one_rank_ends_all_and_the_first_tells(tmp_path: Path, tiny_prior: Path) -> None:
    both = start(command(tiny_prior), tmp_path)
    try:
        under_way(tmp_path, both)
        both[1].send_signal(signal.SIGTERM)
        first, second = (each.communicate(timeout=60)[1] for each in both)
        (line,) = told(first)
        assert "interrupted after" in line and not told(second) and "Traceback" not in first + second
        assert [each.returncode for each in both] == [130, 130]
    finally:
        for each in both:
            each.kill()
            each.communicate()


def test_torchrun(tmp_path: Path, tiny_prior: Path) -> None:
    """Two runs, in a folder with a time stamp of one of them; and a mistake, told once."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", f"--master-port={free_port()}"]
    launch += ["-m", "text23d.run"]
    given: dict[str, Any] = {"cwd": tmp_path, "env": environment(), "text": True, "capture_output": True}
    program = [each for each in command(tiny_prior, "method.iterations=3") if not each.startswith("hydra.run.dir")]
    good = subprocess.run([*launch, *program], **given)
    assert good.returncode == 0, good.stderr
    (summary,) = (tmp_path / "outputs").glob("*/*/summary.json")
    assert len((summary.parent / "metrics.jsonl").read_text().splitlines()) == 3
    assert len([line for line in good.stderr.splitlines() if "text23d: done in" in line]) == 1
    bad = subprocess.run([*launch, *program, "methd.views=2"], **given)
    (line,) = told(bad.stderr)
    assert bad.returncode != 0 and "did you mean method.views" in line


def test_more_ranks_than_views_are_refused() -> None:
    assert [Ranks(rank, 3).share(7) for rank in range(3)] == [range(2), range(2, 4), range(4, 7)]
    assert ALONE.share(1) == range(1)
    with pytest.raises(UserError, match=r"^3 ranks share 2 views: expected at least one for each; start fewer ranks"):
        Ranks(1, 3).share(2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"RANK": "1", "WORLD_SIZE": "2", "MASTER_PORT": "1"}, "RANK=1, but no MASTER_ADDR: start several ranks"),
        ({"RANK": "2", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "RANK=2 of WORLD_SIZE=2: expected"),
        ({"RANK": "x", "WORLD_SIZE": "2", "MASTER_ADDR": "a", "MASTER_PORT": "1"}, "rank=x: expected a whole number"),
    ],
)
def test_an_environment_that_is_none(given: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert Environment.found() is None
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=message):
        Environment.found()
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert Environment.found() is None
