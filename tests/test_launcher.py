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
from typing import Any

import pytest

from text23d.engine.process import with_threads
from text23d.quoting import quoted
from text23d.studies import launcher, lease, member
from text23d.studies.launcher import Job, Outcome, launch
from text23d.studies.member import share_of_cores

STUB = """
import json, os, pathlib, signal, sys, time
from text23d.engine import worker

def work(folder, cfg):
    asked = cfg["prompt"].split("; ")
    asked = dict(each.split("=", 1) for each in asked if "=" in each)
    folder = pathlib.Path(folder)
    found = {"begin": time.time(), "pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS"), "cfg": cfg}
    (folder / "note.json").write_text(json.dumps(found))
    if "deaf" in asked:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if "status" in asked:
        print("text23d: so it is")
    print("working", flush=True)
    try:
        time.sleep(float(asked.get("sleep", 0)))
        if "hang" in asked and cfg["resume"]["folder"] is None:
            os.kill(os.getpid(), signal.SIGSTOP)
    except KeyboardInterrupt:
        (folder / "note.json").write_text(json.dumps({**found, "saved": True}))
        raise
    (folder / "note.json").write_text(json.dumps({**found, "end": time.time()}))
    if "status" in asked:
        sys.exit(int(asked["status"]))
    (folder / "summary.json").write_text("{}")

worker.work = work
worker.main()
"""
"""A worker whose job does what its prompt asks for: sleeps, hangs or ends with a status."""


def job(folder: Path, asked: str = "", *overrides: str) -> Job:
    return Job((f"prompt={quoted(asked or 'nothing')}", *overrides), folder)


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(member, "COMMAND", (sys.executable, "-c", STUB))


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
    monkeypatch.setattr(launcher, "cores", lambda: 5)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    jobs = [job(tmp_path / str(index), "sleep=0.6", f"seed={index}") for index in range(4)]
    came: list[Outcome] = []
    outcomes = launch(jobs, 2, "cpu", on_end=came.append)
    assert [each.job for each in outcomes] == jobs and not any(each.failure for each in outcomes)
    assert {each.job for each in came} == set(jobs) and len(came) == 4
    notes: list[Any] = [note(job.folder) for job in jobs]
    assert [each["cfg"]["seed"] for each in notes] == [0, 1, 2, 3]
    assert {each["threads"] for each in notes} == {"2"} and notes[0]["cfg"]["device"] == "cpu"
    spans = [(float(str(each["begin"])), float(str(each["end"]))) for each in notes]
    beside = [sum(begin <= moment < end for begin, end in spans) for moment, _ in spans]
    assert max(beside) == 2, "two at once, and never three"
    assert all((job.folder / "output.txt").read_text() == "working\n" for job in jobs)
    assert not list(tmp_path.glob(f"{lease.PREFIX}*")), "the lease has ended"


def test_threads_that_are_bounded_already_stay_so() -> None:
    assert with_threads({"OMP_NUM_THREADS": "1", "a": "b"}, 4) == {"OMP_NUM_THREADS": "1", "a": "b"}
    assert with_threads({"OMP_NUM_THREADS": "8"}, 4) == with_threads({}, 4) == {"OMP_NUM_THREADS": "4"}


def test_threads_by_the_launchers_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """joblib's so many at a time, SLURM's and Ray's so many for each."""
    monkeypatch.setattr(member, "cores", lambda: 8)
    monkeypatch.delenv("SLURM_CPUS_PER_TASK", raising=False)
    shares = {3: 2, 8: 1, 100: 1, -1: 1, 1: 8}
    assert {jobs: share_of_cores({"n_jobs": jobs}) for jobs in shares} == shares
    assert share_of_cores({"cpus_per_task": 4}) == share_of_cores({"ray": {"init": {}, "remote": {"num_cpus": 4}}}) == 4
    assert share_of_cores({"cpus_per_task": None}) == share_of_cores({"ray": {"remote": {}}}) == 1
    monkeypatch.setenv("SLURM_CPUS_PER_TASK", "6")
    assert share_of_cores({"cpus_per_task": None}) == 6


def test_a_failed_job_stops_no_other_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    asked = {
        "good": "nothing", "mistake": "status=2", "defect": "status=1", "killed": "sleep=60", "taken": "nothing",
        "last": "nothing",
    }  # fmt: skip
    jobs = [job(tmp_path / name, each) for name, each in asked.items()]

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
        "mistake": "working",
        "defect": f"working; see {tmp_path / 'defect' / 'output.txt'}",
        "killed": f"it was killed by signal 9; see {tmp_path / 'killed' / 'output.txt'}",
        "taken": f"cannot write to {tmp_path / 'taken'}: File exists",
        "last": None,
    }
    assert (tmp_path / "mistake" / "failure.txt").read_text() == "working\n"
    (again,) = launch([job(tmp_path / "mistake", "nothing")], 1)
    assert again.failure is None and not (tmp_path / "mistake" / "failure.txt").exists(), "of the attempt before"


@pytest.mark.parametrize("hangs", [1, 2])
def test_a_run_that_hangs_is_killed_and_goes_on_once(
    hangs: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stopped process hears nothing: neither its own watchdog, nor that its input has ended."""
    stub = STUB if hangs == 1 else STUB.replace(' and cfg["resume"]["folder"] is None', "")
    monkeypatch.setattr(member, "COMMAND", (sys.executable, "-c", stub))
    hanging, other = job(tmp_path / "a", "hang=yes", "health.stall=0.5"), job(tmp_path / "b", "nothing")
    first, second = launch([hanging, other], 1)
    assert second.failure is None
    assert first.failure == (None if hangs == 1 else f"it hung twice, for 0.5 s each; see {hanging.log}")
    assert hanging.log.read_text() == "working\n" * 2
    told: Any = note(hanging.folder)
    assert told["cfg"]["resume"]["folder"] == "auto" and not alive(told["pid"])


def test_a_settings_mistake_is_a_failure_of_its_run_alone(tmp_path: Path) -> None:
    wrong, right = job(tmp_path / "a", "nothing", "method.nothing=3"), job(tmp_path / "b")
    first, second = launch([wrong, right], 2)
    assert second.failure is None and "method.nothing" in str(first.failure) and "\n" not in str(first.failure)


def test_no_jobs_have_no_outcomes() -> None:
    assert launch([], 2, "cpu") == []


@pytest.mark.parametrize("name", ["a b", "a,b", "a=b", "50%", "(x)", "Öl", "it's", "${seed}", "猫", "a\\"])
def test_folders_have_any_name(tmp_path: Path, name: str) -> None:
    made = job(tmp_path / name, f"number; {name}")
    assert launch([made], 1, "cpu")[0].failure is None
    told: Any = note(made.folder)
    assert told["cfg"]["prompt"] == f"number; {name}"


def test_an_interrupted_launch_stops_its_jobs_in_order(tmp_path: Path) -> None:
    """Each may save its work; one that does not listen is killed."""
    jobs = [job(tmp_path / "polite", "sleep=60"), job(tmp_path / "deaf", "sleep=60; deaf=yes")]
    began = time.monotonic()

    def interrupt(*_: object) -> None:
        if all(job.log.exists() and job.log.read_text() == "working\n" for job in jobs):
            signal.setitimer(signal.ITIMER_REAL, 0)
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    grace, member.GRACE = member.GRACE, 2.0
    signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
    try:
        with pytest.raises(KeyboardInterrupt):
            launch(jobs, 2, "cpu")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        member.GRACE = grace
    assert time.monotonic() - began < 30
    polite, deaf = (note(job.folder) for job in jobs)
    assert polite["saved"] and "saved" not in deaf
    assert not alive(polite["pid"]) and not alive(deaf["pid"])


LAUNCH = """
import sys
from pathlib import Path
from text23d.engine.process import with_threads
from text23d.studies import launcher, member
member.COMMAND = (sys.executable, "-c", {stub!r})
launcher.launch([launcher.Job(("prompt='sleep=60'",), Path({folder!r}))], 1, "cpu")
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
    monkeypatch.setattr(member, "COMMAND", (sys.executable, "-m", "text23d.engine.worker"))
    wrong = job(tmp_path / "50% (a, b) = ü", "a red zebra")
    (outcome,) = launch([wrong], 1, "cpu")
    said = wrong.log.read_text()
    assert said == f"text23d: {outcome.failure}\n" and said.count("\n") == 1 and "'zebra'" in said


# Leases


def test_a_lease_ends_with_its_block_or_its_process(tmp_path: Path) -> None:
    with lease.lease(tmp_path) as path:
        assert lease.holds(path)
        here = path.read_text().rpartition(" ")[0]
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        path.write_text(f"{here} {dead.pid}")
        assert not lease.holds(path), "of a process that has ended"
        path.write_text(f"elsewhere pid:[1] {dead.pid}")
        assert lease.holds(path), "another machine's processes cannot be seen"
    assert not lease.holds(path) and not list(tmp_path.iterdir())


def test_the_end_of_the_lease_stops_a_run(tmp_path: Path) -> None:
    """As it does under every launcher, also on another machine."""
    done: list[None] = []
    with lease.lease(tmp_path) as path:
        cfg = {"prompt": "sleep=60", "resume": {"folder": None}}

        def supervise() -> None:
            member.supervise(cfg, tmp_path / "a", path, os.environ)
            done.append(None)

        runs = Thread(target=supervise)
        runs.start()
        assert eventually(
            lambda: (tmp_path / "a" / "note.json").exists() and note(tmp_path / "a").get("pid") is not None
        )
        assert eventually(lambda: (tmp_path / "a" / "output.txt").read_text() == "working\n")
    runs.join(20)
    assert done and note(tmp_path / "a")["saved"]
    assert (tmp_path / "a" / "failure.txt").read_text() == f"{member.STOPPED}\n"
