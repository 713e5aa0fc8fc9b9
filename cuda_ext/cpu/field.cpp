// The radiance field on the CPU: text23d.kernels.ops.field and its gradient.
//
// Chunks of samples go through encoding, network and activations one after another, a chunk a task; what lies between
// the layers stays in the cache of its processor.
#include <vector>

#include "../shared/field_math.h"
#include "guard.h"
#include "hashgrid.h"
#include "planes.h"

namespace text23d {
namespace {

constexpr int64_t kSamples = 1024;        // of a chunk
constexpr int64_t kPitch = kSamples + 16;  // planes a power of two apart would crowd the same lines of the cache
constexpr int64_t kOut = 4;         // raw density and colour

int64_t chunks_of(int64_t n) { return (n + kSamples - 1) / kSamples; }
int64_t padded(int64_t samples) { return (samples + kStep - 1) / kStep * kStep; }

// `rows` planes of a chunk, kept by each thread from call to call: fresh pages cost more than the arithmetic on them.
template <typename T, int Name>
Planes<T> scratch(int64_t rows) {
    static thread_local std::vector<T> memory;
    if (memory.size() < size_t(rows * kPitch)) memory.resize(rows * kPitch);
    return {memory.data(), kPitch};
}

template <typename T>
struct Network {
    int64_t inputs, hidden;
    const T *w1, *b1, *w2, *b2;  // [hidden][inputs], [hidden], [kOut][hidden], [kOut]

    int64_t size() const { return hidden * (inputs + 1) + kOut * (hidden + 1); }

    void first_layer(Planes<const T> features, Planes<T> h, int64_t samples) const {
        multiply<T>({w1, inputs, 1}, hidden, inputs, b1, features, h, samples);
        for (int64_t j = 0; j < hidden; ++j)
            for (int64_t p = 0; p < samples; ++p) h.row(j)[p] = h.row(j)[p] < T(0) ? T(0) : h.row(j)[p];
    }

    // From the gradient `raw` of what comes out: those of w1, b1, w2, b2, one behind another, and of the features.
    void backward(Planes<const T> features, Planes<const T> h, Planes<const T> raw, Planes<T> grad_h, int64_t samples,
                  T* grads, Planes<T> grad_features) const {
        multiply<T>({w2, 1, hidden}, hidden, kOut, nullptr, raw, grad_h, samples);
        for (int64_t j = 0; j < hidden; ++j)
            for (int64_t p = 0; p < samples; ++p) grad_h.row(j)[p] = h.row(j)[p] > T(0) ? grad_h.row(j)[p] : T(0);
        multiply<T>({w1, 1, inputs}, inputs, hidden, nullptr, grad_h, grad_features, samples);
        correlate<T>(grad_h, hidden, features, inputs, samples, grads);
        add_up<T>(grad_h, hidden, samples, grads += hidden * inputs);
        correlate<T>(raw, kOut, h, hidden, samples, grads += hidden);
        add_up<T>(raw, kOut, samples, grads += kOut * hidden);
    }
};

template <typename T>
void clear_tail(Planes<T> planes, int64_t rows, int64_t count) {
    for (int64_t i = 0; i < rows; ++i) std::fill(planes.row(i) + count, planes.row(i) + padded(count), T(0));
}

// kept: the features, in planes of `stride`, or null where no gradient will be asked for.
template <typename T>
void forward(int64_t n, const T* x, const T* table, const Text23dLevel* grid, int64_t levels, int64_t features,
             const Network<T>& network, const Activation<T>& act, T* density, T* rgb, T* kept, int64_t stride,
             int32_t threads, Guard& guard) {
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1 && n > kSamples)
    for (int64_t chunk = 0; chunk < chunks_of(n); ++chunk) guard([&] {
        const int64_t first = chunk * kSamples, count = std::min(kSamples, n - first), samples = padded(count);
        const Planes<T> encoded = kept ? Planes<T>{kept + first, stride} : scratch<T, 0>(network.inputs);
        const Planes<T> h = scratch<T, 1>(network.hidden), raw = scratch<T, 2>(kOut);
        specialise<T>(grid, levels, features, 1, encoded.stride, [&](auto level) {
            for (int64_t l = 0; l < levels; ++l) level.look_up(x + 3 * first, 0, count, table, l, encoded.first);
        });
        clear_tail(encoded, network.inputs, count);
        network.first_layer(encoded, h, samples);
        multiply<T>({network.w2, network.hidden, 1}, kOut, network.hidden, network.b2, h, raw, samples);
        for (int64_t p = 0; p < count; ++p) density[first + p] = act.density(raw.row(0)[p], x + 3 * (first + p));
        for (int64_t c = 0; c < 3; ++c)
            for (int64_t p = 0; p < count; ++p) rgb[3 * (first + p) + c] = sigmoid(raw.row(1 + c)[p]);
    });
}

// grads: those of the network are added to them in the order of the chunks. grad_kept: planes as `kept`.
template <typename T>
void backward_network(int64_t n, const Network<T>& network, const Activation<T>& act, const T* density, const T* rgb,
                      const T* kept, int64_t stride, const T* grad_density, const T* grad_rgb, T* grads, T* grad_kept,
                      int32_t threads, Guard& guard) {
    std::vector<T> parts(chunks_of(n) * network.size());
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1 && n > kSamples)
    for (int64_t chunk = 0; chunk < chunks_of(n); ++chunk) guard([&] {
        const int64_t first = chunk * kSamples, count = std::min(kSamples, n - first), samples = padded(count);
        const Planes<const T> encoded{kept + first, stride};
        const Planes<T> h = scratch<T, 1>(network.hidden), raw = scratch<T, 2>(kOut);
        const Planes<T> grad_h = scratch<T, 3>(network.hidden);
        network.first_layer(encoded, h, samples);
        for (int64_t p = 0; p < count; ++p)
            raw.row(0)[p] = grad_density[first + p] * act.density_slope(density[first + p]);
        for (int64_t c = 0; c < 3; ++c)
            for (int64_t p = 0; p < count; ++p) {
                const int64_t at = 3 * (first + p) + c;
                raw.row(1 + c)[p] = grad_rgb[at] * act.colour_slope(rgb[at]);
            }
        clear_tail(raw, kOut, count);
        network.backward(encoded, h, raw, grad_h, samples, parts.data() + chunk * network.size(),
                         {grad_kept + first, stride});
    });
    for (int64_t chunk = 0; chunk < chunks_of(n); ++chunk)
        for (int64_t i = 0; i < network.size(); ++i) grads[i] += parts[chunk * network.size() + i];
}

template <typename T>
void backward_table(int64_t n, const T* x, const Text23dLevel* grid, int64_t levels, int64_t features,
                    const T* grad_kept, int64_t stride, T* grad_table, int32_t threads) {
    specialise<T>(grid, levels, features, 1, stride, [=](auto level) {
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1 && n > kSamples)
        for (int64_t l = 0; l < levels; ++l) level.scatter(x, n, grad_kept, l, grad_table);
    });
}

}  // namespace
}  // namespace text23d

#define TEXT23D_DEFINE(T, suffix)                                                                                      \
    int32_t text23d_field_forward_##suffix(int64_t n, const T* x, const T* table, const Text23dLevel* grid,            \
                                           int64_t levels, int64_t features, int64_t hidden, const T* w1, const T* b1, \
                                           const T* w2, const T* b2, double gain, double blob, double radius,          \
                                           T* density, T* rgb, T* kept, int64_t stride, int32_t threads, void*) {      \
        text23d::Guard guard;                                                                                          \
        text23d::forward<T>(n, x, table, grid, levels, features, {levels * features, hidden, w1, b1, w2, b2},          \
                            {T(gain), T(blob), T(radius)}, density, rgb, stride ? kept : nullptr, stride, threads,     \
                            guard);                                                                                    \
        return guard.code();                                                                                           \
    }                                                                                                                  \
    int32_t text23d_field_backward_##suffix(                                                                           \
        int64_t n, const T* x, const Text23dLevel* grid, int64_t levels, int64_t features, int64_t hidden,             \
        const T* w1, const T* b1, const T* w2, double gain, const T* density, const T* rgb, const T* kept,             \
        int64_t stride, const T* grad_density, const T* grad_rgb, T* grad_kept, T* grads, T* grad_table,               \
        int32_t threads, void*) {                                                                                      \
        text23d::Guard guard;                                                                                          \
        guard([&] {                                                                                                    \
            text23d::backward_network<T>(n, {levels * features, hidden, w1, b1, w2, nullptr}, {T(gain), T(0), T(1)},   \
                                         density, rgb, kept, stride, grad_density, grad_rgb, grads, grad_kept,         \
                                         threads, guard);                                                              \
            text23d::backward_table<T>(n, x, grid, levels, features, grad_kept, stride, grad_table, threads);          \
        });                                                                                                            \
        return guard.code();                                                                                           \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
