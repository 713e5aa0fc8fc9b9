// The activations of a radiance field and their derivatives: the twin of `head` in reference.py.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "hd.h"

namespace text23d {

// exp(x) for x <= 0, as arithmetic alone, so that compilers can put it into vector units: 2^n e^r with |r| <= ln 2 / 2.
TEXT23D_HD float exp_of_negative(float x) {
    x = x < -87.0f ? -87.0f : x;
    const float rounder = 12582912.0f;  // 1.5 2^23: adding it leaves a whole number in the low bits
    const float shifted = x * 1.44269504f + rounder, n = shifted - rounder;
    const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first of few bits
    const float sum =
        1 + r * (1 + r * (1 / 2.f + r * (1 / 6.f + r * (1 / 24.f + r * (1 / 120.f + r * (1 / 720.f + r / 5040))))));
    uint32_t bits;
    std::memcpy(&bits, &shifted, sizeof(bits));
    bits = (bits << 23) + 0x3f800000u;
    float power;
    std::memcpy(&power, &bits, sizeof(power));
    return sum * power;
}
TEXT23D_HD double exp_of_negative(double x) { return std::exp(x); }

// log(1 + z) for z in [0, 1]: 2 artanh(z / (2 + z)).
TEXT23D_HD float log1p_of_fraction(float z) {
    const float s = z / (2 + z), q = s * s;
    const float series = 1 / 9.f + q * (1 / 11.f + q * (1 / 13.f + q / 15));
    return 2 * s * (1 + q * (1 / 3.f + q * (1 / 5.f + q * (1 / 7.f + q * series))));
}
TEXT23D_HD double log1p_of_fraction(double z) { return std::log1p(z); }

template <typename T>
TEXT23D_HD T softplus(T x) {
    return (x > T(0) ? x : T(0)) + log1p_of_fraction(exp_of_negative(-std::fabs(x)));
}

template <typename T>
TEXT23D_HD T sigmoid(T x) {
    const T e = exp_of_negative(-std::fabs(x));
    return (x >= T(0) ? T(1) : e) / (T(1) + e);
}

// What becomes of the network's numbers. `blob` raises the raw number in the centre and falls to nothing at `radius`.
// The density is gain softplus(.) of it, with gain in 1 / scene unit; or, where beta > 0, that of a signed distance, of
// which the raised number is -gain for each scene unit (VolSDF, Yariv et al. 2021, Eq. 2 and 3).
template <typename T>
struct Activation {
    T gain, blob, radius, beta;

    // At x [3] in the unit cube, which is [-1, 1]^3 of the scene; nothing outside the ball of radius 1.
    TEXT23D_HD T density(T raw, const T* x) const {
        const T a = T(2) * x[0] - T(1), b = T(2) * x[1] - T(1), c = T(2) * x[2] - T(1);
        const T distance = std::sqrt(a * a + b * b + c * c);
        const T raised = raw + blob * (T(1) - distance / radius);
        return (beta > T(0) ? laplace(raised / gain) : gain * softplus(raised)) * (distance < T(1) ? T(1) : T(0));
    }

    // So deep below the surface, in scene units: 1 / beta far inside, half of it on the surface.
    TEXT23D_HD T laplace(T depth) const {
        const T tail = exp_of_negative(-std::fabs(depth) / beta) / T(2);
        return (depth > T(0) ? T(1) - tail : tail) / beta;
    }

    // d density / d raw, from the density itself: 1 - exp(-softplus(y)) = sigmoid(y), and a tail's slope is the tail.
    TEXT23D_HD T density_slope(T density) const {
        if (beta > T(0)) {
            const T rest = T(1) / beta - density;
            return (density < rest ? density : rest) / (beta * gain);
        }
        return gain * (T(1) - exp_of_negative(-density / gain));
    }

    TEXT23D_HD static T colour_slope(T colour) { return colour * (T(1) - colour); }
};

}  // namespace text23d
