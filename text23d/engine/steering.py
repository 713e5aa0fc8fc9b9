"""What was changed of a run on its way, at which iteration: its record, which it follows wherever it goes back to.

The configuration of a run stays as it was begun. What commands changed stands beside it in commands.jsonl, a line for
each, and what the prior is told at an iteration is a function of both. So a run that goes back, or that is resumed
after it was killed, meets the same changes at the same iterations, and ends with the same bytes.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from text23d.engine.commands import Command, Guidance, Prompt, spelled, understood
from text23d.engine.folder import COMMANDS
from text23d.errors import UserError
from text23d.files import write_text

Record = Mapping[str, Any]
"""A command as `commands.spelled` says it, with `iteration`, those that were done before it, and `time`; and
`refused`, the reason, where it changed nothing."""
SECTIONS = {"views": "prior", "windows": "stage"}


class Steering:
    """The changes of the run in `folder`, of which an earlier process may have left some. told: those that the prior
    has been told."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / COMMANDS
        self.records: list[Record] = []
        self.told: list[Prompt | Guidance] = []

    def load(self, saved: Sequence[Any], note: Callable[[str], None]) -> None:
        """What the file says; where it is missing or damaged, `saved` of a checkpoint, which is noted."""
        if not self.path.exists() and not saved:
            return
        try:
            self.records = read_records(self.path)
        except UserError as error:
            note(f"{error}; what the last checkpoint knows of it is used")
            self.records = [checked_record(each) for each in saved]

    def add(self, iteration: int, command: Command, refused: str = "") -> None:
        """Write down a command that came before iteration `iteration` + 1. One that changes what follows takes the
        place of those that an earlier process met later. Raises UserError where it cannot be written."""
        if isinstance(command, Prompt | Guidance) and not refused:
            self.records = [each for each in self.records if each["iteration"] <= iteration]
        record = {"iteration": iteration, "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **spelled(command)}
        self.records.append({**record, **({"refused": refused} if refused else {})})
        self.write()

    def write(self) -> None:
        write_text(self.path, "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in self.records))

    def changes(self, iteration: int) -> list[Prompt | Guidance]:
        """What was changed before iteration `iteration` + 1, in the order in which it came."""
        return [change for number, change in self._changes() if number <= iteration]

    def last(self, iteration: int) -> int:
        """After which iteration the last of these came; -1: there is none."""
        return max((number for number, _ in self._changes() if number <= iteration), default=-1)

    def _changes(self) -> list[tuple[int, Prompt | Guidance]]:
        found = [(each["iteration"], understood_record(each)) for each in self.records]
        return [(number, each) for number, each in found if isinstance(each, Prompt | Guidance)]


def altered(cfg: Mapping[str, Any], changes: Sequence[Prompt | Guidance]) -> dict[str, Any]:
    """A configuration after these changes. Raises UserError where it has not what one of them changes."""
    now = deepcopy(dict(cfg))
    for each in changes:
        if isinstance(each, Prompt):
            if now.get("regions"):
                raise UserError("this run has prompts for parts of what it makes (regions), which cannot be changed")
            now["prompt"] = each.prompt
            continue
        section = now.get(SECTIONS[each.of])
        if not isinstance(section, dict) or "guidance" not in section:
            what = "prior has no guidance" if each.of == "views" else "run has no fine stage, which sees windows"
            raise UserError(f"guidance: this {what}; leave it as it is")
        section["guidance"] = each.scale
    return now


def read_records(path: Path) -> list[Record]:
    """The lines of commands.jsonl. Raises UserError where it is missing or damaged."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return [checked_record(json.loads(line)) for line in lines]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError, UserError) as error:
        raise UserError(f"{path} is damaged") from error


def checked_record(said: Any) -> Record:
    """A line of it. Raises UserError where it is none."""
    if not (isinstance(said, dict) and isinstance(said.get("iteration"), int) and said["iteration"] >= 0):
        raise UserError("no record of a command")
    understood({name: value for name, value in said.items() if name not in ("iteration", "time", "refused")})
    return said


def understood_record(record: Record) -> Command | None:
    """The command of a record; None of one that was refused."""
    if "refused" in record:
        return None
    return understood({name: value for name, value in record.items() if name not in ("iteration", "time")})
