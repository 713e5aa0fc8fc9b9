// Volume rendering of packed samples on the CPU: text23d.kernels.ops.composite and its gradient, a ray a task.
#include "../shared/composite_math.h"
#include "../text23d_native.h"

#define TEXT23D_DEFINE(T, suffix)                                                                                      \
    int32_t text23d_composite_forward_##suffix(int64_t rays, int64_t channels, const T* sigma_dt, const T* values,     \
                                               const int64_t* offsets, T* sums, T* opacity, int32_t threads, void*) {  \
        _Pragma("omp parallel for num_threads(threads) schedule(dynamic, 256) if (threads > 1 && rays > 256)")         \
        for (int64_t r = 0; r < rays; ++r) {                                                                           \
            const int64_t first = offsets[r];                                                                          \
            text23d::composite_ray(offsets[r + 1] - first, channels, sigma_dt + first, values + first * channels,      \
                                   sums + r * channels, opacity + r);                                                  \
        }                                                                                                              \
        return 0;                                                                                                      \
    }                                                                                                                  \
    int32_t text23d_composite_backward_##suffix(                                                                       \
        int64_t rays, int64_t channels, const T* sigma_dt, const T* values, const int64_t* offsets,                    \
        const T* grad_sums, const T* grad_opacity, T* grad_sigma_dt, T* grad_values, int32_t threads, void*) {         \
        _Pragma("omp parallel for num_threads(threads) schedule(dynamic, 256) if (threads > 1 && rays > 256)")         \
        for (int64_t r = 0; r < rays; ++r) {                                                                           \
            const int64_t first = offsets[r];                                                                          \
            text23d::composite_ray_backward(offsets[r + 1] - first, channels, sigma_dt + first,                        \
                                            values + first * channels, grad_sums + r * channels, grad_opacity[r],      \
                                            grad_sigma_dt + first, grad_values + first * channels);                    \
        }                                                                                                              \
        return 0;                                                                                                      \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
