"""What is shown for containers and clusters is true: files are there, command lines compose, a requeued job goes on."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from processes import awaited

from text23d import cli
from text23d.door import commandline

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
SLURM = DEPLOY / "slurm.sh"


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, each on one line."""
    text = re.sub(r"^#.*\n", "", (ROOT / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def accepted(arguments: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The door reads a command line of the main job, without running it."""
    verb, *settings = cli.choose(arguments)
    settings = [each.replace("/data", str(folder)) for each in settings]
    monkeypatch.chdir(folder)
    cli.register_resolvers()
    assert verb in cli.VERBS
    if verb == "run":
        line = commandline.read(verb, settings)
        assert line.runs and set(settings) >= {each for each in settings if each.startswith("prompt=")}


def commands() -> Iterator[list[str]]:
    """The arguments of text23d in all command lines that are shown."""
    for text in re.findall(r"```\n(.*?)```", (ROOT / "CLUSTER.md").read_text(), re.S):
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            at = next((i for i, word in enumerate(words) if re.fullmatch(r"text23d(:cuda)?", word)), None)
            if at is not None and words[:2] != ["docker", "build"]:
                yield words[at + 1 :]
            if words[:1] == ["sbatch"]:
                yield ["run", *words[2:], "hydra.run.dir=/data/1", "resume=auto"]
    for container in containers():
        yield container["args"]


def containers() -> list[dict[str, Any]]:
    *_, job = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    found: list[dict[str, Any]] = job["spec"]["template"]["spec"]["containers"]
    return found


def test_command_lines_that_are_shown_compose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = list(commands())
    assert [each[0] for each in shown].count("run") >= 4 and ["doctor"] in shown
    for arguments in shown:
        accepted(arguments, tmp_path, monkeypatch)


def test_the_dockerfile_copies_what_is_there_and_ends_as_an_unprivileged_user() -> None:
    found = instructions()
    assert [each.split()[-1] for name, each in found if name == "FROM"] == ["build", "${BASE}"]
    last = dict(found)  # the last of each kind
    assert last["USER"] == "1000:1000" and last["ENTRYPOINT"] == '["text23d"]' and last["VOLUME"] == last["WORKDIR"]
    assert "OMP_WAIT_POLICY=passive" in last["ENV"] and "HOME=/home/text23d" in last["ENV"]
    (torch,) = re.findall(r'"(torch[^"]+)"', " ".join(each for name, each in found if name == "RUN"))
    assert f'"{torch}"' in (ROOT / "pyproject.toml").read_text()
    setup = (ROOT / "setup.py").read_text()
    assert "TEXT23D_CUDA_ARCH" in setup and any(kind == "ARG" and "TEXT23D_CUDA_ARCH" in each for kind, each in found)


def test_the_build_sees_what_the_installation_reads_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    kept = {line[1:] for line in lines if line.startswith("!")}
    assert lines[0] == "*" and all((ROOT / each).exists() for each in kept)
    assert {"text23d", "conf", "cuda_ext", "setup.py", "pyproject.toml", "README.md", "LICENSE"} <= kept
    assert any(fnmatch.fnmatch("text23d/kernels/_native.so", line) for line in lines)  # built for this machine


def test_the_kubernetes_job_keeps_its_work() -> None:
    claim, job = yaml.safe_load_all((DEPLOY / "kubernetes.yaml").read_text())
    pod = job["spec"]["template"]["spec"]
    (container,) = containers()
    assert (claim["kind"], job["kind"], pod["restartPolicy"]) == ("PersistentVolumeClaim", "Job", "Never")
    assert container["resources"]["limits"]["nvidia.com/mig-1g.10gb"] == 1
    assert pod["securityContext"]["runAsNonRoot"] and pod["terminationGracePeriodSeconds"] >= 30
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    folder = next(each for each in container["args"] if each.startswith("hydra.run.dir=")).partition("=")[2]
    assert folder.startswith(container["volumeMounts"][0]["mountPath"] + "/") and "resume=auto" in container["args"]
    failing, ignored = job["spec"]["podFailurePolicy"]["rules"]
    assert failing["onExitCodes"]["containerName"] == container["name"] and 143 not in failing["onExitCodes"]["values"]
    assert ignored["action"] == "Ignore"


def test_the_page_is_one_page_and_its_links_lead_somewhere() -> None:
    text = (ROOT / "CLUSTER.md").read_text()
    assert len(text.splitlines()) <= 70
    assert all((ROOT / link).is_file() for link in re.findall(r"\]\(([^)]+)\)", text))


# SLURM

STUBS = {
    "srun": 'exec "$@"\n',
    "scontrol": 'echo "$@" >> "$STUBS/requeued"\n',
    "text23d": f'exec {shlex.quote(sys.executable)} -m text23d "$@"\n',
}
TINY = (
    *("device=cpu", "representation=image", "representation.size=16", "method.views=1", "method.inner=1"),
    *("outputs=minimal", "stages=1", "checkpoint.every=null"),
)


@pytest.fixture
def slurm(tmp_path: Path, tiny_prior: Path) -> Any:
    """Starts the batch script, with stand-ins for SLURM's own programs on its path."""
    stubs = tmp_path / "stubs"
    stubs.mkdir()
    for name, text in STUBS.items():
        (stubs / name).write_text(f"#!/bin/sh\n{text}")
        (stubs / name).chmod(0o755)
    env = {
        **os.environ,
        **{"PATH": f"{stubs}:{os.environ['PATH']}", "STUBS": str(stubs), "PYTHONPATH": str(ROOT)},
        **{"SLURM_JOB_ID": "17", "SLURM_CPUS_PER_TASK": "1", "TEXT23D_RUNS": str(tmp_path / "runs")},
    }

    def start(*settings: str) -> subprocess.Popen[str]:
        command = ["bash", str(SLURM), "prompt=a red car", f"prior.weights={tiny_prior}", *TINY, *settings]
        return subprocess.Popen(command, cwd=tmp_path, env=env, stderr=subprocess.PIPE, text=True)

    return start


def test_a_job_whose_time_is_up_is_queued_again_and_goes_on(slurm: Any, tmp_path: Path) -> None:
    folder, requeued = tmp_path / "runs" / "17", tmp_path / "stubs" / "requeued"
    job = slurm("method.iterations=300")
    try:
        awaited(lambda: ((folder / "metrics.jsonl").is_file() and (folder / "metrics.jsonl").stat().st_size) or None)
        job.send_signal(signal.SIGTERM)  # to the batch script alone, as --signal=B:TERM says
        _, said = job.communicate(timeout=60)
    finally:
        job.kill()
    assert job.returncode == 143 and "interrupted after" in said, said
    assert requeued.read_text() == "requeue 17\n" and not (folder / "summary.json").exists()
    done = len((folder / "metrics.jsonl").read_text().splitlines())
    assert 1 <= done < 300
    again = slurm("method.iterations=300")
    _, said = again.communicate(timeout=120)
    assert again.returncode == 0, said
    assert f"after {done} of 300 iterations" in said and (folder / "summary.json").is_file()
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 300
    assert len(requeued.read_text().splitlines()) == 1


def test_a_mistake_is_not_queued_again(slurm: Any, tmp_path: Path) -> None:
    job = slurm("method.iterations=none")
    job.communicate(timeout=60)
    assert job.returncode == 2 and not (tmp_path / "stubs" / "requeued").exists()


def test_the_batch_script_is_read_by_bash_and_asks_for_what_is_told() -> None:
    subprocess.run(["bash", "-n", str(SLURM)], check=True)
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=?(.*)$", SLURM.read_text(), re.M))
    assert options["gres"] == "gpu:1g.10gb:1" and options["signal"] == "B:TERM@60" and "requeue" in options
    assert os.access(SLURM, os.X_OK)
