// Volume rendering of packed samples on CUDA: text23d.kernels.ops.composite and its gradient, a ray a thread.
#include "../shared/composite_math.h"
#include "../text23d_native.h"
#include "launch.h"

namespace text23d {
namespace {

template <typename T>
struct Forward {
    int64_t channels;
    const T *sigma_dt, *values;
    const int64_t* offsets;
    T *sums, *opacity;

    TEXT23D_HD void operator()(int64_t r, int64_t) const {
        const int64_t first = offsets[r];
        composite_ray(offsets[r + 1] - first, channels, sigma_dt + first, values + first * channels,
                      sums + r * channels, opacity + r);
    }
};

template <typename T>
struct Backward {
    int64_t channels;
    const T *sigma_dt, *values;
    const int64_t* offsets;
    const T *grad_sums, *grad_opacity;
    T *grad_sigma_dt, *grad_values;

    TEXT23D_HD void operator()(int64_t r, int64_t) const {
        const int64_t first = offsets[r];
        composite_ray_backward(offsets[r + 1] - first, channels, sigma_dt + first, values + first * channels,
                               grad_sums + r * channels, grad_opacity[r], grad_sigma_dt + first,
                               grad_values + first * channels);
    }
};

}  // namespace
}  // namespace text23d

#define TEXT23D_DEFINE(T, suffix)                                                                                      \
    int32_t text23d_composite_forward_##suffix(int64_t rays, int64_t channels, const T* sigma_dt, const T* values,     \
                                               const int64_t* offsets, T* sums, T* opacity, int32_t, void* stream) {   \
        const text23d::Forward<T> work{channels, sigma_dt, values, offsets, sums, opacity};                            \
        return text23d::for_each(rays, 1, work, stream);                                                               \
    }                                                                                                                  \
    int32_t text23d_composite_backward_##suffix(                                                                       \
        int64_t rays, int64_t channels, const T* sigma_dt, const T* values, const int64_t* offsets,                    \
        const T* grad_sums, const T* grad_opacity, T* grad_sigma_dt, T* grad_values, int32_t, void* stream) {          \
        const text23d::Backward<T> work{channels,     sigma_dt,      values,     offsets, grad_sums,                   \
                                        grad_opacity, grad_sigma_dt, grad_values};                                     \
        return text23d::for_each(rays, 1, work, stream);                                                               \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
