// Multiresolution hash-grid encoding on CUDA: text23d.kernels.ops.encode and its gradients.
//
// To x a thread sums over the levels, in their order.
#include "hashgrid.h"

namespace text23d {
namespace {

template <typename T>
struct BackwardX {
    Grid grid;
    const T *x, *table, *grad_out;
    T* grad_x;

    TEXT23D_HD void operator()(int64_t p, int64_t) const {
        T sum[3] = {};
        for (int64_t l = 0; l < grid.levels; ++l) {
            Corners<T, 1> at;
            find_corners(x + 3 * p, 1, grid.level[l], at);
            add_gradient_of_x(at, 0, table + grid.start(l), grid.features, grad_out + grid.place(p, l, 0),
                              T(grid.level[l].cells), sum);
        }
        for (int axis = 0; axis < 3; ++axis) grad_x[3 * p + axis] = within(x[3 * p + axis]) ? sum[axis] : T(0);
    }
};

}  // namespace
}  // namespace text23d

#define TEXT23D_DEFINE(T, suffix)                                                                                      \
    int32_t text23d_hashgrid_forward_##suffix(int64_t n, const T* x, const T* table, const Text23dLevel* grid,         \
                                              int64_t levels, int64_t features, T* out, int32_t, void* stream) {       \
        const text23d::Encode<T> work{{grid, levels, features, levels * features, 1}, x, table, out};                                       \
        return text23d::for_each(n, levels, work, stream);                                                             \
    }                                                                                                                  \
    int32_t text23d_hashgrid_backward_table_##suffix(int64_t n, const T* x, const T* grad_out,                         \
                                                     const Text23dLevel* grid, int64_t levels, int64_t features,       \
                                                     T* grad_table, int32_t, void* stream) {                           \
        const text23d::Scatter<T> work{{grid, levels, features, levels * features, 1}, x, grad_out, grad_table};                       \
        return text23d::for_each(n, levels, work, stream);                                                             \
    }                                                                                                                  \
    int32_t text23d_hashgrid_backward_x_##suffix(int64_t n, const T* x, const T* table, const T* grad_out,             \
                                                 const Text23dLevel* grid, int64_t levels, int64_t features,           \
                                                 T* grad_x, int32_t, void* stream) {                                   \
        const text23d::BackwardX<T> work{{grid, levels, features, levels * features, 1}, x, table, grad_out, grad_x};                        \
        return text23d::for_each(n, 1, work, stream);                                                                  \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
