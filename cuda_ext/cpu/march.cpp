// Occupancy-grid marching on the CPU: text23d.kernels.ops.march. Rays are counted first, then filled where they belong.
#include "../shared/march_math.h"
#include "../text23d_native.h"

#define TEXT23D_DEFINE(T, suffix)                                                                                      \
    int32_t text23d_march_count_##suffix(int64_t rays, const T* origins, const T* directions,                          \
                                         const uint8_t* occupancy, int64_t cells, const T* jitter, double dt,          \
                                         double near_t, int64_t max_steps, int64_t* counts, int32_t threads, void*) {  \
        const text23d::March<T> march{origins, directions, occupancy, cells, jitter, T(dt), T(near_t), max_steps};     \
        _Pragma("omp parallel for num_threads(threads) schedule(dynamic, 256) if (threads > 1 && rays > 256)")         \
        for (int64_t r = 0; r < rays; ++r) counts[r] = march.count(r);                                                 \
        return 0;                                                                                                      \
    }                                                                                                                  \
    int32_t text23d_march_fill_##suffix(int64_t rays, const T* origins, const T* directions,                           \
                                        const uint8_t* occupancy, int64_t cells, const T* jitter, double dt,           \
                                        double near_t, int64_t max_steps, const int64_t* offsets, int64_t* ray, T* t,  \
                                        int64_t* step, int32_t threads, void*) {                                       \
        const text23d::March<T> march{origins, directions, occupancy, cells, jitter, T(dt), T(near_t), max_steps};     \
        _Pragma("omp parallel for num_threads(threads) schedule(dynamic, 256) if (threads > 1 && rays > 256)")         \
        for (int64_t r = 0; r < rays; ++r) march.fill(r, offsets[r], ray, t, step);                                    \
        return 0;                                                                                                      \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
