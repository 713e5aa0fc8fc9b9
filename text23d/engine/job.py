"""The main job: from a configuration to an object, a picture or whatever its task makes, in a folder."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
import yaml

from text23d.contracts import Exported
from text23d.devices import find_device
from text23d.engine.build import Parts, build_run
from text23d.engine.events import Exporting, Finished, Iterated, Noted, OnEvent, Started, unheard
from text23d.engine.folder import claimed, clear
from text23d.engine.loop import optimise
from text23d.engine.ranks import ALONE, Ranks
from text23d.engine.results import save_phi, score
from text23d.engine.state import RunState
from text23d.errors import Interrupted, UserError
from text23d.files import JsonLines, write_json, write_text
from text23d.judge.network import load as load_judge
from text23d.kernels.backend import describe, using
from text23d.kernels.threads import flush_denormals
from text23d.rng import global_generator
from text23d.settings import Count, read

CONFIG, METRICS, SHEET, SUMMARY = "config.yaml", "metrics.jsonl", "contact.png", "summary.json"


@dataclass(frozen=True)
class JobSettings:
    """What `conf/config.yaml` explains."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    backend: Literal["auto", "native", "torch"] = "auto"
    outputs: Literal["all", "minimal"] = "all"
    stages: Count = 6


def execute(
    cfg: Mapping[str, Any],
    folder: str | os.PathLike[str],
    on_event: OnEvent = unheard,
    started: float | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Run the whole job that `cfg` describes, write all that it makes into `folder`, and return its summary.

    cfg: plain data, as `conf/config.yaml` composes. on_event is called with each of `events.Event`, in this thread.
    started: the `time.perf_counter` from which the job's time counts; None: now. ranks: those that share the views, of
    which this is the first; the others `follow`. Nothing of the process stays changed.

    Raises UserError for a mistake in the configuration and for files that cannot be written, before or after the run;
    Diverged where the optimisation does, and Interrupted on Ctrl-C: phi is saved as it is then.
    """
    begin, folder = time.perf_counter() if started is None else started, Path(folder)
    settings = read(JobSettings, cfg)
    with claimed(folder), computing(settings.backend, settings.device, ranks) as device:
        with global_generator(0):  # networks draw their weights when they are made, before they are read
            (state, parts), judge = build_run(cfg, device, ranks), load_judge()
        clear(folder)
        write_text(folder / CONFIG, yaml.safe_dump(dict(cfg), sort_keys=False, allow_unicode=True, width=1000))
        kernels, iterations = describe(device.type), parts.recipe.iterations
        on_event(Started(parts.prompt, str(device), kernels, folder, iterations))
        state.clock.add("start-up", time.perf_counter() - begin)
        try:
            watched(state, parts, settings.stages, folder, cfg["representation"], on_event)
            with state.clock.stage("score"):
                scored = score(state, parts, judge)
            exported = Exported({}, "no more was asked for")
            if settings.outputs == "all":
                exported = parts.task.export(
                    state.result(), parts.prompt, folder, state.clock.stage, lambda *done: on_event(Exporting(*done))
                )
        except KeyboardInterrupt as error:
            done = f"{state.iteration} of {iterations} iterations"
            raise Interrupted(f"interrupted after {done}: what there is of it is in {folder}") from error
        summary = {
            "prompt": parts.prompt,
            "seed": parts.seed,
            "device": str(device),
            "backend": kernels.split()[0],
            "seconds": {**state.clock.seconds, "total": time.perf_counter() - begin},
            "loop": state.loop.parts(state.clock.seconds["optimise"]),
            "iterations": state.iteration,
            "nfe": state.evaluations,
            "peak_memory_mb": peak_memory(),
            "score": scored,
            **exported.summary,
        }
        write_json(folder / SUMMARY, summary)
    for note in exported.notes:
        on_event(Noted(note))
    on_event(Finished(summary, exported.message, folder))
    return summary


def follow(cfg: Mapping[str, Any], ranks: Ranks) -> None:
    """What the ranks after the first do of the job: their share of every iteration. They write and tell nothing. Raises
    as `execute`."""
    settings = read(JobSettings, cfg)
    with computing(settings.backend, settings.device, ranks) as device:
        with global_generator(0):
            state, parts = build_run(cfg, device, ranks)
        for _ in optimise(state, parts):
            pass


def watched(
    state: RunState, parts: Parts, stages: int, folder: Path, representation: Mapping[str, Any], on_event: OnEvent
) -> None:
    """The loop, with metrics on disk and a row of pictures at each of `stages` equal parts of the way. phi is saved at
    the end, also of a run that was interrupted or diverged."""
    total, columns = parts.recipe.iterations, parts.task.columns
    looks = min(stages, total)
    marks = {round(total * part / looks) for part in range(1, looks + 1)}

    def look(label: str) -> None:
        with state.clock.stage("pictures"):
            state.sheet.add(label, parts.task.preview(state.result()))
            state.sheet.write(folder / SHEET, columns)

    try:
        look("start")
        with JsonLines(folder / METRICS) as lines:
            for figures in optimise(state, parts, state.loop.stage):
                lines.write(figures)
                on_event(Iterated(state.iteration, total, figures))
                if state.iteration in marks:
                    look(f"iteration {state.iteration}, sigma {figures['sigma']:.2f}")
    finally:
        save_phi(state, parts, representation, folder)


@contextmanager
def computing(backend: str, device: str, ranks: Ranks = ALONE) -> Iterator[torch.device]:
    """The device, with kernels of `backend`, and small numbers taken for zero: as decaying moments become small, they
    cost a CPU up to a hundredfold. Afterwards both are as they were."""
    if torch.get_default_dtype() != torch.float32:
        raise UserError(
            f"torch makes {torch.get_default_dtype()} by default: expected torch.set_default_dtype(torch.float32)"
        )
    before = (torch.tensor(2.0**-126) / 2).item() == 0
    with using(backend), torch.inference_mode(False):
        try:
            flush_denormals(True)
            yield ranks.device(find_device(device))
        finally:
            flush_denormals(before)


def peak_memory() -> float | None:
    """The largest resident size of this process so far, with what its GPU held, in MB; None where the platform does not
    report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10) + gpu, 1)
