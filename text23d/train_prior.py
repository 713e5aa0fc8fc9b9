"""python -m text23d.train_prior: trains the built-in prior on the procedural world. The same command again resumes."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from text23d import cli
from text23d.artifact.media import contact_sheet
from text23d.contracts import from_picture, to_picture
from text23d.files import write_json, write_text
from text23d.prior import builtin, edm, training
from text23d.prior.condition import Condition, known
from text23d.prior.guidance import Guided
from text23d.prior.text import Vocabulary
from text23d.prior.unet import UNetConfig
from text23d.rng import generator
from text23d.world.caption import Caption, caption_text, tokenize, words
from text23d.world.colours import COLOURS
from text23d.world.dataset import Dataset, build_dataset
from text23d.world.kinds import KINDS
from text23d.world.views import cameras_from

SHEET_EVERY = 300.0


def dataset(folder: Path, objects: int, views: int, seed: int, workers: int, light: float = 1.0) -> Dataset:
    """The data set at `folder`, rendered first where it is not there yet."""
    if not folder.exists():
        build_dataset(folder, objects, views, seed, workers, light_variation=light)
    return Dataset.open(folder)


def batches(
    data: Dataset, vocabulary: Vocabulary, size: int, seed: int, device: torch.device
) -> Callable[[int], training.Batch]:
    """The pictures and conditions of any step, a function of (seed, step) alone: what makes resuming exact."""

    def batch(step: int) -> training.Batch:
        rng = np.random.default_rng([seed, step])
        rows = np.sort(rng.integers(0, len(data.images), size))
        return pictures(data.images[rows]).to(device), conditions(data, rows, vocabulary, rng).to(device)

    return batch


def pictures(images: np.ndarray) -> torch.Tensor:
    """Premultiplied RGBA uint8 [B, H, W, 4] -> picture space [B, 4, H, W]."""
    unit = torch.from_numpy(np.ascontiguousarray(images)).permute(0, 3, 1, 2).float() / 255
    return to_picture(unit[:, :3], unit[:, 3:])


def conditions(data: Dataset, rows: np.ndarray, vocabulary: Vocabulary, rng: np.random.Generator | None) -> Condition:
    """Captions in the grammar's paraphrases, one in ten without its colour; no `rng`: each object's plain caption."""
    kinds, colours = list(KINDS), list(COLOURS)
    captions = []
    for row in rows:
        colour = None if rng is not None and rng.random() < 0.1 else colours[data.colour[row]]
        captions.append(tokenize(caption_text(Caption(kinds[data.kind[row]], colour), rng)))
    return Condition(vocabulary.encode(captions), known(data.cameras(rows)))


def sheet(path: Path, model: edm.Preconditioned, vocabulary: Vocabulary, seed: int, device: torch.device) -> None:
    """Samples of every kind, in the colours and from the azimuths of an even round, as a contact sheet."""
    azimuths = np.arange(8) * 45.0
    captions = [Caption(kind, colour) for kind in KINDS for colour in COLOURS]
    text = vocabulary.encode(tokenize(caption_text(caption)) for caption in captions)
    rows = np.stack([np.tile(azimuths, len(KINDS)), *(np.full(len(captions), v) for v in (20.0, 3.0, 40.0))], -1)
    c = Condition(text, known(cameras_from(rows))).to(device)
    noise = torch.randn(len(captions), 4, 64, 64, generator=generator(seed, 0, 0, "sheet")).to(device)
    levels = edm.sigma_steps(12)
    premultiplied, alpha = from_picture(edm.heun(Guided(model, 2.0), levels[0] * noise, levels, c))
    seen = (premultiplied + (1 - alpha)).clamp(0, 1).permute(0, 2, 3, 1)
    grid = (seen * 255).round().byte().cpu().numpy().reshape(len(KINDS), len(COLOURS), 64, 64, 3)
    titles = [f"{colour} {azimuth:.0f}" for colour, azimuth in zip(COLOURS, azimuths, strict=True)]
    contact_sheet([(kind, list(line)) for kind, line in zip(KINDS, grid, strict=True)], path, titles)


def run(cfg: DictConfig) -> None:
    folder = Path(cfg.folder)
    device = cli.device(cfg.device)
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    config = training.TrainConfig(**settings["train"])
    train_data = dataset(folder / "data", cfg.data.objects, cfg.data.views, cfg.data.seed, cfg.data.workers)
    validation = dataset(folder / "validation", cfg.data.validation, 2, cfg.data.seed + 1000, cfg.data.workers)
    vocabulary = Vocabulary(tuple(words()))
    network: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["network"].items()}
    state = training.TrainState.fresh(UNetConfig(words=len(vocabulary.words), **network), config, device)
    checkpoint = folder / "training.safetensors"
    if checkpoint.exists():
        state.load(checkpoint)
    bar = tqdm(total=config.images, initial=state.seen, unit="img", smoothing=0.02, miniters=1, mininterval=2)
    smooth, last = 0.0, time.monotonic()

    def report(state: training.TrainState, loss: float) -> None:
        nonlocal smooth, last
        smooth = loss if smooth == 0 else 0.99 * smooth + 0.01 * loss
        bar.set_postfix_str(f"loss {smooth:.4f}", refresh=False)
        bar.update(config.batch)
        if time.monotonic() - last > SHEET_EVERY:
            sheet(folder / "samples.png", state.average, vocabulary, cfg.train.seed, device)
            last = time.monotonic()

    training.train(
        state, config, batches(train_data, vocabulary, config.batch, config.seed, device), checkpoint, report
    )
    bar.close()
    sheet(folder / "samples.png", state.average, vocabulary, cfg.train.seed, device)
    finish(state, validation, vocabulary, settings, Path(cfg.export or folder / "prior.safetensors"), device)


def finish(
    state: training.TrainState,
    validation: Dataset,
    vocabulary: Vocabulary,
    settings: dict[str, Any],
    path: Path,
    device: torch.device,
) -> None:
    """Measure the averaged weights on objects never trained on, and write them with their model card."""
    chunks = np.array_split(np.arange(len(validation.images)), max(1, len(validation.images) // 32))
    held_out = [
        (pictures(validation.images[rows]).to(device), conditions(validation, rows, vocabulary, None).to(device))
        for rows in chunks
    ]
    table = training.noise_table(state.average, held_out)
    card = {"images": state.seen, "seconds": state.seconds, "data": settings["data"], "train": settings["train"]}
    prior = builtin.BuiltinPrior(state.average, vocabulary, table, 64, card)
    builtin.save(path, prior)
    write_text(path.with_suffix(".md"), model_card(prior))
    write_json(path.with_suffix(".json"), {"card": card, "table": table, "words": vocabulary.words})


def model_card(prior: builtin.BuiltinPrior) -> str:
    card, data, table = prior.card, prior.card["data"], prior.table
    parameters = sum(p.numel() for p in prior.denoiser.parameters()) / 1e6
    lines = [
        "# The built-in prior",
        "",
        f"An EDM-preconditioned UNet of {parameters:.1f} M parameters over 64 x 64 RGBA pictures, conditioned on a",
        "caption and a camera, trained from nothing on this project's own procedural world (`text23d/world`).",
        "Licence: Apache-2.0.",
        "",
        f"- data: {data['objects']} objects, {data['views']} views each, seed {data['seed']}; the world's captions",
        f"- images seen: {card['images']}, in {card['seconds'] / 60:.0f} minutes",
        f"- kinds: {', '.join(KINDS)}",
        f"- colours: {', '.join(COLOURS)}",
        f"- all words: {', '.join(prior.vocabulary.words)}",
        "- limits: one object of one colour, seen from 15 degrees below to 60 above; nothing outside these words",
        "",
        f"On {2 * data['validation']} pictures of objects it was not trained on, with caption and camera given:",
        "",
        "| sigma | loss | MMSE | rms(x - D) |",
        "|---|---|---|---|",
    ]
    rows = zip(table["sigma"], table["loss"], table["mmse"], table["rms_full"], strict=True)
    return (
        "\n".join(lines + [f"| {sigma:g} | {loss:.4f} | {mmse:.5f} | {rms:.5f} |" for sigma, loss, mmse, rms in rows])
        + "\n"
    )


if __name__ == "__main__":
    cli.main(run, "train_prior")
