"""A file of prompts, and the runs that a sweep stands for."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from text23d.door.layout import single_values
from text23d.errors import UserError
from text23d.quoting import quoted

BYTES, PROMPTS = 1 << 20, 10_000
"""Of the largest file."""


def read_prompts(path: Path) -> list[str]:
    """The prompts in a text file in UTF-8, one a line, each once; blank lines and those that begin with # are left out.

    Raises UserError, in one line, where there is no such file, or no prompt in it, or something else.
    """
    said = f"prompts={path}"
    try:
        if not path.is_file():
            what = "it is a folder" if path.is_dir() else "there is no such file" if not path.exists() else "it is none"
            raise UserError(f"{said}: {what}; expected a text file with one prompt a line")
        with open(path, "rb") as file:
            data = file.read(BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{said}: cannot be read, {why}; expected a text file with one prompt a line") from error
    if len(data) > BYTES:
        raise UserError(f"{said}: it has more than {BYTES >> 20} MB; expected one prompt a line, {PROMPTS} at most")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{said}: its byte {error.start + 1} is no UTF-8 text; save it as UTF-8") from error
    if any(ord(each) < 32 and each not in "\t\n\r" for each in text):
        raise UserError(f"{said}: it is binary; expected a text file with one prompt a line")
    lines = [line.strip() for line in text.replace("\r", "\n").split("\n")]
    prompts = list(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not prompts:
        raise UserError(f"{said}: there is no prompt in it; expected one a line")
    if len(prompts) > PROMPTS:
        raise UserError(f"{said}: it has {len(prompts)} prompts; {PROMPTS} at most, so divide it")
    return prompts


def runs_of(settings: Sequence[str], prompts: Sequence[str]) -> list[list[str]]:
    """The settings of each run of a sweep: every combination of the values that `settings`, as Hydra may read them,
    separate by commas, the last varying fastest; first of all by `prompts`, where there are any. To be called inside
    `layout.configuration`."""
    by_prompt = [[f"prompt={quoted(each)}" for each in prompts]] if prompts else []
    values = [list(single_values(each)) for each in settings]
    return [list(each) for each in itertools.product(*by_prompt, *values)]
