"""An iteration of the main job, on a prior of random weights: what it costs and where its time goes."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf
from torch.autograd import DeviceType
from torch.profiler import record_function

from text23d.engine.build import Run, build
from text23d.engine.loop import iterate
from text23d.errors import UserError
from text23d.kernels import ops
from text23d.method import algorithm
from text23d.method.algorithm import Algorithm1
from text23d.method.update import Update
from text23d.prior.builtin import edm
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.unet import UNet, UNetConfig
from text23d.prior.wrappers.guidance import Guided
from text23d.representation import volume
from text23d.representation.nerf import Nerf
from text23d.studies.benchmark.clock import labels, profiled
from text23d.worlds.objects.caption import words

STAGE, PART, WHOLE = "stage ", "part ", "iteration"
KERNELS, NETWORKS = ("field", "march", "composite"), ("network of the prior",)
BACKWARD = "autograd::engine::evaluate_function: "


@contextmanager
def random_prior(network: DictConfig) -> Iterator[Path]:
    """The file of a prior of this network (see `UNetConfig`) that reads every word and has learned nothing.

    Raises UserError for a network that cannot be built.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in plain(network).items()}
        try:
            unet = UNet(UNetConfig(len(words()), **shape)).requires_grad_(False)
        except (TypeError, ValueError, RuntimeError, IndexError) as error:
            raise UserError(f"network={plain(network)}: {error}; expected what conf/network/full.yaml has") from error
        for parameter in unet.parameters():  # the last layers are made of zeros
            parameter.add_(0.02 * torch.randn(parameter.shape))
    table = {name: [0.02, 40.0] for name in ("sigma", "rms_full", "rms_views", "rms_none")}
    prior = builtin.BuiltinPrior(edm.Preconditioned(unet), Vocabulary(words()), table, (64, 64), {"images": 0})
    with TemporaryDirectory() as folder:
        path = Path(folder) / "prior.safetensors"
        builtin.save(path, prior)
        yield path


def plain(cfg: DictConfig) -> dict[str, Any]:
    found: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
    return found


class Job:
    """A run that can take any of its iterations, again and again, from one state: that after a first one."""

    def __init__(self, cfg: DictConfig, device: torch.device, weights: Path) -> None:
        """Raises UserError as `engine.build.build`, and for a prior that has no weights of ours."""
        if "weights" not in cfg.prior:
            raise UserError("this benchmark runs prior=builtin; for Stable Diffusion's network say stable_diffusion=2")
        self.run: Run = build(OmegaConf.merge(cfg, {"prior": {"weights": str(weights)}}), device)  # type: ignore[arg-type]
        iterate(self.run)
        self._nerf = deepcopy(self.run.phi.state_dict())
        self._optimiser = deepcopy(self.run.optimizer.state_dict()) if self.run.optimizer else None

    @property
    def iterations(self) -> int:
        return self.run.plan.iterations

    @property
    def typical(self) -> int:
        """An iteration at the update's full size that does not look where matter is."""
        index = 3 * self.iterations // 5
        return min(index + (index % self.run.phi.refresh == 0), self.iterations - 1)

    @property
    def size(self) -> int:
        """Side of the update's rendering in that iteration."""
        return int(self.run.plan.size(self.typical / max(1, self.iterations - 1)))

    def spread(self, count: int) -> list[int]:
        """Iterations evenly along the run, the first and the last among them."""
        return sorted({round(part * (self.iterations - 1) / max(1, count - 1)) for part in range(count)})

    def restore(self) -> None:
        self.run.phi.load_state_dict(self._nerf)
        if self.run.optimizer and self._optimiser:
            self.run.optimizer.load_state_dict(deepcopy(self._optimiser))  # it goes on in the tensors it is given

    def iterate(self, index: int) -> dict[str, Any]:
        """The run's iteration `index`; its figures."""
        self.run.iteration = index
        return iterate(self.run)


def stage_seconds(job: Job, indices: Sequence[int]) -> dict[str, dict[str, float]]:
    """Seconds of an average of these iterations by stage, and within each stage by part: what kernels and networks
    take, backward passes included; under "seconds" the whole stage. The stages add up to the iteration.

    On the GPU a stage lasts until its work is done, and a part as long as its kernels run.
    """
    method = job.run.plan.strategy(0.0)
    if not isinstance(method, Algorithm1):
        raise UserError("the stages of Algorithm 1 are measured: choose method=langevin")
    stages = [
        (Nerf, "refresh_occupancy", "occupancy"),
        (Nerf, "render", "render"),  # the outermost names the stage: the update's own renderings are the update's
        (type(method.inversion), "__call__", "invert"),
        (Guided, "__call__", "Langevin"),
        (type(method.langevin), "__call__", "Langevin"),
        (edm.Preconditioned, "forward", "target"),
        (algorithm, "target", "target"),
        (Update, "__call__", "update"),
    ]
    parts = [
        (ops, "field", "field"),
        (ops, "march", "march"),
        (volume, "composite", "composite"),
        (UNet, "forward", NETWORKS[0]),
    ]

    def work() -> None:
        for index in indices:
            job.restore()
            with record_function(WHOLE):
                job.iterate(index)

    named_stages = labels([(owner, attribute, STAGE + name) for owner, attribute, name in stages], wait=True)
    named_parts = labels([(owner, attribute, PART + name) for owner, attribute, name in parts])
    with named_stages, named_parts:
        found = profiled(work)
    return breakdown(found.events(), len(indices), gpu=torch.cuda.is_initialized())


def breakdown(events: Sequence[Any], count: int, gpu: bool) -> dict[str, dict[str, float]]:
    """What `stage_seconds` returns, from the events of a profile with `count` iterations.

    A backward function belongs to the part whose forward pass made it: both carry the same sequence number.
    """
    host = sorted((e for e in events if e.device_type == DeviceType.CPU), key=lambda e: e.time_range.start)
    stages, parts = (Ranges(e for e in host if e.name.startswith(prefix)) for prefix in (STAGE, PART))
    found: dict[str, dict[str, float]] = {}

    def spend(event: Any, part: str, seconds: float) -> None:
        stage = stages.name_at(event.time_range.start) or "other"
        times = found.setdefault(stage, {"seconds": 0.0})
        times[part] = times.get(part, 0.0) + seconds

    made: dict[int, str | None] = {}
    for event in host:  # in order: of several with one number the last is the one that used it up
        if event.sequence_nr >= 0 and not event.name.startswith(BACKWARD) and event.scope == 0:
            made[event.sequence_nr] = parts.name_at(event.time_range.start)
    for event in parts.events:
        spend(event, event.name.removeprefix(PART), duration(event, gpu))
    for event in host:
        part = made.get(event.sequence_nr) if event.name.startswith(BACKWARD) else None
        if part is not None:
            spend(event, part, duration(event, gpu))
    for event in stages.events:
        spend(event, "seconds", duration(event, False))
    whole = sum(duration(e, False) for e in host if e.name == WHOLE)
    staged = sum(times["seconds"] for times in found.values())
    found.setdefault("other", {})["seconds"] = whole - staged
    return {stage: {part: seconds / count for part, seconds in times.items()} for stage, times in found.items()}


class Ranges:
    """The outermost of labelled events, in order, and which of them a moment falls into."""

    def __init__(self, events: Iterator[Any]) -> None:
        self.events: list[Any] = []
        for event in events:
            if not self.events or event.time_range.start >= self.events[-1].time_range.end:
                self.events.append(event)
        self._starts = [event.time_range.start for event in self.events]

    def name_at(self, moment: float) -> str | None:
        """The name without its prefix."""
        index = bisect_right(self._starts, moment) - 1
        inside = index >= 0 and moment < self.events[index].time_range.end
        return self.events[index].name.partition(" ")[2] if inside else None


def duration(event: Any, gpu: bool) -> float:
    """Seconds of an event: of its kernels on the GPU, or from its begin to its end."""
    return (event.device_time_total if gpu else event.cpu_time_total) / 1e6


def share(stages: dict[str, dict[str, float]], names: Sequence[str]) -> float:
    """The share of these parts in the time of all stages."""
    whole = sum(times["seconds"] for times in stages.values())
    return sum(times.get(name, 0.0) for times in stages.values() for name in names) / whole
