// Multiresolution hash-grid encoding on CUDA, for whoever needs it.
//
// Forwards and to the table a thread takes one point through one level; neighbouring threads take neighbouring points
// through the same level, whose table then stays in the cache.
#pragma once

#include "../shared/hashgrid_math.h"
#include "launch.h"

namespace text23d {

// Travels by value, with the arguments of the kernel: no copy to the device has to be made and kept.
struct Grid {
    Text23dLevel level[TEXT23D_MAX_LEVELS];
    int64_t levels, features;
    int64_t point, number;  // steps in an encoding from one point, and from one of its numbers, to the next

    Grid(const Text23dLevel* grid, int64_t levels, int64_t features, int64_t point, int64_t number)
        : level{}, levels(levels), features(features), point(point), number(number) {
        for (int64_t l = 0; l < levels; ++l) level[l] = grid[l];
    }

    // Where feature f of level l of point p lies in an encoding, and the level's first number in the table.
    TEXT23D_HD int64_t place(int64_t p, int64_t l, int64_t f) const { return p * point + (l * features + f) * number; }
    TEXT23D_HD int64_t start(int64_t l) const { return level[l].offset * features; }
};

template <typename T>
struct Encode {
    Grid grid;
    const T *x, *table;
    T* out;

    TEXT23D_HD void operator()(int64_t p, int64_t l) const {
        Corners<T, 1> at;
        find_corners(x + 3 * p, 1, grid.level[l], at);
        const T* rows = table + grid.start(l);
        for (int64_t f = 0; f < grid.features; ++f) {
            T sum = T(0);
            for (int c = 0; c < 8; ++c) sum += at.weight[c][0] * rows[at.entry[c][0] * grid.features + f];
            out[grid.place(p, l, f)] = sum;
        }
    }
};

template <typename T>
struct Scatter {
    Grid grid;
    const T *x, *grad_out;
    T* grad_table;

    TEXT23D_HD void operator()(int64_t p, int64_t l) const {
        Corners<T, 1> at;
        find_corners(x + 3 * p, 1, grid.level[l], at);
        T* rows = grad_table + grid.start(l);
        for (int c = 0; c < 8; ++c)
            for (int64_t f = 0; f < grid.features; ++f)
                add_to(rows + at.entry[c][0] * grid.features + f, at.weight[c][0] * grad_out[grid.place(p, l, f)]);
    }
};

}  // namespace text23d
