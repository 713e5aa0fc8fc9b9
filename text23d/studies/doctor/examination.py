"""All checks, in a process of their own, so that none can end the doctor: a kernel for another processor, a library
that breaks, too little memory. Only the standard library is imported here."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from text23d.studies.doctor.child import BEGIN
from text23d.studies.doctor.finding import Finding

CHECKS = ("machine", "packages", "devices", "weights", "storage", "speed")
"""Modules beside this one, each with a `finding.Check` named check."""
PATIENCE = 180.0
"""Seconds for all checks; the slowest machines import for half a minute."""

Report = dict[str, list[Finding]]


def examine(folder: Path, names: Sequence[str] = CHECKS, seconds: float = PATIENCE) -> Report:
    """The findings of each check. One that ends its process is a failure, and the others follow in another."""
    found: Report = {}
    waiting = list(names)
    while waiting:
        lines, ended = attempt(folder, waiting, seconds)
        found |= read(lines)
        if not ended:
            return found
        name = next(reversed(read(lines)), waiting[0])
        found.setdefault(name, []).append(Finding(name, "failure", f"the check {ended}", advice(ended)))
        waiting = waiting[waiting.index(name) + 1 :]
    return found


def attempt(folder: Path, names: Sequence[str], seconds: float) -> tuple[list[Mapping[str, Any]], str]:
    """What a process that makes these checks says, and how it ended before it was done; empty: it did not."""
    command = [sys.executable, "-m", "text23d.studies.doctor.child", str(folder), *names]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
    try:
        out, err = process.communicate(timeout=seconds)
        ended = how(process.returncode, err)
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        ended = f"hung for more than {seconds:g} s"
    except BaseException:
        process.kill()
        process.wait()
        raise
    lines = []
    for line in out.splitlines():
        with suppress(ValueError):  # the last line of a process that was killed may be torn
            lines.append(json.loads(line))
    return lines, ended


def how(status: int, err: bytes) -> str:
    """An exit status in words, with the last that the process said."""
    if status == 0:
        return ""
    last = " ".join(err.decode(errors="replace").strip().splitlines()[-1:])[:300]
    said = f" ({last})" if last else ""
    if status < 0:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(-status).name}{said}"
    return f"ended with status {status}{said}"


def advice(ended: str) -> str:
    """What to do about a check that `ended` its process."""
    if "SIGILL" in ended:
        return "the kernels are for another processor: build them here (pip install -e .), or choose backend=torch"
    if "SIGKILL" in ended:
        return "the system kills what takes more memory than a container may have: give it more"
    return "memory may be what it lacks (ulimit -v), or the library that it names is broken: install that again"


def read(lines: Sequence[Mapping[str, Any]]) -> Report:
    """The findings by check, in order."""
    found: Report = {}
    for line in lines:
        if BEGIN in line:
            current = found.setdefault(line[BEGIN], [])
        else:
            current.append(Finding(**line))
    return found


def findings(report: Report) -> Iterator[Finding]:
    for each in report.values():
        yield from each


def able(report: Report) -> bool:
    """Whether the main job can run with its default settings."""
    return all(each.state != "failure" for each in findings(report))
