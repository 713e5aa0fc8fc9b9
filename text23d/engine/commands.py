"""What a person may tell a run while it is on its way: a closed list of commands, each a small JSON file.

A file is written into the folder `viewer/commands` of the run's folder, which only its owner may enter, and is taken
away once it is read. What it says is data: it is checked against the dataclasses below, and nothing else is made of it.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from text23d.engine.folder import VIEWER
from text23d.errors import UserError
from text23d.files import write_text
from text23d.settings import number, read, shown

INBOX = f"{VIEWER}/commands"
LARGEST = 16_384
"""Bytes of a command."""
AT_ONCE = 64
"""Commands that are read between two iterations; the others wait."""
LONGEST = 1000
"""Characters of a prompt."""


def _sayable(text: str) -> str:
    text.encode()  # raises ValueError for halves of letters, which JSON can say
    return text


Said = Annotated[
    str,
    StringConstraints(strip_whitespace=True, min_length=1, max_length=LONGEST),
    AfterValidator(_sayable),
    Field(description=f"text of 1 to {LONGEST} characters"),
]


@dataclass(frozen=True)
class Pause:
    """No iteration begins until `Resume`."""


@dataclass(frozen=True)
class Resume:
    """Iterations go on."""


@dataclass(frozen=True)
class Stop:
    """The run ends as by Ctrl-C: it is saved, and may go on later."""


@dataclass(frozen=True)
class Prompt:
    """From the next iteration on, the prior is asked for something else."""

    prompt: Said


@dataclass(frozen=True)
class Guidance:
    """From the next iteration on, the scale of guidance is another; of: that for whole views, or for the windows that
    the fine stage sees."""

    scale: Annotated[float, number(least=0, most=1000)]
    of: Literal["views", "windows"] = "views"


Command = Pause | Resume | Stop | Prompt | Guidance
KINDS: Mapping[str, type[Command]] = {each.__name__.lower(): each for each in (Pause, Resume, Stop, Prompt, Guidance)}


def spelled(command: Command) -> dict[str, Any]:
    """A command as plain data, which `understood` reads."""
    return {"command": type(command).__name__.lower(), **asdict(command)}


def understood(said: Any) -> Command:
    """The command that plain data says. Raises UserError for one that there is not, for settings that it has not, and
    for values out of range."""
    name = said.get("command") if isinstance(said, Mapping) else said
    if not (isinstance(said, Mapping) and isinstance(name, str) and name in KINDS):
        raise UserError(f"no command {shown(name)}: expected one of {', '.join(KINDS)}")
    kind = KINDS[name]
    settings = {name: value for name, value in said.items() if name != "command"}
    unknown = settings.keys() - kind.__dataclass_fields__.keys()
    if unknown:
        raise UserError(f"the command {name} has no {shown(min(unknown))}: leave it out")
    return read(kind, settings, f"{name}.")


def send(folder: Path, command: Command) -> None:
    """Leave a command for the run in `folder`. Raises UserError for one that is out of range, and where it cannot be
    written."""
    said = spelled(command)
    understood(said)
    inbox = folder / INBOX
    try:
        inbox.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write to {inbox}: {error.strerror}; the run cannot be told anything") from error
    write_text(inbox / f"{time.time_ns():020d}-{secrets.token_hex(4)}.json", json.dumps(said, ensure_ascii=False))


def received(folder: Path) -> Iterator[Command | UserError]:
    """The commands that were left for the run in `folder`, in the order in which they were sent, each taken away; an
    error for each file that holds none. What is still being written has another name, and waits."""
    names = []
    with suppress(OSError), os.scandir(folder / INBOX) as entries:
        names = sorted(each.name for each in entries if _is_command(each))
    for name in names[:AT_ONCE]:
        path = folder / INBOX / name
        try:
            said = _contents(path)
        except (OSError, ValueError, RecursionError) as error:
            found: Command | UserError = UserError(f"a command that cannot be read ({shown(error)}): it is left out")
        else:
            try:
                found = understood(said)
            except UserError as error:
                found = error
        with suppress(OSError):
            path.unlink()
        yield found


def _is_command(entry: os.DirEntry[str]) -> bool:
    """Whether it is a file that was written to its end; links and folders are left where they are."""
    return entry.name.endswith(".json") and entry.name[0] != "." and entry.is_file(follow_symlinks=False)


def _contents(path: Path) -> Any:
    """The JSON of a file of at most LARGEST bytes. Raises OSError or ValueError."""
    with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"it has more than {LARGEST} bytes")
    return json.loads(data.decode())


def ready(folder: Path) -> None:
    """Make the place for commands, empty and the owner's alone. Raises UserError where it cannot be made."""
    inbox = folder / INBOX
    try:
        inbox.mkdir(mode=0o700, parents=True, exist_ok=True)
        inbox.chmod(0o700)
    except OSError as error:
        raise UserError(f"cannot write to {inbox}: {error.strerror}; choose another folder") from error
    for each in inbox.glob("*.json"):
        each.unlink(missing_ok=True)
