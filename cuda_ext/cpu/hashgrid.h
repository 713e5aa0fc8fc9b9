// Multiresolution hash-grid encoding on the CPU, one level and a range of points at a time.
//
// Points go through in blocks. Within a block the arithmetic (cell, weights, table entries) runs over structures of
// arrays, so that the compiler vectorises it; then come the look-ups, point by point.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../shared/hashgrid_math.h"
#include "row.h"

namespace text23d {

constexpr int kBlock = 64;  // points per structure of arrays: stays in the first-level cache

// F > 0 fixes the number of features at compile time; F = 0 reads it from `features`. Number i of point p lies at
// p * point + i * number of an encoding.
template <typename T, int F>
struct HashGrid {
    const Text23dLevel* grid;
    int64_t levels, features;
    int64_t point, number;

    int64_t width() const { return F > 0 ? F : features; }

    // Level l of the encoding of points [first, last).
    void look_up(const T* x, int64_t first, int64_t last, const T* table, int64_t l, T* out) const {
        const T* rows = table + grid[l].offset * width();
        Corners<T, kBlock> at;
        for (int64_t start = first; start < last; start += kBlock) {
            const int count = static_cast<int>(std::min<int64_t>(kBlock, last - start));
            find_corners(x + 3 * start, count, grid[l], at);
            for (int p = 0; p < count; ++p) {
                Row<T, F> sum{};
                for (int c = 0; c < 8; ++c)
                    sum.add(at.weight[c][p], Row<T, F>::load(rows + at.entry[c][p] * width(), width()));
                sum.spread(out + (start + p) * point + l * width() * number, number, width());
            }
        }
    }

    // Adds the gradient of level l's rows, from that of the encoding of n points.
    void scatter(const T* x, int64_t n, const T* grad_out, int64_t l, T* grad_table) const {
        T* rows = grad_table + grid[l].offset * width();
        Corners<T, kBlock> at;
        for (int64_t start = 0; start < n; start += kBlock) {
            const int count = static_cast<int>(std::min<int64_t>(kBlock, n - start));
            find_corners(x + 3 * start, count, grid[l], at);
            for (int p = 0; p < count; ++p) {
                const T* grad = grad_out + (start + p) * point + l * width() * number;
                const Row<T, F> own = Row<T, F>::collect(grad, number, width());
                for (int c = 0; c < 8; ++c) {
                    T* entry = rows + at.entry[c][p] * width();
                    Row<T, F> row = Row<T, F>::load(entry, width());
                    row.add(at.weight[c][p], own);
                    row.store(entry, width());
                }
            }
        }
    }

    // Adds level l's share of the gradient of points [first, last).
    void differentiate(const T* x, int64_t first, int64_t last, const T* table, const T* grad_out, int64_t l,
                       T* grad_x) const {
        const T* rows = table + grid[l].offset * width();
        const T cells = T(grid[l].cells);
        Corners<T, kBlock> at;
        for (int64_t start = first; start < last; start += kBlock) {
            const int count = static_cast<int>(std::min<int64_t>(kBlock, last - start));
            find_corners(x + 3 * start, count, grid[l], at);
            for (int p = 0; p < count; ++p) {
                T own[F > 0 ? F : 64];
                for (int64_t f = 0; f < width(); ++f)
                    own[f] = grad_out[(start + p) * point + (l * width() + f) * number];
                add_gradient_of_x(at, p, rows, width(), own, cells, grad_x + 3 * (start + p));
            }
        }
    }
};

// Calls `work` with the HashGrid specialised for this number of features, if it is a usual one.
template <typename T, typename Work>
void specialise(const Text23dLevel* grid, int64_t levels, int64_t features, int64_t point, int64_t number, Work work) {
    switch (features) {
        case 2: return work(HashGrid<T, 2>{grid, levels, features, point, number});
        case 4: return work(HashGrid<T, 4>{grid, levels, features, point, number});
        default: return work(HashGrid<T, 0>{grid, levels, features, point, number});
    }
}

}  // namespace text23d
