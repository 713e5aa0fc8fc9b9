"""python -m text23d.run prompt="a red car": from a prompt to an object or an image, and pictures of it."""

from __future__ import annotations

import time

STARTED = time.perf_counter()  # before the imports below, which are part of what a person waits for

import resource  # noqa: E402
import sys  # noqa: E402
from contextlib import suppress  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import torch  # noqa: E402
from hydra.core.hydra_config import HydraConfig  # noqa: E402
from hydra.types import RunMode  # noqa: E402
from omegaconf import DictConfig, OmegaConf  # noqa: E402
from tqdm import tqdm  # noqa: E402

from text23d import cli  # noqa: E402
from text23d.clock import Clock  # noqa: E402
from text23d.engine import results  # noqa: E402
from text23d.engine.build import Run, build  # noqa: E402
from text23d.engine.loop import optimise  # noqa: E402
from text23d.errors import UserError  # noqa: E402
from text23d.files import JsonLines, write_json, write_text  # noqa: E402
from text23d.judge.network import load as load_judge  # noqa: E402
from text23d.kernels.backend import describe, select  # noqa: E402
from text23d.tasks.meshing import read_settings  # noqa: E402
from text23d.tasks.task import Left  # noqa: E402

OUTPUTS = ("all", "minimal")


def run(cfg: DictConfig) -> None:
    """The main job; everything it makes lies in Hydra's output folder."""
    folder, clock, loop = Path(HydraConfig.get().runtime.output_dir), Clock(), Clock()
    # The later jobs of a sweep share a process: only a single run waited for its start.
    started = STARTED if HydraConfig.get().mode == RunMode.RUN else time.perf_counter()
    try:
        check_outputs(cfg)
        select(cfg.backend)
        device = cli.device(cfg.device)
        job, judge = build(cfg, device), load_judge()
    except UserError:
        remove_empty(folder)
        raise
    write_text(folder / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
    print(f"text23d: {job.prompt!r} on {device}, kernels {describe(device.type)}, to {folder}", file=sys.stderr)
    clock.seconds["start-up"] = time.perf_counter() - started
    sheet = results.ContactSheet(folder / "contact.png")
    try:
        try:
            nfe = optimise_watched(job, cfg.stages, sheet, folder / "metrics.jsonl", clock, loop)
        finally:  # also of a run that was interrupted or diverged
            results.save_phi(job, folder)
        with clock.stage("score"):
            score = results.score(job, judge)
        left = Left({}, "no more was asked for", [])
        if cfg.outputs == "all":
            left = job.subject.leave(job.prompt, folder, cfg, clock)
    except KeyboardInterrupt:
        done = f"{job.iteration} of {job.plan.iterations} iterations"
        raise KeyboardInterrupt(f"interrupted after {done}: what there is of it is in {folder}") from None
    summary = {
        "prompt": job.prompt,
        "seed": job.seed,
        "device": str(device),
        "backend": describe(device.type).split()[0],
        "seconds": {**clock.seconds, "total": time.perf_counter() - started},
        "loop": loop.parts(clock.seconds["optimise"]),
        "iterations": job.iteration,
        "nfe": nfe,
        "peak_memory_mb": peak_memory(),
        "score": score,
        **left.summary,
    }
    write_json(folder / "summary.json", summary)
    for line in [*left.notes, spent(summary), verdict(summary, left.told, folder)]:
        print(f"text23d: {line}", file=sys.stderr)


def check_outputs(cfg: DictConfig) -> None:
    """Raises UserError, before hours are spent, for what would only fail when the results are written."""
    read_settings(cfg.mesh, "mesh.")
    if cfg.outputs not in OUTPUTS:
        raise UserError(f"outputs={cfg.outputs}: expected {' or '.join(OUTPUTS)}")
    least = {"turntable.frames": 1, "turntable.size": 16, "stages": 1}
    for name, smallest in least.items():
        value = OmegaConf.select(cfg, name)
        if type(value) is not int or value < smallest:
            raise UserError(f"{name}={value}: expected a whole number, at least {smallest}")
    if cfg.turntable.size % 16:
        raise UserError(f"turntable.size={cfg.turntable.size}: expected a number divisible by 16, for the video's sake")


def remove_empty(folder: Path) -> None:
    """Take away the empty folders, inside the working folder, that Hydra made for a run that wrote nothing."""
    inside = [each for each in (folder, *folder.parents) if Path.cwd() in each.parents]
    with suppress(OSError):
        for each in inside or [folder]:
            each.rmdir()


def optimise_watched(
    job: Run, stages: int, sheet: results.ContactSheet, metrics: Path, clock: Clock, loop: Clock
) -> int:
    """The loop with a progress bar, metrics on disk and a row of pictures at each of `stages` equal parts of the way;
    returns the network evaluations spent. `loop` takes the time of an iteration's stages."""
    total, nfe = job.plan.iterations, 0
    marks = {round(total * part / stages) for part in range(1, stages + 1)}
    with clock.stage("pictures"):
        sheet.add("start", job.subject)
    with JsonLines(metrics) as lines, tqdm(total=total, unit="it", miniters=1, dynamic_ncols=True) as bar:
        for figures in optimise(job, loop.stage):
            nfe += figures["nfe"]
            clock.seconds["optimise"] = clock.seconds.get("optimise", 0.0) + figures["seconds"]
            lines.write(figures)
            names = ("sigma", "loss", "noise_ratio", "residual")
            bar.set_postfix_str(", ".join(f"{name} {figures[name]:.3g}" for name in names), refresh=False)
            bar.update()
            if job.iteration in marks:
                with clock.stage("pictures"):
                    sheet.add(f"iteration {job.iteration}, sigma {figures['sigma']:.2f}", job.subject)
    return nfe


def peak_memory() -> float:
    """The largest resident size of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    gpu = torch.cuda.max_memory_allocated() / 2**20 if torch.cuda.is_available() else 0.0
    return round(peak / (2**20 if sys.platform == "darwin" else 2**10) + gpu, 1)


def spent(summary: dict[str, Any]) -> str:
    """Where the time of the run and of its loop went, in one line each of seconds."""
    run, loop = (
        ", ".join(f"{name} {value:.0f}" for name, value in summary[part].items() if value >= 0.5)
        for part in ("seconds", "loop")
    )
    return f"seconds: {run}; of the loop: {loop}"


def verdict(summary: dict[str, Any], left: str, folder: Path) -> str:
    """The last line a person reads."""
    score = ", ".join(f"{name} {value:.2f}" for name, value in (summary["score"] or {}).items()) or "not asked"
    return f"done in {summary['seconds']['total']:.0f} s, {left}; judge: {score}; see {folder}"


if __name__ == "__main__":
    cli.main(run, "config")
