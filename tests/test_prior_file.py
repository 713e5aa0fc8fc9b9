"""The built-in prior's file, whatever it says; and the prior as a guide: D, D' and what each is told."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from small_prior import SIDE, TINY, WORDS, batch, perturbed

from text23d.cameras import orbit
from text23d.errors import UserError
from text23d.files import load_tensors, save_tensors
from text23d.guide import Guide, Request
from text23d.prior.builtin import edm
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import PAD
from text23d.prior.builtin.guide import guide, hide
from text23d.prior.builtin.packing import packed, unpacked
from text23d.prior.builtin.text import Vocabulary
from text23d.prior.builtin.unet import UNet
from text23d.prior.wrappers.guidance import Guided
from text23d.settings import build

D = perturbed()
SIGMA = torch.tensor(0.8)

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


def test_weights_in_8_bits_come_back_within_half_a_step(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(40, 30, 5), "b": torch.randn(7), "c": torch.randn(3, 3), "zero": torch.zeros(80, 60)}
    kept = packed(tensors)
    assert kept["a"].dtype == torch.int8 and kept["b"].dtype == kept["c"].dtype == torch.float16
    back = unpacked(kept)
    assert back.keys() == tensors.keys() and torch.equal(back["zero"], tensors["zero"])
    step = tensors["a"].abs().amax((1, 2), keepdim=True) / 127
    assert ((back["a"] - tensors["a"]).abs() <= 0.501 * step).all()
    assert torch.equal(unpacked({"b": kept["b"]})["b"], kept["b"]), "files in float16 are read as they are"

    wide = replace(TINY, widths=(64, 64))
    prior = replace(tiny_prior(), denoiser=edm.Preconditioned(UNet(wide)).requires_grad_(False))
    builtin.save(tmp_path / "half.safetensors", prior)
    builtin.save(tmp_path / "packed.safetensors", prior, bits=8)
    sizes = [(tmp_path / f"{name}.safetensors").stat().st_size for name in ("packed", "half")]
    assert sizes[0] < 0.65 * sizes[1]
    x, c = batch(5)
    found, expected = (
        builtin.load(tmp_path / f"{name}.safetensors").denoiser(x, SIGMA, c) for name in ("packed", "half")
    )
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
    saved, facts = load_tensors(tmp_path / "packed.safetensors", "prior")
    scale = next(name for name in saved if name.endswith(".scale"))
    del saved[scale]
    save_tensors(tmp_path / "lacking.safetensors", saved, "prior", facts)
    with pytest.raises(UserError, match=r"lacking\.safetensors is damaged \(.* has no scale for each of its rows\)"):
        builtin.load(tmp_path / "lacking.safetensors")


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
    for name in ("dimensions", "features", "sketch", "mask"):
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
    assert made.main.denoiser is made.aux and list(made.captions) == ["car"]
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
