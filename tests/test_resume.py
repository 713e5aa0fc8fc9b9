"""A run that ends early, whatever ends it, goes on to the bytes that it would have made without a break."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_job import Unheard, left, notes_of, stop_at
from tiny import IMAGE, LOOP, NERF, PROMPT, settings

import text23d
from text23d import checkpoint
from text23d.compose import compose
from text23d.engine import job, run
from text23d.engine.checkpoints import Checkpoints, CheckpointSettings
from text23d.engine.events import Event, Finished, Iterated, Started
from text23d.engine.folder import claimed
from text23d.engine.resume import asked, changes, newest_unfinished, read_config
from text23d.errors import Interrupted, UserError
from text23d.files import JsonLines

OFTEN = "checkpoint.every=0"
GOES_ON = {"resume": {"folder": "auto", "force": False}}
FORCED = {"resume": {"folder": "auto", "force": True}}


@pytest.fixture
def cfg(tiny_prior: Path) -> dict[str, Any]:
    """An object of four iterations, with a checkpoint after each."""
    return settings(tiny_prior, OFTEN)


# To the same bytes


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupted_run_goes_on_to_the_same_bytes(at: int, cfg: dict[str, Any], tmp_path: Path) -> None:
    job.execute(cfg, tmp_path / "whole")
    with pytest.raises(Interrupted, match=f"interrupted after {at} of 4 iterations: .* resume=.* goes on"):
        job.execute(cfg, tmp_path / "run", stop_at(at))
    events: list[Event] = []
    job.execute({**cfg, **GOES_ON}, tmp_path / "run", events.append)
    assert isinstance(events[0], Started) and events[0].done == at
    assert [each.iteration for each in events if isinstance(each, Iterated)] == list(range(at + 1, 5))
    assert left(tmp_path / "run") == left(tmp_path / "whole")


def test_what_came_after_the_last_checkpoint_is_taken_again(cfg: dict[str, Any], tmp_path: Path) -> None:
    """As of a run that was killed: its metrics are ahead of its checkpoint, and its last line is torn."""
    job.execute(cfg, tmp_path / "whole")
    with pytest.raises(Unheard):
        job.execute(cfg, tmp_path / "run", stop_at(3, Unheard()))
    (tmp_path / "run" / "checkpoints" / "000003.safetensors").unlink()
    with open(tmp_path / "run" / "metrics.jsonl", "ab") as file:
        file.write(b'{"iteration": 4, "sig')
    job.execute({**cfg, **GOES_ON}, tmp_path / "run")
    assert left(tmp_path / "run") == left(tmp_path / "whole")


def test_a_run_that_died_amid_its_export_goes_on_there(tiny_prior: Path, tmp_path: Path) -> None:
    cfg = settings(tiny_prior, *IMAGE, "outputs=all")
    whole = job.execute(cfg, tmp_path / "whole")

    def die(*given: Any) -> Any:
        raise Unheard

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("text23d.tasks.picture.write_picture", die)
        with pytest.raises(Unheard):
            job.execute(cfg, tmp_path / "run")
    events: list[Event] = []
    summary = job.execute({**cfg, **GOES_ON}, tmp_path / "run", events.append)
    assert not any(isinstance(each, Iterated) for each in events) and summary["iterations"] == 4
    assert left(tmp_path / "run") == left(tmp_path / "whole")
    assert summary["nfe"] == whole["nfe"] and summary["seconds"]["optimise"] > 0


def test_seconds_are_those_of_all_processes(cfg: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        job.execute(cfg, tmp_path, stop_at(3), started=-1000.0)
    assert job.execute({**cfg, **GOES_ON}, tmp_path)["seconds"]["total"] > 1000


def test_a_finished_run_says_so_and_may_grow(cfg: dict[str, Any], tmp_path: Path) -> None:
    summary, events = job.execute(cfg, tmp_path), list[Event]()
    before = left(tmp_path)
    assert job.execute({**cfg, **GOES_ON}, tmp_path, events.append) == json.loads(json.dumps(summary))
    (finished,) = events
    assert isinstance(finished, Finished) and "nothing left to do" in finished.message and left(tmp_path) == before
    more = {**cfg, **GOES_ON, "method": {**cfg["method"], "iterations": 6}}
    grown = job.execute(more, tmp_path)
    assert grown["iterations"] == 6 and len(left(tmp_path)["metrics.jsonl"]) > len(before["metrics.jsonl"])
    assert read_config(tmp_path)["method"]["iterations"] == 6
    with pytest.raises(UserError, match=r"another configuration .method.iterations: 6 -> 4"):
        job.execute({**cfg, **GOES_ON}, tmp_path)


def test_a_finished_run_keeps_its_last_checkpoint_or_none(tiny_prior: Path, tmp_path: Path) -> None:
    for name, last, kept in (("last", "true", ["000004.safetensors"]), ("none", "false", [])):
        job.execute(settings(tiny_prior, OFTEN, f"checkpoint.last={last}"), tmp_path / name)
        assert [each.name for each in (tmp_path / name).glob("checkpoints/*")] == kept
    more = {**settings(tiny_prior, OFTEN, "method.iterations=6"), **GOES_ON}
    with pytest.raises(UserError, match="has finished, and left no checkpoint to go on from"):
        job.execute(more, tmp_path / "none")


def test_nothing_to_go_on_with_begins_anew(cfg: dict[str, Any], tmp_path: Path) -> None:
    events: list[Event] = []
    job.execute({**cfg, **GOES_ON}, tmp_path / "a", events.append)
    assert notes_of(events) == [] and isinstance(events[0], Started) and events[0].done == 0
    with pytest.raises(Interrupted):
        job.execute({**cfg, "checkpoint": {"every": None}}, tmp_path / "b", stop_at(2))
    (tmp_path / "b" / "checkpoints" / "000002.safetensors").unlink()
    job.execute({**cfg, **GOES_ON}, tmp_path / "b", events.append)
    assert notes_of(events) == [f"no whole checkpoint in {tmp_path / 'b' / 'checkpoints'}: the run begins anew"]


def test_without_resume_a_run_begins_anew(cfg: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        job.execute(cfg, tmp_path / "run", stop_at(3))
    with pytest.raises(Interrupted):
        job.execute(cfg, tmp_path / "run", stop_at(1))
    assert [each.name for each in (tmp_path / "run").glob("checkpoints/*")] == ["000001.safetensors"]


def test_from_python(tiny_prior: Path, tmp_path: Path) -> None:
    given = (*PROMPT[1:], *LOOP, *NERF, OFTEN, "prior.precision=float32")
    chosen: dict[str, Any] = {"prior.weights": str(tiny_prior), "folder": tmp_path}
    with pytest.raises(Interrupted):
        text23d.generate("a red car", *given, on_event=stop_at(2), **chosen)
    events: list[Event] = []
    result = text23d.generate("a red car", *given, on_event=events.append, resume="auto", **chosen)
    assert result.summary["iterations"] == 4 and isinstance(events[0], Started) and events[0].done == 2


# Checkpoints


@pytest.mark.parametrize("damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: flip(data)])
def test_a_damaged_checkpoint_is_told_and_the_one_before_is_used(
    damage: Callable[[bytes], bytes], cfg: dict[str, Any], tmp_path: Path
) -> None:
    job.execute(cfg, tmp_path / "whole")
    with pytest.raises(Interrupted):
        job.execute(cfg, tmp_path / "run", stop_at(3))
    newest = tmp_path / "run" / "checkpoints" / "000003.safetensors"
    newest.write_bytes(damage(newest.read_bytes()))
    events: list[Event] = []
    job.execute({**cfg, **GOES_ON}, tmp_path / "run", events.append)
    (note,) = notes_of(events)
    assert str(newest) in note and note.endswith("the checkpoint before it is used")
    assert [each.iteration for each in events if isinstance(each, Iterated)] == [3, 4]
    assert left(tmp_path / "run")["nerf.safetensors"] == left(tmp_path / "whole")["nerf.safetensors"]


def flip(data: bytes) -> bytes:
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :]


def test_the_last_and_the_best_are_kept(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, CheckpointSettings(every=0, keep=2))
    for iteration, merit in enumerate([0.1, 0.9, 0.5, None, 0.8, 0.7], 1):
        checkpoints.save(iteration, lambda: {"state": {}}, lambda merit=merit: merit)  # type: ignore[misc]
    assert checkpoints.iterations() == [6, 5, 2] and checkpoints.best == {"iteration": 2, "score": 0.9}
    assert [each["best"]["iteration"] for each in checkpoints.read(pytest.fail)] == [2, 2, 2]
    checkpoints.remove_after(5)
    assert checkpoints.iterations() == [5, 2]
    checkpoints.remove_after(1)
    assert checkpoints.iterations() == [] and checkpoints.best == {}


def test_checkpoints_take_a_fiftieth_of_the_time_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("text23d.engine.checkpoints.time.monotonic", lambda: now[0])

    def slow() -> dict[str, Any]:
        now[0] += 3.0
        return {"state": {}}

    checkpoints = Checkpoints(tmp_path, CheckpointSettings(every=20))
    for seconds, due in ((19, False), (20, True)):
        now[0] = seconds
        assert checkpoints.due == due
    checkpoints.save(1, slow, lambda: None)
    for seconds, due in ((23 + 149, False), (23 + 150, True)):
        now[0] = seconds
        assert checkpoints.due == due
    now[0] = 1e9
    assert not Checkpoints(tmp_path, CheckpointSettings(every=None)).due


def test_a_disk_that_fills_up_ends_the_run_with_its_checkpoint_whole(
    cfg: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job.execute(cfg, tmp_path / "whole")
    save = checkpoint.save

    def full(path: Path, state: Any) -> None:
        if path.name > "000002.safetensors":
            raise UserError(f"cannot write {path}: No space left on device")
        save(path, state)

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "save", full)
        with pytest.raises(UserError, match=r"No space left on device; then resume=.* goes on"):
            job.execute(cfg, tmp_path / "run")
    job.execute({**cfg, **GOES_ON}, tmp_path / "run")
    assert left(tmp_path / "run") == left(tmp_path / "whole")


# Whether it is the same run


def test_another_configuration_is_refused_with_its_differences(cfg: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        job.execute(cfg, tmp_path, stop_at(2))
    other = {**cfg, "seed": 1, "prompt": "a green car"}
    with pytest.raises(UserError, match=r"\(prompt: a red car -> a green car; seed: 0 -> 1\)") as raised:
        job.execute({**other, **GOES_ON}, tmp_path)
    assert "\n" not in str(raised.value) and "resume.force=true" in str(raised.value)
    assert job.execute({**other, **FORCED}, tmp_path)["prompt"] == "a green car"


def test_a_configuration_that_was_edited_is_another(cfg: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        job.execute(cfg, tmp_path, stop_at(2))
    edited = {**read_config(tmp_path), "seed": 7}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(edited))
    with pytest.raises(UserError, match="seed: 0 -> 7"):
        job.execute({**edited, **GOES_ON}, tmp_path)


def test_other_parts_are_refused_even_by_force(cfg: dict[str, Any], tiny_prior: Path, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        job.execute(cfg, tmp_path, stop_at(2))
    with pytest.raises(UserError, match="the checkpoint is of a run with other parts"):
        job.execute({**settings(tiny_prior, *IMAGE), **FORCED}, tmp_path)


def test_changes_are_named() -> None:
    before = {"seed": 0, "method": {"iterations": 4, "views": 2, "sizes": (1, 2)}, "resume": {"folder": None}}
    assert changes(before, {**before, "resume": {"folder": "auto"}, "health": {"retries": 1}}) == []
    now = {"seed": 0, "method": {"iterations": 5, "sizes": [1, 2], "lr": 0.1}}
    assert changes(before, now) == ["method.views: 2 -> nothing", "method.lr: nothing -> 0.1"]
    assert changes(now, before)[0] == "method.iterations: 5 -> 4"
    assert changes({"a": {}}, {"a": {"b": 1}}) == ["a: {} -> nothing", "a.b: nothing -> 1"]


def test_what_is_asked_for_is_the_runs_own_but_for_the_overrides() -> None:
    saved = compose("config", ["prompt=a mug", "seed=3", "method=sds"])
    composed = compose("config", ["prompt=x", "method.views=3", "method/sigma=constant", "resume=there"])
    overrides = ["method.views=3", "method/sigma=constant", "+added=1", "resume.folder=there"]
    found = asked(saved, {**composed, "added": 1}, overrides)
    assert (found["prompt"], found["seed"], found["method"]["views"], found["added"]) == ("a mug", 3, 3, 1)
    assert found["method"]["sigma"] == composed["method"]["sigma"] != saved["method"]["sigma"]
    assert found["method"]["_target_"] == saved["method"]["_target_"] != composed["method"]["_target_"]
    assert found["resume"] == {"folder": "there", "force": False}


def test_the_newest_unfinished_run_of_this_configuration(cfg: dict[str, Any], tmp_path: Path) -> None:
    assert newest_unfinished(tmp_path / "nowhere", cfg) is None
    for name, change in (("old", {}), ("new", {}), ("other", {"seed": 5})):
        with pytest.raises(Interrupted):
            job.execute({**cfg, **change}, tmp_path / "day" / name, stop_at(1))
    job.execute(cfg, tmp_path / "day" / "finished")
    (tmp_path / "day" / "damaged").mkdir()
    (tmp_path / "day" / "damaged" / "config.yaml").write_text("{")
    assert newest_unfinished(tmp_path, {**cfg, **GOES_ON}) == tmp_path / "day" / "new"
    with claimed(tmp_path / "day" / "new"):
        assert newest_unfinished(tmp_path, cfg) == tmp_path / "day" / "old"


def test_lines_are_cut_back(tmp_path: Path) -> None:
    with JsonLines(tmp_path / "lines") as lines:
        for iteration in range(1, 6):
            lines.write({"iteration": iteration})
        lines.cut(lambda line: line["iteration"] <= 3)
        lines.write({"iteration": 4, "again": True})
        lines.cut(lambda line: line["missing"])
        assert (tmp_path / "lines").read_bytes() == b""
        lines.write({"iteration": 1})
    assert (tmp_path / "lines").read_text() == '{"iteration": 1}\n'


def test_what_it_was_begun_with_is_told(cfg: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Interrupted):
        job.execute(cfg, tmp_path, stop_at(2))
    monkeypatch.setattr(run, "__version__", "9.9")
    events: list[Event] = []
    summary = job.execute({**cfg, **GOES_ON}, tmp_path, events.append)
    assert summary["troubles"] == notes_of(events) and "goes on with 9.9" in notes_of(events)[0]
