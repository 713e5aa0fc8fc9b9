"""The built-in prior: its network, what it is told, its file, and the weights that are shipped."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from small_prior import SIDE, TINY, WORDS, batch, perturbed
from torch import Tensor
from torch.nn.functional import linear

from text23d.cameras import Cameras, orbit
from text23d.engine.prior_training import conditioned
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.guide import Guide, Request
from text23d.paths import weights_dir
from text23d.prior.builtin import edm
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import PAD, Condition, known
from text23d.prior.builtin.guide import SMALL, guide, hide, shipped
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.unet import Attention, UNet, Words
from text23d.prior.wrappers.guidance import Guided
from text23d.settings import build
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


# The weights file

TABLE = {"sigma": [0.1, 1.0, 10.0], "rms_full": [0.08, 0.9, 9.9], "rms_views": [0.09, 0.95, 9.95]}
TABLE["rms_none"] = [0.095, 0.97, 9.99]


def tiny_prior() -> builtin.BuiltinPrior:
    return builtin.BuiltinPrior(perturbed(), WORDS, TABLE, (SIDE, SIDE), {"images": 48})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    builtin.save(tmp_path / "tiny.safetensors", tiny_prior())
    return tmp_path / "tiny.safetensors"


def test_a_prior_comes_back_rounded_to_float16(weights: Path) -> None:
    prior, (x, c) = builtin.load(weights), batch(5)
    assert (prior.vocabulary, prior.table, prior.shape, prior.card) == (WORDS, TABLE, (SIDE, SIDE), {"images": 48})
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
        ("older", r"not a prior \(text23d-prior-4 expected\)"),
        ("other", "does not fit the network"),
        ("partial", "does not fit the network"),
    ):
        with pytest.raises(UserError, match=problem) as raised:
            builtin.load(tmp_path / f"{name}.safetensors")
        assert f"{name}.safetensors" in str(raised.value) and "\n" not in str(raised.value)


NONSENSE: dict[str, Any] = {
    "no configuration": {"config": None},
    "text for a configuration": {"config": "wide"},
    "a width of text": {"config": {"words": 5, "widths": "wide"}},
    "an unknown key": {"config": {"words": 5, "wide": 3}},
    "no number of words": {"config": {}},
    "a huge network": {"config": {"words": 5, "widths": [2**40]}},
    "levels without end": {"config": {"words": 5, "blocks": 2**30}},
    "another number of words": {"words": ["a"]},
    "words that are none": {"words": [1, 2, 3, 4, 5]},
    "no deviation of the data": {"sigma_data": 0.0},
    "a deviation that is no number": {"sigma_data": float("nan")},
    "no table": {"table": None},
    "a table without its columns": {"table": {"sigma": [1.0]}},
    "columns of other lengths": {"table": {**TABLE, "rms_full": [1.0]}},
    "levels that fall": {"table": {**TABLE, "sigma": [10.0, 1.0, 0.1]}},
    "a level of text": {"table": {**TABLE, "sigma": ["a", "b", "c"]}},
    "no residual": {"table": {**TABLE, "rms_none": [0.0, 0.0, 0.0]}},
    "shape of text": {"shape": "16"},
    "shape of another dimension": {"shape": [16]},
    "no card": {"card": 3},
}


@pytest.mark.parametrize("what", NONSENSE)
def test_nonsense_in_the_file_is_explained_in_one_line(weights: Path, tmp_path: Path, what: str) -> None:
    tensors, facts = load_tensors(weights, "prior")
    save_tensors(tmp_path / "bad.safetensors", tensors, "prior", {**facts, **NONSENSE[what]})
    with pytest.raises(UserError, match=r"bad\.safetensors") as raised:
        builtin.load(tmp_path / "bad.safetensors")
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500


def test_a_flipped_bit_in_what_the_file_says_is_read_or_told(weights: Path, tmp_path: Path) -> None:
    whole, bad = weights.read_bytes(), tmp_path / "bad.safetensors"
    end = 8 + int.from_bytes(whole[:8], "little")
    refused = 0
    for flip in np.random.default_rng(0).integers(0, 8 * end, 150):
        flipped = bytearray(whole)
        flipped[flip // 8] ^= 1 << flip % 8
        bad.write_bytes(flipped)
        try:
            builtin.load(bad)
        except UserError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 50


def test_a_file_of_the_earlier_format_says_the_same(weights: Path, tmp_path: Path) -> None:
    """It knew squares and cameras only."""
    tensors, facts = load_tensors(weights, "prior")
    facts |= {"format": builtin.EARLIER, "size": facts.pop("shape")[0]}
    facts["table"]["rms_camera"] = facts["table"].pop("rms_views")
    for name in ("dimensions", "features", "sketch"):
        del facts["config"][name]
    save_tensors(tmp_path / "then.safetensors", tensors, "prior", facts)
    now, then = builtin.load(weights), builtin.load(tmp_path / "then.safetensors")
    assert (now.table, now.shape, now.card, now.vocabulary) == (then.table, then.shape, then.card, then.vocabulary)
    x, c = batch(5)
    assert torch.equal(now.denoiser(x, SIGMA, c), then.denoiser(x, SIGMA, c))


def test_the_same_prior_is_the_same_bytes(weights: Path, tmp_path: Path) -> None:
    again = builtin.load(weights)
    builtin.save(tmp_path / "again.safetensors", again)
    assert (tmp_path / "again.safetensors").read_bytes() == weights.read_bytes()


def test_one_caption_for_every_camera(weights: Path) -> None:
    prior, cameras = builtin.load(weights), orbit(3)
    c = prior.condition(["a", "red", "car"], cameras)
    assert c.text.tolist() == [[1, 4, 3, PAD]] * 3 and torch.equal(c.views[:, :5], cameras.features())
    assert c.views[:, 5].tolist() == [1.0] * 3
    with pytest.raises(UserError, match="'spaceship'"):
        prior.condition(["a", "spaceship"], cameras)


def test_a_prompt_may_be_text(weights: Path) -> None:
    """The same as its words; none is the unconditional caption."""
    prior, cameras = builtin.load(weights), orbit(3)
    c = prior.condition("A red car!", cameras)
    assert torch.equal(c.text, prior.condition(["a", "red", "car"], cameras).text)
    assert torch.equal(prior.condition("", cameras).text, c.unconditional().text)
    with pytest.raises(UserError, match="'spaceship'"):
        prior.condition("a spaceship", cameras)
    with pytest.raises(UserError, match="5 words, this prior reads at most 4"):
        prior.condition("a red car, a tree", cameras)


def test_reference_rms_is_interpolated_in_log_log(weights: Path) -> None:
    prior = builtin.load(weights)
    for told, values in (("full", (0.08, 0.9)), ("views", (0.09, 0.95)), ("none", (0.095, 0.97))):
        assert prior.reference_rms(0.1, told) == pytest.approx(values[0])
        assert prior.reference_rms(1.0, told) == pytest.approx(values[1])
        assert prior.reference_rms(math.sqrt(0.1), told) == pytest.approx(math.sqrt(values[0] * values[1]))


# As a guide


class Plain:
    """A world of prompts without a grammar."""

    def read(self, prompt: str) -> str:
        return prompt

    def tokens(self, prompt: str, setting: str = "prompt") -> tuple[str, ...]:
        return tuple(prompt.split())


def guided(prompt: str, **settings: Any) -> Guide:
    return guide(Request(prompt, Plain(), (), torch.device("cpu")), **settings)


def test_what_the_auxiliary_denoiser_is_told() -> None:
    _, c = batch(6)
    assert hide(c, "full") is c
    camera, none = hide(c, "camera"), hide(c, "none")
    assert (camera.text == PAD).all() and torch.equal(camera.views, c.views)
    assert (none.text == PAD).all() and (none.views == 0).all()


def test_only_the_main_denoiser_is_guided(weights: Path) -> None:
    made = guided("car", weights=str(weights), guidance=3.0, auxiliary="camera")
    assert isinstance(made.main, Guided) and made.main.scale == 3.0 and made.shape == (SIDE, SIDE)
    assert made.main.denoiser is made.aux and made.caption == "car"
    assert made.reference_rms is not None and made.reference_rms(1.0) == pytest.approx(0.95)
    c, c_aux = made.conditions(orbit(2))
    assert (c_aux.text == PAD).all() and c.text[:, 0].tolist() == [3, 3] and torch.equal(c.views, c_aux.views)
    plain = guided("car", weights=str(weights), guidance=1.0)
    c, c_aux = plain.conditions(orbit(2))
    assert plain.main is plain.aux and c is c_aux, "what step() shares between D and D'"


def test_a_negative_prompt_is_what_guidance_moves_away_from(weights: Path) -> None:
    made = guided("red car", weights=str(weights), guidance=2.0, negative="blue tree")
    assert isinstance(made.main, Guided)
    c, _ = made.conditions(orbit(2))
    assert made.main.away(c).text.tolist() == [[2, 5, PAD, PAD]] * 2
    x, _ = batch(8, 2)
    to, away = (made.aux(x, SIGMA, each) for each in (c, made.main.away(c)))
    torch.testing.assert_close(made.main(x, SIGMA, c), away + 2.0 * (to - away), rtol=1e-2, atol=1e-2)


def test_the_auxiliary_denoiser_may_have_weights_of_its_own(weights: Path, tmp_path: Path) -> None:
    """Words, conditions and the table of noise are then its own too."""
    words = Vocabulary(("tree", "car"), 4)
    table = {**TABLE, "rms_full": [0.07, 0.5, 9.0]}
    small = edm.Preconditioned(UNet(replace(TINY, words=2, widths=(16, 16))))
    builtin.save(tmp_path / "own.safetensors", builtin.BuiltinPrior(small, words, table, (SIDE, SIDE), {}))
    own = str(tmp_path / "own.safetensors")
    made = guided("car", weights=str(weights), guidance=1.0, auxiliary_weights=own)
    c, c_aux = made.conditions(orbit(2))
    assert c.text[:, 0].tolist() == [3, 3] and c_aux.text[:, 0].tolist() == [2, 2]
    assert cast(edm.Preconditioned, made.aux).network.config.widths == (16, 16)
    assert made.main is not made.aux
    assert made.reference_rms is not None and made.reference_rms(1.0) == pytest.approx(0.5)
    with pytest.raises(UserError, match="do not know the word 'red'"):
        guided("red car", weights=str(weights), auxiliary_weights=own)


def test_precision_of_a_guide(weights: Path) -> None:
    made = {p: guided("car", weights=str(weights), precision=p) for p in ("auto", "float32", "bfloat16")}
    chosen = {name: cast(edm.Preconditioned, each.aux).precision for name, each in made.items()}
    auto = builtin.fast_precision(torch.device("cpu"))
    assert chosen == {"auto": auto, "float32": torch.float32, "bfloat16": torch.bfloat16}
    x, c = batch(7)
    low, high = (made[name].aux(x, SIGMA, c) for name in ("bfloat16", "float32"))
    assert low.dtype == torch.float32 and 0 < (low - high).abs().max() < 0.1


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"auxiliary": "nothing"}, r"prior\.auxiliary=nothing: expected one of full, camera, none"),
        ({"guidance": -1.0}, r"prior\.guidance=-1\.0: expected a number at least 0"),
        ({"precision": "float8"}, r"prior\.precision=float8: expected one of auto, float32, bfloat16"),
        ({"prompt": "a spaceship"}, "do not know the word 'spaceship'"),
        ({"weights": "nowhere.safetensors"}, "no file nowhere"),
        ({"auxiliary_weights": "nowhere.safetensors"}, "no file nowhere"),
    ],
)
def test_a_guide_refuses(weights: Path, settings: dict[str, Any], problem: str) -> None:
    prompt = settings.get("prompt", "car")
    node = {"_target_": "text23d.prior.builtin.guide.guide", "weights": str(weights), **settings}
    node.pop("prompt", None)
    with pytest.raises(UserError, match=problem):
        build(node, "prior", request=Request(prompt, Plain(), (), torch.device("cpu")))


# What is shipped

LOSS_AT_1 = {None: 0.08, SMALL: 0.16}
"""EDM's loss at sigma 1 on objects never trained on; an untrained prior's is 1."""
CAPTION_COUNTS = 1.1
"""By how much a wrong caption raises the loss at sigma 5, where the noise hides the thing itself."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Fresh objects: every kind in two colours, seen twice, from a seed that no training uses."""
    return open_or_build(tmp_path_factory.mktemp("world") / "fresh", Recipe(Objects(), 2 * len(KINDS), 2, 31))


def test_all_weights_are_small_enough() -> None:
    assert sum(path.stat().st_size for path in weights_dir().glob("*.safetensors")) <= 40e6


@pytest.mark.parametrize("name", [None, SMALL], ids=["D", "D'"])
def test_the_shipped_priors(world: Dataset, name: str | None) -> None:
    prior = builtin.load(shipped(name))
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
