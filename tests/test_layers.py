"""Convolutions of clips, against those of three dimensions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from text23d.prior.builtin.layers import LAYOUT, Doubling, TimedConvolution


def clips(*shape: int) -> torch.Tensor:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x.contiguous(memory_format=LAYOUT[3])


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_frame_by_frame_and_then_along_time_is_one_convolution(kernel: int, stride: int) -> None:
    """Its kernel is the product of both."""
    layer = TimedConvolution(3, 5, kernel, stride, kernel // 2).double()
    product, bias = layer.weight[:, :, None], layer.bias
    if layer.time is not None and bias is not None:
        layer.time.data = torch.randn(5, 1, kernel, 1, dtype=torch.float64)
        bias.data.zero_()  # which the ends of a clip would see less of
        product = product * layer.time[..., None]
    x = clips(2, 3, 6, 8, 10).requires_grad_()
    expected = F.conv3d(x, product, bias, stride, kernel // 2)
    torch.testing.assert_close(layer(x), expected)
    found = torch.autograd.grad(layer(x).square().sum(), x)[0]
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), x)[0])


def test_before_training_frames_are_pictures() -> None:
    """A stride of 2 sees the mean of two frames, which a transposed one shows twice."""
    x, layer, half = (
        clips(2, 3, 6, 8, 8),
        TimedConvolution(3, 5, 3, 1, 1).double(),
        TimedConvolution(3, 5, 3, 2, 1).double(),
    )
    double = Doubling(5, 4, 2, 2).double()
    frames = [F.conv2d(x[:, :, index], layer.weight, layer.bias, 1, 1) for index in range(6)]
    torch.testing.assert_close(layer(x), torch.stack(frames, 2))
    frames = [F.conv2d(x[:, :, index], half.weight, half.bias, 2, 1) for index in range(6)]
    seen = half(x)
    torch.testing.assert_close(seen, torch.stack([(frames[i] + frames[i + 1]) / 2 for i in (0, 2, 4)], 2))
    shown = torch.stack([F.conv_transpose2d(seen[:, :, i // 2], double.weight, double.bias, 2) for i in range(6)], 2)
    torch.testing.assert_close(double(seen), shown)
