"""Training of the built-in prior: its steps, its rates, what it may begin from, and the verb."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from small_prior import SIDE, TINY, WORDS, batch, perturbed
from torch import Tensor

from text23d import train_prior
from text23d.engine import prior_training
from text23d.engine.training import load, save, train
from text23d.errors import Diverged, UserError
from text23d.files import load_tensors, save_tensors
from text23d.paths import conf_dir
from text23d.prior.builtin import edm, training
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import PAD, Condition, known
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.training import TrainConfig, TrainState
from text23d.worlds.dataset import Dataset, Recipe, open_or_build
from text23d.worlds.objects import world as objects
from text23d.worlds.objects.caption import Caption, caption_text, parse, words
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.world import Objects

TRAIN = TrainConfig(images=48, batch=4, warmup=8)
CPU = torch.device("cpu")


def fresh(config: TrainConfig = TRAIN) -> TrainState:
    state = TrainState.fresh(TINY, config, CPU)
    state.model.precision = state.average.precision = torch.float32
    return state


def ignore(loss: float) -> None:
    assert math.isfinite(loss)


def same(a: TrainState, b: TrainState) -> bool:
    pairs = [(a.modules[name].state_dict(), b.modules[name].state_dict()) for name in a.modules]
    return a.seen == b.seen and all(torch.equal(left[k], right[k]) for left, right in pairs for k in left)


def test_training_learns_and_the_average_follows(tmp_path: Path) -> None:
    """One picture, seen again and again, is soon known by heart, by the averaged weights too."""
    state = fresh(replace(TRAIN, images=600, lr=4e-3))
    x, c = batch(8)
    x = 0.5 * x[:1].sign().expand(4, -1, -1, -1)
    noise, sigma = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)), torch.full((4,), 2.0)

    def losses() -> list[float]:
        with torch.no_grad():
            return [edm.loss(d, x, sigma, noise, c).mean().item() for d in (state.model, state.average)]

    assert losses() == pytest.approx([1.0, 1.0], abs=0.1)
    train(state, lambda step: (x, c), tmp_path / "t.safetensors", ignore)
    assert max(losses()) < 0.4


def test_a_loss_that_is_not_finite_leaves_the_state(tmp_path: Path) -> None:
    state, before = fresh(), fresh()
    for each in (state, before):
        each.accumulate(batch(9))
        each.advance(batch(9))
    x, c = batch(10)
    x[0, 0, 0, 0] = math.nan
    with pytest.raises(Diverged, match=r"became nan after 4 images: use a smaller train\.lr"):
        train(state, lambda step: (x, c), tmp_path / "t.safetensors", ignore)
    assert same(state, before)
    restored = fresh()
    load(tmp_path / "t.safetensors", restored)
    assert same(restored, before)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    state = fresh()
    save(tmp_path / "t.safetensors", state)
    with pytest.raises(UserError, match=r"another training, or is damaged \(it is of another network"):
        load(tmp_path / "t.safetensors", TrainState.fresh(replace(TINY, widths=(16, 32)), TRAIN, CPU))
    save_tensors(tmp_path / "foreign.safetensors", {"a": torch.zeros(1)}, "prior")
    with pytest.raises(UserError, match="of the kind prior: expected one of the kind training"):
        load(tmp_path / "foreign.safetensors", state)
    with pytest.raises(UserError, match="no file"):
        load(tmp_path / "missing.safetensors", state)


def test_a_checkpoint_from_before_networks_had_dimensions_goes_on(tmp_path: Path) -> None:
    """Its configuration lacks what was then always so."""
    state = fresh()
    state.accumulate(batch(9))
    state.advance(batch(9))
    save(tmp_path / "now.safetensors", state)
    tensors, facts = load_tensors(tmp_path / "now.safetensors", "training")
    for name in ("dimensions", "features", "sketch", "mask"):
        del facts["config"][name]
    save_tensors(tmp_path / "then.safetensors", tensors, "training", facts)
    restored = fresh()
    load(tmp_path / "then.safetensors", restored)
    assert same(restored, state)


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    table = {name: [0.1, 1.0] for name in builtin.COLUMNS}
    prior = builtin.BuiltinPrior(perturbed(), WORDS, table, (SIDE, SIDE), {"images": 48})
    builtin.save(tmp_path / "tiny.safetensors", prior)
    return tmp_path / "tiny.safetensors"


def test_a_training_may_begin_from_an_earlier_prior(weights: Path) -> None:
    """Words go by their names, the rest by name and shape; what does not fit stays as it was."""
    earlier, reworded = load_tensors(weights, "prior")[0], ("car", "zebra", "a")
    for widths in (TINY.widths, (16, 32)):
        config = replace(TINY, words=3, widths=widths)
        state, before = (TrainState.fresh(config, TRAIN, CPU) for _ in range(2))
        state.begin_from(weights, reworded)
        now, was = state.model.network.state_dict(), before.model.network.state_dict()
        vectors = now["text.word.weight"]
        for index, word in enumerate(reworded):
            known_before = word in WORDS.words
            row = (
                earlier["text.word.weight"][1 + WORDS.words.index(word)] if known_before else was["text.word.weight"][2]
            )
            assert torch.equal(vectors[1 + index], row.float()), word
        assert not vectors[PAD].any()
        fits = {name for name in now if name in earlier and now[name].shape == earlier[name].shape}
        assert ("middle.0.block.conv1.weight" in fits) == (widths == TINY.widths) and "inward.weight" in fits
        for name in now.keys() - {"text.word.weight"}:
            assert torch.equal(now[name], earlier[name].float() if name in fits else was[name]), name
        average = state.average.network.state_dict()
        assert all(torch.equal(average[name], now[name]) for name in now)
        assert (state.seen, state.before) == (0, 48) and not state.optimiser.state


def test_a_mask_begins_as_the_prior_without(weights: Path) -> None:
    state = TrainState.fresh(replace(TINY, mask=True), TRAIN, CPU)
    state.begin_from(weights, WORDS.words)
    x, c = batch(7)
    expected = builtin.load(weights).denoiser(x, torch.tensor(0.8), c)
    torch.testing.assert_close(state.average(x, torch.tensor(0.8), c), expected)
    state.accumulate((x, c))
    gradient = state.model.network.outward.weight.grad
    assert gradient is not None and gradient.chunk(2)[0].any()


@pytest.mark.parametrize(
    "changes",
    [{"dimensions": 3, "widths": (24, 16), "mask": True}, {"widths": (24, 16), "given": 4}, {"dimensions": 1}],
)
def test_a_training_begins_from_whatever_fits(weights: Path, changes: dict[str, Any]) -> None:
    """Also from weights of other dimensions or widths: what has another shape stays as it was."""
    state, before = (TrainState.fresh(replace(TINY, **changes), TRAIN, CPU) for _ in range(2))
    state.begin_from(weights, WORDS.words)
    now, was = state.model.network.state_dict(), before.model.network.state_dict()
    assert torch.equal(now["inward.weight"], was["inward.weight"])
    assert not torch.equal(now["from_noise.weight"], was["from_noise.weight"])


def test_a_training_begins_from_nothing_else(tmp_path: Path) -> None:
    save_tensors(tmp_path / "foreign.safetensors", {"a": torch.zeros(1)}, "judge")
    for name, problem in (("foreign", "of the kind judge: expected one of the kind prior"), ("missing", "no file")):
        with pytest.raises(UserError, match=problem):
            fresh().begin_from(tmp_path / f"{name}.safetensors", WORDS.words)


def test_learning_rate_by_hand() -> None:
    config = TrainConfig(images=100_000, lr=1e-3, warmup=10_000)
    for seen, expected in (
        (0, 1e-5),
        (5_000, 5.1e-4),
        (10_000, 1e-3),
        (40_000, 1e-3),
        (70_000, 5.05e-4),
        (100_000, 1e-5),
        (120_000, 1e-5),
    ):
        assert config.learning_rate(seen) == pytest.approx(expected)
    falling = [config.learning_rate(seen) for seen in range(40_000, 100_001, 1000)]
    assert falling == sorted(falling, reverse=True)


def test_average_by_hand() -> None:
    """Half of the average is replaced within 4 % of what was seen, however many steps that is."""
    config = TrainConfig(batch=10)
    for seen in (1_000, 100_000):
        assert config.ema_keep(seen) ** (0.04 * seen / 10) == pytest.approx(0.5)
    assert config.ema_keep(10) == 0.5
    state = fresh()
    start = {name: value.clone() for name, value in state.average.named_parameters()}
    for step in range(3):
        state.accumulate(batch(20 + step))
        state.advance(batch(20 + step))
        keep = TRAIN.ema_keep(state.seen)
        for name, value in state.model.named_parameters():
            start[name] = keep * start[name] + (1 - keep) * value.detach()
    for name, value in state.average.named_parameters():
        torch.testing.assert_close(value, start[name])


class Told:
    """E[x0 | x] of N(0, 0.5^2) where the caption is known; x less 0.1 with the views alone, less 0.2 with nothing."""

    sigma_data = 0.5

    def __call__(self, x: Tensor, sigma: Tensor, c: Condition) -> Tensor:
        if (c.text != PAD).any():
            return x * (0.25 / (0.25 + sigma**2))
        return x - (0.1 if (c.views != 0).any() else 0.2)


def test_noise_table_in_closed_form() -> None:
    batches = [batch(30, 24), batch(31, 8)]
    table = training.noise_table(cast(edm.Preconditioned, Told()), batches)
    assert tuple(table["sigma"]) == training.TABLE_SIGMAS
    for i, s in enumerate(training.TABLE_SIGMAS):
        assert table["mmse"][i] == pytest.approx(0.25 * s**2 / (0.25 + s**2), rel=0.03)
        assert table["loss"][i] == pytest.approx(1.0, rel=0.03)
        assert table["rms_full"][i] == pytest.approx(s**2 / math.sqrt(0.25 + s**2), rel=0.03)
    # Differences of float32 numbers as large as the noise
    assert table["rms_views"] == pytest.approx([0.1] * 16, rel=1e-3)
    assert table["rms_none"] == pytest.approx([0.2] * 16, rel=1e-3)


# The data, and the verb


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Fresh objects: every kind once, seen twice, from a seed that no training uses."""
    return open_or_build(tmp_path_factory.mktemp("world") / "fresh", Recipe(Objects(), len(KINDS), 2, 31))


def said(c: Condition, vocabulary: Vocabulary) -> list[str]:
    return [" ".join(vocabulary.words[i - 1] for i in row if i != PAD) for row in c.text.tolist()]


def test_batches_are_a_function_of_seed_and_step(world: Dataset) -> None:
    give = prior_training.batches(world, Vocabulary(words()), 16, 0, CPU)
    (x, c), (again, c_again), (other, _) = give(3), give(3), give(4)
    assert torch.equal(x, again) and torch.equal(c.text, c_again.text) and torch.equal(c.views, c_again.views)
    assert x.shape == (16, 4, 64, 64) and x.min() >= -1 and x.max() <= 1 and not torch.equal(x, other)


def test_plain_captions(world: Dataset) -> None:
    rows, vocabulary = np.array([0, 1, len(world) - 1]), Vocabulary(words())
    x, c = prior_training.conditioned(world, rows, vocabulary, None, CPU)
    assert said(c, vocabulary) == [caption_text(world.captions[row // 2]) for row in rows]
    expected, views = world.rows(rows)
    assert torch.equal(x, expected) and torch.equal(c.views, known(views))


def test_captions_of_a_step_are_true_of_their_objects(world: Dataset) -> None:
    """However it is said, what is read back is what the object is, but for a colour or a kind now and then."""
    vocabulary, rows = Vocabulary(words()), np.arange(len(world))
    _, c = prior_training.conditioned(world, rows, vocabulary, np.random.default_rng(0), CPU)
    for row, text in zip(rows, said(c, vocabulary), strict=True):
        read, true = parse(text), world.caption(int(row))
        assert read in (true, replace(true, colour=None), replace(true, kind=None)), text
    assert len(set(said(c, vocabulary))) > len(world) / 2, "in many ways"


def test_what_is_forgotten_and_how_often() -> None:
    true, rng = Caption("car", "red", "tall", (("wheels", "blue"),)), np.random.default_rng(0)
    drawn = [objects.forgetful(true, rng) for _ in range(4000)]
    for forgotten, share in (
        (replace(true, colour=None), objects.COLOURLESS_SHARE),
        (replace(true, kind=None), objects.KINDLESS_SHARE),
        (true, 1 - objects.COLOURLESS_SHARE - objects.KINDLESS_SHARE),
    ):
        deviation = math.sqrt(share * (1 - share) / 4000)
        assert drawn.count(forgotten) / 4000 == pytest.approx(share, abs=4 * deviation)


def test_the_verb_trains_resumes_and_writes_a_prior(
    world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, Recipe]] = []

    def small(folder: Path, recipe: Recipe, *_: object) -> Dataset:
        asked.append((folder.name, recipe))
        return Dataset(world.world, {name: rows[:32] for name, rows in world.arrays.items()}, world.captions[:16], 2)

    levels = edm.sigma_steps(2)
    monkeypatch.setattr(prior_training, "open_or_build", small)
    monkeypatch.setattr(edm, "sigma_steps", lambda steps: levels)  # the sheet of samples need not be beautiful
    monkeypatch.setattr(training, "TABLE_SIGMAS", (0.02, 1.0))
    narrow = ["network.widths=[16]", "network.attention=[false]", "train.batch=8", "device=cpu"]

    def run(folder: Path, *settings: str) -> builtin.BuiltinPrior:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            train_prior.run(compose("train_prior", [*narrow, f"folder={folder}", *settings]))
        return builtin.load(folder / "prior.safetensors")

    assert run(tmp_path / "a", "train.images=16").card["images"] == 16
    prior = run(tmp_path / "a", "train.images=32")
    assert prior.card["images"] == 32 and prior.vocabulary.words == words() and prior.shape == (64, 64)
    names = {"prior.safetensors", "prior.md", "prior.json", "samples.png", "training.safetensors"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    written = json.loads((tmp_path / "a" / "prior.json").read_text())
    assert written["table"] == prior.table and tuple(written["words"]) == words()
    assert written["card"]["data"]["seed"] == Objects().splits["training"] == 1, "the world's own"
    assert "| 0.02 |" in (tmp_path / "a" / "prior.md").read_text()
    (_, recipe), (_, other) = asked[:2]
    assert recipe.examples > other.examples and (recipe.seed, other.seed) == (1, 1001)
    assert recipe.world == other.world == Objects()

    begun = run(tmp_path / "b", "train.images=8", f"start={tmp_path / 'a' / 'prior.safetensors'}", "train.lr=1e-9")
    assert (begun.card["images"], begun.card["before"]) == (40, 32), "those it began from had seen theirs"
    for name, value in begun.denoiser.network.state_dict().items():
        torch.testing.assert_close(value, prior.denoiser.network.state_dict()[name], rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("train.batch=0", "train.batch=0: expected a whole number, at least 1"),
        ("train.lr=nan", "train.lr=nan: expected a number above 0"),
        ("data.views=many", "data.views=many: expected a whole number"),
        ("network.widths=[12]", "attention"),
        ("network.widths=[12,16]", "a width of 12: expected a multiple of 8"),
        ("network.patch=3", r"it sees multiples of \(6, 6\), the world has \(64, 64\)"),
        ("network.blocks=[1]", "expected one of each for every level"),
    ],
)
def test_the_verb_refuses(
    world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, problem: str
) -> None:
    monkeypatch.setattr(prior_training, "open_or_build", lambda *_: world)
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        cfg = compose("train_prior", [f"folder={tmp_path / 'made'}", override])
    with pytest.raises(UserError, match=problem):
        train_prior.run(cfg)
    assert list(tmp_path.iterdir()) == []
