"""Tables of the results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table of cells that are markdown already."""
    return [line(titles), "|---" * len(titles) + "|", *map(line, rows)]


def line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def escaped(text: str) -> str:
    """Any text as one line of markdown that shows it as it is."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$&])", r"\\\1", " ".join(text.split()))


def number(value: float | None, digits: int = 3) -> str:
    """With so many digits behind the point; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
