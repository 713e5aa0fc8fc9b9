"""The training of a built-in prior on any world: data sets, batches, samples to look at, weights and their card."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from text23d.artifact.media import contact_sheet, on_white
from text23d.contracts import World
from text23d.engine.ranks import ALONE, Ranks
from text23d.engine.training import Progress, load, train, unheard
from text23d.errors import UserError
from text23d.files import write_json, write_text
from text23d.method.ode import multistep
from text23d.prior.builtin import edm
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import on_views
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.training import Batch, TrainConfig, TrainState, noise_table
from text23d.prior.builtin.unet import UNetConfig
from text23d.prior.wrappers.guidance import Guided
from text23d.rng import generator
from text23d.settings import Count, Natural, Seed, checked
from text23d.worlds.dataset import Dataset, Recipe, open_or_build

SHEET_EVERY = 600.0
COLUMNS = 8
VALIDATION_VIEWS = 2


@dataclass(frozen=True)
class DataConfig:
    """What `data` in conf/train_prior.yaml explains. seed: None is the world's own."""

    objects: Count
    views: Count
    validation: Count
    seed: Seed | None = None
    workers: Natural = 1


@dataclass(frozen=True)
class Settings:
    """What conf/train_prior.yaml explains."""

    folder: str
    data: DataConfig
    train: TrainConfig
    network: Mapping[str, Any]
    start: str | None = None
    export: str | None = None
    bits: Literal[8, 16] = 16


def train_prior(
    world: World[Any],
    settings: Settings,
    device: torch.device,
    progress: Progress = unheard,
    ranks: Ranks = ALONE,
) -> Path:
    """Train, or go on with the training in the folder, and write the weights beside their card; returns their path.
    ranks: those that share each batch, of which the first writes.

    Raises UserError for settings and files that do not fit, Diverged where the loss is not finite, and
    Interrupted: the state is saved.
    """
    folder, config = Path(settings.folder), settings.train
    seed = world.splits["training"] if settings.data.seed is None else settings.data.seed
    data, validation = ranks.in_turn(lambda: datasets(world, settings.data, seed, folder, progress))
    vocabulary = Vocabulary(world.words)
    network = network_config(world, data, vocabulary, settings.network)
    state = TrainState.fresh(network, config, device)
    checkpoint = folder / "training.safetensors"
    if ranks.first and checkpoint.exists():
        load(checkpoint, state)
    elif ranks.first and settings.start:
        state.begin_from(Path(settings.start), vocabulary.words)
    elif network.light:
        raise UserError("network.light: this stage is trained beside finished weights: add start=<their file>")
    draw = partial(sheet, folder / "samples.png", state.average, world, vocabulary, config.seed, device)
    last = time.monotonic()

    def report(loss: float) -> None:
        nonlocal last
        progress("training", state.seen, config.images, loss)
        if ranks.first and time.monotonic() - last > SHEET_EVERY:
            draw()
            last = time.monotonic()

    examples = batches(data, vocabulary, config.batch, config.seed, device)
    train(state, examples, checkpoint, report, config.minutes, ranks)
    ranks.release()
    path = Path(settings.export or folder / "prior.safetensors")
    if ranks.first:
        draw()
        card = {"data": {**asdict(settings.data), "seed": seed}, "train": asdict(config)}
        write_prior(path, finished(state, validation, vocabulary, card), world, settings.bits)
    return path


def datasets(
    world: World[Any], data: DataConfig, seed: int, folder: Path, progress: Progress
) -> tuple[Dataset, Dataset]:
    """What is trained on, and what the card's figures come from."""
    apart = world.splits["validation"] - world.splits["training"]
    made = {
        "data": Recipe(world, data.objects, data.views, seed),
        "validation": Recipe(world, data.validation, VALIDATION_VIEWS, seed + apart),
    }
    first, second = (open_or_build(folder / n, each, data.workers, partial(progress, n)) for n, each in made.items())
    return first, second


def network_config(world: World[Any], data: Dataset, words: Vocabulary, section: Mapping[str, Any]) -> UNetConfig:
    """The network of the configuration's section for examples of this world. Raises UserError where it is none."""
    _, views = data.rows(np.arange(1))
    of_world = {"words": len(words.words), "channels": world.channels, "dimensions": len(world.shape)}
    given = views.given(world.shape)
    of_views = {"features": views.features().shape[1], "given": 0 if given is None else given.shape[1]}
    config: UNetConfig = checked({**section, **of_world, **of_views}, UNetConfig, "network")
    if any(side % multiple for side, multiple in zip(world.shape, config.multiples, strict=True)):
        raise UserError(
            f"network: it sees multiples of {config.multiples}, the world has {world.shape}: change patch or widths"
        )
    return config


def batches(
    data: Dataset, vocabulary: Vocabulary, size: int, seed: int, device: torch.device
) -> Callable[[int], Batch]:
    """The examples and conditions of any step, a function of (seed, step) alone: what makes resuming exact."""

    def batch(step: int) -> Batch:
        rng = np.random.default_rng([seed, step])
        rows = np.sort(rng.integers(0, len(data), size))
        return conditioned(data, rows, vocabulary, rng, device)

    return batch


def conditioned(
    data: Dataset, rows: np.ndarray, vocabulary: Vocabulary, rng: np.random.Generator | None, device: torch.device
) -> Batch:
    """Those rows and their conditions, captions in the grammar's many ways; no `rng`: each example's plain caption."""
    x, views = data.rows(rows)
    said = [data.world.tokens(data.world.say(data.caption(row), rng)) for row in rows]
    return x.to(device), on_views(vocabulary.encode(said), views, data.world.shape).to(device)


@torch.no_grad()
def sheet(
    path: Path, model: edm.Preconditioned, world: World[Any], vocabulary: Vocabulary, seed: int, device: torch.device
) -> None:
    """A sample for each caption and view of the world's showcase, as a contact sheet."""
    captions, views = world.showcase()
    said = [world.say(caption) for caption in captions]
    c = on_views(vocabulary.encode(map(world.tokens, said)), views, world.shape).to(device)
    shape = len(captions), world.channels, *world.shape
    noise = torch.randn(shape, generator=generator(seed, 0, 0, "sheet")).to(device)
    levels = edm.sigma_steps(20)
    seen = on_white(world.shown(multistep(partial(Guided(model, 2.0), c=c), levels[0] * noise, levels)))
    rows = [slice(start, start + COLUMNS) for start in range(0, len(captions), COLUMNS)]
    contact_sheet([(", ".join(said[row]), list(seen[row])) for row in rows], path)


def finished(
    state: TrainState, validation: Dataset, vocabulary: Vocabulary, card: dict[str, Any]
) -> builtin.BuiltinPrior:
    """The averaged weights, measured on examples never trained on. card: what they were trained with."""
    device = next(state.average.parameters()).device
    chunks = np.array_split(np.arange(len(validation)), max(1, len(validation) // 32))
    table = noise_table(state.average, [conditioned(validation, rows, vocabulary, None, device) for rows in chunks])
    seen = {"images": state.before + state.seen, "before": state.before, "seconds": state.seconds}
    return builtin.BuiltinPrior(state.average, vocabulary, table, validation.world.shape, {**seen, **card})


def write_prior(path: Path, prior: builtin.BuiltinPrior, world: World[Any], bits: Literal[8, 16]) -> None:
    """The weights, and beside them their card for people and for programs."""
    builtin.save(path, prior, bits)
    write_text(path.with_suffix(".md"), model_card(prior, world))
    facts = {"card": prior.card, "table": prior.table, "words": prior.vocabulary.words}
    write_json(path.with_suffix(".json"), facts)


def model_card(prior: builtin.BuiltinPrior, world: World[Any]) -> str:
    card, data, table = prior.card, prior.card["data"], prior.table
    parameters = sum(p.numel() for p in prior.denoiser.parameters()) / 1e6
    trained = "Trained further" if card["before"] else "Trained from nothing"
    lines = [
        "# The built-in prior",
        "",
        f"An EDM-preconditioned UNet of {parameters:.1f} M parameters over {world.medium}.",
        f"{trained} on this project's own procedural world (`{type(world).__module__}`).",
        "Licence: Apache-2.0.",
        "",
        f"- data: {data['objects']} examples, {data['views']} views each, seed {data['seed']}; the world's captions",
        f"- never shown: {', '.join(world.say(caption) for caption in world.unseen) or 'nothing is held out'}",
        f"- examples seen: {card['images']}, {card['before']} of them by the weights that it began from, the others in "
        f"{card['seconds'] / 60:.0f} minutes",
        *light_stage(prior.denoiser),
        *(f"- {fact}" for fact in world.facts()),
        f"- all words: {', '.join(prior.vocabulary.words)}",
        "",
        f"On {VALIDATION_VIEWS * data['validation']} examples that it was not trained on, with caption and view given:",
        "",
        "| sigma | loss | MMSE | rms(x - D) |",
        "|---|---|---|---|",
    ]
    rows = zip(table["sigma"], table["loss"], table["mmse"], table["rms_full"], strict=True)
    lines += [f"| {sigma:g} | {loss:.4f} | {mmse:.5f} | {rms:.5f} |" for sigma, loss, mmse, rms in rows]
    return "\n".join(lines) + "\n"


def light_stage(d: edm.Preconditioned) -> list[str]:
    """What the card says of a light stage."""
    light = d.network.light
    if light is None:
        return []
    parameters = sum(p.numel() for p in light.parameters()) / 1e6
    return [
        f"- a light stage of {parameters:.3f} M of the parameters corrects D below sigma {light.config.ceiling:g}; it "
        "alone was trained on those others"
    ]
