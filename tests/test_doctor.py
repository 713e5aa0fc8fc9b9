"""The doctor finds what would stop a run, survives what a check does, and measures against recorded figures."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from text23d import doctor
from text23d.paths import weights_dir
from text23d.studies.doctor import devices, examination, machine, packages, speed, storage, weights
from text23d.studies.doctor.finding import Finding

ROOT = Path(__file__).resolve().parent.parent


def states(found: Iterator[Finding]) -> dict[str, str]:
    return {each.name: each.state for each in found}


def environment(*folders: Path) -> dict[str, str]:
    """One in which modules in these folders come before all others."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [*folders, ROOT]))}


@pytest.fixture
def blocked(tmp_path: Path) -> Any:
    """Makes an environment in which a package cannot be imported."""

    def block(*names: str) -> dict[str, str]:
        for name in names:
            (tmp_path / "blocked" / name).mkdir(parents=True)
            (tmp_path / "blocked" / name / "__init__.py").write_text(f"raise ImportError('no {name} here')")
        return environment(tmp_path / "blocked")

    return block


def asked(folder: Path, env: dict[str, str]) -> tuple[int, dict[str, Any]]:
    """The exit status of the verb, and its JSON."""
    command = [sys.executable, "-m", "text23d.doctor", "--json", "--folder", str(folder)]
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


def test_here_the_main_job_can_run_and_nothing_stays(tmp_path: Path) -> None:
    status, said = asked(tmp_path / "new" / "outputs", environment())
    assert (status, said["able"]) == (0, True), [each for each in said["checks"] if each["state"] == "failure"]
    assert {each["check"] for each in said["checks"]} == {*examination.CHECKS}
    figures = {each["name"]: each["figures"] for each in said["checks"]}
    assert 0 < figures["prior"]["share"] < 2 and figures["field"]["rate"] > 1e4
    assert list(tmp_path.iterdir()) == []


def test_a_missing_library_is_named_and_the_status_is_1(blocked: Any, tmp_path: Path) -> None:
    status, said = asked(tmp_path / "outputs", blocked("torch", "tqdm", "numpy"))
    failures = {each["name"]: each["found"] for each in said["checks"] if each["state"] == "failure"}
    assert status == 1 and not said["able"]
    assert "no torch here" in failures["torch"] and "no tqdm here" in failures["tqdm"]
    assert "no torch here" in failures["weights"]  # what cannot be looked at is no success
    assert next(each for each in said["checks"] if each["name"] == "processor")["state"] == "ok"


def test_packages_that_few_settings_require_may_be_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    found = packages.optional("transformers", "transformers", "prior=hub", "install it")
    assert found.state == "warning" and "prior=hub" in found.advice
    assert packages.optional("no-such-thing", "nosuch", "x=y", "install it").state == "ok"
    assert packages.imported("xatlas", "xatlas").state == "ok"
    monkeypatch.setitem(sys.modules, "xatlas", None)
    assert packages.imported("xatlas", "xatlas").state == "failure"


def test_every_requirement_of_the_project_is_looked_at() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = text.partition("dependencies = [")[2].partition("]\n")[0].splitlines()
    names = {
        "".join(c if c.isalnum() or c in "-_" else " " for c in line).split()[0] for line in listed if line.strip()
    }
    assert names <= {*packages.REQUIRED} and {*packages.REQUIRED} - names == {"omegaconf"}


@pytest.mark.parametrize("name", weights.FILES)
def test_damaged_and_missing_weights_are_found(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in weights_dir().glob("*.safetensors"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(weights, "weights_dir", lambda: tmp_path)
    others = {f"weights {each}": "ok" for each in weights.FILES if each != name}
    bad = {f"weights {name}": weights.FILES[name][1]}
    path = tmp_path / f"{name}.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    assert states(weights.check(tmp_path)) == others | bad
    path.unlink()
    assert states(weights.check(tmp_path)) == others | bad


def test_a_folder_that_cannot_be_written_to_is_found(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert states(storage.check(tmp_path))["writing"] == "ok"
    for folder in (tmp_path / "file", Path("/proc/outputs")):
        found = {each.name: each for each in storage.check(folder)}
        assert found["writing"].state == "failure" and str(folder) in found["writing"].found


def test_a_full_disk_is_found(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a file system of its own wants the rights to mount one")
    try:
        found = {each.name: each for each in storage.check(small)}
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)
    assert found["output folder"].state == "failure" and found["writing"].state == "failure"
    assert "No space left" in found["writing"].found


def test_without_locks_and_without_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from text23d.engine import folder as folders

    monkeypatch.setattr(folders, "_locked", lambda handle: True)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", "/nonexistent/ffmpeg")
    found = states(storage.check(tmp_path))
    assert (found["locking"], found["ffmpeg"], found["writing"]) == ("warning", "failure", "ok")


# Whatever a check does

CUSTOM = """
import os, signal, sys, time, types
from pathlib import Path
def make(name, check):
    sys.modules[f"text23d.studies.doctor.{name}"] = module = types.ModuleType(name)
    module.check = check
def good(folder):
    from text23d.studies.doctor.finding import Finding
    print("a library prints this")
    yield Finding("fine", "ok", "all is well")
def raises(folder):
    yield from good(folder)
    raise ValueError("of two\\nlines")
def leaves(folder):
    sys.exit(0)
    yield
def dies(folder):
    yield from good(folder)
    print("about to die", file=sys.stderr)
    os.kill(os.getpid(), signal.SIGILL)
    yield
def hangs(folder):
    yield from good(folder)
    time.sleep(600)
for each in (good, raises, leaves, dies, hangs):
    make(each.__name__, each)
"""


@pytest.fixture
def strange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(CUSTOM)
    monkeypatch.setenv("PYTHONPATH", environment(tmp_path)["PYTHONPATH"])


@pytest.mark.usefixtures("strange")
def test_no_check_ends_the_doctor(tmp_path: Path) -> None:
    found = examination.examine(tmp_path, ("raises", "leaves", "dies", "good"))
    assert [*found] == ["raises", "leaves", "dies", "good"]
    fine = Finding("fine", "ok", "all is well")
    assert [each.state for each in found["raises"]] == ["ok", "failure"]
    assert found["raises"][1].found == "the check ended early: ValueError: of two lines"
    assert "SystemExit" in found["leaves"][0].found
    assert found["dies"][0] == fine and found["dies"][1].found == "the check was ended by SIGILL (about to die)"
    assert "for another processor" in found["dies"][1].advice
    assert found["good"] == [fine]
    assert not examination.able(found) and examination.able({"good": found["good"]})


@pytest.mark.usefixtures("strange")
def test_a_check_that_hangs_is_given_up(tmp_path: Path) -> None:
    found = examination.examine(tmp_path, ("hangs", "good"), seconds=3)
    assert "hung for more than 3 s" in found["hangs"][1].found and found["good"][0].state == "ok"


def test_what_is_printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    report = {"a": [Finding("one", "ok", "fine"), Finding("two", "warning", "slow", "hurry")]}
    monkeypatch.setattr(doctor, "examine", lambda folder: report)
    assert doctor.main([]) == 0
    assert "The main job can run here (1 warnings)." in capsys.readouterr().out
    report["b"] = [Finding("three", "failure", "broken", "mend it")]
    assert doctor.main([]) == 1
    said = capsys.readouterr().out
    assert "FAILURE  three" in said and "mend it" in said and said.endswith("cannot run here:\n  three: broken\n")


# The machine


def test_quotas_of_both_versions_of_control_groups(tmp_path: Path) -> None:
    assert [*machine.quotas(tmp_path)] == []
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("50000\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert [*machine.quotas(tmp_path)] == [1.5, 0.5]
    (tmp_path / "cpu.max").write_text("max 100000\n")
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text("-1\n")
    assert [*machine.quotas(tmp_path)] == []


def test_threads_that_hinder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 2.0)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert machine.threads({}).state == "ok"
    assert machine.threads({"OMP_NUM_THREADS": "2"}).state == "ok"
    assert machine.threads({"OMP_NUM_THREADS": "8"}).advice.endswith("set OMP_NUM_THREADS=2")
    assert machine.threads({"OMP_WAIT_POLICY": "ACTIVE"}).state == "warning"
    monkeypatch.setattr(machine, "usable_cores", lambda: 0.5)
    assert machine.threads({}).advice.endswith("set OMP_NUM_THREADS=1")


def test_memory_is_the_least_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    for ulimit, state in ((10**8, "failure"), (10**9, "warning"), (4 * 10**9, "ok")):
        monkeypatch.setattr(machine, "known_free", lambda most=ulimit: {"machine": 10**10, "ulimit": most})
        assert machine.memory().state == state
    monkeypatch.setattr(machine, "known_free", dict)
    assert machine.memory().state == "warning"


def test_kernels_that_compute_something_else_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.ones(4)
    monkeypatch.setattr(devices.gpu_check, "operations", lambda *_: [("one", lambda: [right], lambda: [right * 1.01])])
    monkeypatch.setattr(devices.backend, "problem", lambda device: "")
    assert devices.kernels("cpu").state == "failure"
    monkeypatch.setattr(devices.backend, "problem", lambda device: "no compiled library")
    assert devices.kernels("cpu").state == "warning"


def test_what_is_expected_is_half_of_what_was_recorded() -> None:
    recorded = json.loads((ROOT / "outputs" / "benchmark" / "cpu.json").read_text())
    shares = {each["name"]: each["flops_share"] for each in recorded["operations"]}
    shares["prior"] = recorded["networks"][0]["flops_share"]
    for name, told in speed.RECORDED.items():
        assert told["AMD EPYC"] == pytest.approx(shares[name], abs=0.006)
        least = min(told.values())
        for share, state in ((0.51 * least, "ok"), (0.49 * least, "warning")):
            found = speed.compared(name, "fast", share, torch.float32, torch.device("cpu"), 1.0)
            assert (found.state, found.figures["expected"]) == (state, least / 2)
    assert speed.compared("prior", "fast", 0.0, torch.float32, torch.device("cuda"), 1.0).state == "ok"
