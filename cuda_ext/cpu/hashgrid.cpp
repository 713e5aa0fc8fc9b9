// Multiresolution hash-grid encoding on the CPU: text23d.kernels.ops.encode and its gradients.
//
// Points go through in blocks. Within a block the arithmetic (cell, weights, table entries) runs over structures of
// arrays, so that the compiler vectorises it; then come the look-ups, point by point.
#include "../shared/hashgrid_math.h"

#include <algorithm>
#include <cstdint>

namespace text23d {
namespace {

constexpr int kBlock = 64;       // points per structure of arrays: stays in the first-level cache
constexpr int64_t kChunk = 4096;  // points a thread takes through all levels: long enough to keep a level's table warm

// F > 0 fixes the number of features at compile time; F = 0 reads it from `features`.
template <typename T, int F>
struct HashGrid {
    const Text23dLevel* grid;
    int64_t levels, features;

    int64_t width() const { return F > 0 ? F : features; }
    int64_t stride() const { return levels * width(); }

    void forward(int64_t n, const T* x, const T* table, T* out, int32_t threads) const {
        const int64_t chunks = (n + kChunk - 1) / kChunk;
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1 && n > kChunk)
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            const int64_t last = std::min(n, (chunk + 1) * kChunk);
            for (int64_t l = 0; l < levels; ++l) look_up(x, chunk * kChunk, last, table, l, out);
        }
    }

    void backward_table(int64_t n, const T* x, const T* grad_out, T* grad_table, int32_t threads) const {
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1 && n > kChunk)
        for (int64_t l = 0; l < levels; ++l) scatter(x, n, grad_out, l, grad_table);
    }

    void backward_x(int64_t n, const T* x, const T* table, const T* grad_out, T* grad_x, int32_t threads) const {
        const int64_t chunks = (n + kChunk - 1) / kChunk;
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1 && n > kChunk)
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            const int64_t first = chunk * kChunk, last = std::min(n, first + kChunk);
            std::fill(grad_x + 3 * first, grad_x + 3 * last, T(0));
            for (int64_t l = 0; l < levels; ++l) differentiate(x, first, last, table, grad_out, l, grad_x);
            for (int64_t i = 3 * first; i < 3 * last; ++i) grad_x[i] = within(x[i]) ? grad_x[i] : T(0);
        }
    }

private:
    void look_up(const T* x, int64_t first, int64_t last, const T* table, int64_t l, T* out) const {
        const T* rows = table + grid[l].offset * width();
        Corners<T, kBlock> at;
        for (int64_t start = first; start < last; start += kBlock) {
            const int count = static_cast<int>(std::min<int64_t>(kBlock, last - start));
            find_corners(x + 3 * start, count, grid[l], at);
            for (int p = 0; p < count; ++p) {
                T sum[F > 0 ? F : 64] = {};
                for (int c = 0; c < 8; ++c) {
                    const T* row = rows + int64_t(at.entry[c][p]) * width();
                    for (int64_t f = 0; f < width(); ++f) sum[f] += at.weight[c][p] * row[f];
                }
                std::copy(sum, sum + width(), out + (start + p) * stride() + l * width());
            }
        }
    }

    void scatter(const T* x, int64_t n, const T* grad_out, int64_t l, T* grad_table) const {
        T* rows = grad_table + grid[l].offset * width();
        Corners<T, kBlock> at;
        for (int64_t start = 0; start < n; start += kBlock) {
            const int count = static_cast<int>(std::min<int64_t>(kBlock, n - start));
            find_corners(x + 3 * start, count, grid[l], at);
            for (int p = 0; p < count; ++p) {
                const T* grad = grad_out + (start + p) * stride() + l * width();
                // A copy, since `row` might overlap `grad` for all the compiler knows: g++ 12 -O3 then sums wrongly.
                T own[F > 0 ? F : 64];
                std::copy(grad, grad + width(), own);
                for (int c = 0; c < 8; ++c) {
                    T* row = rows + int64_t(at.entry[c][p]) * width();
                    for (int64_t f = 0; f < width(); ++f) row[f] += at.weight[c][p] * own[f];
                }
            }
        }
    }

    void differentiate(const T* x, int64_t first, int64_t last, const T* table, const T* grad_out, int64_t l,
                       T* grad_x) const {
        const T* rows = table + grid[l].offset * width();
        const T cells = T(grid[l].cells);
        Corners<T, kBlock> at;
        for (int64_t start = first; start < last; start += kBlock) {
            const int count = static_cast<int>(std::min<int64_t>(kBlock, last - start));
            find_corners(x + 3 * start, count, grid[l], at);
            for (int p = 0; p < count; ++p) {
                const T* grad = grad_out + (start + p) * stride() + l * width();
                add_gradient_of_x(at, p, rows, width(), grad, cells, grad_x + 3 * (start + p));
            }
        }
    }
};

// Calls `work` with the HashGrid specialised for this number of features.
template <typename T, typename Work>
void specialise(const Text23dLevel* grid, int64_t levels, int64_t features, Work work) {
    switch (features) {
        case 1: return work(HashGrid<T, 1>{grid, levels, features});
        case 2: return work(HashGrid<T, 2>{grid, levels, features});
        case 4: return work(HashGrid<T, 4>{grid, levels, features});
        case 8: return work(HashGrid<T, 8>{grid, levels, features});
        default: return work(HashGrid<T, 0>{grid, levels, features});
    }
}

}  // namespace
}  // namespace text23d

#define TEXT23D_DEFINE(T, suffix)                                                                                      \
    int32_t text23d_hashgrid_forward_##suffix(int64_t n, const T* x, const T* table, const Text23dLevel* grid,         \
                                              int64_t levels, int64_t features, T* out, int32_t threads, void*) {      \
        text23d::specialise<T>(grid, levels, features, [=](auto op) { op.forward(n, x, table, out, threads); });       \
        return 0;                                                                                                      \
    }                                                                                                                  \
    int32_t text23d_hashgrid_backward_table_##suffix(int64_t n, const T* x, const T* grad_out,                         \
                                                     const Text23dLevel* grid, int64_t levels, int64_t features,       \
                                                     T* grad_table, int32_t threads, void*) {                          \
        text23d::specialise<T>(grid, levels, features,                                                                 \
                               [=](auto op) { op.backward_table(n, x, grad_out, grad_table, threads); });              \
        return 0;                                                                                                      \
    }                                                                                                                  \
    int32_t text23d_hashgrid_backward_x_##suffix(int64_t n, const T* x, const T* table, const T* grad_out,             \
                                                 const Text23dLevel* grid, int64_t levels, int64_t features,           \
                                                 T* grad_x, int32_t threads, void*) {                                  \
        text23d::specialise<T>(grid, levels, features,                                                                 \
                               [=](auto op) { op.backward_x(n, x, table, grad_out, grad_x, threads); });               \
        return 0;                                                                                                      \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
