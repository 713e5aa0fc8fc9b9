// The radiance field on the CPU: encoding, network and activations of a chunk of samples.
//
// Chunks go through them one after another; what lies between the layers stays in the cache of its processor.
#pragma once

#include <vector>

#include "../shared/field_math.h"
#include "hashgrid.h"
#include "planes.h"

namespace text23d {

constexpr int64_t kSamples = 1024;        // of a chunk
constexpr int64_t kPitch = kSamples + 16;  // planes a power of two apart would crowd the same lines of the cache
constexpr int64_t kOut = 4;         // raw density and colour

inline int64_t chunks_of(int64_t n) { return (n + kSamples - 1) / kSamples; }
inline int64_t padded(int64_t samples) { return (samples + kStep - 1) / kStep * kStep; }

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

template <typename T>
struct Field {
    const Text23dLevel* grid;
    int64_t levels, features;
    const T* table;
    Network<T> network;
    Activation<T> act;

    // Density [count] and colour [count][3] at x [count][3], at most kSamples; their features go to planes `encoded`.
    void ask(const T* x, int64_t count, Planes<T> encoded, T* density, T* rgb) const;  // in field.cpp
};

}  // namespace text23d
