// Emission and absorption along the samples of one ray: the twin of `composite` in reference.py.
#pragma once

#include <cmath>
#include <cstdint>

#include "hd.h"

namespace text23d {

// sums [channels] and opacity of `count` samples: w_i = exp(-sum_{j < i} s_j) (1 - exp(-s_i)).
template <typename T>
TEXT23D_HD void composite_ray(int64_t count, int64_t channels, const T* sigma_dt, const T* values, T* sums,
                              T* opacity) {
    for (int64_t c = 0; c < channels; ++c) sums[c] = T(0);
    T before = T(0);
    for (int64_t i = 0; i < count; ++i) {
        const T weight = std::exp(-before) * -std::expm1(-sigma_dt[i]);
        for (int64_t c = 0; c < channels; ++c) sums[c] += weight * values[i * channels + c];
        before += sigma_dt[i];
    }
    *opacity = -std::expm1(-before);
}

// With g_i = <grad_sums, values_i>: d/ds_i = T_{i+1} g_i - sum_{j > i} w_j g_j + grad_opacity exp(-sum_j s_j).
template <typename T>
TEXT23D_HD void composite_ray_backward(int64_t count, int64_t channels, const T* sigma_dt, const T* values,
                                       const T* grad_sums, T grad_opacity, T* grad_sigma_dt, T* grad_values) {
    T before = T(0);
    for (int64_t i = 0; i < count; ++i) {  // depth before each sample, kept where its gradient will go
        grad_sigma_dt[i] = before;
        before += sigma_dt[i];
    }
    const T through = grad_opacity * std::exp(-before);
    T behind = T(0);  // sum_{j > i} w_j g_j
    for (int64_t i = count - 1; i >= 0; --i) {
        const T transmittance = std::exp(-grad_sigma_dt[i]);
        const T alpha = -std::expm1(-sigma_dt[i]);
        const T weight = transmittance * alpha;
        T g = T(0);
        for (int64_t c = 0; c < channels; ++c) {
            g += grad_sums[c] * values[i * channels + c];
            grad_values[i * channels + c] = weight * grad_sums[c];
        }
        grad_sigma_dt[i] = transmittance * (T(1) - alpha) * g - behind + through;
        behind += weight * g;
    }
}

}  // namespace text23d
