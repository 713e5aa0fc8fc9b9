"""The main job: from a configuration to an object, a picture or whatever its task makes, in a folder."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch

from text23d.contracts import Exported
from text23d.devices import find_device
from text23d.engine.beside import require_viser, viewed
from text23d.engine.build import build_run
from text23d.engine.checkpoints import Checkpoints, CheckpointSettings
from text23d.engine.estimate import outlook, prepare
from text23d.engine.events import Exporting, Finished, Noted, OnEvent, Started, unheard
from text23d.engine.folder import COMMANDS, CONFIG, LOG, METRICS, SHEET, SUMMARY, TENSORBOARD, claimed, clear
from text23d.engine.following import dismiss, follow
from text23d.engine.health import Health, HealthSettings
from text23d.engine.live import ViewerSettings
from text23d.engine.past import Past, find_past
from text23d.engine.probes import ProbeSettings, best_of, tidy
from text23d.engine.ranks import ALONE, Ranks
from text23d.engine.recorded import recorded
from text23d.engine.results import save_phi, score
from text23d.engine.resume import ResumeSettings, is_run_of, write_config
from text23d.engine.run import Run
from text23d.engine.watchdog import Watchdog
from text23d.errors import Diverged, Hung, Interrupted, RankLost, TooLarge, UserError
from text23d.files import write_json
from text23d.judge.network import load as load_judge
from text23d.kernels.backend import describe, using
from text23d.kernels.threads import flush_denormals
from text23d.memory import is_out_of_memory, lack, let_go
from text23d.paths import weights_of
from text23d.rng import global_generator
from text23d.settings import Count, Flag, read

T = TypeVar("T")


@dataclass(frozen=True)
class JobSettings:
    """What `conf/config.yaml` explains."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    backend: Literal["auto", "native", "torch"] = "auto"
    outputs: Literal["all", "minimal"] = "all"
    stages: Count = 6
    tensorboard: Flag = False
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    health: HealthSettings = field(default_factory=HealthSettings)
    resume: ResumeSettings = field(default_factory=ResumeSettings)
    best_of: ProbeSettings = field(default_factory=ProbeSettings)
    viewer: ViewerSettings = field(default_factory=ViewerSettings)


def execute(
    cfg: Mapping[str, Any],
    folder: str | os.PathLike[str],
    on_event: OnEvent = unheard,
    started: float | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Any]:
    """Run the whole job that `cfg` describes, write all that it makes into `folder`, and return its summary.

    cfg: plain data, as `conf/config.yaml` composes. With resume.folder set, a run that lies in `folder` goes on from
    its last checkpoint to the very bytes that it would have made without a break. on_event is called with each of
    `events.Event`, in this thread. started: the `time.perf_counter` from which the job's time counts; None: now.
    ranks: those that share the views, of which this is the first; the others `attend`. Nothing of the process stays
    changed.

    Raises UserError for a mistake in the configuration, for a run to go on with that has another one, and for files
    that cannot be written; Diverged where the run cannot be healed, once the best of it is exported; and Interrupted
    on Ctrl-C. A checkpoint and phi as it is then are saved.
    """
    begin, folder = time.perf_counter() if started is None else started, Path(folder)
    settings = read(JobSettings, cfg)
    require_one(settings, ranks)
    if settings.viewer.active and settings.viewer.start:
        require_viser("viewer=on")
    with recorded(folder, settings.tensorboard, on_event) as tell:
        return perform(cfg, settings, folder, tell, begin, ranks)


def attend(cfg: Mapping[str, Any], ranks: Ranks) -> None:
    """What the ranks after the first do of the job: their share of each iteration. They write and tell nothing. Raises
    as `execute`."""
    settings = read(JobSettings, cfg)
    require_one(settings, ranks)
    with computing(settings.backend, settings.device, ranks) as device:
        with global_generator(0):
            state, parts = build_run(cfg, device, ranks)
        follow(state, parts, cfg)


def require_one(settings: JobSettings, ranks: Ranks) -> None:
    """Raises UserError where several processes shall compare seeds."""
    if settings.best_of.probes > 1 and not ranks.alone:
        raise UserError("best_of compares seeds in one process: start it without torchrun, or leave it out")


def perform(
    cfg: Mapping[str, Any], settings: JobSettings, folder: Path, on_event: OnEvent, begin: float, ranks: Ranks
) -> dict[str, Any]:
    """`execute`, with all that is told recorded."""
    with claimed(folder), computing(settings.backend, settings.device, ranks) as device:
        earlier = Checkpoints(folder, settings.checkpoint)
        past = find_past(folder, cfg, earlier, settings.resume, lambda text: on_event(Noted(text)))
        if past is not None and past.finished:
            dismiss(ranks)
            ranks.release()
            on_event(Finished(past.summary, "in an earlier process: there is nothing left to do", folder))
            return past.summary
        make = Maker(settings, device, ranks, begin)
        if settings.best_of.probes > 1:
            run, past = best_of(cfg, folder, settings.best_of, past, make, on_event)
        else:
            run = make(cfg, folder, on_event)
        take_over(run, past)
        for each in make.notes[-1:]:
            run.trouble(each)
        state, parts, kernels = run.state, run.parts, describe(device.type)
        on_event(Started(parts.prompt, str(device), kernels, folder, parts.recipe.iterations, state.iteration))
        if parts.guide.about:
            on_event(Noted("prior: " + ", ".join(f"{name} {value}" for name, value in parts.guide.about.items())))
            on_event(Noted(outlook(state, parts)))
        state.clock.add("start-up", time.perf_counter() - run.started)
        with viewed(run, settings.viewer):
            optimise(run, settings.outputs)
            ranks.release()
            exported = kept(run, lambda: deliver(run, settings.outputs))
        parts = run.parts  # which commands may have changed
        summary = {
            "prompt": parts.prompt,
            "seed": parts.seed,
            **({"model": dict(parts.guide.about)} if parts.guide.about else {}),
            "device": str(device),
            "backend": kernels.split()[0],
            "seconds": {**state.clock.seconds, "total": run.seconds},
            "loop": state.loop.parts(state.clock.seconds["optimise"]),
            "iterations": state.iteration,
            "nfe": state.evaluations,
            "peak_memory_mb": peak_memory(),
            "troubles": run.troubles,
            **({"commands": run.steering.records} if run.steering.records else {}),
            **({"probes": [asdict(each) for each in run.probes]} if run.probes else {}),
            **exported.summary,
        }
        write_json(folder / SUMMARY, summary)
        run.checkpoints.finish()
        tidy(folder, run.probes)
    for note in exported.notes:
        on_event(Noted(note))
    on_event(Finished(summary, exported.message, folder))
    return summary


@dataclass
class Maker:
    """Makes runs before their first iteration. started: when the job began, from which the first one's time counts.
    notes: what a person should know of their memory."""

    settings: JobSettings
    device: torch.device
    ranks: Ranks
    started: float | None
    notes: list[str] = field(default_factory=list)

    def __call__(self, cfg: Mapping[str, Any], folder: Path, on_event: OnEvent) -> Run:
        started, self.started = time.perf_counter() if self.started is None else self.started, None
        with global_generator(0):  # networks draw their weights when they are made, before they are read
            state, parts = build_run(cfg, self.device, self.ranks)
            judge = load_judge(weights_of("judge", parts.world.name))
        self.notes += filter(None, [prepare(state, parts)])
        health, watchdog = Health(self.settings.health), Watchdog(self.settings.health.stall)
        checkpoints = Checkpoints(folder, self.settings.checkpoint)
        return Run(
            state, parts, judge, folder, cfg, self.settings.stages, checkpoints, health, watchdog, on_event, started
        )


def take_over(run: Run, past: Past | None) -> None:
    """Begin where the past left off, or anew, with a folder in which nothing of two runs is mixed. What a person has
    changed of this run stays, also where it left nothing else to go on from."""
    again = (run.cfg.get("resume") or {}).get("folder") and is_run_of(run.folder, run.cfg)
    if past is None:
        run.checkpoints.clear()
        clear(run.folder, but=(COMMANDS,) if again else ())
        run.steering.load([], run.trouble)
    else:
        run.load(past.contents)
        clear(run.folder, but=(CONFIG, METRICS, LOG, COMMANDS, TENSORBOARD, SHEET, run.parts.task.file))
    write_config(run.folder, run.cfg)


def optimise(run: Run, outputs: str) -> None:
    """The loop. phi is saved at the end, also of a run that ends early; a run that cannot be healed delivers its best.

    Raises as `execute`."""
    try:
        kept(run, run.optimise)
    except Diverged as error:
        run.restore_best()
        deliver(run, outputs)
        done = f"the best of it, after {run.state.iteration} iterations, is in {run.folder}"
        tried = f"gave up after {run.health.settings.retries} retries with lower and lower learning rates"
        raise Diverged(f"{error}; {tried}: check the prior and the settings of the method; {done}") from error


def kept(run: Run, work: Callable[[], T]) -> T:
    """What `work` returns. Where it is ended early the run is kept, in a checkpoint, as it was after the last whole
    iteration."""
    try:
        return work()
    except Diverged:
        raise
    except BaseException as error:
        lacking = is_out_of_memory(error)
        if lacking:
            let_go(error)
        try:
            run.keep()
        except Exception as second:  # such as that the disk is full: what came first is what is told
            if not (isinstance(second, UserError) or is_out_of_memory(second)):
                raise
        advice = f"what there is of it is in {run.folder}, and resume={run.folder} goes on"
        if run.watchdog.barked:
            seconds = run.health.settings.stall
            raise Hung(f"iteration {run.state.iteration + 1} hung for more than {seconds:g} s: {advice}") from error
        if isinstance(error, KeyboardInterrupt):
            done = f"{run.state.iteration} of {run.parts.recipe.iterations} iterations"
            raise Interrupted(f"interrupted after {done}: {advice}") from error
        told = TooLarge(lack(error)) if lacking and not isinstance(error, UserError) else error
        if isinstance(told, UserError) and run.checkpoints.iterations():
            kind = RankLost if isinstance(told, RankLost) else UserError
            raise kind(f"{told}; then resume={run.folder} goes on") from told
        raise


def deliver(run: Run, outputs: str) -> Exported:
    """phi, its score and, unless outputs is minimal, what the task makes of it."""
    state, parts = run.state, run.parts
    save_phi(state, parts, run.cfg["representation"], run.folder)
    with state.clock.stage("score"):
        scored = score(state, parts, run.judge)
    exported = Exported({}, "no more was asked for")
    if outputs == "all":
        exported = parts.task.export(
            state.result(), parts.prompt, run.folder, state.clock.stage, lambda *done: run.on_event(Exporting(*done))
        )
    return replace(exported, summary={"score": scored, **exported.summary})


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
