// Volume rendering of a field on the CPU, front to back: text23d.kernels.ops.render.
//
// A bundle of rays is under way at a time. In each round every one of them takes its next few steps through occupied
// cells, the field is asked at all of these at once, and rays that are opaque or at their end make room for others.
#include "../shared/march_math.h"
#include "field.h"
#include "guard.h"

namespace text23d {
namespace {

constexpr int64_t kAhead = 4;                    // steps of a ray in a round: some of them will lie behind its end
constexpr int64_t kBundle = kSamples / kAhead;   // rays under way
constexpr int64_t kGroup = 1024;                 // rays of a task

template <typename T>
struct Ray {
    int64_t index, next, taken;  // next: the step it goes on from, -1 where it has no more
    Span<T> span;
    T transmittance, colour[3];
};

template <typename T>
struct Renderer {
    March<T> march;
    Field<T> field;
    T least;  // transmittance
    T *colour, *opacity;

    void render(int64_t first, int64_t last) const {
        const Planes<T> encoded = scratch<T, 0>(field.network.inputs), room = scratch<T, 4>(8);
        T *x = room.row(0), *density = room.row(3), *rgb = room.row(4), *alpha = room.row(7);
        Ray<T> rays[kBundle];
        int64_t under_way = 0;
        while (true) {
            for (; under_way < kBundle && first < last; ++first)
                rays[under_way++] = {first, 0, 0, march.span(first), T(1), {}};
            if (under_way == 0) return;
            int64_t count = 0;
            for (int64_t b = 0; b < under_way; ++b) {
                take(rays[b], x + 3 * count);
                count += rays[b].taken;
            }
            field.ask(x, count, encoded, density, rgb);
            for (int64_t p = 0; p < count; ++p) alpha[p] = T(1) - exp_of_negative(-density[p] * march.dt);
            int64_t at = 0, kept = 0;
            for (int64_t b = 0; b < under_way; ++b) {
                const bool goes_on = pass(rays[b], alpha + at, rgb + 3 * at);
                at += rays[b].taken;
                if (goes_on) rays[kept++] = rays[b];
            }
            under_way = kept;
        }
    }

    // Where the ray's next kAhead samples lie, in the unit cube.
    void take(Ray<T>& ray, T* x) const {
        const T *o = march.origins + 3 * ray.index, *d = march.directions + 3 * ray.index;
        ray.taken = 0;
        ray.next = march.walk(ray.index, ray.span, ray.next, [&](int64_t, T t) {
            for (int axis = 0; axis < 3; ++axis) x[3 * ray.taken + axis] = (o[axis] + t * d[axis] + T(1)) / T(2);
            return ++ray.taken < kAhead;
        });
    }

    // Takes the ray through its samples; false, with its results written, where it is opaque or at its end.
    bool pass(Ray<T>& ray, const T* alpha, const T* rgb) const {
        for (int64_t i = 0; i < ray.taken && ray.transmittance >= least; ++i) {
            const T weight = ray.transmittance * alpha[i];
            for (int c = 0; c < 3; ++c) ray.colour[c] += weight * rgb[3 * i + c];
            ray.transmittance -= weight;
        }
        if (ray.next >= 0 && ray.transmittance >= least) return true;
        for (int c = 0; c < 3; ++c) colour[3 * ray.index + c] = ray.colour[c];
        opacity[ray.index] = T(1) - ray.transmittance;
        return false;
    }
};

template <typename T>
void render(const Renderer<T>& renderer, int64_t rays, int32_t threads, Guard& guard) {
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1 && rays > kGroup)
    for (int64_t first = 0; first < rays; first += kGroup)
        guard([&] { renderer.render(first, std::min(rays, first + kGroup)); });
}

}  // namespace
}  // namespace text23d

#define TEXT23D_DEFINE(T, suffix)                                                                                      \
    int32_t text23d_render_##suffix(                                                                                   \
        int64_t rays, const T* origins, const T* directions, const uint8_t* occupancy, int64_t cells, const T* jitter, \
        double dt, int64_t max_steps, const T* table, const Text23dLevel* grid, int64_t levels, int64_t features,      \
        int64_t hidden, const T* w1, const T* b1, const T* w2, const T* b2, double gain, double blob, double radius,   \
        double beta, double least, T* colour, T* opacity, int32_t threads, void*) {                                    \
        const text23d::Field<T> field{grid, levels, features, table, {levels * features, hidden, w1, b1, w2, b2},      \
                                      {T(gain), T(blob), T(radius), T(beta)}};                                         \
        const text23d::March<T> march{origins, directions, occupancy, cells, jitter, T(dt), T(0), max_steps};          \
        text23d::Guard guard;                                                                                          \
        text23d::render<T>({march, field, T(least), colour, opacity}, rays, threads, guard);                           \
        return guard.code();                                                                                           \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
