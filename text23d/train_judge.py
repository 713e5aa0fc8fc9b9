"""python -m text23d.train_judge: trains the classifier that scores results."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from omegaconf import DictConfig
from tqdm import trange

from text23d import cli
from text23d.judge import network, training
from text23d.rng import generator
from text23d.train_prior import dataset, pictures
from text23d.world.colours import COLOURS
from text23d.world.dataset import Dataset
from text23d.world.kinds import KINDS


def run(cfg: DictConfig) -> None:
    folder, device = Path(cfg.folder), cli.device(cfg.device)
    data = cfg.data
    train = dataset(folder / "data", data.objects, data.views, data.seed, data.workers, data.light)
    test = dataset(folder / "test", data.test, 2, data.seed + 1000, data.workers, data.light)
    with torch.random.fork_rng():
        torch.manual_seed(cfg.train.seed)
        net = network.Classifier(len(KINDS), len(COLOURS)).to(device)
    optimiser = torch.optim.AdamW(net.parameters(), cfg.train.lr, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, cfg.train.lr, cfg.train.steps)
    bar = trange(cfg.train.steps, unit="step")
    for step in bar:
        rng = np.random.default_rng([cfg.train.seed, step])
        rows = np.sort(rng.integers(0, len(train.images), cfg.train.batch))
        x = training.wear(pictures(train.images[rows]).to(device), generator(cfg.train.seed, 0, step, "wear"))
        loss = training.train_step(net, optimiser, x, *labels(train, rows, device))
        schedule.step()
        bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
    rows = np.arange(len(test.images))
    clean = pictures(test.images[rows]).to(device)
    card = {
        "clean": training.accuracy(net, clean, *labels(test, rows, device)),
        "worn": training.accuracy(net, training.wear(clean, generator(1, 0, 0, "wear")), *labels(test, rows, device)),
        "objects": data.objects,
        "steps": cfg.train.steps,
    }
    path = Path(cfg.export or folder / "judge.safetensors")
    network.save(path, network.Judge(net.cpu(), tuple(KINDS), tuple(COLOURS), card))
    print(f"{path}: accuracy on unseen objects {card['clean']}, worn {card['worn']}")


def labels(data: Dataset, rows: np.ndarray, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    kind, colour = (torch.from_numpy(a[rows].astype(np.int64)).to(device) for a in (data.kind, data.colour))
    return kind, colour


if __name__ == "__main__":
    cli.main(run, "train_judge")
