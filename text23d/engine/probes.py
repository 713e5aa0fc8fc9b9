"""The best of several seeds: each begins, and the one that the judge likes best goes on.

A probe is the beginning of the whole run of its seed, since all that changes along a run follows its progress through
all iterations. So a run that goes on from its probe ends with the same bytes as the run of that seed alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

from text23d.engine.checkpoints import Checkpoints, CheckpointSettings
from text23d.engine.events import Event, Exporting, Iterated, Noted, OnEvent
from text23d.engine.folder import METRICS, PROBES, SHEET, clear
from text23d.engine.past import Past
from text23d.engine.resume import is_run_of, write_config
from text23d.engine.run import Run
from text23d.errors import Diverged, Interrupted, UserError
from text23d.files import read_json, write_json
from text23d.settings import number, read, whole

RECORD = "probe.json"
MakeRun = Callable[[Mapping[str, Any], Path, OnEvent], Run]
"""A run of a configuration in a folder, before its first iteration."""


@dataclass(frozen=True)
class ProbeSettings:
    """What `best_of` in conf/config.yaml explains."""

    probes: Annotated[int, whole(1, 1000)] = 1
    share: Annotated[float, number(above=0, most=1)] = 0.25


@dataclass(frozen=True)
class Probe:
    """score: the judge's mean probability of what the prompt names; None: it was not asked. loss: mean of the later
    half of the iterations. failure: why it cannot go on, as it diverged; "": it can."""

    seed: int
    iterations: int
    score: float | None
    loss: float
    seconds: float
    failure: str = ""


def best_of(
    cfg: Mapping[str, Any], folder: Path, settings: ProbeSettings, past: Past | None, make: MakeRun, on_event: OnEvent
) -> tuple[Run, Past]:
    """The run of the best seed, and the past from which it goes on: `past`, or its probe. What an earlier process has
    done of the probes, with the same configuration, is not done again.

    Raises UserError where no seed can go on, and Interrupted on Ctrl-C.
    """
    if past is None:
        if not (cfg.get("resume") or {}).get("folder") or not is_run_of(folder, cfg):
            clear(folder)
        write_config(folder, cfg)
        try:
            probe_all(cfg, folder, settings, make, on_event)
        except KeyboardInterrupt as error:
            raise Interrupted(f"interrupted while it compared seeds; resume={folder} goes on") from error
    seeds = range(cfg["seed"], cfg["seed"] + settings.probes)
    probes = [read_probe(place(folder, seed) / RECORD) for seed in seeds]
    best = pick(probes)
    run = make(with_seed(cfg, best.seed), folder, on_event)
    run.cfg, run.probes = cfg, probes
    if past is None:
        others = ", ".join(f"{each.seed}: {told(each)}" for each in probes)
        on_event(Noted(f"seed {best.seed} goes on, the best of {len(probes)} ({others})"))
        past = Past(contents(place(folder, best.seed), run.checkpoints, probes, best), {})
    return run, past


def read_probe(path: Path) -> Probe:
    """What a probe left. Raises UserError where it is missing or damaged."""
    try:
        return read(Probe, read_json(path), f"{path.name}: ")
    except UserError as error:
        raise UserError(f"{path} is damaged ({error}): remove it, and the probe is made again") from error


def probe_all(cfg: Mapping[str, Any], folder: Path, settings: ProbeSettings, make: MakeRun, on_event: OnEvent) -> None:
    """Take the first iterations with each seed that has not been tried yet."""
    for seed in range(cfg["seed"], cfg["seed"] + settings.probes):
        where = place(folder, seed)
        if (where / RECORD).exists():
            continue
        run = make(with_seed(cfg, seed), where, heard(on_event, f"probe of seed {seed}"))
        for saved in run.checkpoints.read(run.trouble):
            run.load(saved)
            break
        until = max(1, round(settings.share * run.parts.recipe.iterations))
        try:
            run.optimise(until)
            run.save()
        except Diverged as error:
            found = Probe(seed, run.state.iteration, None, 0.0, run.seconds, str(error))
        except BaseException:
            with suppress(UserError):  # what came first is what is told
                run.keep()
            raise
        else:
            found = Probe(seed, until, run.merit(), late_loss(where / METRICS), run.seconds)
        write_json(where / RECORD, asdict(found))


def heard(on_event: OnEvent, what: str) -> OnEvent:
    """Tells of iterations as of another thing than the run's own."""

    def tell(event: Event) -> None:
        on_event(Exporting(what, event.iteration, event.iterations) if isinstance(event, Iterated) else event)

    return tell


def place(folder: Path, seed: int) -> Path:
    return folder / PROBES / str(seed)


def with_seed(cfg: Any, seed: int) -> Any:
    """A configuration as another seed makes it: sections whose `seed` is the run's, as in views=bank, follow it."""

    def follow(value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: seed if name == "seed" and item == cfg["seed"] else follow(item) for name, item in value.items()}

    return follow(cfg)


def late_loss(metrics: Path) -> float:
    """The mean loss of the later half of the iterations."""
    losses = [json.loads(line)["loss"] for line in metrics.read_text(encoding="utf-8").splitlines()]
    return fmean(losses[len(losses) // 2 :])


def pick(probes: Sequence[Probe]) -> Probe:
    """The best: by the judge's score, where every probe has one, else by the least loss; of equals, the first. Raises
    UserError where all failed."""
    sound = [each for each in probes if not each.failure]
    if not sound:
        raise UserError(f"all {len(probes)} seeds diverged; the first: {probes[0].failure}; choose others")
    if all(each.score is not None for each in sound):
        return max(sound, key=lambda each: each.score or 0.0)
    return min(sound, key=lambda each: each.loss)


def told(probe: Probe) -> str:
    """What is said of a probe."""
    if probe.failure:
        return "diverged"
    return f"judge {probe.score:.3f}" if probe.score is not None else f"loss {probe.loss:.3g}"


def contents(where: Path, checkpoints: Checkpoints, probes: Sequence[Probe], best: Probe) -> Mapping[str, Any]:
    """What the best probe's checkpoint holds, with the time of all. Raises UserError where it is damaged."""
    damage: list[str] = []
    for saved in Checkpoints(where, checkpoints.settings).read(damage.append):
        spent = sum(each.seconds for each in probes)
        saved["state"]["clocks"]["clock"]["probes"] = spent - best.seconds
        return {**saved, "elapsed": spent}
    raise UserError(f"{where} holds no whole checkpoint ({'; '.join(damage)}): begin in another folder")


def tidy(folder: Path, probes: Sequence[Probe]) -> None:
    """Of the probes of a finished run, keep metrics, pictures and records."""
    for each in probes:
        where = place(folder, each.seed)
        clear(where, but=(METRICS, SHEET))
        Checkpoints(where, CheckpointSettings()).clear()
