"""python -m text23d.train_judge: trains the classifier that scores results."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("train_judge")  # which imports what follows once the command line is read

from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from tqdm import trange

from text23d.errors import UserError
from text23d.judge import network, training
from text23d.judge.training import NOT_TOLD, Labels
from text23d.prior.builtin.prior import fast_precision
from text23d.rng import generator
from text23d.worlds.objects.caption import part_words
from text23d.worlds.objects.colours import COLOURS
from text23d.worlds.objects.dataset import Dataset, Recipe, open_or_build, pictures
from text23d.worlds.objects.kinds import KINDS


def run(cfg: DictConfig) -> None:
    for name in ("steps", "batch"):
        if type(cfg.train[name]) is not int or cfg.train[name] < 1:
            raise UserError(f"train.{name}={cfg.train[name]}: expected a whole number, at least 1")
    folder, device = Path(cfg.folder), cli.device(cfg.device)
    data = cfg.data
    recipe = Recipe(data.views, data.seed, light_variation=data.light, held_out=True, pairs=False)
    unseen = Recipe(2, data.seed + 1000, light_variation=data.light, held_out=True, pairs=False)
    train = open_or_build(folder / "data", data.objects, recipe, data.workers)
    test = open_or_build(folder / "test", data.test, unseen, data.workers)
    with torch.random.fork_rng():
        torch.manual_seed(cfg.train.seed)
        net = network.Classifier(len(KINDS), len(COLOURS), len(part_words())).to(device)
    optimiser = torch.optim.AdamW(net.parameters(), cfg.train.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, cfg.train.lr, cfg.train.steps)
    bar = trange(cfg.train.steps, unit="step")
    for step in bar:
        rng = np.random.default_rng([cfg.train.seed, step])
        rows = np.sort(rng.integers(0, len(train.images), cfg.train.batch))
        rng.shuffle(rows)  # the first of them are broken: not always those of the first objects
        x, told = pictures(train.images[rows]).to(device), labels(train, rows, device)
        draw = generator(cfg.train.seed, 0, step, "wear")
        loss = training.train_step(net, optimiser, x, told, draw, fast_precision(device))
        schedule.step()
        bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
    path = Path(cfg.export or folder / "judge.safetensors")
    judge = network.Judge(net.cpu().eval(), tuple(KINDS), tuple(COLOURS), part_words(), {})
    judge.card.update(ceiling(judge, test), objects=data.objects, steps=cfg.train.steps)
    network.save(path, judge)
    print(f"{path}: on unseen objects {judge.card['clean']}, worn {judge.card['worn']}")


def ceiling(judge: network.Judge, test: Dataset) -> dict[str, dict[str, float]]:
    """The judge's own accuracy on objects that nothing was trained on: as they are, and worn."""
    rows = np.arange(len(test.images))
    clean, told = pictures(test.images[rows]), labels(test, rows, torch.device("cpu"))
    worn = training.wear(clean, generator(1, 0, 0, "wear"))
    return {name: training.accuracy(judge.look(x), told) for name, x in (("clean", clean), ("worn", worn))}


def labels(data: Dataset, rows: np.ndarray, device: torch.device) -> Labels:
    """What those pictures show, as class indices."""
    kinds, colours, words = list(KINDS), list(COLOURS), part_words()
    captions = [data.caption(row) for row in rows]
    part = torch.full((len(rows), len(words)), NOT_TOLD)
    for index, caption in enumerate(captions):
        for word, its_colour in caption.parts:
            part[index, words.index(word)] = colours.index(its_colour)
    kind = torch.tensor([kinds.index(caption.kind or "") for caption in captions])
    colour = torch.tensor([colours.index(caption.colour or "") for caption in captions])
    has_front = torch.tensor([KINDS[caption.kind or ""].front for caption in captions])
    azimuth = torch.where(has_front, torch.from_numpy(data.camera[rows, 0]), torch.nan)
    return Labels(kind.to(device), colour.to(device), part.to(device), azimuth.to(device))
