// Where a point falls in one level of a hash grid (Müller et al. 2022, section 3): the twin of GridLayout and `encode`.
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

}  // namespace text23d
