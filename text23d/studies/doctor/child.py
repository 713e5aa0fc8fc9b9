"""python -m text23d.studies.doctor.child FOLDER CHECK...: the checks, a JSON line before each and for each finding."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from text23d.studies.doctor.finding import Finding

BEGIN = "begin"


def main(arguments: Sequence[str]) -> None:
    folder, *names = arguments
    with os.fdopen(os.dup(1), "w") as out:
        os.dup2(2, 1)  # what libraries print is not mixed with what we say
        for name in names:
            for line in chain([{BEGIN: name}], found(name, Path(folder))):
                print(json.dumps(line, default=str), file=out, flush=True)


def found(name: str, folder: Path) -> Iterator[dict[str, Any]]:
    """The findings of a check as they come; what it raises is a failure of its own."""
    try:
        for finding in import_module(f"text23d.studies.doctor.{name}").check(folder):
            yield asdict(finding)
    except BaseException as error:
        said = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        yield asdict(Finding(name, "failure", f"the check ended early: {said}", "mend what it says, and look again"))


if __name__ == "__main__":
    main(sys.argv[1:])
