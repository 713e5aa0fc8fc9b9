"""The training of a judge on any world: data sets, batches, weights and the judge's own accuracy."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from text23d.contracts import World
from text23d.engine.ranks import ALONE, Ranks
from text23d.engine.training import Progress, load, train, unheard
from text23d.judge.network import Judge, save
from text23d.judge.training import Targets, TrainConfig, TrainState, accuracy, hardened, targets
from text23d.prior.builtin.prior import fast_precision
from text23d.rng import generator
from text23d.settings import Count, Natural, Seed
from text23d.worlds.dataset import Dataset, Recipe, open_or_build

STREAM = "wear"
"""Of the draws that corrupt; its name decides what they are."""
TEST_VIEWS = 2


@dataclass(frozen=True)
class DataConfig:
    """What `data` in conf/train_judge.yaml explains. seed: None is the world's own."""

    objects: Count
    views: Count
    test: Count
    seed: Seed | None = None
    workers: Natural = 1


@dataclass(frozen=True)
class Settings:
    """What conf/train_judge.yaml explains."""

    folder: str
    data: DataConfig
    train: TrainConfig
    export: str | None = None


def train_judge(
    world: World[Any],
    settings: Settings,
    device: torch.device,
    progress: Progress = unheard,
    ranks: Ranks = ALONE,
) -> tuple[Path, Judge]:
    """Train, or go on with the training in the folder, and write the weights; returns their path, and the judge.
    ranks: those that share each batch, of which the first writes, and knows the judge's accuracy.

    Raises UserError for settings and files that do not fit, Diverged where the loss is not finite, and
    Interrupted: the state is saved.
    """
    folder, config, world = Path(settings.folder), settings.train, world.judged()
    data, test = ranks.in_turn(lambda: datasets(world, settings.data, folder, progress))
    state = TrainState.fresh(world, config, device, precision_of(world, device))
    checkpoint = folder / "training.safetensors"
    if ranks.first and checkpoint.exists():
        load(checkpoint, state)

    def report(loss: float) -> None:
        progress("training", state.step, config.steps, loss)

    train(state, batches(data, config, device), checkpoint, report, ranks=ranks)
    ranks.release()
    path, judge = Path(settings.export or folder / "judge.safetensors"), Judge(state.network.cpu().eval())
    if ranks.first:
        judge.card.update(ceiling(judge, test), objects=settings.data.objects, steps=state.step)
        save(path, judge)
    return path, judge


def precision_of(world: World[Any], device: torch.device) -> torch.dtype:
    """`fast_precision`, but float32 for the clips of a CPU: in bfloat16 the gradient of a three-dimensional
    convolution's weights, on maps of two elements a side or less, holds what oneDNN found in fresh memory."""
    return torch.float32 if device.type == "cpu" and len(world.shape) == 3 else fast_precision(device)


def datasets(world: World[Any], data: DataConfig, folder: Path, progress: Progress) -> tuple[Dataset, Dataset]:
    """What is trained on, and what the judge's own accuracy comes from."""
    seed = world.splits["judge"] if data.seed is None else data.seed
    apart = world.splits["judge_validation"] - world.splits["judge"]
    made = {
        "data": Recipe(world, data.objects, data.views, seed),
        "test": Recipe(world, data.test, TEST_VIEWS, seed + apart),
    }
    first, second = (open_or_build(folder / n, each, data.workers, partial(progress, n)) for n, each in made.items())
    return first, second


def batches(data: Dataset, config: TrainConfig, device: torch.device) -> Callable[[int], tuple[Tensor, Targets]]:
    """The hardened examples and targets of any step, a function of (seed, step) alone: what makes resuming exact."""

    def batch(step: int) -> tuple[Tensor, Targets]:
        rng = np.random.default_rng([config.seed, step])
        rows = np.sort(rng.integers(0, len(data), config.batch))
        rng.shuffle(rows)  # the first of them are scrambled: not always those of the first examples
        x, answers = labelled(data, rows, device)
        return hardened(data.world, data.world.heads, x, answers, generator(config.seed, 0, step, STREAM))

    return batch


def labelled(data: Dataset, rows: np.ndarray, device: torch.device) -> tuple[Tensor, Targets]:
    """Those rows, and what they show."""
    world, captions = data.world, [data.caption(row) for row in rows]
    x, views = data.rows(rows)
    labels = [world.labels(caption) for caption in captions]
    return x.to(device), targets(world.heads, labels, world.angles(captions, views), device)


def ceiling(judge: Judge, test: Dataset) -> dict[str, dict[str, float]]:
    """The judge's own accuracy on examples that nothing was trained on: as they are, and corrupted."""
    clean, answers = labelled(test, np.arange(len(test)), torch.device("cpu"))
    shown = {"clean": clean, "corrupted": test.world.corrupt(clean, generator(1, 0, 0, STREAM))}
    return {name: accuracy(judge.network.heads, judge.look(x), answers) for name, x in shown.items()}
