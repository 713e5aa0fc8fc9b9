// The radiance field on the CPU: text23d.kernels.ops.field and its gradient, a chunk of samples a task.
#include "field.h"

#include "guard.h"

namespace text23d {

template <typename T>
void Field<T>::ask(const T* x, int64_t count, Planes<T> encoded, T* density, T* rgb) const {
    const int64_t samples = padded(count);
    const Planes<T> h = scratch<T, 1>(network.hidden), raw = scratch<T, 2>(kOut);
    specialise<T>(grid, levels, features, 1, encoded.stride, [&](auto level) {
        for (int64_t l = 0; l < levels; ++l) level.look_up(x, 0, count, table, l, encoded.first);
    });
    clear_tail(encoded, network.inputs, count);
    network.first_layer(encoded, h, samples);
    multiply<T>({network.w2, network.hidden, 1}, kOut, network.hidden, network.b2, h, raw, samples);
    for (int64_t p = 0; p < count; ++p) density[p] = act.density(raw.row(0)[p], x + 3 * p);
    for (int64_t c = 0; c < 3; ++c)
        for (int64_t p = 0; p < count; ++p) rgb[3 * p + c] = sigmoid(raw.row(1 + c)[p]);
}

template struct Field<float>;
template struct Field<double>;

namespace {

// kept: the features, in planes of `stride`, or null where no gradient will be asked for.
template <typename T>
void forward(int64_t n, const T* x, const Field<T>& field, T* density, T* rgb, T* kept, int64_t stride,
             int32_t threads, Guard& guard) {
#pragma omp parallel for num_threads(threads) schedule(dynamic) if (threads > 1 && n > kSamples)
    for (int64_t chunk = 0; chunk < chunks_of(n); ++chunk) guard([&] {
        const int64_t first = chunk * kSamples, count = std::min(kSamples, n - first);
        const Planes<T> encoded = kept ? Planes<T>{kept + first, stride} : scratch<T, 0>(field.network.inputs);
        field.ask(x + 3 * first, count, encoded, density + first, rgb + 3 * first);
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
                                           double beta, T* density, T* rgb, T* kept, int64_t stride,                   \
                                           int32_t threads, void*) {                                                   \
        text23d::Guard guard;                                                                                          \
        const text23d::Field<T> field{grid, levels, features, table, {levels * features, hidden, w1, b1, w2, b2},      \
                                      {T(gain), T(blob), T(radius), T(beta)}};                                         \
        text23d::forward<T>(n, x, field, density, rgb, stride ? kept : nullptr, stride, threads, guard);               \
        return guard.code();                                                                                           \
    }                                                                                                                  \
    int32_t text23d_field_backward_##suffix(                                                                           \
        int64_t n, const T* x, const Text23dLevel* grid, int64_t levels, int64_t features, int64_t hidden,             \
        const T* w1, const T* b1, const T* w2, double gain, double beta, const T* density, const T* rgb,               \
        const T* kept, int64_t stride, const T* grad_density, const T* grad_rgb, T* grad_kept, T* grads,               \
        T* grad_table, int32_t threads, void*) {                                                                       \
        text23d::Guard guard;                                                                                          \
        guard([&] {                                                                                                    \
            text23d::backward_network<T>(n, {levels * features, hidden, w1, b1, w2, nullptr},                          \
                                         {T(gain), T(0), T(1), T(beta)}, density, rgb, kept, stride, grad_density,     \
                                         grad_rgb, grads, grad_kept, threads, guard);                                  \
            text23d::backward_table<T>(n, x, grid, levels, features, grad_kept, stride, grad_table, threads);          \
        });                                                                                                            \
        return guard.code();                                                                                           \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
