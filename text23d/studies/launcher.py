"""Many runs, by one of Hydra's launchers: the one place where sweeps and studies start runs.

A launcher of Hydra's brings the runs to where they are made (processes here, SLURM, Ray) and has its settings under
`hydra.launcher`; `hydra/launcher=submitit_slurm` therefore means the same to `run -m`, `evaluate` and `compare`, and a
cluster's administrator knows all of it from Hydra's documentation. What the launchers do not agree about is left to
`member`, which is the same under all: a run is a process of its own, and its folder is the record of how it ended. So a
launcher that breaks down, or stops at the first failure, loses no outcome, and a run's failure is no failure of the
launcher's. An interface of our own, with submitit, joblib and Ray behind it, would be a second face of the same thing.

With `hydra/launcher=basic`, the default, the runs are made here, one after the other or so many at a time as a study
says; Hydra's class of that name is passed over, as it runs jobs inside its own process.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hydra import initialize_config_dir
from hydra._internal.callbacks import Callbacks
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from hydra.errors import HydraException
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from text23d.compose import composing, plain, register_resolvers
from text23d.engine.folder import METRICS, SUMMARY
from text23d.engine.process import cores, with_threads
from text23d.engine.worker import OUTPUT
from text23d.errors import UserError
from text23d.files import write_text
from text23d.meter import Meter
from text23d.paths import conf_dir
from text23d.quoting import quoted
from text23d.studies.lease import lease
from text23d.studies.member import FAILURE, Member, supervise

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
"""Hydra's own launcher."""
LOOK = 0.3
"""Seconds between two looks at the runs' folders."""
PATIENCE = 60.0
"""Seconds without a sign of life from any run, after which those that a launcher lost are given up."""


@dataclass(frozen=True)
class Job:
    """A main job: its overrides, as on the command line, and the folder for all that it writes."""

    overrides: tuple[str, ...]
    folder: Path

    @property
    def log(self) -> Path:
        """The file of what the job says."""
        return self.folder / OUTPUT


@dataclass(frozen=True)
class Outcome:
    """How a job ended. failure: why it did not succeed, in one line; None: it did."""

    job: Job
    failure: str | None = None


OnEnd = Callable[[Outcome], None]


def unheard(outcome: Outcome) -> None:
    """For runs whose ends nobody watches."""


@dataclass(frozen=True)
class Source:
    """Where the configuration of the runs is read, by which name, and the overrides of Hydra's own part, such as
    hydra/launcher=joblib."""

    loader: ConfigLoader
    name: str
    hydra: tuple[str, ...] = ()

    def master(self, folder: Path) -> DictConfig:
        """What all runs below `folder` share, Hydra's part included. Raises what Hydra does."""
        own = [*self.hydra, f"hydra.sweep.dir={quoted(str(folder))}"]
        return self.loader.load_configuration(self.name, own, RunMode.MULTIRUN)

    def member(self, master: DictConfig, overrides: Sequence[str], number: int = 0) -> DictConfig:
        """One run's whole configuration, Hydra's part included. Raises what Hydra does."""
        cfg = self.loader.load_sweep_config(master, list(overrides))
        OmegaConf.update(cfg, "hydra.job.num", number)
        return cfg


@contextmanager
def packaged() -> Iterator[Source]:
    """The main job's packaged configuration, with the launcher that the command line of a study chose."""
    own: list[str] = []
    if HydraConfig.initialized():
        hydra = HydraConfig.get()
        chosen = ("hydra/launcher", "hydra.launcher", "hydra.job.env_set")
        own = [each for each in hydra.overrides.hydra if each.lstrip("+").startswith(chosen)]
    register_resolvers()
    with composing(), initialize_config_dir(str(conf_dir()), version_base="1.3", job_name="text23d"):
        yield Source(GlobalHydra.instance().config_loader(), "config", tuple(own))


def launch(
    jobs: Sequence[Job], workers: int, device: str | None = None, source: Source | None = None, on_end: OnEnd = unheard
) -> list[Outcome]:
    """Make the runs of `jobs` and wait for all. The outcomes have the order of the jobs; one that fails stops no other.

    workers: runs at a time where Hydra's own launcher is chosen; other launchers have a setting of their own. device:
    of all runs (auto, cpu or cuda); None: as their overrides say. source: of their configuration; None: `packaged`.
    on_end is called with each outcome as it comes.

    Where the call is interrupted, by Ctrl-C or by any exception, the runs are told to stop, and save what they have;
    where this process is killed, those on this machine stop by themselves.
    """
    if source is None:
        with packaged() as source:
            return launch(jobs, workers, device, source, on_end)
    shared = (f"device={device}",) if device else ()
    obstacles = {job: why for job in jobs if (why := obstacle(job))}
    ready = [job for job in jobs if job not in obstacles]
    with watching(jobs, obstacles, on_end):
        lost = launched(ready, shared, workers, source) if ready else ""
    return [Outcome(job, obstacles[job]) if job in obstacles else ended(job, lost) for job in jobs]


def obstacle(job: Job) -> str | None:
    """Why a job cannot be made at all. What an earlier attempt said is taken away."""
    try:
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / FAILURE).unlink(missing_ok=True)
    except OSError as error:
        return f"cannot write to {job.folder}: {error.strerror}"
    return None


def ended(job: Job, lost: str) -> Outcome:
    """How a job ended, by its folder. lost: what became of one that left no word."""
    with suppress(OSError):
        return Outcome(job, " ".join((job.folder / FAILURE).read_text(encoding="utf-8").split()))
    return Outcome(job, None if (job.folder / SUMMARY).exists() else lost or f"it did not begin; see {job.folder}")


def is_over(job: Job) -> bool:
    return any((job.folder / name).exists() for name in (FAILURE, SUMMARY))


def launched(jobs: Sequence[Job], shared: Sequence[str], workers: int, source: Source) -> str:
    """Have the jobs made, with overrides that all share; what is to be said of those that left no word."""
    root = Path(os.path.commonpath([job.folder.absolute().parent for job in jobs]))
    master = source.master(root)
    with lease(root) as held:
        if master.hydra.launcher._target_ == BASIC:
            pool(jobs, shared, workers, source, master, held)
            return ""
        launcher = Plugins.instance().instantiate_launcher(
            HydraContext(config_loader=source.loader, callbacks=Callbacks()), Member(held), master
        )
        folders = [os.path.relpath(job.folder.absolute(), root) for job in jobs]
        overrides = [
            [*shared, *job.overrides, f"hydra.sweep.subdir={quoted(folder)}"]
            for job, folder in zip(jobs, folders, strict=True)
        ]
        try:
            launcher.launch(overrides, initial_job_idx=0)
        except Exception as error:  # whatever a launcher raises, runs that it did not lose go on
            name, why = master.hydra.runtime.choices["hydra/launcher"], " ".join(str(error).split())[:200]
            if not any(job.log.exists() for job in jobs):
                take_away(jobs)
                raise UserError(f"hydra/launcher={name} cannot be used: {why or type(error).__name__}") from error
            await_silence(jobs)
            return f"hydra/launcher={name} lost it: {why or type(error).__name__}"
    return ""


def take_away(jobs: Sequence[Job]) -> None:
    """The folders of jobs that did not begin."""
    for job in jobs:
        with suppress(OSError):
            job.folder.rmdir()


def pool(
    jobs: Sequence[Job], shared: Sequence[str], workers: int, source: Source, master: DictConfig, held: Path
) -> None:
    """The jobs here, `workers` at a time, each on its share of the cores."""
    environment, hydra = {**os.environ, **master.hydra.job.env_set}, threading.Lock()
    if workers > 1:
        environment = with_threads(environment, max(1, cores() // workers))

    def make(job: Job) -> None:
        try:
            with hydra:  # which is not made for threads
                cfg = plain(source.member(master, [*shared, *job.overrides]))
        except (HydraException, OmegaConfBaseException) as error:
            write_text(job.folder / FAILURE, f"{str(error).splitlines()[0]}\n")
        else:
            supervise(cfg, job.folder, held, environment)

    with ThreadPoolExecutor(workers) as threads:
        try:
            for each in [threads.submit(make, job) for job in jobs]:
                each.result()
        except BaseException:
            held.unlink(missing_ok=True)  # which tells the runs to stop
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def await_silence(jobs: Sequence[Job]) -> None:
    """Wait until all jobs are over, or none of the others has moved for PATIENCE seconds."""
    beat, since = None, time.monotonic()
    while not all(map(is_over, jobs)) and time.monotonic() - since < PATIENCE:
        now = [job.log.stat().st_mtime_ns for job in jobs if job.log.exists()]
        if now != beat:
            beat, since = now, time.monotonic()
        time.sleep(LOOK)


@contextmanager
def watching(jobs: Sequence[Job], obstacles: Mapping[Job, str], on_end: OnEnd) -> Iterator[None]:
    """How many of the jobs are over, wherever they are made: their folders tell."""
    done, waiting, shown, meter = threading.Event(), list(jobs), list[int](), Meter()

    def show(running: list[int]) -> None:
        shown[:] = running
        figures = ", ".join(f"iteration {each}" for each in running[:4])
        meter("runs", len(jobs) - len(waiting), len(jobs), figures)

    def look() -> None:
        for job in [job for job in waiting if job in obstacles or is_over(job)]:
            waiting.remove(job)
            with meter.aside():
                on_end(Outcome(job, obstacles[job]) if job in obstacles else ended(job, ""))
            show(shown)
        running = [lines(job.folder / METRICS) for job in waiting if (job.folder / METRICS).exists()]
        if waiting and running != shown:
            show(running)

    def watch() -> None:
        while not done.wait(LOOK):
            look()

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        look()
        meter.close()


def lines(path: Path) -> int:
    with suppress(OSError):
        return path.read_bytes().count(b"\n")
    return 0
