// Multiresolution hash-grid encoding on CUDA: text23d.kernels.ops.encode and its gradients.
//
// Forwards and to the table a thread takes one point through one level; neighbouring threads take neighbouring points
// through the same level, whose table then stays in the cache. To x a thread sums over the levels, in their order.
#include "../shared/hashgrid_math.h"
#include "launch.h"

namespace text23d {
namespace {

// Travels by value, with the arguments of the kernel: no copy to the device has to be made and kept.
struct Grid {
    Text23dLevel level[TEXT23D_MAX_LEVELS];
    int64_t levels, features;

    Grid(const Text23dLevel* grid, int64_t levels, int64_t features) : level{}, levels(levels), features(features) {
        for (int64_t l = 0; l < levels; ++l) level[l] = grid[l];
    }

    // Number of point p's first feature of level l in an encoding, and of the level's first number in the table.
    TEXT23D_HD int64_t column(int64_t p, int64_t l) const { return (p * levels + l) * features; }
    TEXT23D_HD int64_t start(int64_t l) const { return level[l].offset * features; }
};

template <typename T>
struct Forward {
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
            out[grid.column(p, l) + f] = sum;
        }
    }
};

template <typename T>
struct BackwardTable {
    Grid grid;
    const T *x, *grad_out;
    T* grad_table;

    TEXT23D_HD void operator()(int64_t p, int64_t l) const {
        Corners<T, 1> at;
        find_corners(x + 3 * p, 1, grid.level[l], at);
        const T* grad = grad_out + grid.column(p, l);
        T* rows = grad_table + grid.start(l);
        for (int c = 0; c < 8; ++c)
            for (int64_t f = 0; f < grid.features; ++f)
                add_to(rows + at.entry[c][0] * grid.features + f, at.weight[c][0] * grad[f]);
    }
};

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
            add_gradient_of_x(at, 0, table + grid.start(l), grid.features, grad_out + grid.column(p, l),
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
        const text23d::Forward<T> work{{grid, levels, features}, x, table, out};                                       \
        return text23d::for_each(n, levels, work, stream);                                                             \
    }                                                                                                                  \
    int32_t text23d_hashgrid_backward_table_##suffix(int64_t n, const T* x, const T* grad_out,                         \
                                                     const Text23dLevel* grid, int64_t levels, int64_t features,       \
                                                     T* grad_table, int32_t, void* stream) {                           \
        const text23d::BackwardTable<T> work{{grid, levels, features}, x, grad_out, grad_table};                       \
        return text23d::for_each(n, levels, work, stream);                                                             \
    }                                                                                                                  \
    int32_t text23d_hashgrid_backward_x_##suffix(int64_t n, const T* x, const T* table, const T* grad_out,             \
                                                 const Text23dLevel* grid, int64_t levels, int64_t features,           \
                                                 T* grad_x, int32_t, void* stream) {                                   \
        const text23d::BackwardX<T> work{{grid, levels, features}, x, table, grad_out, grad_x};                        \
        return text23d::for_each(n, 1, work, stream);                                                                  \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
