"""How much work an operation is: floating-point operations, and bytes read and written.

Counted is what the operation as such needs, whoever computes it. FLOPs: additions, multiplications, divisions and
transcendental functions, 1 each; not signs, comparisons, conversions and integers. Bytes: what goes in and out once,
and each element looked up in a table or a grid. Most look-ups are served by caches, so more than the memory's bandwidth
is possible. Numbers are float32, indices int64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from text23d.kernels.layout import GridLayout

REAL, INDEX = 4, 8


@dataclass(frozen=True)
class Work:
    flops: int
    bytes: int

    def __add__(self, other: Work) -> Work:
        return Work(self.flops + other.flops, self.bytes + other.bytes)


def encode(points: int, layout: GridLayout) -> Work:
    """Each level: 9 for the place in the cell, 16 for eight weights, a product and a sum for each corner's feature."""
    levels, features = layout.levels, layout.features
    return Work(
        points * levels * (25 + 16 * features),
        points * REAL * (3 + levels * 8 * features + levels * features),
    )


def encode_backward(points: int, layout: GridLayout) -> Work:
    """Of the table: as forward; every corner's row is read and written, and the gradient begins as zeros."""
    levels, features = layout.levels, layout.features
    return Work(
        points * levels * (25 + 16 * features),
        points * REAL * (3 + levels * 16 * features + levels * features) + REAL * layout.entries * features,
    )


def field(points: int, layout: GridLayout, hidden: int) -> Work:
    """Encoding and network, and 29 for softplus, blob and three sigmoids; the features stay inside."""
    inner = network(points, (layout.out_features, hidden, 4))
    made = encode(points, layout)
    outputs = REAL * points * (4 - layout.out_features)
    return Work(made.flops + inner.flops + 29 * points, made.bytes + outputs)


def field_backward(points: int, layout: GridLayout, hidden: int) -> Work:
    """Of table and network: 14 for the slopes of the activations; features kept by the forward pass are read again."""
    inner = network_backward(points, (layout.out_features, hidden, 4))
    scattered = encode_backward(points, layout)
    return Work(scattered.flops + inner.flops + 14 * points, scattered.bytes + REAL * points * 8)


def march(rays: int, steps: int, samples: int) -> Work:
    """`steps` places looked up on all rays, of which `samples` are kept; 12 for a ray's span, 15 for a step's cell."""
    return Work(
        12 * rays + 15 * steps,
        rays * 7 * REAL + (rays + 1) * INDEX + steps + samples * (2 * INDEX + REAL),
    )


def composite(rays: int, samples: int, channels: int) -> Work:
    return Work(
        samples * (4 + 2 * channels) + rays,
        (rays + 1) * INDEX + (samples + rays) * (1 + channels) * REAL,
    )


def composite_backward(rays: int, samples: int, channels: int) -> Work:
    return Work(
        samples * (11 + 3 * channels) + 2 * rays,
        (rays + 1) * INDEX + (2 * samples + rays) * (1 + channels) * REAL,
    )


def network(rows: int, widths: Sequence[int]) -> Work:
    """Linear layers of these widths, forward: products and sums; what goes into and out of each."""
    layers = list(pairwise(widths))
    return Work(2 * rows * sum(a * b for a, b in layers), REAL * rows * sum(a + b for a, b in layers))


def network_backward(rows: int, widths: Sequence[int]) -> Work:
    """Gradients of weights and inputs: two products forward's size; inputs read once more."""
    layers = list(pairwise(widths))
    return Work(4 * rows * sum(a * b for a, b in layers), REAL * rows * sum(2 * a + b for a, b in layers))
