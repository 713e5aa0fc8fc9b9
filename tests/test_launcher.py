"""The launcher: jobs beside each other, failures that stay alone, and processes that end when they should."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from threading import Thread

import pytest

from text23d.studies import launcher
from text23d.studies.launcher import Job, launch

STUB = """
import json, os, pathlib, signal, sys, time
from text23d.studies import worker

def work(folder, *overrides):
    asked = dict(each.split("=", 1) for each in overrides)
    note = pathlib.Path(folder) / "note.json"
    found = {"begin": time.time(), "pid": os.getpid(), "threads": os.environ["OMP_NUM_THREADS"], "asked": asked}
    note.write_text(json.dumps(found))
    if "deaf" in asked:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    print("working", flush=True)
    try:
        time.sleep(float(asked.get("sleep", 0)))
    except KeyboardInterrupt:
        note.write_text(json.dumps({**found, "saved": True}))
        raise
    note.write_text(json.dumps({**found, "end": time.time()}))
    sys.exit(int(asked.get("status", 0)))

worker.work = work
worker.main()
"""
"""A worker whose job sleeps and ends with a status, as it is asked to."""


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "COMMAND", (sys.executable, "-c", STUB))


def note(folder: Path) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "note.json").read_text())
    return found


def eventually(true: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while not true() and time.monotonic() < deadline:
        time.sleep(0.02)
    return true()


def alive(pid: object) -> bool:
    try:
        os.kill(int(str(pid)), 0)
    except ProcessLookupError:
        return False
    return "Z" not in Path(f"/proc/{pid}/stat").read_text().split(") ")[1][:1]


def test_so_many_at_a_time_each_on_its_share_of_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    jobs = [Job(("sleep=0.6", f"number={index}"), tmp_path / str(index)) for index in range(4)]
    outcomes = launch(jobs, 2, "cpu")
    assert [each.job for each in outcomes] == jobs and not any(each.failure for each in outcomes)
    notes = [note(job.folder) for job in jobs]
    assert [each["asked"]["number"] for each in notes] == list("0123")  # type: ignore[index]
    assert {each["threads"] for each in notes} == {"2"} and notes[0]["asked"]["device"] == "cpu"  # type: ignore[index]
    spans = [(float(str(each["begin"])), float(str(each["end"]))) for each in notes]
    beside = [sum(begin <= moment < end for begin, end in spans) for moment, _ in spans]
    assert max(beside) == 2, "two at once, and never three"
    assert all((job.folder / "output.txt").read_text() == "working\n" for job in jobs)


def test_a_failed_job_stops_no_other_and_names_its_log(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    statuses = {
        "good": "status=0",
        "mistake": "status=2",
        "killed": "sleep=60",
        "taken": "status=0",
        "last": "status=0",
    }
    jobs = [Job((override,), tmp_path / name) for name, override in statuses.items()]

    def kill() -> None:
        assert eventually((tmp_path / "killed" / "output.txt").exists)
        assert eventually(lambda: (tmp_path / "killed" / "output.txt").read_text() == "working\n")
        os.kill(int(str(note(tmp_path / "killed")["pid"])), signal.SIGKILL)

    killer = Thread(target=kill)
    killer.start()
    failures = {each.job.folder.name: each.failure for each in launch(jobs, 2, "cpu")}
    killer.join()
    assert failures == {
        "good": None,
        "mistake": f"see {tmp_path / 'mistake' / 'output.txt'}",
        "killed": f"it was killed by signal 9, see {tmp_path / 'killed' / 'output.txt'}",
        "taken": f"cannot write to {tmp_path / 'taken'}: File exists",
        "last": None,
    }


def test_no_jobs_have_no_outcomes() -> None:
    assert launch([], 2, "cpu") == []


@pytest.mark.parametrize("name", ["a b", "a,b", "a=b", "50%", "(x)", "Öl", "it's", "${seed}", "猫", "a\\"])
def test_folders_have_any_name(tmp_path: Path, name: str) -> None:
    job = Job((f"number={name}",), tmp_path / name)
    assert launch([job], 1, "cpu")[0].failure is None
    assert note(job.folder)["asked"] == {"device": "cpu", "number": name}


def test_an_interrupted_launch_stops_its_jobs_in_order(tmp_path: Path) -> None:
    """Each may save its work; one that does not listen is killed."""
    jobs = [Job(("sleep=60",), tmp_path / "polite"), Job(("sleep=60", "deaf=yes"), tmp_path / "deaf")]
    began = time.monotonic()

    def interrupt(*_: object) -> None:
        if all(job.log.exists() and job.log.read_text() == "working\n" for job in jobs):
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    grace, launcher.GRACE = launcher.GRACE, 2.0
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            launch(jobs, 2, "cpu")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        launcher.GRACE = grace
    assert time.monotonic() - began < 30
    polite, deaf = (note(job.folder) for job in jobs)
    assert polite["saved"] and "saved" not in deaf
    assert not alive(polite["pid"]) and not alive(deaf["pid"])


LAUNCH = """
import sys
from pathlib import Path
from text23d.studies import launcher
launcher.COMMAND = (sys.executable, "-c", {stub!r})
launcher.launch([launcher.Job(("sleep=60",), Path({folder!r}))], 1, "cpu")
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_jobs_do_not_outlive_their_launcher(tmp_path: Path, number: signal.Signals) -> None:
    """However it ends: also where nothing of it can run any more."""
    folder = tmp_path / "job"
    parent = subprocess.Popen(
        [sys.executable, "-c", LAUNCH.format(stub=STUB, folder=str(folder))],
        stderr=subprocess.DEVNULL,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),  # nohup's children ignore it
    )
    try:
        assert eventually(
            lambda: (folder / "output.txt").exists() and (folder / "output.txt").read_text() == "working\n"
        )
        pid = note(folder)["pid"]
        assert alive(pid)
        parent.send_signal(number)
        parent.wait(20)
        assert eventually(lambda: not alive(pid)) and note(folder)["saved"]
    finally:
        parent.kill()
        parent.wait()


def test_the_real_worker_tells_a_mistake_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "COMMAND", (sys.executable, "-m", "text23d.studies.worker"))
    job = Job(("prompt=a red zebra",), tmp_path / "50% (a, b) = ü")
    (outcome,) = launch([job], 1, "cpu")
    assert outcome.failure == f"see {job.log}"
    said = job.log.read_text()
    assert said.startswith("text23d: ") and said.count("\n") == 1 and "'zebra'" in said
