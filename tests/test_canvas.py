"""Canvases: windows cut out of a whole and put back, where they lie, and what the method makes of them."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from text23d.errors import UserError
from text23d.guide import Guide
from text23d.method.joint import MultiDiffusion, StochSync, SyncDiffusion, statistics
from text23d.method.step import step
from text23d.method.update import Replace
from text23d.method.warm import SharedNoise
from text23d.representation.canvas import Canvas
from text23d.representation.windowing import WindowGrid, WindowSampler, starts
from text23d.rng import generator
from text23d.windows import Windows

SHAPES = [((12,), (5,), (True,)), ((6, 11), (3, 4), (False, True)), ((5, 4, 6), (2, 4, 3), (True, False, False))]


def stream(step: int = 0) -> torch.Generator:
    return generator(0, 0, step, "test")


@pytest.mark.parametrize(("whole", "shape", "wrap"), SHAPES)
def test_windows_show_what_indexing_says(
    whole: tuple[int, ...], shape: tuple[int, ...], wrap: tuple[bool, ...]
) -> None:
    values = torch.randn(2, *whole, generator=stream())
    views = WindowSampler(whole, shape, wrap).sample(7, stream(1))
    found = views.cut(values, shape)
    assert found.shape == (7, 2, *shape)
    for row, place in itertools.product(range(7), itertools.product(*map(range, shape))):
        index = [int(first) + at for first, at in zip(views.start[row], place, strict=True)]
        index = [at % side if turns else at for at, side, turns in zip(index, whole, wrap, strict=True)]
        assert torch.equal(found[row].movedim(0, -1)[place], values.movedim(0, -1)[tuple(index)])


@pytest.mark.parametrize(("whole", "shape", "wrap"), SHAPES)
def test_pasting_is_the_transpose_of_cutting(
    whole: tuple[int, ...], shape: tuple[int, ...], wrap: tuple[bool, ...]
) -> None:
    """<cut(a), b> = <a, paste(b)>, and the gradient of a cut is a paste."""
    views = WindowSampler(whole, shape, wrap).sample(5, stream(1))
    a = torch.randn(3, *whole, generator=stream(2), dtype=torch.float64).requires_grad_()
    b = torch.randn(5, 3, *shape, generator=stream(3), dtype=torch.float64)
    total = views.paste(b, whole)
    inner = (views.cut(a, shape) * b).sum()
    torch.testing.assert_close(inner, (a * total).sum())
    inner.backward()
    torch.testing.assert_close(a.grad, total)
    assert views.paste(torch.ones_like(b[:, :1]), whole).sum() == 5 * torch.Size(shape).numel()


def test_a_window_beyond_the_end_is_an_error() -> None:
    with pytest.raises(IndexError, match="a window of 3 reaches beyond an axis of 4"):
        Windows(torch.tensor([[2]]), (False,)).cut(torch.zeros(1, 4), (3,))


@pytest.mark.parametrize("wrap", [True, False])
def test_every_place_is_seen_about_equally_often(wrap: bool) -> None:
    """On a ring equally; on a line, its ends by windows that are moved inside, half as often at the least."""
    sampler, seen = WindowSampler((90,), (10,), (wrap,)), torch.zeros(1, 90)
    for index in range(300):
        seen += sampler.sample(9, stream(index)).paste(torch.ones(9, 1, 10), (90,))
    share = seen / seen.mean()
    assert share.min() > (0.85 if wrap else 0.5) and share.max() < (1.15 if wrap else 1.7)
    if wrap:
        gaps = sampler.sample(9, stream()).start.flatten().sort().values.diff()
        assert gaps.max() <= 20, "one in each bin of 10"


def test_a_grid_leaves_no_gaps() -> None:
    assert starts(10, 4, 3, wrap=False) == [0, 3, 6] and starts(11, 4, 3, wrap=False) == [0, 3, 6, 7]
    assert starts(10, 4, 3, wrap=True) == [0, 3, 6, 9]
    views = WindowGrid((8, 11), (8, 4), (8, 3)).all()
    assert views.start.tolist() == [[0, 0], [0, 3], [0, 6], [0, 7]]
    assert views.paste(torch.ones(4, 1, 8, 4), (8, 11)).min() == 1
    assert torch.equal(WindowGrid((8, 11), (8, 4), (8, 3)).sample(4).start, views.start)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda: WindowSampler((8,), (9,)), "at least as large as a window"),
        (lambda: WindowSampler((8,), (4, 4)), "as many of each"),
        (lambda: WindowGrid((8,), (4,), (5,)), r"views\.stride=\[5\]: .* no gaps"),
        (lambda: WindowGrid((8,), (4,), (4,)).sample(3), r"method\.views=3: .* use method\.views=2"),
        (lambda: Canvas(3, ()), "expected 1 to 3 extents"),
        (lambda: Canvas(64, (2**20, 2**20)), "make it shorter"),
    ],
)
def test_what_does_not_fit_is_told(make: object, problem: str) -> None:
    with pytest.raises(UserError, match=problem):
        make()  # type: ignore[operator]


def test_targets_replace_what_windows_see_by_their_mean() -> None:
    canvas = Canvas(1, (6,))
    canvas.values.data.fill_(9.0)
    views = Windows(torch.tensor([[0], [1]]), (False,))
    canvas.replace(views, torch.tensor([[[1.0, 2.0, 3.0]], [[4.0, 5.0, 6.0]]]))
    assert canvas.values[0].tolist() == pytest.approx([1.0, 2.5, 4.5, 6.0, 9.0, 9.0]), "weighed by 1/3, 1, 1/3"
    assert canvas.render(views, (3,))[1, 0].tolist() == pytest.approx([2.5, 4.5, 6.0])


def test_the_mean_has_no_edges() -> None:
    """Two flat windows of 0 and 1, half of which overlap: a ramp between them, its steps at the edges no larger."""
    canvas = Canvas(1, (4, 48))
    views = Windows(torch.tensor([[0, 0], [0, 16]]), (False, False))
    canvas.replace(views, torch.tensor([0.0, 1.0])[:, None, None, None].expand(2, 1, 4, 32))
    row = canvas.values[0, 1].detach()
    ramp = (torch.arange(16) + 0.5) / 16
    torch.testing.assert_close(row, torch.cat([torch.zeros(16), ramp, torch.ones(16)]))


SIGMAS = [4.0, 1.0, 0.3, 0.1]


MEAN = torch.linspace(-1, 1, 4)
COVARIANCE = 0.8 ** (torch.arange(4.0)[:, None] - torch.arange(4.0)).abs()
"""Of the elements of windows, so that neighbours matter."""


def denoiser(x: Tensor, sigma: Tensor, c: None = None) -> Tensor:
    """D of N(MEAN, COVARIANCE)."""
    gain = COVARIANCE @ torch.linalg.inv(COVARIANCE + sigma.square() * torch.eye(4))
    return MEAN + (x - MEAN) @ gain.T


def sample(method: object, canvas: Canvas, views: Windows, noise: SharedNoise) -> None:
    guide = Guide(denoiser, denoiser, shape=(4,))
    for index, sigma in enumerate(SIGMAS):
        report = step(
            canvas,
            views,
            method,  # type: ignore[arg-type]
            guide,
            torch.tensor(sigma),
            Replace(),
            lambda purpose, index=index: stream(index),  # type: ignore[misc]
            shape=(4,),
            noise=noise.recall(views, stream(), (4,)),
        )
        noise.keep(views, report.proposal.noise)


def test_multidiffusion_is_ddim_of_the_averaged_windows() -> None:
    """Against a loop that holds the noisy whole, window by window, with weights (Bar-Tal et al. 2023, eq. 5)."""
    views = WindowGrid((10,), (4,), (2,)).all()
    begin = torch.randn(1, 10, generator=stream(9))
    canvas = Canvas(1, (10,))
    sample(MultiDiffusion(), canvas, views, SharedNoise(begin.clone()))

    x = SIGMAS[0] * begin
    for index, sigma in enumerate(SIGMAS):
        following = SIGMAS[index + 1] if index + 1 < len(SIGMAS) else 0.0
        total, count = torch.zeros_like(x), torch.zeros_like(x)
        for first in (0, 2, 4, 6):
            window = x[:, first : first + 4]
            denoised = denoiser(window[None], torch.tensor(sigma))[0]
            weight = torch.tensor([0.25, 0.75, 0.75, 0.25])
            total[:, first : first + 4] += weight * (denoised + following * (window - denoised) / sigma)
            count[:, first : first + 4] += weight
        x = total / count
    torch.testing.assert_close(canvas.values.data, x, rtol=1e-5, atol=1e-5)


def test_syncdiffusion_draws_windows_together() -> None:
    """Without weight it is MultiDiffusion; with it, windows that do not overlap end more alike."""
    views = WindowGrid((40,), (4,), (4,)).all()
    spread = {}
    for weight in (0.0, 1.0):
        canvas = Canvas(1, (40,))
        sample(SyncDiffusion(weight), canvas, views, SharedNoise(torch.randn(1, 40, generator=stream(9))))
        spread[weight] = statistics(canvas.render(views, (4,)))[:, 0].std().item()
        if not weight:
            plain = Canvas(1, (40,))
            sample(MultiDiffusion(), plain, views, SharedNoise(torch.randn(1, 40, generator=stream(9))))
            torch.testing.assert_close(canvas.values.data, plain.values.data)
    assert spread[1.0] < 0.7 * spread[0.0]


def test_statistics_are_the_moments() -> None:
    x = torch.tensor([[[1.0, 3.0], [2.0, 2.0]]])
    torch.testing.assert_close(statistics(x), torch.tensor([[2.0, 2.0, 1.0, 1e-4]]))


def test_stochsync_ends_with_samples() -> None:
    """With many steps a target is what the ODE makes of a Gaussian, in closed form in its own axes."""
    guide, n = Guide(denoiser, denoiser, shape=(4,)), torch.randn(3, 1, 4, generator=stream(1))
    found = StochSync(400, 0.01)(guide, torch.zeros(3, 1, 4), torch.tensor(30.0), n, lambda purpose: stream(2)).target
    variances, axes = torch.linalg.eigh(COVARIANCE)
    along = (30.0 * n[:, 0] - MEAN) @ axes * (variances / (variances + 30.0**2)).sqrt()
    torch.testing.assert_close(found[:, 0], MEAN + along @ axes.T, rtol=0.02, atol=0.02)


def test_shared_noise_is_the_same_where_windows_overlap() -> None:
    noise = SharedNoise(torch.randn(2, 8, generator=stream()))
    views = Windows(torch.tensor([[0], [2]]), (False,))
    first, second = noise.recall(views, stream(), (4,))
    assert torch.equal(first[:, 2:], second[:, :2])
    kept = noise.noise.clone()
    noise.keep(views, torch.stack([first + 1, second + 3]))
    assert torch.equal(noise.noise[:, 6:], kept[:, 6:])
    torch.testing.assert_close(noise.noise - kept, torch.tensor([1.0, 1, 1.5, 2.5, 3, 3, 0, 0]).expand(2, 8))
    again = SharedNoise(torch.zeros(2, 8))
    again.load(noise.state())
    assert torch.equal(again.noise, noise.noise)
