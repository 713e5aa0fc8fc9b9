"""A run of a sweep or of a study: a process of its own, watched by whoever was told to make it.

So nothing of one run reaches another, whatever launcher brought them together, and a run that crashes, hangs or eats
all memory takes no other with it. The run's folder is the record: `summary.json` of a run that finished, `failure.txt`
with one line of one that failed, `output.txt` of what it printed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from text23d.compose import hydras_folder, register_resolvers
from text23d.engine.process import Process, cores, kill, last_words, with_threads
from text23d.engine.resume import AUTO
from text23d.engine.watchdog import STATUS
from text23d.engine.worker import DEFECT, GRACE, HUNG, INTERRUPTED, MISTAKE, OUTPUT
from text23d.errors import UserError
from text23d.studies.lease import holds

COMMAND = (sys.executable, "-m", "text23d.engine.worker")
FAILURE = "failure.txt"
POLL = 0.05
"""Seconds between two looks at the process."""
STOPPED = "it was stopped before it was done"


class Member:
    """A run as Hydra's launchers call it, in this process or another, on this machine or another: all that it is told
    travels with it. lease: see `lease`."""

    def __init__(self, lease: Path) -> None:
        self.lease = lease

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        register_resolvers()

    def __call__(self, cfg: DictConfig) -> None:
        from hydra.core.hydra_config import HydraConfig

        plain: Any = OmegaConf.to_container(cfg, resolve=True)
        threads = share_of_cores(HydraConfig.get().launcher)
        supervise(plain, Path(hydras_folder()), self.lease, with_threads(os.environ, threads))


def share_of_cores(launcher: Mapping[str, Any]) -> int:
    """The threads of a run by its launcher's settings: what it asks the cluster for, or its share of the cores here."""
    ray = (launcher.get("ray") or {}).get("remote") or {}
    asked = launcher.get("cpus_per_task") or ray.get("num_cpus") or os.environ.get("SLURM_CPUS_PER_TASK")
    if "n_jobs" in launcher:  # joblib's; -1 is one for each core
        at_once = launcher["n_jobs"]
        return max(1, cores() // at_once) if at_once > 0 else 1
    return max(1, int(asked or 1))


def supervise(cfg: Mapping[str, Any], folder: Path, lease: Path, environment: Mapping[str, str]) -> None:
    """Make the run that `cfg` describes in `folder`, in a process with this environment, while the lease holds; why it
    failed is noted in the folder."""
    try:
        failure = attempts(cfg, folder, lease, environment)
    except OSError as error:
        failure = f"cannot write to {folder}: {error.strerror}"
    if failure is not None:
        from text23d.files import write_text  # which imports torch: a launcher's process requires it for nothing else

        with suppress(UserError):  # of a full disk: then the run has no summary, which says as much
            write_text(folder / FAILURE, f"{failure}\n")


def attempts(cfg: Mapping[str, Any], folder: Path, lease: Path, environment: Mapping[str, str]) -> str | None:
    """The run, and where it hangs once again, from its last checkpoint; why it failed. Raises OSError where its log
    cannot be written."""
    stall = (cfg.get("health") or {}).get("stall")
    for again in (False, True):
        process = start(cfg, folder, environment, again)
        try:
            status = awaited(process, folder, lease, stall)
        finally:
            stop(process)
        if status not in (HUNG, STATUS):
            return failure(folder, status)
        cfg = {**cfg, "resume": {"folder": AUTO, "force": False}}
    return f"it hung twice, for {stall:g} s each; see {folder / OUTPUT}"


def start(cfg: Mapping[str, Any], folder: Path, environment: Mapping[str, str], again: bool = False) -> Process:
    """The process of a run. again: its log goes on. Raises OSError where that cannot be written."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / OUTPUT, "ab" if again else "wb") as log:
        process = subprocess.Popen(
            [*COMMAND, str(folder)],
            stdin=subprocess.PIPE,  # kept open: see `worker`
            stdout=log,
            stderr=subprocess.STDOUT,
            env={"OMP_WAIT_POLICY": "passive", **environment},
            start_new_session=True,  # Ctrl-C is for the launcher alone, which stops its runs in order
        )
    with suppress(BrokenPipeError):  # of a process that could not even begin, which its status tells
        assert process.stdin is not None
        process.stdin.write(json.dumps(cfg).encode() + b"\n")
        process.stdin.flush()
    return process


def awaited(process: Process, folder: Path, lease: Path, stall: float | None) -> int:
    """The exit status of a run that ends, or is told to when the lease ends. One of which nothing moves for `stall`
    seconds is killed: the worker touches its log with every event. Its own watchdog, which saves its work, has a little
    less time; but a process that is stopped has none that wakes."""
    beat, since = -1, time.monotonic()
    while process.poll() is None:
        if not holds(lease):
            stop(process)
            return INTERRUPTED
        now = (folder / OUTPUT).stat().st_mtime_ns if (folder / OUTPUT).exists() else 0
        if now != beat:
            beat, since = now, time.monotonic()
        elif stall and time.monotonic() - since > stall + min(stall, GRACE):
            kill(process)
            return HUNG
        time.sleep(POLL)
    return process.returncode


def failure(folder: Path, status: int) -> str | None:
    """What an exit status says of a run; negative: the number of the signal that killed it."""
    if status == 0:
        return None
    if status == MISTAKE:
        return last_words(folder) or f"see {folder / OUTPUT}"
    if status == INTERRUPTED:
        return STOPPED
    if status == DEFECT:
        return f"{last_words(folder)}; see {folder / OUTPUT}"
    return f"it was killed by signal {-status}; see {folder / OUTPUT}" if status < 0 else f"see {folder / OUTPUT}"


def stop(process: Process) -> None:
    """Tell a process that has not ended to end, and kill it, with all that it started, if it does not within GRACE
    seconds."""
    if process.stdin:
        with suppress(BrokenPipeError):
            process.stdin.close()
    try:
        process.wait(GRACE)
    except subprocess.TimeoutExpired:
        kill(process)
