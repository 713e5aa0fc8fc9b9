"""The built-in prior: its network, what it is told, its file, and the weights that are shipped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from small_prior import TINY, WORDS, batch, perturbed
from torch import Tensor
from torch.nn.functional import linear

from text23d.cameras import Cameras, orbit
from text23d.engine.prior_training import conditioned
from text23d.errors import UserError
from text23d.paths import weights_dir
from text23d.prior.builtin import edm
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import PAD, Condition, known
from text23d.prior.builtin.guide import SMALL, shipped
from text23d.prior.builtin.unet import Attention, UNet, Words
from text23d.worlds.dataset import Dataset, Recipe, open_or_build
from text23d.worlds.objects.caption import words
from text23d.worlds.objects.colours import COLOURS
from text23d.worlds.objects.kinds import KINDS
from text23d.worlds.objects.world import Objects

D = perturbed()
SIGMA = torch.tensor(0.8)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    assert change(answer, D(x, SIGMA, replace(c, views=known(turned)))) > 1e-3
    assert change(answer, D(x, SIGMA, c.unconditional())) > 1e-3
    assert change(answer, D(x, SIGMA, c.without_views())) > 1e-3
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
        (c.dropped(no, yes), c.without_views()),
        (c.dropped(yes, yes), c.unconditional().without_views()),
        (c.dropped(no, no), c),
    ):
        assert torch.equal(dropped.text, expected.text) and torch.equal(dropped.views, expected.views)
    some = c.dropped(torch.tensor([True, False, False, False]), torch.tensor([False, False, True, False]))
    assert (some.text == PAD).all(1).tolist() == [True, False, False, False]
    assert (some.views == 0).all(1).tolist() == [False, False, True, False]


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    x, c = batch(4)
    sigma = torch.tensor([0.1, 0.5, 1.0, 4.0])
    together = D(x, sigma, c)
    alone = [D(x[i : i + 1], sigma[i], Condition(c.text[i : i + 1], c.views[i : i + 1])) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-4, atol=1e-5)
    joined = Condition.cat([Condition(c.text[i : i + 1], c.views[i : i + 1]) for i in range(4)])
    assert torch.equal(joined.text, c.text) and torch.equal(joined.views, c.views) and len(joined) == 4


def test_vocabulary() -> None:
    assert WORDS.encode([["a", "red", "car"], []]).tolist() == [[1, 4, 3, PAD], [PAD] * 4]
    with pytest.raises(UserError, match=r"do not know the word 'spaceship'.*a, blue, car, red, tree"):
        WORDS.encode([["a", "spaceship"]])
    with pytest.raises(UserError, match="5 words, this prior reads at most 4"):
        WORDS.encode([["a"] * 5])


# What is shipped

LOSS_AT_1 = {None: 0.08, SMALL: 0.16}
"""EDM's loss at sigma 1 on objects never trained on; an untrained prior's is 1."""
CAPTION_COUNTS = 1.1
"""By how much a wrong caption raises the loss at sigma 5, where the noise hides the thing itself."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Fresh objects: every kind in two colours, seen twice, from a seed that no training uses."""
    return open_or_build(tmp_path_factory.mktemp("world") / "fresh", Recipe(Objects(), 2 * len(KINDS), 2, 31))


def test_all_priors_are_small_enough() -> None:
    assert sum(path.stat().st_size for path in weights_dir().glob("prior*.safetensors")) <= 60e6


@pytest.mark.parametrize("name", [None, SMALL], ids=["D", "D'"])
def test_the_shipped_priors(world: Dataset, name: str | None) -> None:
    prior = builtin.load(shipped(name, Objects()))
    assert prior.vocabulary.words == words() and prior.shape == (64, 64)
    assert len(KINDS) == 32 and len(COLOURS) == 12
    assert prior.table.keys() == {"sigma", "loss", "mmse", "rms_full", "rms_views", "rms_none"}
    x, c = conditioned(world, np.arange(len(world)), prior.vocabulary, None, torch.device("cpu"))
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    wrong_c = replace(c, text=c.text.roll(2, 0))

    @torch.no_grad()
    def loss(sigma: float, told: Condition) -> float:
        return edm.loss(prior.denoiser, x, torch.full((len(x),), sigma), noise, told).mean().item()

    right = loss(1.0, c)
    assert right < LOSS_AT_1[name]
    assert right == pytest.approx(np.interp(1.0, prior.table["sigma"], prior.table["loss"]), rel=0.15)
    assert loss(5.0, wrong_c) > CAPTION_COUNTS * loss(5.0, c), "a wrong caption must cost something"
