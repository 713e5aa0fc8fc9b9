"""What a person may tell a run on its way: commands that are data, done between iterations, and kept by the run."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pipelines
import pytest
import torch
from tiny import IMAGE, LOOP, NERF, PROMPT, settings

from text23d.checkpoint import load
from text23d.compose import compose
from text23d.engine import job, steering
from text23d.engine.build import build_run, retold
from text23d.engine.commands import (
    INBOX,
    LARGEST,
    LONGEST,
    Command,
    Guidance,
    Pause,
    Prompt,
    Resume,
    Stop,
    ready,
    received,
    send,
    spelled,
    understood,
)
from text23d.engine.events import Event, Iterated, Noted, Paused
from text23d.engine.loop import advance
from text23d.engine.spoken import spoken
from text23d.errors import Interrupted, UserError
from text23d.files import load_tensors

ALL: list[Command] = [Pause(), Resume(), Stop(), Prompt("a blue mug"), Guidance(2.5), Guidance(0.0, "windows")]
WATCHED = ("viewer=on", "viewer.start=false")
MUG, STRONG = Prompt("a blue mug"), Guidance(5.0)


@pytest.fixture
def cfg(tiny_prior: Path) -> dict[str, Any]:
    return settings(tiny_prior, *IMAGE, *WATCHED, "checkpoint.every=0", "checkpoint.keep=9")


@pytest.fixture(scope="module")
def plain(tiny_prior: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """phi of the run that nobody watches."""
    folder = tmp_path_factory.mktemp("plain")
    job.execute(settings(tiny_prior, *IMAGE), folder)
    return phi(folder)


@pytest.fixture(scope="module")
def steered(tiny_prior: Path) -> dict[str, torch.Tensor]:
    """phi of a run that was asked for something else after two iterations, taken by hand."""
    cfg = settings(tiny_prior, *IMAGE)
    state, parts = build_run(cfg, torch.device("cpu"))
    for iteration in range(4):
        if iteration == 2:
            parts = retold(parts, {**cfg, "prompt": "a blue mug", "prior": {**cfg["prior"], "guidance": 5.0}})
        advance(state, parts)
    return state.result().state_dict()


def phi(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("*.safetensors")
    return load_tensors(path, path.stem)[0]


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def telling(folder: Path, told: dict[int, list[Command]], heard: list[Event]) -> Callable[[Event], None]:
    """A listener that leaves commands for the run after these iterations."""

    def on_event(event: Event) -> None:
        heard.append(event)
        if isinstance(event, Iterated):
            for command in told.get(event.iteration, []):
                send(folder, command)

    return on_event


def notes(events: list[Event]) -> str:
    return "\n".join(event.text for event in events if isinstance(event, Noted))


# The channel


@pytest.mark.parametrize("command", ALL, ids=str)
def test_a_command_is_read_as_it_was_said(command: Command) -> None:
    assert understood(json.loads(json.dumps(spelled(command)))) == command


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        ({}, "no command null: expected one of pause, resume, stop, prompt, guidance"),
        ({"command": "run", "prompt": "x"}, "no command run"),
        ({"command": ["pause"]}, "no command"),
        ("pause", "no command pause"),
        ([1, 2], "no command"),
        ({"command": "pause", "for": 3}, "the command pause has no for"),
        ({"command": "prompt"}, "no prompt.prompt given"),
        ({"command": "prompt", "prompt": "  "}, f"expected text of 1 to {LONGEST} characters"),
        ({"command": "prompt", "prompt": "x" * (LONGEST + 1)}, f"expected text of 1 to {LONGEST} characters"),
        ({"command": "prompt", "prompt": 3}, "expected text"),
        ({"command": "prompt", "prompt": "\ud83d"}, "expected text"),
        ({"command": "prompt", "prompt": {"_target_": "os.system"}}, "prompt.prompt"),
        ({"command": "guidance", "scale": "3"}, "guidance.scale=3: expected a number"),
        ({"command": "guidance", "scale": float("nan")}, "expected a number"),
        ({"command": "guidance", "scale": -1}, "at least 0"),
        ({"command": "guidance", "scale": 1e9}, "at most 1000"),
        ({"command": "guidance", "scale": True}, "guidance.scale"),
        ({"command": "guidance", "scale": 1.0, "of": "all"}, "one of views, windows"),
    ],
)
def test_all_else_is_refused_in_one_line(said: Any, complaint: str) -> None:
    with pytest.raises(UserError) as raised:
        understood(said)
    assert complaint in str(raised.value) and "\n" not in str(raised.value)


def test_commands_arrive_once_in_their_order_and_are_the_owners_alone(tmp_path: Path) -> None:
    ready(tmp_path)
    assert os.name == "nt" or (tmp_path / INBOX).stat().st_mode & 0o077 == 0
    for command in ALL:
        send(tmp_path, command)
    assert list(received(tmp_path)) == ALL
    assert list(received(tmp_path)) == [] == list((tmp_path / INBOX).iterdir())


def test_half_written_damaged_and_foreign_files_do_no_harm(tmp_path: Path) -> None:
    ready(tmp_path)
    inbox = tmp_path / INBOX
    (inbox / ".part-1-a.json").write_text('{"command": "pa')  # is being written
    (inbox / "1.json").write_text('{"command": "pa')
    (inbox / "2.json").write_bytes(b'{"command": "pause"' + b" " * LARGEST + b"}")
    (inbox / "3.json").write_bytes(b"\xff\xfe")
    (inbox / "4.json").write_text("[" * 5000)
    (inbox / "5.json").mkdir()
    (inbox / "6.txt").write_text('{"command": "stop"}')
    secret = tmp_path / "secret.json"
    secret.write_text('{"command": "stop"}')
    (inbox / "7.json").symlink_to(secret)
    send(tmp_path, Pause())
    good, *bad = received(tmp_path)
    assert good == Pause() and len(bad) == 4 and all(isinstance(each, UserError) for each in bad)
    left = {".part-1-a.json", "5.json", "6.txt", "7.json"}
    assert secret.exists() and {each.name for each in inbox.iterdir()} == left
    assert list(received(tmp_path)) == []


def test_what_was_left_for_an_earlier_run_is_not_for_the_next(tmp_path: Path) -> None:
    send(tmp_path, Stop())
    ready(tmp_path)
    assert list(received(tmp_path)) == []


# The run


def test_a_change_applies_from_the_next_iteration_on(tiny_prior: Path, tmp_path: Path) -> None:
    """The run equals iterations taken by hand, the first two with one configuration and the others with another."""
    heard, cfg = list[Event](), settings(tiny_prior, *WATCHED)
    summary = job.execute(cfg, tmp_path, telling(tmp_path, {2: [MUG, STRONG], 3: [Guidance(0.5, "windows")]}, heard))
    state, parts = build_run(cfg, torch.device("cpu"))
    later = {**cfg, "prompt": "a blue mug", "prior": {**cfg["prior"], "guidance": 5.0}}
    last = {**later, "stage": {**cfg["stage"], "guidance": 0.5}}
    for now in (cfg, cfg, later, last):
        parts = retold(parts, now)
        advance(state, parts)
    assert same(state.phi.state_dict(), phi(tmp_path))
    assert "from iteration 3 on the prompt is 'a blue mug'" in notes(heard)
    assert "from iteration 4 on the guidance of windows is 0.5" in notes(heard)
    assert summary["prompt"] == "a blue mug" and summary["score"]
    recorded = [(each["iteration"], understood({k: v for k, v in each.items() if k not in ("iteration", "time")}))
                for each in steering.read_records(tmp_path / "commands.jsonl")]  # fmt: skip
    assert recorded == [(2, MUG), (2, STRONG), (3, Guidance(0.5, "windows"))]
    assert summary["commands"] == steering.read_records(tmp_path / "commands.jsonl")


def test_a_pretrained_prior_is_told_too(tmp_path: Path) -> None:
    """It is read again, with the encoder that reads the new prompt."""
    model, folder = pipelines.save("sd", tmp_path / "model"), tmp_path / "run"
    shape = (*PROMPT, *LOOP, *NERF, "prior=hub", f"prior.path={model}", "device=cpu", *WATCHED)
    cfg, heard = compose("config", [*shape, "method.size.stages=[[0,8]]"]), list[Event]()
    job.execute(cfg, folder, telling(folder, {2: [Prompt("a corgi in a hat"), Guidance(4.0)]}, heard))
    state, parts = build_run(cfg, torch.device("cpu"))
    later = {**cfg, "prompt": "a corgi in a hat", "prior": {**cfg["prior"], "guidance": 4.0}}
    for now in (cfg, cfg, later, later):
        parts = retold(parts, now)
        advance(state, parts)
    assert same(state.phi.state_dict(), phi(folder)) and "the prompt is 'a corgi in a hat'" in notes(heard)


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_resumed_run_keeps_the_changes(
    cfg: dict[str, Any], steered: dict[str, torch.Tensor], tmp_path: Path, lost: int
) -> None:
    """Also where it goes on from before them, or begins anew for want of a checkpoint, and nobody watches any more: it
    meets them again where they were."""
    told: dict[int, list[Command]] = {2: [MUG, STRONG]}
    folder = tmp_path / "broken"
    with pytest.raises(Interrupted):
        job.execute(cfg, folder, telling(folder, {**told, 3: [Stop()]}, []))
    for number in range(4 - lost, 4):
        (folder / "checkpoints" / f"{number:06d}.safetensors").unlink()
    unwatched = {**cfg, "viewer": {"active": False}, "resume": {"folder": "auto", "force": False}}
    job.execute(unwatched, folder)
    assert same(phi(folder), steered)
    record = steering.read_records(folder / "commands.jsonl")
    assert [each["command"] for each in record] == ["prompt", "guidance", "stop"]
    assert not (folder / "viewer" / "status.json").exists(), "nobody listens any more"


def test_a_record_that_is_lost_or_damaged_is_in_the_checkpoint(
    cfg: dict[str, Any], steered: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    folder, heard = tmp_path / "broken", list[Event]()
    with pytest.raises(Interrupted):
        job.execute(cfg, folder, telling(folder, {2: [MUG, STRONG], 3: [Stop()]}, []))
    (folder / "commands.jsonl").write_text('{"iteration": 1, "command": "prompt"}\n')
    assert load(folder / "checkpoints" / "000003.safetensors")["commands"]
    job.execute({**cfg, "resume": {"folder": "auto", "force": False}}, folder, heard.append)
    assert same(phi(folder), steered) and "commands.jsonl is damaged" in notes(heard)


def test_what_cannot_be_asked_for_changes_nothing(
    cfg: dict[str, Any], plain: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    heard: list[Event] = []
    (tmp_path / INBOX).mkdir(parents=True)
    job.execute(cfg, tmp_path, telling(tmp_path, {1: [Prompt("a blorb")], 2: [Prompt("red red")]}, heard))
    assert same(phi(tmp_path), plain)
    assert "refused: the built-in prior does not know the word 'blorb'" in notes(heard)
    assert all(each["refused"] for each in steering.read_records(tmp_path / "commands.jsonl"))


def test_priors_and_runs_without_what_is_to_change() -> None:
    with pytest.raises(UserError, match="this prior has no guidance"):
        steering.altered({"prior": {}}, [STRONG])
    with pytest.raises(UserError, match="this run has no fine stage"):
        steering.altered({"prior": {"guidance": 1.0}, "stage": {}}, [Guidance(1.0, "windows")])
    with pytest.raises(UserError, match="prompts for parts"):
        steering.altered({"regions": {"left": "x"}}, [MUG])


def test_a_new_change_takes_the_place_of_later_ones(tmp_path: Path) -> None:
    """As after a run went back: what was told then is told no more."""
    record = steering.Steering(tmp_path)
    record.add(5, MUG)
    record.add(3, STRONG)
    assert record.changes(9) == [STRONG] and record.changes(2) == [] and record.last(9) == 3
    again = steering.Steering(tmp_path)
    again.load([], print)
    assert again.changes(9) == [STRONG]


# Pause and stop


def test_a_pause_is_told_trips_no_watchdog_and_changes_nothing(
    cfg: dict[str, Any], plain: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    heard: list[Event] = []
    tell = telling(tmp_path, {2: [Pause()]}, heard)

    def on_event(event: Event) -> None:
        tell(event)
        if isinstance(event, Paused):
            threading.Timer(1.5, send, (tmp_path, Resume())).start()

    summary = job.execute({**cfg, "health": {**cfg["health"], "stall": 1.0}}, tmp_path, on_event)
    (pause,) = [event for event in heard if isinstance(event, Paused)]
    assert pause == Paused(2, 4) and spoken(pause)[0].startswith("paused after 2 of 4 iterations: resume it")
    assert "goes on after a pause of" in notes(heard) and "paused after 2 of 4" in (tmp_path / "log.txt").read_text()
    assert 1.4 < summary["seconds"]["paused"] < 30 and same(phi(tmp_path), plain)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_ends_a_pause(cfg: dict[str, Any], tmp_path: Path) -> None:
    def on_event(event: Event) -> None:
        if isinstance(event, Iterated) and event.iteration == 2:
            send(tmp_path, Pause())
        if isinstance(event, Paused):
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()

    start = time.monotonic()
    with pytest.raises(Interrupted, match="interrupted after 2 of 4 iterations"):
        job.execute(cfg, tmp_path, on_event)
    assert time.monotonic() - start < 60 and (tmp_path / "checkpoints" / "000002.safetensors").exists()


def test_a_run_that_was_stopped_goes_on_to_the_same_bytes(
    cfg: dict[str, Any], plain: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    heard: list[Event] = []
    with pytest.raises(Interrupted, match=r"interrupted after 1 of 4 iterations: .* resume="):
        job.execute(cfg, tmp_path, telling(tmp_path, {1: [Stop()]}, heard))
    assert "told to stop after iteration 1" in notes(heard)
    job.execute({**cfg, "resume": {"folder": "auto", "force": False}}, tmp_path)
    assert same(phi(tmp_path), plain)
