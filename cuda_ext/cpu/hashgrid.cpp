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

template <typename T>
struct Corners {
    uint32_t entry[8][kBlock];  // corner c = 4 di + 2 dj + dk
    T weight[8][kBlock];
    T fraction[3][kBlock];
};

template <typename T, bool Dense>
void find_corners(const T* x, int n, const Text23dLevel& level, Corners<T>& out) {
    const uint32_t cells = static_cast<uint32_t>(level.cells);
    const uint32_t mask = static_cast<uint32_t>(level.size - 1);
    for (int p = 0; p < n; ++p) {
        const Place<T> a = locate(x[3 * p], cells), b = locate(x[3 * p + 1], cells), c = locate(x[3 * p + 2], cells);
        out.fraction[0][p] = a.fraction;
        out.fraction[1][p] = b.fraction;
        out.fraction[2][p] = c.fraction;
        for (uint32_t corner = 0; corner < 8; ++corner) {
            const uint32_t di = corner >> 2, dj = (corner >> 1) & 1, dk = corner & 1;
            const T u = di ? a.fraction : T(1) - a.fraction;
            const T v = dj ? b.fraction : T(1) - b.fraction;
            const T w = dk ? c.fraction : T(1) - c.fraction;
            out.weight[corner][p] = u * v * w;
            out.entry[corner][p] = entry_of<Dense>(a.cell + di, b.cell + dj, c.cell + dk, cells, mask);
        }
    }
}

template <typename T>
void find_corners(const T* x, int n, const Text23dLevel& level, Corners<T>& out) {
    level.dense ? find_corners<T, true>(x, n, level, out) : find_corners<T, false>(x, n, level, out);
}

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
        Corners<T> at;
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
        Corners<T> at;
        for (int64_t start = 0; start < n; start += kBlock) {
            const int count = static_cast<int>(std::min<int64_t>(kBlock, n - start));
            find_corners(x + 3 * start, count, grid[l], at);
            for (int p = 0; p < count; ++p) {
                const T* grad = grad_out + (start + p) * stride() + l * width();
                for (int c = 0; c < 8; ++c) {
                    T* row = rows + int64_t(at.entry[c][p]) * width();
                    for (int64_t f = 0; f < width(); ++f) row[f] += at.weight[c][p] * grad[f];
                }
            }
        }
    }

    // d weight / d x_a is +-N_l times the product of the other two axes' weights.
    void differentiate(const T* x, int64_t first, int64_t last, const T* table, const T* grad_out, int32_t l,
                       T* grad_x) const {
        const T* rows = table + grid[l].offset * width();
        const T cells = T(grid[l].cells);
        Corners<T> at;
        for (int64_t start = first; start < last; start += kBlock) {
            const int count = static_cast<int>(std::min<int64_t>(kBlock, last - start));
            find_corners(x + 3 * start, count, grid[l], at);
            for (int p = 0; p < count; ++p) {
                const T* grad = grad_out + (start + p) * stride() + l * width();
                const T u = at.fraction[0][p], v = at.fraction[1][p], w = at.fraction[2][p];
                T slope[3] = {};
                for (int c = 0; c < 8; ++c) {
                    const T* row = rows + int64_t(at.entry[c][p]) * width();
                    T dot = T(0);
                    for (int64_t f = 0; f < width(); ++f) dot += grad[f] * row[f];
                    const T a = c & 4 ? u : T(1) - u, b = c & 2 ? v : T(1) - v, d = c & 1 ? w : T(1) - w;
                    slope[0] += (c & 4 ? dot : -dot) * b * d;
                    slope[1] += (c & 2 ? dot : -dot) * a * d;
                    slope[2] += (c & 1 ? dot : -dot) * a * b;
                }
                for (int axis = 0; axis < 3; ++axis) grad_x[3 * (start + p) + axis] += cells * slope[axis];
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
    void text23d_hashgrid_forward_##suffix(int64_t n, const T* x, const T* table, const Text23dLevel* grid,            \
                                           int64_t levels, int64_t features, T* out, int32_t threads) {                \
        text23d::specialise<T>(grid, levels, features, [=](auto op) { op.forward(n, x, table, out, threads); });       \
    }                                                                                                                  \
    void text23d_hashgrid_backward_table_##suffix(int64_t n, const T* x, const T* grad_out, const Text23dLevel* grid,  \
                                                  int64_t levels, int64_t features, T* grad_table, int32_t threads) {  \
        text23d::specialise<T>(grid, levels, features,                                                                 \
                               [=](auto op) { op.backward_table(n, x, grad_out, grad_table, threads); });              \
    }                                                                                                                  \
    void text23d_hashgrid_backward_x_##suffix(int64_t n, const T* x, const T* table, const T* grad_out,                \
                                              const Text23dLevel* grid, int64_t levels, int64_t features, T* grad_x,   \
                                              int32_t threads) {                                                       \
        text23d::specialise<T>(grid, levels, features,                                                                 \
                               [=](auto op) { op.backward_x(n, x, table, grad_out, grad_x, threads); });               \
    }

extern "C" {

int32_t text23d_abi_version(void) { return TEXT23D_ABI_VERSION; }

TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
