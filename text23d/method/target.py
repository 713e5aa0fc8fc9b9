"""Target unit ([0042]-[0045]): where the rendering should go."""

from __future__ import annotations

from torch import Tensor


def target(x0: Tensor, denoised: Tensor, denoised_next: Tensor, leak: float = 0.0) -> Tensor:
    """x0_hat = x0 + D'(x') - D'(x) + leak (D'(x) - x0), all [B, C, *S].

    The difference cancels the bias of D', x0_hat - D'(x') = x0 - D'(x), and so never removes what is already off the
    manifold; a leak above 0 does. leak = 0 is the patent.
    """
    return x0 + denoised_next - denoised + leak * (denoised - x0)
