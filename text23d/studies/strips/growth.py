"""Time and memory against length: short runs, up to many times the usual length."""

from __future__ import annotations

from pathlib import Path

from text23d.engine.folder import SUMMARY
from text23d.engine.resume import read_config
from text23d.files import read_json
from text23d.studies.comparison.budget import read_cost
from text23d.studies.records import check_settings, number, reading
from text23d.studies.runs import job, make_missing
from text23d.studies.strips.suite import StripStudy


def grown(study: StripStudy, folder: Path) -> tuple[list[dict[str, float]], list[str]]:
    """A row for each of the study's lengths, in rising order, and what failed; made one at a time, so that none slows
    another:

    times, length     in units of the usual one, and in the medium's
    windows           of an iteration
    seconds, memory   of an iteration of the defaults, and the peak of its process in MB; memory is left out where the
                      system does not tell it
    """
    usual, rows, failed = study.medium.length[1], [], []
    for times, settings in sorted(study.lengths().items()):
        where = folder / f"{times}"
        check_settings(where, {"settings": settings})
        (outcome,) = make_missing([job(where, study.medium.prompts[0], 0, settings)], 1, study.device)
        if outcome.failure:
            failed.append(f"{times} x: {outcome.failure}")
            continue
        row: dict[str, float] = {"times": times, "length": times * usual, "seconds": read_cost(where).seconds}
        summary, cfg = read_json(where / SUMMARY), read_config(where)
        with reading(where / SUMMARY):
            row["windows"] = number(cfg["method"], "views")
            if summary["peak_memory_mb"] is not None:
                row["memory"] = number(summary, "peak_memory_mb")
        rows.append(row)
    return rows, failed
