"""Files of a run that a disk or a hand has damaged: resumed, it ends with the same bytes, or says in a line why not."""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kill_harness import results
from test_job import notes_of, stop_at
from tiny import settings

from text23d.engine import job
from text23d.engine.events import Event
from text23d.engine.past import past_config
from text23d.engine.resume import asked
from text23d.engine.spoken import spoken
from text23d.errors import Interrupted, UserError

GOES_ON = {"folder": "auto", "force": False}
HELD = ("contact.png", "metrics.jsonl", "nerf.safetensors", "config.yaml")
"""What the last checkpoint can make again."""


@pytest.fixture(scope="module")
def runs(tiny_prior: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run, and one that was interrupted after its last look."""
    folder, cfg = tmp_path_factory.mktemp("runs"), settings(tiny_prior, "checkpoint.every=0", "checkpoint.keep=3")
    job.execute(cfg, folder / "whole")
    with pytest.raises(Interrupted):
        job.execute(cfg, folder / "begun", stop_at(3))
    return folder


def damages(data: bytes, rng: random.Random) -> Iterator[bytes]:
    """Cut short at a random place, and with a random bit that is another."""
    yield data[: rng.randrange(len(data))]
    at = rng.randrange(len(data))
    yield data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def go_on(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """Resume the run in `folder` with its own configuration: what it leaves, and what it said."""
    events: list[Event] = []
    saved = past_config(folder)
    job.execute(asked(saved, {**saved, "resume": GOES_ON}, []), folder, events.append)
    assert [line for event in events for line in spoken(event)]
    return {**results(folder), "config.yaml": None}, notes_of(events)


@pytest.mark.parametrize("state", ["begun", "whole"])
@pytest.mark.parametrize("name", [*HELD, "summary.json", *(f"checkpoints/00000{i}.safetensors" for i in (1, 2, 3))])
def test_a_damaged_file(name: str, state: str, runs: Path, tmp_path: Path) -> None:
    expected = {**results(runs / "whole"), "config.yaml": None}
    if not (runs / state / name).exists() or (state == "whole" and name in HELD[:2] + HELD[3:]):
        pytest.skip("a finished run has no such file, or nobody reads it any more")
    rng = random.Random(name)
    for kind, data in enumerate(damages((runs / state / name).read_bytes(), rng)):
        folder = tmp_path / str(kind)
        shutil.copytree(runs / state, folder)
        (folder / name).write_bytes(data)
        try:
            found, notes = go_on(folder)
        except UserError as error:  # a setting that has become another
            assert name == "config.yaml" and "another configuration" in str(error) and "\n" not in str(error)
            continue
        troubled = [each for each in expected if found.get(each) != expected[each]]
        assert troubled in ([], ["summary.json"] if name == "summary.json" else [])
        if name.endswith("3.safetensors") and state == "begun":
            assert any("the checkpoint before it is used" in note for note in notes)


@pytest.mark.parametrize("name", HELD)
def test_a_missing_file(name: str, runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "begun", tmp_path / "run")
    (tmp_path / "run" / name).unlink()
    found, _ = go_on(tmp_path / "run")
    assert found == {**results(runs / "whole"), "config.yaml": None}


@pytest.mark.parametrize("name", ["nerf.safetensors", "summary.json"])
def test_what_a_finished_run_says_of_itself_is_checked(name: str, runs: Path, tmp_path: Path) -> None:
    """Its phi is compared with its checksum, and the summary has all the figures that are told."""
    shutil.copytree(runs / "whole", tmp_path / "run")
    data = (tmp_path / "run" / name).read_bytes()
    (tmp_path / "run" / name).write_bytes(data.replace(b'"seconds"', b'"sekonds"').replace(b"prompt", b"tpmorp"))
    found, notes = go_on(tmp_path / "run")
    assert found == {**results(runs / "whole"), "config.yaml": None}
    assert any("it is made again from the last checkpoint" in note for note in notes)


def test_what_a_killed_writer_had_begun_is_taken_away(runs: Path, tmp_path: Path) -> None:
    """By us, and by safetensors, which writes beside its place under names of its own."""
    shutil.copytree(runs / "begun", tmp_path / "run")
    for place in (tmp_path / "run", tmp_path / "run" / "checkpoints"):
        for name in (".part-1-abcd.png", ".tmpmHR8oU"):
            (place / name).write_bytes(b"half")
    go_on(tmp_path / "run")
    assert [each for each in (tmp_path / "run").rglob(".*")] == []
