"""What finished runs and earlier studies left on the disk, read as data that may be damaged or of another kind."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from torch import Tensor, uint8

from text23d.errors import UserError
from text23d.files import load_tensors, read_json, save_tensors, write_json

Name = Annotated[str, Field(strict=True, min_length=1, description="the name of a file or folder")]


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Inside, whatever the contents of the file at `path` do wrong is a UserError in one line."""
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; repeat what made it") from error
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"{path} is damaged or of another kind: remove it and repeat what made it") from error


def read_json_lines(path: Path) -> list[dict[str, Any]]:
    """The objects in a file of JSON lines, at least one. Raises UserError where a line is something else."""
    with reading(path):
        lines = [mapping(json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()]
        if not lines:
            raise ValueError("no line")
        return lines


def mapping(value: Any) -> dict[str, Any]:
    """`value` itself. Raises TypeError where it is no mapping."""
    if not isinstance(value, dict):
        raise TypeError("no mapping")
    return value


def number(record: Mapping[str, Any], name: str) -> float:
    """The finite number that a record has under this name. Raises KeyError and ValueError where it has none."""
    value = record[name]
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError(f"{name} is no number")
    return float(value)


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Note in `folder` with what settings its contents are made. Raises UserError where those in it were made with
    others: results must not mix them."""
    note, now = folder / "settings.json", json.loads(json.dumps(settings))
    before = read_json(note) if note.exists() else now
    different = sorted(name for name in now if now[name] != before.get(name))
    if different:
        others = ", ".join(different)
        raise UserError(f"{folder} holds results of another {others}: remove it or choose another folder=")
    write_json(note, now)


def cached(path: Path, make: Callable[[], Tensor]) -> Tensor:
    """Pictures [B, 4, H, W] in picture space from `path`, made and written there (as 8 bits) if they are not yet.

    Raises UserError where the file holds something else.
    """
    if not path.exists():
        save_tensors(path, {"pictures": ((make().cpu().clamp(-1, 1) + 1) * 127.5).round().byte()}, "pictures")
    tensors = load_tensors(path, "pictures")[0]
    with reading(path):
        pictures = tensors["pictures"]
        if pictures.dtype != uint8 or pictures.ndim != 4 or pictures.shape[1] != 4:
            raise ValueError("no pictures")
    return pictures.float() / 127.5 - 1
