"""How guidance leads away: each paper's equation, transcribed here in the terms of the paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from text23d.cameras import orbit
from text23d.compose import compose
from text23d.errors import UserError
from text23d.guide import Guide, Request, cost
from text23d.method.algorithm import Algorithm1
from text23d.method.noise import gaussian
from text23d.method.proposal import Rng
from text23d.prior.builtin import prior as builtin
from text23d.prior.builtin.condition import PAD, Condition, known
from text23d.prior.builtin.guide import guide
from text23d.prior.wrappers.batches import in_batches
from text23d.prior.wrappers.guidance import Guided, nothing_said
from text23d.prior.wrappers.regional import Blend, Regional, elsewhere, opposed, regional
from text23d.prior.wrappers.rule import Rule, kept, perpendicular
from text23d.rng import generator
from text23d.settings import build, read
from text23d.worlds.objects.caption import tokenize
from text23d.worlds.objects.world import Objects

CPU = torch.device("cpu")
UNIT = 0.5
"""A level of 1 of the network is this of D."""
COUNT = 4
X = 2 * torch.randn(COUNT, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SIGMA = torch.tensor([0.2, 0.7, 1.5, 4.0], dtype=torch.float64)
SAID, NEGATIVE = 5, 2


class Words:
    """D(x; sigma, c): a picture of the first word's own, and a part of x, more so at little noise; counts examples."""

    seen = 0

    def __call__(self, x: Tensor, sigma: Tensor, c: Any = None) -> Tensor:
        self.seen += len(x)
        shown = torch.stack([picture(int(word)) for word in c.text[:, 0]])
        s = sigma.expand(len(x)).reshape(-1, 1, 1, 1)
        return x / (1 + s**2) + shown * s**2 / (1 + s**2) + 0.1 * torch.sin(x * shown)


def picture(word: int) -> Tensor:
    return torch.randn(3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(word))


def condition(*ids: int) -> Condition:
    return Condition(torch.tensor([[each, PAD] for each in ids]), known(orbit(len(ids))))


C = condition(*[SAID] * COUNT)


def saying(word: int, c: Condition = C) -> Condition:
    return c.saying(torch.tensor([word, PAD]))


def answers(x: Tensor = X, sigma: Tensor = SIGMA) -> tuple[Tensor, Tensor, Tensor]:
    """D told the prompt, nothing, and the negative prompt."""
    return Words()(x, sigma, C), Words()(x, sigma, C.unconditional()), Words()(x, sigma, saying(NEGATIVE))


def predicted(D: Tensor, kind: str) -> Tensor:
    """What a network predicts, by its definition, of noisy data whose unit is UNIT, from D."""
    x0, s = D / UNIT, (SIGMA / UNIT).reshape(-1, 1, 1, 1)
    n = (X / UNIT - x0) / s
    alpha, beta = (1 + s**2).rsqrt(), s * (1 + s**2).rsqrt()
    return {"sample": x0, "epsilon": n, "v_prediction": alpha * n - beta * x0, "flow": n - x0}[kind]


# The equations


@pytest.mark.parametrize("kind", ["sample", "epsilon", "v_prediction", "flow"])
@pytest.mark.parametrize("phi", [0.7, 1.0])
def test_rescaled_guidance_is_its_equations(kind: str, phi: float) -> None:
    """Lin et al. 2024, Eqs. 14 to 16, of what the network predicts; and the same by diffusers' own function."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import rescale_noise_cfg

    found = Guided(Words(), 7.5, rule=Rule(rescale=phi), kept=kept(kind, UNIT))(X, SIGMA, C)  # type: ignore[arg-type]
    told, untold, _ = answers()
    x_pos, x_neg = predicted(told, kind), predicted(untold, kind)
    x_cfg = x_neg + 7.5 * (x_pos - x_neg)
    sigma_pos = torch.stack([each.std() for each in x_pos]).reshape(-1, 1, 1, 1)
    sigma_cfg = torch.stack([each.std() for each in x_cfg]).reshape(-1, 1, 1, 1)
    x_final = phi * (x_cfg * sigma_pos / sigma_cfg) + (1 - phi) * x_cfg
    torch.testing.assert_close(predicted(found, kind), x_final, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(predicted(found, kind), rescale_noise_cfg(x_cfg, x_pos, phi), rtol=1e-9, atol=1e-9)
    assert (predicted(found, kind) - x_cfg).abs().max() > 0.1


@pytest.mark.parametrize(("eta", "r"), [(0.0, None), (0.3, None), (1.0, 2.0), (0.0, 2.0), (0.0, 1e6)])
def test_adaptive_projected_guidance_is_its_equations(eta: float, r: float | None) -> None:
    """Sadat et al. 2025, Eqs. 6 to 9, and the same by diffusers' own function."""
    from diffusers.guiders.adaptive_projected_guidance import normalized_guidance

    found = Guided(Words(), 10.0, rule=Rule(parallel=eta, norm=r))(X, SIGMA, C)
    told, untold, _ = answers()
    for index in range(COUNT):
        D_c, delta = told[index], told[index] - untold[index]
        if r is not None:
            delta = delta * min(1.0, r / delta.norm().item())
        along = (delta * D_c).sum() / (D_c * D_c).sum() * D_c
        expected = D_c + (10.0 - 1) * ((delta - along) + eta * along)
        torch.testing.assert_close(found[index], expected, rtol=1e-9, atol=1e-9)
    theirs = normalized_guidance(told, untold, 10.0 - 1, None, eta, r or 0.0, use_original_formulation=True)
    torch.testing.assert_close(found, theirs, rtol=1e-9, atol=1e-9)


def test_neutral_settings_are_plain_guidance() -> None:
    """An eta of 1 and a norm that nothing reaches."""
    told, untold, _ = answers()
    for rule in (Rule(), Rule(norm=1e6), Rule(interval=(0.1, 5.0))):
        torch.testing.assert_close(Guided(Words(), 4.0, rule=rule)(X, SIGMA, C), untold + 4 * (told - untold))


@pytest.mark.parametrize("scale", [1.0, 6.0])
def test_perp_neg_is_its_equation(scale: float) -> None:
    """Armandpour et al. 2023, for the noise predicted: of two negative prompts only what is perpendicular to the
    prompt's own difference counts."""
    weights = {NEGATIVE: torch.tensor([0.5, 1.0, 2.0, 0.0]), 3: torch.full((COUNT,), 0.75)}
    against = tuple((lambda c, word=word: (saying(word, c), weights[word])) for word in weights)
    found = Guided(Words(), scale, against=against)(X, SIGMA, C)
    told, untold, _ = answers()
    for index in range(COUNT):
        eps = predicted(untold, "epsilon")[index]
        eps_pos = predicted(told, "epsilon")[index] - eps
        expected = eps + scale * eps_pos
        for word, weight in weights.items():
            eps_neg = predicted(Words()(X, SIGMA, saying(word)), "epsilon")[index] - eps
            across = eps_neg - (eps_neg * eps_pos).sum() / eps_pos.norm() ** 2 * eps_pos
            expected = expected - scale * weight[index] * across
        torch.testing.assert_close(predicted(found, "epsilon")[index], expected, rtol=1e-9, atol=1e-9)


def test_guidance_in_an_interval_of_levels() -> None:
    """Kynkaanniemi et al. 2024, Eq. 3: the scale above the lower level and up to the upper one, and 1 elsewhere."""
    told, untold, _ = answers()
    expected = torch.stack([told[0], untold[1] + 4 * (told - untold)[1], untold[2] + 4 * (told - untold)[2], told[3]])
    d = Words()
    guided = Guided(d, 4.0, rule=Rule(interval=(0.2, 1.5)))
    torch.testing.assert_close(guided(X, SIGMA, C), expected)
    assert d.seen == COUNT + 2, "only what has guidance is evaluated without the prompt"
    for sigma, evaluations in ((0.2, 1), (0.21, 2), (1.5, 2), (1.6, 1)):
        d, level = Words(), torch.tensor(sigma, dtype=torch.float64)
        guided = Guided(d, 4.0, rule=Rule(interval=(0.2, 1.5)))
        guided(X, level, C)
        assert d.seen == evaluations * COUNT and cost(guided, level) == evaluations and cost(guided) == 2


# Together


EVERYTHING = Rule(rescale=0.5, interval=(0.3, 2.0), parallel=0.2, norm=3.0)


def against(c: Any) -> tuple[Any, Tensor]:
    return saying(NEGATIVE, c), torch.full((len(c),), 0.8)


def test_what_is_known_of_d_is_not_evaluated_again() -> None:
    for rule in (Rule(), EVERYTHING, Rule(interval=(0.1, 5.0))):
        d = Words()
        guided = Guided(d, 4.0, rule=rule, against=(against,), kept=kept("epsilon"))
        told, _, _ = answers()
        expected = Guided(Words(), 4.0, rule=rule, against=(against,), kept=kept("epsilon"))(X, SIGMA, C)
        torch.testing.assert_close(guided(X, SIGMA, C, towards=told), expected)
        inside = rule.inside(SIGMA)
        assert d.seen == 2 * (COUNT if inside is None else int(inside.sum()))


def test_examples_do_not_depend_on_each_other() -> None:
    guided = Guided(Words(), 4.0, rule=EVERYTHING, against=(against,), kept=kept("v_prediction"))
    whole = guided(X, SIGMA, C)
    alone = [guided(X[i : i + 1], SIGMA[i : i + 1], C.rows(slice(i, i + 1))) for i in range(COUNT)]
    torch.testing.assert_close(whole, torch.cat(alone))
    halves = in_batches(Guide(guided, guided.denoiser, c=C, c_aux=C), 2)
    torch.testing.assert_close(halves.main(X, SIGMA, C), whole)


def test_the_rule_serves_the_method() -> None:
    """`Guide.D_given` with the conditional half known, and evaluations as counted: an iteration of Algorithm 1."""

    def draw(purpose: str) -> list[torch.Generator]:
        return [generator(0, view, 0, purpose) for view in range(COUNT)]

    rng: Rng = draw
    for rule, guided_evaluations in ((Rule(), 3), (Rule(interval=(0.3, 2.0)), 3), (Rule(interval=(9.0, 99.0)), 1)):
        d = Words()
        guided = Guided(d, 4.0, rule=rule, against=(against,))
        asked = Guide(guided, d, c=C, c_aux=C)
        assert asked.shared and asked.unguided is d
        x0 = gaussian(X, draw("x0")) / 2
        proposal = Algorithm1()(asked, x0, SIGMA, gaussian(X, draw("n")), rng)
        assert proposal.nfe == 4 + guided_evaluations, "3 steps of inversion, whose last is known, and the chain's end"


def test_parts_of_a_canvas_are_blended_and_then_guided() -> None:
    """Under every rule the same as guidance of one denoiser that knows the blend."""
    weight = torch.rand(2, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    share = torch.stack([weight[0], 1 - weight[0]]).repeat(2, 1, 1, 1)
    pairs = condition(5, 6, 5, 6)
    blend = Blend(pairs, torch.tensor([0, 0, 1, 1]), share, 2)
    x, sigma = X[:2], SIGMA[1:3]
    inner = Regional(Words())
    guided = Guided(
        inner, 4.0, lambda c: elsewhere(nothing_said, c), EVERYTHING, (lambda c: opposed(against, c),), kept("flow")
    )
    told, untold = inner(x, sigma, blend), inner(x, sigma, blend.unconditional())
    negative = inner(x, sigma, Blend(saying(NEGATIVE, pairs), blend.example, share, 2))
    s = sigma.reshape(-1, 1, 1, 1)
    weighed = [(negative, torch.full((2,), 0.8))]
    expected = EVERYTHING(4.0, told, untold, weighed, 1 / (1 + s) * x)
    torch.testing.assert_close(guided(x, sigma, blend), expected)
    torch.testing.assert_close(guided(x, sigma, blend, towards=told), expected)


def test_regions_keep_the_rule() -> None:
    d = Words()
    made = Guide(
        Guided(d, 4.0, rule=EVERYTHING, against=(against,), kept=kept("flow")),
        d, shape=(4, 4), conditions=lambda views: (C, C), others=(lambda views: (C, C),),
    )  # fmt: skip
    main: Any = regional(made, torch.ones(2, 4, 4) / 2).main
    assert isinstance(main, Guided) and main.rule is EVERYTHING and main.scale == 4 and len(main.against) == 1
    assert main.kept is made.main.kept  # type: ignore[attr-defined]


def test_what_is_zero_has_no_direction() -> None:
    a = torch.randn(2, 3, 4, 4)
    assert torch.equal(perpendicular(a, torch.zeros_like(a)), a)
    none = Rule(norm=1.0, parallel=0.0)(3.0, a, a, (), a)
    assert torch.equal(none, a), "no difference, no guidance"


# Of the built-in prior


def asked(prompt: str = "a red car") -> Request:
    return Request(prompt, Objects(), (), CPU)


def configured(*overrides: str) -> dict[str, Any]:
    found: dict[str, Any] = compose("config", ["prompt='a red car'", *overrides])["prior"]
    return found


@pytest.mark.parametrize(
    ("choice", "rule"),
    [
        ("prior/rule=apg", Rule(parallel=0.0, norm=7.5)),
        ("prior/rule=rescaled", Rule(rescale=0.7)),
        ("prior/rule=interval", Rule(interval=(0.14, 2.71))),
        ("prior.rule.rescale=0.2", Rule(rescale=0.2)),
    ],
)
def test_the_built_in_prior_is_guided_by_the_rule(tiny_prior: Path, choice: str, rule: Rule) -> None:
    """The configuration's words; what its network itself returns (EDM's F) is what is rescaled."""
    node = configured(f"prior.weights='{tiny_prior}'", "prior.precision=float32", choice)
    assert read(Rule, node["rule"]) == rule
    made = build(node, "prior", request=asked()).conditioned_on(orbit(3))
    x = torch.randn(3, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.5, 1.0, 4.0])
    plain = builtin.load(tiny_prior)
    s, sd = sigma.reshape(-1, 1, 1, 1), plain.denoiser.sigma_data
    with torch.no_grad():
        told, untold = (
            plain.denoiser(x, sigma, c)
            for c in (plain.condition(tokenize("a red car"), orbit(3)), made.c.unconditional())
        )
        found = made.D(x, sigma)
    expected = rule(3.0, told, untold, (), sd**2 / (s**2 + sd**2) * x)  # c_skip x (Karras et al. 2022, Table 1)
    inside = rule.inside(sigma)
    if inside is not None:
        expected = torch.where(inside.reshape(-1, 1, 1, 1), expected, told)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert (found - (untold + 3 * (told - untold))).abs().max() > 1e-3, "or the test shows nothing"


def test_perp_neg_of_the_built_in_prior(tiny_prior: Path) -> None:
    made = guide(asked(), str(tiny_prior), 3.0, "a blue mug", precision="float32", rule=Rule(perp_neg=0.5))
    plain, cameras = builtin.load(tiny_prior), orbit(3)
    x = torch.randn(3, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.5, 1.0, 4.0])
    with torch.no_grad():
        told, negative = (
            plain.denoiser(x, sigma, plain.condition(tokenize(words), cameras)) for words in ("a red car", "a blue mug")
        )
        untold = plain.denoiser(x, sigma, plain.condition(tokenize("a red car"), cameras).unconditional())
        found = made.conditioned_on(cameras).D(x, sigma)
    e, n = told - untold, negative - untold
    along = (e * n).sum((1, 2, 3), keepdim=True) / (e * e).sum((1, 2, 3), keepdim=True)
    torch.testing.assert_close(found, untold + 3 * (e - 0.5 * (n - along * e)), rtol=1e-4, atol=1e-4)
    assert cost(made.main) == 3
    with pytest.raises(UserError, match=r"prior\.rule\.perp_neg=0\.5 is the weight of prior\.negative: give that, too"):
        guide(asked(), str(tiny_prior), rule=Rule(perp_neg=0.5))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("interval=[2,1]", r"rule\.interval=\[2, 1\]: expected two noise levels, the lower one first"),
        ("rescale=2", r"prior\.rule\.rescale=2: expected a number at least 0 and at most 1"),
        ("parallel=-1", r"prior\.rule\.parallel=-1: expected a number at least 0"),
        ("norm=0", r"prior\.rule\.norm=0: expected a number above 0 or null"),
    ],
)
def test_mistakes(tiny_prior: Path, override: str, message: str) -> None:
    node = configured(f"prior.weights='{tiny_prior}'", f"prior.rule.{override}")
    with pytest.raises(UserError, match=message):
        build(node, "prior", request=asked())


def test_the_fine_stage_has_the_rule_of_the_run() -> None:
    stage = compose("config", ["prompt='a red car'", "prior.rule.rescale=0.4", "prior.negative='a blue mug'"])["stage"]
    assert stage["rule"]["rescale"] == 0.4 and stage["negative"] == "a blue mug"
    other = compose("config", ["prompt='a red car'", "prior=empirical", "prior.folder=x", "stage=fine"])["stage"]
    assert other["rule"] is None and other["negative"] is None
