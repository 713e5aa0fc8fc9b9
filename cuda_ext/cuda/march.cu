// Occupancy-grid marching on CUDA: text23d.kernels.ops.march, a ray a thread. Rays are counted first, then filled.
#include "../shared/march_math.h"
#include "../text23d_native.h"
#include "launch.h"

namespace text23d {
namespace {

template <typename T>
struct Count {
    March<T> march;
    int64_t* counts;

    TEXT23D_HD void operator()(int64_t r, int64_t) const { counts[r] = march.count(r); }
};

template <typename T>
struct Fill {
    March<T> march;
    const int64_t* offsets;
    int64_t* ray;
    T* t;
    int64_t* step;

    TEXT23D_HD void operator()(int64_t r, int64_t) const { march.fill(r, offsets[r], ray, t, step); }
};

}  // namespace
}  // namespace text23d

#define TEXT23D_DEFINE(T, suffix)                                                                                      \
    int32_t text23d_march_count_##suffix(int64_t rays, const T* origins, const T* directions,                          \
                                         const uint8_t* occupancy, int64_t cells, const T* jitter, double dt,          \
                                         double near_t, int64_t max_steps, int64_t* counts, int32_t, void* stream) {   \
        const text23d::Count<T> work{                                                                                  \
            {origins, directions, occupancy, cells, jitter, T(dt), T(near_t), max_steps}, counts};                     \
        return text23d::for_each(rays, 1, work, stream);                                                               \
    }                                                                                                                  \
    int32_t text23d_march_fill_##suffix(int64_t rays, const T* origins, const T* directions,                           \
                                        const uint8_t* occupancy, int64_t cells, const T* jitter, double dt,           \
                                        double near_t, int64_t max_steps, const int64_t* offsets, int64_t* ray, T* t,  \
                                        int64_t* step, int32_t, void* stream) {                                        \
        const text23d::Fill<T> work{                                                                                   \
            {origins, directions, occupancy, cells, jitter, T(dt), T(near_t), max_steps}, offsets, ray, t, step};      \
        return text23d::for_each(rays, 1, work, stream);                                                               \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
