// Occupancy-grid marching on the CPU: text23d.kernels.ops.march. Rays are counted first, then filled where they belong.
#include "../shared/march_math.h"
#include "../text23d_native.h"

#define TEXT23D_DEFINE(T, suffix)                                                                                      \
    void text23d_march_count_##suffix(int64_t rays, const T* origins, const T* directions, const uint8_t* occupancy,   \
                                      int64_t cells, const T* jitter, double dt, double near_t, int64_t max_steps,     \
                                      int64_t* counts, int32_t threads) {                                              \
        _Pragma("omp parallel for num_threads(threads) schedule(dynamic, 256) if (threads > 1 && rays > 256)")                       \
        for (int64_t r = 0; r < rays; ++r) {                                                                           \
            int64_t count = 0;                                                                                         \
            text23d::walk(origins + 3 * r, directions + 3 * r, occupancy, cells, jitter[r], T(dt), T(near_t),          \
                          max_steps, [&](int64_t, T) { ++count; });                                                    \
            counts[r] = count;                                                                                         \
        }                                                                                                              \
    }                                                                                                                  \
    void text23d_march_fill_##suffix(int64_t rays, const T* origins, const T* directions, const uint8_t* occupancy,    \
                                     int64_t cells, const T* jitter, double dt, double near_t, int64_t max_steps,      \
                                     const int64_t* offsets, int64_t* ray, T* t, int64_t* step, int32_t threads) {     \
        _Pragma("omp parallel for num_threads(threads) schedule(dynamic, 256) if (threads > 1 && rays > 256)")                       \
        for (int64_t r = 0; r < rays; ++r) {                                                                           \
            int64_t at = offsets[r];                                                                                   \
            text23d::walk(origins + 3 * r, directions + 3 * r, occupancy, cells, jitter[r], T(dt), T(near_t),          \
                          max_steps, [&](int64_t k, T distance) {                                                      \
                              ray[at] = r;                                                                             \
                              t[at] = distance;                                                                        \
                              step[at++] = k;                                                                          \
                          });                                                                                          \
        }                                                                                                              \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
