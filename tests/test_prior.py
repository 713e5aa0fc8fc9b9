"""The built-in prior: its network, what it is told, its file, its training, and the weights that are shipped."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor
from torch.nn.functional import linear

from text23d import train_prior
from text23d.cameras import Cameras, orbit
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.paths import conf_dir, weights_dir
from text23d.prior import pair
from text23d.prior.builtin import edm, training
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import PAD, Condition, known
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.training import TrainConfig, TrainState
from text23d.prior.builtin.unet import Attention, UNet, UNetConfig, Words
from text23d.prior.wrappers.guidance import Guided
from text23d.spaces import from_picture
from text23d.worlds.objects.caption import Caption, caption_text, parse, words
from text23d.worlds.objects.colours import COLOURS
from text23d.worlds.objects.dataset import Dataset, Recipe, build_dataset, pictures
from text23d.worlds.objects.kinds import KINDS

WORDS = Vocabulary(("a", "blue", "car", "red", "tree"), 4)
TINY = UNetConfig(len(WORDS.words), widths=(16, 24), blocks=1, embedding=32, text_length=4)
SIDE = 16
TRAIN = TrainConfig(images=48, batch=4, warmup=8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def perturbed() -> edm.Preconditioned:
    """A tiny prior whose every weight counts: as it is made, its last layers are zero and hide the others."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = UNet(TINY)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1 * torch.randn(parameter.shape))
    return edm.Preconditioned(network).eval().requires_grad_(False)


def batch(seed: int, size: int = 4) -> training.Batch:
    generator = torch.Generator().manual_seed(seed)
    x = 0.5 * torch.randn(size, 4, SIDE, SIDE, generator=generator)
    text = WORDS.encode([["a", ("red", "blue")[i % 2], ("car", "tree")[i // 2 % 2]] for i in range(size)])
    return x, Condition(text, known(orbit(size)))


D = perturbed()
SIGMA = torch.tensor(0.8)


# What the network is told


def test_shapes_and_what_an_untrained_network_says() -> None:
    x, c = batch(0, 3)
    assert D(x, SIGMA, c).shape == x.shape
    assert D(torch.zeros(3, 4, 32, 32), SIGMA, c).shape == (3, 4, 32, 32)
    with torch.random.fork_rng():
        fresh = edm.Preconditioned(UNet(TINY))
    torch.testing.assert_close(fresh(x, SIGMA, c), x * (0.25 / (0.25 + 0.64)))


def change(a: Tensor, b: Tensor) -> float:
    """The smallest change of any picture of a batch, relative to the pictures."""
    return ((a - b).flatten(1).norm(dim=1) / a.flatten(1).norm(dim=1)).min().item()


def test_caption_camera_and_noise_level_change_the_answer() -> None:
    x, c = batch(1)
    answer = D(x, SIGMA, c)
    turned = Cameras(torch.arange(4) * 90.0 + 30.0, *(torch.full((4,), v) for v in (15.0, 3.0, 40.0)))
    assert change(answer, D(x, SIGMA, replace(c, text=c.text.roll(1, 0)))) > 1e-3
    assert change(answer, D(x, SIGMA, replace(c, camera=known(turned)))) > 1e-3
    assert change(answer, D(x, SIGMA, c.unconditional())) > 1e-3
    assert change(answer, D(x, SIGMA, c.without_camera())) > 1e-3
    # With c_skip, c_in and c_out held as they are, the level still reaches the network.
    f = D.network(x, torch.zeros(4), c)
    assert change(f, D.network(x, torch.full((4,), 0.5), c)) > 1e-3


def test_every_word_order_and_side_is_told_apart() -> None:
    """Order of words, and azimuths in all four quarters; azimuth 360 is azimuth 0."""
    network = D.network
    texts = WORDS.encode([["red", "car"], ["car", "red"], ["red"], ["car"], []])
    tokens, present = network.text(texts)
    assert tokens.shape == (5, 5, 128) and present.sum(1).tolist() == [3, 3, 2, 2, 1]
    assert torch.pdist(tokens[:, 0]).min() > 1e-2
    around = Cameras(torch.tensor([0.0, 90.0, 180.0, 270.0, 360.0]), *(torch.full((5,), v) for v in (15.0, 3.0, 40.0)))
    same = Condition(texts[:1].expand(5, -1), known(around))
    vectors = network.embed(torch.zeros(5), tokens[:1, 0].expand(5, -1), same)
    torch.testing.assert_close(vectors[4], vectors[0], rtol=1e-3, atol=1e-4)
    assert torch.pdist(vectors[:4]).min() > 1e-2


class Straight(torch.nn.Module):
    """In the transformer's place: what went in comes out."""

    def forward(self, tokens: torch.Tensor, src_key_padding_mask: torch.Tensor) -> torch.Tensor:
        return tokens


def test_neighbours_say_what_a_colour_belongs_to() -> None:
    """The summary is the sum over the words of a function of each and its two neighbours, padding being none."""
    text = perturbed().network.text
    text.layers = Straight()  # type: ignore[assignment]
    ids = WORDS.encode([["red", "car", "blue", "tree"], ["blue", "car", "red", "tree"], ["red", "car"]])
    tokens, _ = text(ids)
    assert (tokens[0, 0] - tokens[1, 0]).norm() > 1e-3, "the same words, other pairs"
    nobody = torch.zeros(text.word.weight.shape[1])
    red, car = text.word.weight[ids[2, :2]]
    windows = torch.stack([torch.stack([nobody, red, car]), torch.stack([red, car, nobody])])
    assert text.neighbours.bias is not None
    hidden = torch.einsum("nkc,ock->no", windows, text.neighbours.weight) + text.neighbours.bias
    phrases = torch.nn.functional.silu(hidden) @ text.phrase.weight.T + text.phrase.bias
    torch.testing.assert_close(tokens[2, 0], text.nothing + phrases.sum(0))
    torch.testing.assert_close(tokens[2, 1:3], torch.stack([red, car]) + phrases + text.place[:2])


def test_padding_says_nothing() -> None:
    """Neither the place nor the word of a padded slot reaches the answer, and training mode does not change it."""
    x, _ = batch(2, 2)
    c = Condition(WORDS.encode([["red", "car"], ["red", "car"]]), known(orbit(2)))
    full = replace(c, text=WORDS.encode([["a", "red", "car", "a"]] * 2))
    other = perturbed()
    with torch.no_grad():
        other.network.text.place[2:] += torch.randn(2, 128, generator=torch.Generator().manual_seed(1))
        other.network.text.word.weight[PAD] += torch.randn(128, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(other(x, SIGMA, c), D(x, SIGMA, c))
    assert change(D(x, SIGMA, full), other(x, SIGMA, full)) > 1e-3
    torch.testing.assert_close(perturbed().train()(x, SIGMA, c), D(x, SIGMA, c))


def test_the_picture_reads_the_words_themselves() -> None:
    """With the summary held still, the words alone still change the answer; and they do in the last place too."""
    deaf = perturbed()
    deaf.network.from_text.weight.zero_()
    deaf.network.from_text.bias.zero_()
    x, _ = batch(11, 2)
    texts = WORDS.encode([["a", "red", "car", "blue"], ["a", "blue", "car", "red"], ["a", "red", "car", "tree"]])
    answers = [deaf(x, SIGMA, Condition(text.expand(2, -1), known(orbit(2)))) for text in texts]
    for other in answers[1:]:
        assert change(answers[0], other) > 1e-4


def test_attention_pixel_by_pixel() -> None:
    """A second implementation, one query at a time over the pixels and those words that are there."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        attention, x = Attention(128, 8).double(), torch.randn(2, 128, 3, 2).double()
        tokens = torch.randn(2, 4, 8).double()
        for parameter in attention.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    present = torch.tensor([[True, True, False, False], [True, True, True, True]])
    pixels = attention.norm(x).flatten(2).transpose(1, 2)  # [B, h*w, c]
    expected = x.flatten(2).transpose(1, 2).clone()
    for row in range(2):
        q, k, v = linear(pixels[row], attention.qkv.weight[:, :, 0, 0], attention.qkv.bias).split(128, -1)
        text_k, text_v = attention.from_text(attention.text_norm(tokens[row, present[row]])).split(128, -1)
        k, v = torch.cat([k, text_k]), torch.cat([v, text_v])
        seen = torch.empty_like(q)
        for head in (slice(0, 64), slice(64, 128)):
            for pixel in range(6):
                weight = torch.exp(q[pixel, head] @ k[:, head].T / 8)
                seen[pixel, head] = weight @ v[:, head] / weight.sum()
        expected[row] += linear(seen, attention.out.weight[:, :, 0, 0], attention.out.bias)
    found = attention(x, Words(tokens, present)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(found, expected)


def test_unconditional_and_dropped() -> None:
    x, c = batch(3)
    reworded = replace(c, text=c.text.roll(1, 0))
    assert torch.equal(D(x, SIGMA, c.unconditional()), D(x, SIGMA, reworded.unconditional()))
    yes, no = torch.ones(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool)
    for dropped, expected in (
        (c.dropped(yes, no), c.unconditional()),
        (c.dropped(no, yes), c.without_camera()),
        (c.dropped(yes, yes), c.unconditional().without_camera()),
        (c.dropped(no, no), c),
    ):
        assert torch.equal(dropped.text, expected.text) and torch.equal(dropped.camera, expected.camera)
    some = c.dropped(torch.tensor([True, False, False, False]), torch.tensor([False, False, True, False]))
    assert (some.text == PAD).all(1).tolist() == [True, False, False, False]
    assert (some.camera == 0).all(1).tolist() == [False, False, True, False]


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    x, c = batch(4)
    sigma = torch.tensor([0.1, 0.5, 1.0, 4.0])
    together = D(x, sigma, c)
    alone = [D(x[i : i + 1], sigma[i], Condition(c.text[i : i + 1], c.camera[i : i + 1])) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    joined = Condition.cat([Condition(c.text[i : i + 1], c.camera[i : i + 1]) for i in range(4)])
    assert torch.equal(joined.text, c.text) and torch.equal(joined.camera, c.camera) and len(joined) == 4


def test_vocabulary() -> None:
    assert WORDS.encode([["a", "red", "car"], []]).tolist() == [[1, 4, 3, PAD], [PAD] * 4]
    with pytest.raises(UserError, match=r"do not know the word 'spaceship'.*a, blue, car, red, tree"):
        WORDS.encode([["a", "spaceship"]])
    with pytest.raises(UserError, match="5 words, this prior reads at most 4"):
        WORDS.encode([["a"] * 5])


# The weights file

TABLE = {"sigma": [0.1, 1.0, 10.0], "rms_full": [0.08, 0.9, 9.9], "rms_camera": [0.09, 0.95, 9.95]}
TABLE["rms_none"] = [0.095, 0.97, 9.99]


def tiny_prior() -> builtin.BuiltinPrior:
    return builtin.BuiltinPrior(perturbed(), WORDS, TABLE, SIDE, {"images": 48})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    builtin.save(tmp_path / "tiny.safetensors", tiny_prior())
    return tmp_path / "tiny.safetensors"


def test_a_prior_comes_back_rounded_to_float16(weights: Path) -> None:
    prior, (x, c) = builtin.load(weights), batch(5)
    assert (prior.vocabulary, prior.table, prior.size, prior.card) == (WORDS, TABLE, SIDE, {"images": 48})
    assert prior.denoiser.network.config == TINY
    rounded = perturbed()
    for parameter in rounded.parameters():
        parameter.copy_(parameter.half().float())
    torch.testing.assert_close(prior.denoiser(x, SIGMA, c), rounded(x, SIGMA, c), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(prior.denoiser(x, SIGMA, c), D(x, SIGMA, c), rtol=1e-2, atol=1e-2)
    assert not any(parameter.requires_grad for parameter in prior.denoiser.parameters())


def test_bad_weights_are_explained_in_one_line(weights: Path, tmp_path: Path) -> None:
    whole, (tensors, facts) = weights.read_bytes(), load_tensors(weights, "prior")
    wider = {**facts, "config": {**facts["config"], "widths": [16, 32]}}
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "pickle.safetensors").write_bytes(b"\x80\x04K\x01.")
    save_tensors(tmp_path / "foreign.safetensors", tensors, "nerf", facts)
    save_tensors(tmp_path / "other.safetensors", tensors, "prior", wider)
    save_tensors(tmp_path / "older.safetensors", tensors, "prior", {**facts, "format": "text23d-prior-1"})
    del tensors["outward.bias"]
    save_tensors(tmp_path / "partial.safetensors", tensors, "prior", facts)
    for name, problem in (
        ("missing", "no file .*expected a .safetensors file"),
        ("cut", "cut short"),
        ("pickle", "cannot read"),
        ("foreign", "is of the kind nerf: expected one of the kind prior"),
        ("older", r"not a prior \(text23d-prior-3 expected\)"),
        ("other", "does not fit the network"),
        ("partial", "does not fit the network"),
    ):
        with pytest.raises(UserError, match=problem) as raised:
            builtin.load(tmp_path / f"{name}.safetensors")
        assert f"{name}.safetensors" in str(raised.value) and "\n" not in str(raised.value)


def test_the_same_prior_is_the_same_bytes(weights: Path, tmp_path: Path) -> None:
    again = builtin.load(weights)
    builtin.save(tmp_path / "again.safetensors", again)
    assert (tmp_path / "again.safetensors").read_bytes() == weights.read_bytes()


def test_one_caption_for_every_camera(weights: Path) -> None:
    prior, cameras = builtin.load(weights), orbit(3)
    c = prior.condition(["a", "red", "car"], cameras)
    assert c.text.tolist() == [[1, 4, 3, PAD]] * 3 and torch.equal(c.camera[:, :5], cameras.features())
    assert c.camera[:, 5].tolist() == [1.0] * 3
    with pytest.raises(UserError, match="'spaceship'"):
        prior.condition(["a", "spaceship"], cameras)


def test_reference_rms_is_interpolated_in_log_log(weights: Path) -> None:
    prior = builtin.load(weights)
    for told, values in (("full", (0.08, 0.9)), ("camera", (0.09, 0.95)), ("none", (0.095, 0.97))):
        assert prior.reference_rms(0.1, told) == pytest.approx(values[0])
        assert prior.reference_rms(1.0, told) == pytest.approx(values[1])
        assert prior.reference_rms(math.sqrt(0.1), told) == pytest.approx(math.sqrt(values[0] * values[1]))


def test_what_the_auxiliary_denoiser_is_told() -> None:
    _, c = batch(6)
    assert pair.hide(c, "full") is c
    camera, none = pair.hide(c, "camera"), pair.hide(c, "none")
    assert (camera.text == PAD).all() and torch.equal(camera.camera, c.camera)
    assert (none.text == PAD).all() and (none.camera == 0).all()


def test_a_pair_guides_the_main_denoiser_only(weights: Path) -> None:
    made = pair.builtin_pair(["car"], torch.device("cpu"), str(weights), guidance=3.0, auxiliary="camera")
    assert isinstance(made.main, Guided) and made.main.scale == 3.0 and made.size == SIDE
    assert made.auxiliary is made.prior.denoiser and made.main.denoiser is made.auxiliary
    assert made.reference_rms(1.0) == pytest.approx(0.95)
    c, c_aux = made.conditions(orbit(2))
    assert (c_aux.text == PAD).all() and c.text[:, 0].tolist() == [3, 3] and torch.equal(c.camera, c_aux.camera)
    plain = pair.builtin_pair(["car"], torch.device("cpu"), str(weights), guidance=1.0)
    c, c_aux = plain.conditions(orbit(2))
    assert plain.main is plain.auxiliary and c is c_aux, "what step() shares between D and D'"


def test_the_auxiliary_denoiser_may_have_weights_of_its_own(weights: Path, tmp_path: Path) -> None:
    """Words, conditions and the table of noise are then its own too."""
    words = Vocabulary(("tree", "car"), 4)
    table = {**TABLE, "rms_full": [0.07, 0.5, 9.0]}
    small = edm.Preconditioned(UNet(replace(TINY, words=2, widths=(16, 16))))
    builtin.save(tmp_path / "own.safetensors", builtin.BuiltinPrior(small, words, table, SIDE, {}))
    cpu, own = torch.device("cpu"), str(tmp_path / "own.safetensors")
    made = pair.builtin_pair(["car"], cpu, str(weights), guidance=1.0, auxiliary_weights=own)
    c, c_aux = made.conditions(orbit(2))
    assert c.text[:, 0].tolist() == [3, 3] and c_aux.text[:, 0].tolist() == [2, 2]
    assert cast(edm.Preconditioned, made.auxiliary).network.config.widths == (16, 16)
    assert made.main is made.prior.denoiser is not made.auxiliary and made.reference_rms(1.0) == pytest.approx(0.5)
    with pytest.raises(UserError, match="do not know the word 'red'"):
        pair.builtin_pair(["red", "car"], cpu, str(weights), auxiliary_weights=own)


def test_precision_of_a_pair(weights: Path) -> None:
    cpu = torch.device("cpu")
    made = {p: pair.builtin_pair(["car"], cpu, str(weights), precision=p) for p in ("auto", "float32", "bfloat16")}
    chosen = {name: cast(edm.Preconditioned, each.auxiliary).precision for name, each in made.items()}
    expected = {"auto": builtin.fast_precision(cpu), "float32": torch.float32, "bfloat16": torch.bfloat16}
    assert chosen == expected
    x, c = batch(7)
    low, high = (made[name].auxiliary(x, SIGMA, c) for name in ("bfloat16", "float32"))
    assert low.dtype == torch.float32 and 0 < (low - high).abs().max() < 0.1


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"auxiliary": "nothing"}, r"prior\.auxiliary=nothing: expected one of full, camera, none"),
        ({"guidance": -1.0}, r"prior\.guidance=-1\.0: expected 0 or more"),
        ({"precision": "float8"}, r"prior\.precision=float8: expected one of auto, float32, bfloat16"),
        ({"words": ["a", "spaceship"]}, "do not know the word 'spaceship'"),
        ({"weights": "nowhere.safetensors"}, "no file nowhere"),
        ({"auxiliary_weights": "nowhere.safetensors"}, "no file nowhere"),
    ],
)
def test_a_pair_refuses(weights: Path, settings: dict[str, Any], problem: str) -> None:
    usual: dict[str, Any] = {"words": ["car"], "weights": str(weights)}
    with pytest.raises(UserError, match=problem):
        pair.builtin_pair(device=torch.device("cpu"), **{**usual, **settings})


# Training


def fresh() -> TrainState:
    state = TrainState.fresh(TINY, TRAIN, torch.device("cpu"))
    state.model.precision = state.average.precision = torch.float32
    return state


def ignore(state: TrainState, loss: float) -> None:
    assert math.isfinite(loss) and state.seen > 0


def same(a: TrainState, b: TrainState) -> bool:
    left, right = a.tensors(), b.tensors()
    return a.seen == b.seen and left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def stopping(at: int, error: BaseException) -> Callable[[int], training.Batch]:
    def give(step: int) -> training.Batch:
        if step == at:
            raise error
        return batch(100 + step)

    return give


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("a disk failed")])
def test_a_broken_off_training_goes_on_bit_for_bit(tmp_path: Path, error: BaseException) -> None:
    whole, file = fresh(), tmp_path / "training.safetensors"
    training.train(whole, TRAIN, stopping(-1, error), tmp_path / "whole.safetensors", ignore)
    assert whole.seen == TRAIN.images
    first = fresh()
    with pytest.raises(type(error)):
        training.train(first, TRAIN, stopping(5, error), file, ignore)
    second = fresh()
    second.load(file)
    assert second.seen == 20 and second.seconds == first.seconds > 0 and same(first, second)
    training.train(second, TRAIN, stopping(-1, error), file, ignore)
    assert same(whole, second) and second.seconds > first.seconds
    assert not same(whole, fresh()) and sorted(p.name for p in tmp_path.iterdir()) == [file.name, "whole.safetensors"]


def test_training_learns_and_the_average_follows(tmp_path: Path) -> None:
    """One picture, seen again and again, is soon known by heart, by the averaged weights too."""
    config, state = replace(TRAIN, images=600, lr=4e-3), fresh()
    x, c = batch(8)
    x = 0.5 * x[:1].sign().expand(4, -1, -1, -1)
    noise, sigma = torch.randn(x.shape, generator=torch.Generator().manual_seed(3)), torch.full((4,), 2.0)

    def losses() -> list[float]:
        with torch.no_grad():
            return [edm.loss(d, x, sigma, noise, c).mean().item() for d in (state.model, state.average)]

    assert losses() == pytest.approx([1.0, 1.0], abs=0.1)
    training.train(state, config, lambda step: (x, c), tmp_path / "t.safetensors", ignore)
    assert max(losses()) < 0.4


def test_time_is_a_limit_too(tmp_path: Path) -> None:
    state, brief = fresh(), replace(TRAIN, minutes=1e-9)
    training.train(state, brief, stopping(-1, RuntimeError()), tmp_path / "t.safetensors", ignore)
    assert state.seen == 0 and (tmp_path / "t.safetensors").is_file()


def test_a_loss_that_is_not_finite_leaves_the_state(tmp_path: Path) -> None:
    state, before = fresh(), fresh()
    for each in (state, before):
        training.train_step(each, TRAIN, batch(9))
    x, c = batch(10)
    x[0, 0, 0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="nan after 4 images"):
        training.train(state, TRAIN, lambda step: (x, c), tmp_path / "t.safetensors", ignore)
    assert same(state, before)
    restored = fresh()
    restored.load(tmp_path / "t.safetensors")
    assert same(restored, before)


def test_a_checkpoint_of_another_network_is_refused(tmp_path: Path) -> None:
    state = fresh()
    state.save(tmp_path / "t.safetensors")
    other = TrainState.fresh(replace(TINY, widths=(16, 32)), TRAIN, torch.device("cpu"))
    with pytest.raises(UserError, match="training of another network"):
        other.load(tmp_path / "t.safetensors")
    save_tensors(tmp_path / "foreign.safetensors", {"a": torch.zeros(1)}, "prior")
    with pytest.raises(UserError, match="of the kind prior: expected one of the kind training"):
        state.load(tmp_path / "foreign.safetensors")
    with pytest.raises(UserError, match="no file"):
        state.load(tmp_path / "missing.safetensors")


def test_a_training_may_begin_from_an_earlier_prior(weights: Path) -> None:
    """Words go by their names, the rest by name and shape; what does not fit stays as it was."""
    earlier, reworded = load_tensors(weights, "prior")[0], ("car", "zebra", "a")
    for widths in (TINY.widths, (16, 32)):
        config = replace(TINY, words=3, widths=widths)
        state, before = (TrainState.fresh(config, TRAIN, torch.device("cpu")) for _ in range(2))
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
    with pytest.raises(UserError, match="batch=0"):
        TrainConfig(batch=0)


def test_average_by_hand() -> None:
    """Half of the average is replaced within 4 % of what was seen, however many steps that is."""
    config = TrainConfig(batch=10)
    for seen in (1_000, 100_000):
        assert config.ema_keep(seen) ** (0.04 * seen / 10) == pytest.approx(0.5)
    assert config.ema_keep(10) == 0.5
    state = fresh()
    start = {name: value.clone() for name, value in state.average.named_parameters()}
    for step in range(3):
        training.train_step(state, TRAIN, batch(20 + step))
        keep = TRAIN.ema_keep(state.seen)
        for name, value in state.model.named_parameters():
            start[name] = keep * start[name] + (1 - keep) * value.detach()
    for name, value in state.average.named_parameters():
        torch.testing.assert_close(value, start[name])


class Told:
    """E[x0 | x] of N(0, 0.5^2) where the caption is known; x less 0.1 with the camera alone, less 0.2 with nothing."""

    sigma_data = 0.5

    def __call__(self, x: Tensor, sigma: Tensor, c: Condition) -> Tensor:
        if (c.text != PAD).any():
            return x * (0.25 / (0.25 + sigma**2))
        return x - (0.1 if (c.camera != 0).any() else 0.2)


def test_noise_table_in_closed_form() -> None:
    batches = [batch(30, 24), batch(31, 8)]
    table = training.noise_table(cast(edm.Preconditioned, Told()), batches)
    assert tuple(table["sigma"]) == training.TABLE_SIGMAS
    for i, s in enumerate(training.TABLE_SIGMAS):
        assert table["mmse"][i] == pytest.approx(0.25 * s**2 / (0.25 + s**2), rel=0.03)
        assert table["loss"][i] == pytest.approx(1.0, rel=0.03)
        assert table["rms_full"][i] == pytest.approx(s**2 / math.sqrt(0.25 + s**2), rel=0.03)
    # Differences of float32 numbers as large as the noise
    assert table["rms_camera"] == pytest.approx([0.1] * 16, rel=1e-3)
    assert table["rms_none"] == pytest.approx([0.2] * 16, rel=1e-3)


# The verb


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Fresh objects: every kind in two colours, seen twice, from a seed that no training uses."""
    folder = tmp_path_factory.mktemp("world") / "fresh"
    return Dataset.open(build_dataset(folder, 2 * len(KINDS), Recipe(2, 31), 0))


def said(c: Condition, vocabulary: Vocabulary) -> list[str]:
    return [" ".join(vocabulary.words[i - 1] for i in row if i != PAD) for row in c.text.tolist()]


def test_batches_are_a_function_of_seed_and_step(world: Dataset) -> None:
    vocabulary = Vocabulary(words())
    give = train_prior.batches(world, vocabulary, 16, 0, torch.device("cpu"))
    (x, c), (again, c_again), (other, _) = give(3), give(3), give(4)
    assert torch.equal(x, again) and torch.equal(c.text, c_again.text) and torch.equal(c.camera, c_again.camera)
    assert x.shape == (16, 4, 64, 64) and x.min() >= -1 and x.max() <= 1 and not torch.equal(x, other)


def test_pictures_and_plain_captions(world: Dataset) -> None:
    rows = np.array([0, 1, len(world) - 1])
    premultiplied, alpha = from_picture(pictures(world.images[rows]))
    unit = torch.from_numpy(world.images[rows].astype(np.float32)).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(torch.cat([premultiplied, alpha], 1), unit, rtol=0, atol=1e-6)
    vocabulary = Vocabulary(words())
    c = train_prior.conditions(world, rows, vocabulary, None)
    assert said(c, vocabulary) == [caption_text(world.captions[row // 2]) for row in rows]
    assert torch.equal(c.camera, known(world.cameras(rows)))


def test_captions_of_a_step_are_true_of_their_objects(world: Dataset) -> None:
    """However it is said, what is read back is what the object is, but for a colour or a kind now and then."""
    vocabulary, rows = Vocabulary(words()), np.arange(len(world))
    c = train_prior.conditions(world, rows, vocabulary, np.random.default_rng(0))
    for row, text in zip(rows, said(c, vocabulary), strict=True):
        read, true = parse(text), world.caption(int(row))
        assert read in (true, replace(true, colour=None), replace(true, kind=None)), text
    assert len(set(said(c, vocabulary))) > len(world) / 2, "in many ways"


def test_what_is_forgotten_and_how_often() -> None:
    true, rng = Caption("car", "red", "tall", (("wheels", "blue"),)), np.random.default_rng(0)
    drawn = [train_prior.forgetful(true, rng) for _ in range(4000)]
    for forgotten, share in (
        (replace(true, colour=None), train_prior.COLOURLESS_SHARE),
        (replace(true, kind=None), train_prior.KINDLESS_SHARE),
        (true, 1 - train_prior.COLOURLESS_SHARE - train_prior.KINDLESS_SHARE),
    ):
        deviation = math.sqrt(share * (1 - share) / 4000)
        assert drawn.count(forgotten) / 4000 == pytest.approx(share, abs=4 * deviation)


def test_the_verb_trains_resumes_and_writes_a_prior(
    world: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int, Recipe]] = []

    def small(folder: Path, objects: int, recipe: Recipe, workers: int) -> Dataset:
        asked.append((folder.name, objects, recipe))
        return Dataset(world.images[:32], world.captions[:16], world.camera[:32], world.meta)

    levels = edm.sigma_steps(2)
    monkeypatch.setattr(train_prior, "dataset", small)
    monkeypatch.setattr(edm, "sigma_steps", lambda steps: levels)  # the sheet of samples need not be beautiful
    monkeypatch.setattr(training, "TABLE_SIGMAS", (0.02, 1.0))
    narrow = ["network.widths=[16]", "network.attention=[false]", "train.batch=8", "device=cpu"]

    def train(folder: Path, *settings: str) -> builtin.BuiltinPrior:
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            train_prior.run(compose("train_prior", [*narrow, f"folder={folder}", *settings]))
        return builtin.load(folder / "prior.safetensors")

    assert train(tmp_path / "a", "train.images=16").card["images"] == 16
    prior = train(tmp_path / "a", "train.images=32")
    assert prior.card["images"] == 32 and prior.vocabulary.words == words() and prior.size == 64
    names = {"prior.safetensors", "prior.md", "prior.json", "samples.png", "training.safetensors"}
    assert {path.name for path in (tmp_path / "a").iterdir()} == names
    written = json.loads((tmp_path / "a" / "prior.json").read_text())
    assert written["table"] == prior.table and tuple(written["words"]) == words()
    assert "| 0.02 |" in (tmp_path / "a" / "prior.md").read_text()
    (_, objects, recipe), (_, few, other) = asked[:2]
    assert objects > few and recipe.seed != other.seed, "the card's objects are not the training's"
    assert not recipe.held_out and not other.held_out and recipe.pairs

    begun = train(tmp_path / "b", "train.images=8", f"start={tmp_path / 'a' / 'prior.safetensors'}", "train.lr=1e-9")
    assert (begun.card["images"], begun.card["before"]) == (40, 32), "those it began from had seen theirs"
    for name, value in begun.denoiser.network.state_dict().items():
        torch.testing.assert_close(value, prior.denoiser.network.state_dict()[name], rtol=2e-3, atol=1e-6)


# What is shipped

LOSS_AT_1 = {None: 0.08, pair.SMALL: 0.16}
"""EDM's loss at sigma 1 on objects never trained on; an untrained prior's is 1."""
CAPTION_COUNTS = 1.1
"""By how much a wrong caption raises the loss at sigma 5, where the noise hides the thing itself."""


def test_all_weights_are_small_enough() -> None:
    assert sum(path.stat().st_size for path in weights_dir().glob("*.safetensors")) <= 40e6


@pytest.mark.parametrize("name", [None, pair.SMALL], ids=["D", "D'"])
def test_the_shipped_priors(world: Dataset, name: str | None) -> None:
    prior = builtin.load(pair.shipped(name))
    assert prior.vocabulary.words == words() and prior.size == 64
    assert len(KINDS) == 32 and len(COLOURS) == 12
    assert prior.table.keys() == {"sigma", "loss", "mmse", "rms_full", "rms_camera", "rms_none"}
    rows = np.arange(len(world))
    x, c = pictures(world.images[rows]), train_prior.conditions(world, rows, prior.vocabulary, None)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    wrong_c = replace(c, text=c.text.roll(2, 0))

    @torch.no_grad()
    def loss(sigma: float, told: Condition) -> float:
        return edm.loss(prior.denoiser, x, torch.full((len(x),), sigma), noise, told).mean().item()

    right = loss(1.0, c)
    assert right < LOSS_AT_1[name]
    assert right == pytest.approx(np.interp(1.0, prior.table["sigma"], prior.table["loss"]), rel=0.15)
    assert loss(5.0, wrong_c) > CAPTION_COUNTS * loss(5.0, c), "a wrong caption must cost something"
