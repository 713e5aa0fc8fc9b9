"""Several processes, one scene: two ranks do what one process does, and what ends one ends all, in one line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import ranked
from ranked import CASES, TRAININGS
from torch import Tensor

from text23d import checkpoint
from text23d.engine import training
from text23d.files import load_tensors

TESTS = Path(__file__).parent
SAME = 1e-5
"""How far two ranks may be from one process, relatively."""


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


def start(command: Sequence[str], folder: Path, size: int = 2) -> list[subprocess.Popen[str]]:
    """The same command on several ranks, by hand."""
    port = free_port()
    return [
        subprocess.Popen(
            [sys.executable, *command], cwd=folder, env=environment(rank, size, port), text=True, stderr=subprocess.PIPE
        )
        for rank in range(size)
    ]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, tiny_prior: Path) -> Path:
    """The folder in which one process, and then two ranks, have left all cases and trainings."""
    folder = tmp_path_factory.mktemp("ranks")
    ranked.known(folder)
    program = [str(TESTS / "ranked.py"), str(folder), str(tiny_prior)]
    subprocess.run([sys.executable, *program], env=environment(), check=True, timeout=900)
    both = start(program, folder)
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
    """After 20 steps; every second case from half-way of one process, the others left half-way to one."""
    whole, first, second = (checkpoint.load(done / f"{case}-{each}.safetensors") for each in ("alone", "0", "1"))
    expected = whole["state"]
    assert apart(first["state"]["phi"], done_begin(case, done)) > 1e-3, "phi has moved"
    for part in ("phi", "average", "warm", "learner"):
        assert apart(first["state"][part], expected[part]) < SAME, part
        assert not apart(second["state"][part], first["state"][part]), "the ranks have the same bits"
    for found, figures in zip(first["figures"], whole["figures"], strict=True):
        assert all(
            found[name] is figures[name] is None or found[name] == pytest.approx(figures[name], rel=1e-4)
            for name in figures
        )


def done_begin(case: str, folder: Path) -> Mapping[str, Any]:
    """phi of one process half-way."""
    begin: Mapping[str, Any] = checkpoint.load(folder / f"{case}-half.safetensors")["state"]["phi"]
    return begin


@pytest.mark.parametrize("case", list(CASES)[::2])
def test_one_process_goes_on_where_two_ranks_were(case: str, done: Path, tiny_prior: Path) -> None:
    state, parts = ranked.made(done, tiny_prior, case)
    state.load(checkpoint.load(done / f"{case}-half-0.safetensors")["state"])
    assert state.iteration == ranked.STEPS // 2
    ranked.run(state, parts)
    expected = checkpoint.load(done / f"{case}-alone.safetensors")["state"]
    assert state.iteration == ranked.STEPS and apart(state.state()["phi"], expected["phi"]) < SAME


@pytest.mark.parametrize("name", TRAININGS)
def test_two_ranks_train_as_one_process_does(name: str, done: Path) -> None:
    """The whole; and the second half of what one process began, and the other way round."""
    whole, facts = load_tensors(done / f"{name}-alone.safetensors", "training")
    for file in (f"{name}-ranks", f"{name}-half"):
        found, said = load_tensors(done / f"{file}.safetensors", "training")
        assert apart(found, whole) < SAME
        assert said | {"seconds": 0} == facts | {"seconds": 0}
    state, give = TRAININGS[name](done, ranked.ODD)
    file = done / f"{name}-half-ranks.safetensors"
    training.load(file, state)
    assert state.step == ranked.HALF
    training.train(state, give, file, lambda loss: None)
    assert apart(load_tensors(file, "training")[0], whole) < SAME
