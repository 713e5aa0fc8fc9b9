// The radiance field on CUDA: text23d.kernels.ops.field and its gradient.
//
// The features are encoded into planes first, where neighbouring threads find those of neighbouring samples side by
// side; then a thread takes one sample through the network, kTile hidden units at a time.
#include "../shared/field_math.h"
#include "hashgrid.h"

namespace text23d {
namespace {

constexpr int kTile = 8;
constexpr int kOut = 4;  // raw density and colour

template <typename T>
struct Network {
    int64_t inputs, hidden;
    const T *w1, *b1, *w2;  // [hidden][inputs], [hidden], [kOut][hidden]

    // Hidden units [first, first + count) of the sample whose features lie `stride` apart.
    TEXT23D_HD void first_layer(const T* features, int64_t stride, int64_t first, int64_t count, T* h) const {
        for (int64_t t = 0; t < count; ++t) h[t] = b1[first + t];
        for (int64_t i = 0; i < inputs; ++i)
            for (int64_t t = 0; t < count; ++t) h[t] += w1[(first + t) * inputs + i] * features[i * stride];
        for (int64_t t = 0; t < count; ++t) h[t] = h[t] < T(0) ? T(0) : h[t];
    }

    TEXT23D_HD int64_t tile(int64_t first) const { return hidden - first < kTile ? hidden - first : kTile; }
};

template <typename T>
struct Forward {
    Network<T> network;
    Activation<T> act;
    const T *b2, *x, *kept;
    int64_t stride;
    T *density, *rgb;

    TEXT23D_HD void operator()(int64_t p, int64_t) const {
        T raw[kOut], h[kTile];
        for (int k = 0; k < kOut; ++k) raw[k] = b2[k];
        for (int64_t j = 0; j < network.hidden; j += kTile) {
            const int64_t count = network.tile(j);
            network.first_layer(kept + p, stride, j, count, h);
            for (int k = 0; k < kOut; ++k)
                for (int64_t t = 0; t < count; ++t) raw[k] += network.w2[k * network.hidden + j + t] * h[t];
        }
        density[p] = act.density(raw[0], x + 3 * p);
        for (int c = 0; c < 3; ++c) rgb[3 * p + c] = sigmoid(raw[1 + c]);
    }
};

template <typename T>
struct Backward {
    Network<T> network;
    Activation<T> act;
    const T *density, *rgb, *kept;
    int64_t stride;
    const T *grad_density, *grad_rgb;
    T *grad_kept, *grads;  // grads: of w1, b1, w2, b2, one behind another

    TEXT23D_HD void operator()(int64_t p, int64_t) const {
        const int64_t inputs = network.inputs, hidden = network.hidden;
        T* grad_b1 = grads + hidden * inputs;
        T *grad_w2 = grad_b1 + hidden, *grad_b2 = grad_w2 + kOut * hidden;
        T raw[kOut], h[kTile], grad_h[kTile];
        raw[0] = grad_density[p] * act.density_slope(density[p]);
        for (int c = 0; c < 3; ++c) raw[1 + c] = grad_rgb[3 * p + c] * act.colour_slope(rgb[3 * p + c]);
        for (int k = 0; k < kOut; ++k) add_up_to(grad_b2 + k, raw[k]);
        for (int64_t i = 0; i < inputs; ++i) grad_kept[i * stride + p] = T(0);
        for (int64_t j = 0; j < hidden; j += kTile) {
            const int64_t count = network.tile(j);
            network.first_layer(kept + p, stride, j, count, h);
            for (int64_t t = 0; t < count; ++t) {
                T sum = T(0);
                for (int k = 0; k < kOut; ++k) {
                    sum += network.w2[k * hidden + j + t] * raw[k];
                    add_up_to(grad_w2 + k * hidden + j + t, raw[k] * h[t]);
                }
                grad_h[t] = h[t] > T(0) ? sum : T(0);
                add_up_to(grad_b1 + j + t, grad_h[t]);
            }
            for (int64_t i = 0; i < inputs; ++i) {
                T sum = grad_kept[i * stride + p];
                for (int64_t t = 0; t < count; ++t) {
                    sum += network.w1[(j + t) * inputs + i] * grad_h[t];
                    add_up_to(grads + (j + t) * inputs + i, grad_h[t] * kept[i * stride + p]);
                }
                grad_kept[i * stride + p] = sum;
            }
        }
    }
};

}  // namespace
}  // namespace text23d

#define TEXT23D_DEFINE(T, suffix)                                                                                      \
    int32_t text23d_field_forward_##suffix(int64_t n, const T* x, const T* table, const Text23dLevel* grid,            \
                                           int64_t levels, int64_t features, int64_t hidden, const T* w1, const T* b1, \
                                           const T* w2, const T* b2, double gain, double blob, double radius,          \
                                           double beta, T* density, T* rgb, T* kept, int64_t stride, int32_t,          \
                                           void* stream) {                                                             \
        const text23d::Encode<T> encode{{grid, levels, features, 1, stride}, x, table, kept};                          \
        const text23d::Forward<T> work{                                                                                \
            {levels * features, hidden, w1, b1, w2}, {T(gain), T(blob), T(radius), T(beta)}, b2, x, kept, stride,      \
            density, rgb};                                                                                             \
        const int32_t code = text23d::for_each(n, levels, encode, stream);                                             \
        return code ? code : text23d::for_each(n, 1, work, stream);                                                    \
    }                                                                                                                  \
    int32_t text23d_field_backward_##suffix(                                                                           \
        int64_t n, const T* x, const Text23dLevel* grid, int64_t levels, int64_t features, int64_t hidden,             \
        const T* w1, const T* b1, const T* w2, double gain, double beta, const T* density, const T* rgb,               \
        const T* kept, int64_t stride, const T* grad_density, const T* grad_rgb, T* grad_kept, T* grads,               \
        T* grad_table, int32_t, void* stream) {                                                                        \
        const text23d::Backward<T> work{                                                                               \
            {levels * features, hidden, w1, b1, w2}, {T(gain), T(0), T(1), T(beta)}, density, rgb, kept, stride,       \
            grad_density, grad_rgb, grad_kept, grads};                                                                 \
        const text23d::Scatter<T> scatter{{grid, levels, features, 1, stride}, x, grad_kept, grad_table};              \
        const int32_t code = text23d::for_each(n, 1, work, stream);                                                    \
        return code ? code : text23d::for_each(n, levels, scatter, stream);                                            \
    }

extern "C" {
TEXT23D_DEFINE(float, f32)
TEXT23D_DEFINE(double, f64)
}
