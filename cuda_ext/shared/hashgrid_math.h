// Where points fall in one level of a hash grid (Müller et al. 2022, section 3): the twin of GridLayout and `encode`.
#pragma once

#include <cstdint>

#include "../text23d_native.h"
#include "hd.h"

namespace text23d {

template <typename T>
struct Place {
    uint32_t cell;
    T fraction;  // in [0, 1], NaN if the coordinate is
};

// One coordinate, clamped to [0, 1]; x = 1 belongs to the last cell.
template <typename T>
TEXT23D_HD Place<T> locate(T x, uint32_t cells) {
    const T clamped = x > T(0) ? (x < T(1) ? x : T(1)) : T(0);  // NaN goes to cell 0: an index must not depend on it
    const T position = clamped * T(cells);
    const uint32_t below = static_cast<uint32_t>(static_cast<int32_t>(position));
    const uint32_t cell = below < cells - 1 ? below : cells - 1;
    const T fraction = position - T(static_cast<int32_t>(cell));
    return {cell, x == x ? fraction : x};
}

template <typename T>
TEXT23D_HD bool within(T x) {
    return x >= T(0) && x <= T(1);
}

template <bool Dense>
TEXT23D_HD uint32_t entry_of(uint32_t i, uint32_t j, uint32_t k, uint32_t cells, uint32_t mask) {
    if (Dense) return i + (cells + 1) * (j + (cells + 1) * k);
    return (i ^ (j * 2654435761u) ^ (k * 805459861u)) & mask;
}

// The vertices about N points, as a structure of arrays; corner c = 4 di + 2 dj + dk.
template <typename T, int N>
struct Corners {
    uint32_t entry[8][N];
    T weight[8][N];
    uint32_t cell[3][N];
    T fraction[3][N];
};

template <typename T, bool Dense, int N>
TEXT23D_HD void find_corners_as(const T* x, int n, const Text23dLevel& level, Corners<T, N>& out) {
    const uint32_t cells = static_cast<uint32_t>(level.cells);
    const uint32_t mask = static_cast<uint32_t>(level.size - 1);
    for (int p = 0; p < n; ++p) {
        for (int axis = 0; axis < 3; ++axis) {
            const Place<T> place = locate(x[3 * p + axis], cells);
            out.cell[axis][p] = place.cell;
            out.fraction[axis][p] = place.fraction;
        }
    }
    for (uint32_t corner = 0; corner < 8; ++corner) {
        const uint32_t di = corner >> 2, dj = (corner >> 1) & 1, dk = corner & 1;
        for (int p = 0; p < n; ++p) {
            const T u = di ? out.fraction[0][p] : T(1) - out.fraction[0][p];
            const T v = dj ? out.fraction[1][p] : T(1) - out.fraction[1][p];
            const T w = dk ? out.fraction[2][p] : T(1) - out.fraction[2][p];
            out.weight[corner][p] = u * v * w;
            out.entry[corner][p] =
                entry_of<Dense>(out.cell[0][p] + di, out.cell[1][p] + dj, out.cell[2][p] + dk, cells, mask);
        }
    }
}

// The corners of the n <= N points x [n][3] in one level.
template <typename T, int N>
TEXT23D_HD void find_corners(const T* x, int n, const Text23dLevel& level, Corners<T, N>& out) {
    level.dense ? find_corners_as<T, true>(x, n, level, out) : find_corners_as<T, false>(x, n, level, out);
}

// Adds to grad_x [3] what one level contributes to the gradient of point p, given grad [width] of its features:
// d weight / d x_a is +-N_l times the product of the other two axes' weights.
template <typename T, int N>
TEXT23D_HD void add_gradient_of_x(const Corners<T, N>& at, int p, const T* rows, int64_t width, const T* grad, T cells,
                                  T* grad_x) {
    const T u = at.fraction[0][p], v = at.fraction[1][p], w = at.fraction[2][p];
    T slope[3] = {};
    for (int c = 0; c < 8; ++c) {
        const T* row = rows + int64_t(at.entry[c][p]) * width;
        T dot = T(0);
        for (int64_t f = 0; f < width; ++f) dot += grad[f] * row[f];
        const T a = c & 4 ? u : T(1) - u, b = c & 2 ? v : T(1) - v, d = c & 1 ? w : T(1) - w;
        slope[0] += (c & 4 ? dot : -dot) * b * d;
        slope[1] += (c & 2 ? dot : -dot) * a * d;
        slope[2] += (c & 1 ? dot : -dot) * a * b;
    }
    for (int axis = 0; axis < 3; ++axis) grad_x[axis] += cells * slope[axis];
}

}  // namespace text23d
