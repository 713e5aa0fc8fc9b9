// One entry of a hash grid's table: F numbers, added up and written together.
//
// They travel as one vector where F is known and the compiler has vector types; F = 0 reads their number from `width`.
#pragma once

#include <cstdint>
#include <cstring>

namespace text23d {

template <typename T, int F>
struct Row {
#if defined(__GNUC__) && !defined(TEXT23D_NO_PACKS)
    typedef T Numbers __attribute__((vector_size(F * sizeof(T))));
    Numbers number;

    void add(T weight, const Row& other) { number += weight * other.number; }
#else
    T number[F];

    void add(T weight, const Row& other) {
        for (int f = 0; f < F; ++f) number[f] += weight * other.number[f];
    }
#endif

    static Row load(const T* from, int64_t) {
        Row row;
        std::memcpy(&row.number, from, sizeof(row.number));
        return row;
    }

    void store(T* to, int64_t) const { std::memcpy(to, &number, sizeof(number)); }

    // Numbers that lie `step` apart.
    static Row collect(const T* from, int64_t step, int64_t) {
        T numbers[F];
        for (int f = 0; f < F; ++f) numbers[f] = from[f * step];
        return load(numbers, F);
    }

    void spread(T* to, int64_t step, int64_t) const {
        for (int f = 0; f < F; ++f) to[f * step] = number[f];
    }
};

template <typename T>
struct Row<T, 0> {
    T number[64];  // as many as GridLayout allows
    int64_t width;

    void add(T weight, const Row& other) {
        width = other.width;
        for (int64_t f = 0; f < width; ++f) number[f] += weight * other.number[f];
    }

    static Row load(const T* from, int64_t width) { return collect(from, 1, width); }

    void store(T* to, int64_t width) const { spread(to, 1, width); }

    static Row collect(const T* from, int64_t step, int64_t width) {
        Row row;
        row.width = width;
        for (int64_t f = 0; f < width; ++f) row.number[f] = from[f * step];
        return row;
    }

    void spread(T* to, int64_t step, int64_t width) const {
        for (int64_t f = 0; f < width; ++f) to[f * step] = number[f];
    }
};

}  // namespace text23d
