// Steps of a ray through the occupied cells of [-1, 1]^3: the twin of `enter_cube` and `march` in reference.py.
#pragma once

#include <cmath>
#include <cstdint>

#include "hd.h"

namespace text23d {

template <typename T>
struct Span {
    T enter, leave;  // a ray that misses, or holds a NaN, has no t with enter <= t < leave
};

template <typename T>
TEXT23D_HD Span<T> enter_cube(const T* origin, const T* direction, T near_t) {
    Span<T> span{near_t, T(INFINITY)};
    for (int axis = 0; axis < 3; ++axis) {
        const T o = origin[axis], d = direction[axis];
        if (d == T(0)) {
            if (!(std::fabs(o) <= T(1))) return {near_t, T(-INFINITY)};
            continue;
        }
        const T first = (T(-1) - o) / d, second = (T(1) - o) / d;
        if (first != first || second != second) return {near_t, T(-INFINITY)};
        const T low = first < second ? first : second, high = first < second ? second : first;
        span.enter = low > span.enter ? low : span.enter;
        span.leave = high < span.leave ? high : span.leave;
    }
    return span;
}

template <typename T>
TEXT23D_HD int64_t cell_along(T position, T half_cells, int64_t cells) {
    const T at = (position + T(1)) * half_cells;
    const int64_t cell = at > T(0) ? static_cast<int64_t>(at) : 0;
    return cell < cells ? cell : cells - 1;
}

// The rays of one call, with everything they pass through.
template <typename T>
struct March {
    const T *origins, *directions;  // [rays][3]
    const uint8_t* occupancy;       // [cells]^3
    int64_t cells;
    const T* jitter;  // [rays]
    T dt, near_t;
    int64_t max_steps;

    TEXT23D_HD Span<T> span(int64_t r) const { return enter_cube(origins + 3 * r, directions + 3 * r, near_t); }

    // Calls visit(k, t) for the kept steps of ray r from step k on, in order, until one says false. The step after
    // that; -1 where the ray has no more.
    template <typename Visit>
    TEXT23D_HD int64_t walk(int64_t r, const Span<T>& span, int64_t k, Visit visit) const {
        const T *o = origins + 3 * r, *d = directions + 3 * r;
        const T half = T(cells) / T(2);
        for (; k < max_steps; ++k) {
            const T t = span.enter + (T(k) + jitter[r]) * dt;
            if (!(t < span.leave)) return -1;
            const int64_t i = cell_along(o[0] + t * d[0], half, cells);
            const int64_t j = cell_along(o[1] + t * d[1], half, cells);
            const int64_t l = cell_along(o[2] + t * d[2], half, cells);
            if (occupancy[(i * cells + j) * cells + l] && !visit(k, t)) return k + 1;
        }
        return -1;
    }

    TEXT23D_HD int64_t count(int64_t r) const {
        int64_t kept = 0;
        walk(r, span(r), 0, [&](int64_t, T) { return ++kept > 0; });
        return kept;
    }

    // The samples of ray r, from row `at` on.
    TEXT23D_HD void fill(int64_t r, int64_t at, int64_t* ray, T* t, int64_t* step) const {
        walk(r, span(r), 0, [&](int64_t k, T distance) {
            ray[at] = r;
            t[at] = distance;
            step[at++] = k;
            return true;
        });
    }
};

}  // namespace text23d
