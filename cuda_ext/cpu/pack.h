// As many numbers as a register of this processor holds, and their arithmetic.
//
// Compilers without vector types get packs of one number: slower, and the same results but for the order of sums.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__GNUC__) && (defined(__AVX512F__) || defined(__FMA__))
#include <immintrin.h>
#endif

namespace text23d {

#if defined(__GNUC__) && !defined(TEXT23D_NO_PACKS)

#if defined(__AVX512F__)
constexpr int kPackBytes = 64;
#elif defined(__AVX__)
constexpr int kPackBytes = 32;
#else
constexpr int kPackBytes = 16;
#endif

template <typename T>
struct PackOf {
    typedef T type __attribute__((vector_size(kPackBytes)));
};
template <typename T>
using Pack = typename PackOf<T>::type;
template <typename T>
constexpr int kLanes = kPackBytes / sizeof(T);

#else

template <typename T>
using Pack = T;
template <typename T>
constexpr int kLanes = 1;

#endif

template <typename T>
inline Pack<T> load(const T* from) {
    Pack<T> pack;
    std::memcpy(&pack, from, sizeof(pack));
    return pack;
}

template <typename T>
inline void store(T* to, const Pack<T>& pack) {
    std::memcpy(to, &pack, sizeof(pack));
}

// a b + c: fused where the processor can, which setup.py's flags leave to those who ask for it.
template <typename P>
inline P multiply_add(P a, P b, P c) {
    return a * b + c;
}
#if defined(__GNUC__) && !defined(TEXT23D_NO_PACKS)
#if defined(__AVX512F__)
inline Pack<float> multiply_add(Pack<float> a, Pack<float> b, Pack<float> c) { return _mm512_fmadd_ps(a, b, c); }
inline Pack<double> multiply_add(Pack<double> a, Pack<double> b, Pack<double> c) { return _mm512_fmadd_pd(a, b, c); }
#elif defined(__FMA__)
inline Pack<float> multiply_add(Pack<float> a, Pack<float> b, Pack<float> c) { return _mm256_fmadd_ps(a, b, c); }
inline Pack<double> multiply_add(Pack<double> a, Pack<double> b, Pack<double> c) { return _mm256_fmadd_pd(a, b, c); }
#endif
#endif

template <typename T>
inline T sum(const Pack<T>& pack) {
    T lane[kLanes<T>];
    std::memcpy(lane, &pack, sizeof(pack));
    for (int half = kLanes<T> / 2; half > 0; half /= 2)
        for (int k = 0; k < half; ++k) lane[k] += lane[k + half];
    return lane[0];
}

}  // namespace text23d
