// Multiresolution hash-grid encoding on the CPU: text23d.kernels.ops.encode and its gradients.
#include "hashgrid.h"

namespace text23d {
namespace {

constexpr int64_t kChunk = 4096;  // points a thread takes through all levels: long enough to keep a level's table warm

template <typename T, int F>
void forward(const HashGrid<T, F>& grid, int64_t n, const T* x, const T* table, T* out, int32_t threads) {
    const int64_t chunks = (n + kChunk - 1) / kChunk;
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1 && n > kChunk)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const int64_t last = std::min(n, (chunk + 1) * kChunk);
        for (int64_t l = 0; l < grid.levels; ++l) grid.look_up(x, chunk * kChunk, last, table, l, out);
    }
}

template <typename T, int F>
void backward_table(const HashGrid<T, F>& grid, int64_t n, const T* x, const T* grad_out, T* grad_table,
                    int32_t threads) {
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1 && n > kChunk)
    for (int64_t l = 0; l < grid.levels; ++l) grid.scatter(x, n, grad_out, l, grad_table);
}

template <typename T, int F>
void backward_x(const HashGrid<T, F>& grid, int64_t n, const T* x, const T* table, const T* grad_out, T* grad_x,
                int32_t threads) {
    const int64_t chunks = (n + kChunk - 1) / kChunk;
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1 && n > kChunk)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
        const int64_t first = chunk * kChunk, last = std::min(n, first + kChunk);
        std::fill(grad_x + 3 * first, grad_x + 3 * last, T(0));
        for (int64_t l = 0; l < grid.levels; ++l) grid.differentiate(x, first, last, table, grad_out, l, grad_x);
        for (int64_t i = 3 * first; i < 3 * last; ++i) grad_x[i] = within(x[i]) ? grad_x[i] : T(0);
    }
}

// Calls `work` with the specialised grid for encodings [n][levels * features].
template <typename T, typename Work>
void by_rows(const Text23dLevel* grid, int64_t levels, int64_t features, Work work) {
    specialise<T>(grid, levels, features, levels * features, 1, work);
}

}  // namespace
}  // namespace text23d

#define TEXT23D_DEFINE(T, suffix)                                                                                      \
    int32_t text23d_hashgrid_forward_##suffix(int64_t n, const T* x, const T* table, const Text23dLevel* grid,         \
                                              int64_t levels, int64_t features, T* out, int32_t threads, void*) {      \
        text23d::by_rows<T>(grid, levels, features,                                                                    \
                            [=](auto level) { text23d::forward(level, n, x, table, out, threads); });                  \
        return 0;                                                                                                      \
    }                                                                                                                  \
    int32_t text23d_hashgrid_backward_table_##suffix(int64_t n, const T* x, const T* grad_out,                         \
                                                     const Text23dLevel* grid, int64_t levels, int64_t features,       \
                                                     T* grad_table, int32_t threads, void*) {                          \
        text23d::by_rows<T>(grid, levels, features, [=](auto level) {                                                  \
            text23d::backward_table(level, n, x, grad_out, grad_table, threads);                                       \
        });                                                                                                            \
        return 0;                                                                                                      \
    }                                                                                                                  \
    int32_t text23d_hashgrid_backward_x_##suffix(int64_t n, const T* x, const T* table, const T* grad_out,             \
                                                 const Text23dLevel* grid, int64_t levels, int64_t features,           \
                                                 T* grad_x, int32_t threads, void*) {                                  \
        text23d::by_rows<T>(grid, levels, features, [=](auto level) {                                                  \
            text23d::backward_x(level, n, x, table, grad_out, grad_x, threads);                                        \
        });                                                                                                            \
        return 0;                                                                                                      \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
