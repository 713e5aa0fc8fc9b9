"""python -m text23d.train_prior: trains the built-in prior on the procedural world. The same command again resumes."""

from __future__ import annotations

from text23d import cli

if __name__ == "__main__":
    cli.main("train_prior")  # which imports what follows once the command line is read

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from tqdm import tqdm

from text23d.artifact.media import WHITE, composite_on, contact_sheet
from text23d.files import write_json, write_text
from text23d.prior.builtin import edm, training
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import Condition, known
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.unet import UNetConfig
from text23d.prior.wrappers.guidance import Guided
from text23d.rng import generator
from text23d.spaces import from_picture
from text23d.worlds.objects.caption import Caption, caption_text, tokenize, words
from text23d.worlds.objects.colours import COLOURS
from text23d.worlds.objects.dataset import Dataset, Recipe, open_or_build, pictures
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.scene import HELD_OUT
from text23d.worlds.objects.views import cameras_from

SHEET_EVERY = 600.0
COLOURLESS_SHARE, KINDLESS_SHARE = 0.08, 0.04


def batches(
    data: Dataset, vocabulary: Vocabulary, size: int, seed: int, device: torch.device
) -> Callable[[int], training.Batch]:
    """The pictures and conditions of any step, a function of (seed, step) alone: what makes resuming exact."""

    def batch(step: int) -> training.Batch:
        rng = np.random.default_rng([seed, step])
        rows = np.sort(rng.integers(0, len(data.images), size))
        return pictures(data.images[rows]).to(device), conditions(data, rows, vocabulary, rng).to(device)

    return batch


def conditions(data: Dataset, rows: np.ndarray, vocabulary: Vocabulary, rng: np.random.Generator | None) -> Condition:
    """Captions in the grammar's many ways, a few without colour or kind; no `rng`: each object's plain caption."""
    captions = (data.caption(row) for row in rows)
    said = (caption_text(caption if rng is None else forgetful(caption, rng), rng) for caption in captions)
    return Condition(vocabulary.encode(tokenize(text) for text in said), known(data.cameras(rows)))


def forgetful(caption: Caption, rng: np.random.Generator) -> Caption:
    """The caption, now and then without its colour or its kind. Coloured parts, adjectives and second things are always
    told: objects that are not said to have them must not."""
    drop = rng.random()
    if drop < COLOURLESS_SHARE:
        return replace(caption, colour=None)
    return replace(caption, kind=None) if drop < COLOURLESS_SHARE + KINDLESS_SHARE else caption


def sheet(path: Path, model: edm.Preconditioned, vocabulary: Vocabulary, seed: int, device: torch.device) -> None:
    """Two samples of every kind, in the colours and from the azimuths of an even round, as a contact sheet."""
    colours = list(COLOURS)
    captions = [Caption(kind, colours[(2 * k + i) % len(colours)]) for k, kind in enumerate(KINDS) for i in range(2)]
    text = vocabulary.encode(tokenize(caption_text(caption)) for caption in captions)
    azimuths = (np.arange(len(captions)) * 45.0 + 20.0) % 360
    views = np.stack([azimuths, *(np.full(len(captions), v) for v in (20.0, 3.0, 40.0))], -1)
    c = Condition(text, known(cameras_from(views))).to(device)
    noise = torch.randn(len(captions), 4, 64, 64, generator=generator(seed, 0, 0, "sheet")).to(device)
    levels = edm.sigma_steps(12)
    seen = composite_on(WHITE, *from_picture(edm.heun(Guided(model, 2.0), levels[0] * noise, levels, c)))
    titles = [f"{caption.colour} {caption.kind}" for caption in captions]
    rows = [slice(start, start + 8) for start in range(0, len(captions), 8)]
    contact_sheet([(", ".join(titles[row]), list(seen[row])) for row in rows], path)


def run(cfg: DictConfig) -> None:
    folder = Path(cfg.folder)
    device = cli.device(cfg.device)
    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    config = training.TrainConfig(**settings["train"])
    data = cfg.data
    train_data = open_or_build(folder / "data", data.objects, Recipe(data.views, data.seed), data.workers)
    validation = open_or_build(folder / "validation", data.validation, Recipe(2, data.seed + 1000), data.workers)
    vocabulary = Vocabulary(words())
    network: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in settings["network"].items()}
    state = training.TrainState.fresh(UNetConfig(words=len(vocabulary.words), **network), config, device)
    checkpoint = folder / "training.safetensors"
    if checkpoint.exists():
        state.load(checkpoint)
    elif cfg.start:
        state.begin_from(Path(cfg.start), vocabulary.words)
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
    seen = {"images": state.before + state.seen, "before": state.before, "seconds": state.seconds}
    card = {**seen, "data": settings["data"], "train": settings["train"]}
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
        f"- never shown: {', '.join(f'{colour} {kind}' for kind, colour in HELD_OUT)}",
        f"- images seen: {card['images']}, {card['before']} of them by the weights that it began from, the others in "
        f"{card['seconds'] / 60:.0f} minutes",
        f"- kinds: {', '.join(KINDS)}",
        f"- colours: {', '.join(COLOURS)}",
        f"- all words: {', '.join(prior.vocabulary.words)}",
        "- limits: one object, its parts' colours, or a pair, seen from 15 degrees below to 60 above; only these words",
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
