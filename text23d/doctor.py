"""python -m text23d.doctor: examines this machine and this installation, and says whether a run would work.

Exit status 0 where the main job can run with its default settings, and 1 where it cannot, with the reasons.
"""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("doctor")

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from text23d.studies.doctor.examination import Report, able, examine, findings
from text23d.terminal import Parser

MARKS = {"ok": "ok", "warning": "WARNING", "failure": "FAILURE"}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = Parser(prog="text23d doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--folder", type=Path, default=Path("outputs"), help="where runs are to write (outputs)")
    given = parser.parse_args(arguments)
    report = examine(given.folder)
    if given.json:
        checks = [{"check": name, **asdict(each)} for name, found in report.items() for each in found]
        print(json.dumps({"able": able(report), "checks": checks}, indent=2, ensure_ascii=False))
    else:
        print("\n".join(told(report)))
    return 0 if able(report) else 1


def told(report: Report) -> Iterator[str]:
    """A line for each finding, what to do below it, and the verdict."""
    for name, found in report.items():
        yield name
        for each in found:
            yield f"  {MARKS[each.state]:<8} {each.name:<20} {each.found}"
            if each.advice:
                yield f"  {'':<8} {'':<20} {each.advice}"
    reasons = [f"{each.name}: {each.found}" for each in findings(report) if each.state == "failure"]
    warnings = sum(each.state == "warning" for each in findings(report))
    yield ""
    if reasons:
        yield "The main job cannot run here:"
        yield from (f"  {reason}" for reason in reasons)
    else:
        yield f"The main job can run here ({warnings} warnings)."
