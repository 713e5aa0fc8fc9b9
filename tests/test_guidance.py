"""Guidance: towards the prompt, and away from nothing said or from a negative prompt."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig
from torch import Tensor

from text23d import cli
from text23d.cameras import orbit
from text23d.door.text import text_value
from text23d.engine.build import make_prior
from text23d.errors import UserError
from text23d.paths import conf_dir
from text23d.prior import pair
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import PAD, Condition, known
from text23d.prior.wrappers.guidance import Guided, nothing_said
from text23d.worlds.objects.caption import tokenize

CPU = torch.device("cpu")


class Says:
    """D(x; sigma, c) = x + sigma (first word's id) + (sine of the azimuth); counts its calls."""

    calls = 0

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        self.calls += 1
        told = sigma * c.text[:, 0] + c.camera[:, 0]
        return x + told[:, None, None, None]


def condition(*ids: int) -> Condition:
    return Condition(torch.tensor([[each, PAD] for each in ids]), known(orbit(len(ids))))


X = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(0))
SIGMA = torch.tensor([0.5, 1.0, 2.0])


@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 3.0])
def test_the_formula(scale: float) -> None:
    """From the empty caption's 0 or the negative one's 2 to the caption's 5, `scale` times the way, at each level."""
    c = condition(5, 5, 5)
    for away, start in ((nothing_said, 0.0), (lambda c: c.saying(torch.tensor([2, PAD])), 2.0)):
        d = Says()
        guided = Guided(d, scale, away)
        moved = SIGMA * (start + scale * (5 - start)) + c.camera[:, 0]
        torch.testing.assert_close(guided(X, SIGMA, c), X + moved[:, None, None, None])
        assert d.calls == 1, "one batch"
        assert guided.evaluations == (1 if scale == 1 else 2)


def test_one_level_serves_all_pictures() -> None:
    c = condition(5, 1, 2)
    torch.testing.assert_close(
        Guided(Says(), 2.0)(X, torch.tensor(0.5), c), Guided(Says(), 2.0)(X, torch.full((3,), 0.5), c)
    )


def test_guidance_needs_something_said() -> None:
    with pytest.raises(UserError, match=r"guidance scale 2\.0 without conditioning"):
        Guided(Says(), 2.0)(X, SIGMA)


def test_saying_changes_the_words_alone() -> None:
    c = condition(5, 1, 2)
    said = c.saying(torch.tensor([7, 8]))
    assert said.text.tolist() == [[7, 8]] * 3 and said.text.dtype == c.text.dtype
    assert torch.equal(said.camera, c.camera) and c.text[0, 0] == 5


# Of the built-in prior


def answers(prior: Path, negative: str, guidance: float = 3.0) -> tuple[Tensor, Tensor, Tensor]:
    """D's answer under guidance, and the plain answers for the prompt and for the negative prompt."""
    said, unwanted = tokenize("a red car"), tokenize(negative)
    made = pair.builtin_pair(said, CPU, str(prior), guidance, unwanted, precision="float32")
    plain, cameras = builtin.load(prior), orbit(3)
    c, _ = made.conditions(cameras)
    with torch.no_grad():
        told = [plain.denoiser(X, SIGMA, plain.condition(words, cameras)) for words in (said, unwanted)]
        return made.main(X, SIGMA, c), told[0], told[1]


@pytest.mark.parametrize("negative", ["a blue mug", "", "a car"])
def test_a_negative_prompt_is_what_guidance_moves_away_from(tiny_prior: Path, negative: str) -> None:
    guided, wanted, unwanted = answers(tiny_prior, negative)
    assert (wanted - unwanted).abs().max() > 1e-3, "or the test shows nothing"
    torch.testing.assert_close(guided, unwanted + 3 * (wanted - unwanted), rtol=1e-4, atol=1e-4)


def test_no_negative_prompt_is_no_caption(tiny_prior: Path) -> None:
    with_none, _, untold = answers(tiny_prior, "")
    made = pair.builtin_pair(tokenize("a red car"), CPU, str(tiny_prior), 3.0, precision="float32")
    c, c_aux = made.conditions(orbit(3))
    with torch.no_grad():
        torch.testing.assert_close(made.main(X, SIGMA, c), with_none, rtol=0, atol=0)
        torch.testing.assert_close(made.auxiliary(X, SIGMA, c.unconditional()), untold)
    assert c is c_aux, "the negative prompt is no part of what the denoisers are told"


@pytest.mark.parametrize(
    ("negative", "problem"),
    [(["a", "zebra"], "do not know the word 'zebra'"), (["car"] * 30, "30 words, this prior reads at most 24")],
)
def test_a_negative_prompt_that_cannot_be_read(tiny_prior: Path, negative: list[str], problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        pair.builtin_pair(["car"], CPU, str(tiny_prior), negative=negative)


def configured(*overrides: str) -> DictConfig:
    cli.register_resolvers()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", ["prompt='a red car'", *overrides])


def test_the_setting_is_read_as_a_prompt_is(tiny_prior: Path) -> None:
    """Capitals, plurals and punctuation do not matter; null and nothing are no negative prompt."""
    usual = [f"prior.weights='{tiny_prior}'", "prior.precision=float32"]

    def from_(text: str) -> Tensor:
        _, made = make_prior(configured(*usual, f"prior.negative={text}"), CPU)
        c, _ = made.conditions(orbit(3))
        with torch.no_grad():
            return made.main(X, SIGMA, c)

    expected, _, _ = answers(tiny_prior, "a blue mug")
    torch.testing.assert_close(from_("'A blue mugs!'"), expected, rtol=0, atol=0)
    nothing, _, _ = answers(tiny_prior, "")
    for text in ("null", "''"):
        torch.testing.assert_close(from_(text), nothing, rtol=0, atol=0)
    with pytest.raises(UserError, match="does not know the word 'zebra'"):
        from_("'a zebra'")
    with pytest.raises(UserError, match=r"prior\.negative is empty"):
        from_("'?!'")


def test_a_negative_prompt_may_hold_anything() -> None:
    """As `prompt=` does: what a person wrote is no grammar of Hydra's."""
    for text in ("a car, red", "'null'", "${seed}", "it's (a)"):
        quoted = text_value("prior.negative", text, None, False)
        assert configured(f"prior.negative={quoted}").prior.negative == text
    assert text_value("prior.negative", "null", None, False) == "null"
