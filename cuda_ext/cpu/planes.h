// Products of small matrices with many samples, which lie in planes: number i of sample p at i * stride + p.
//
// A multiple of kStep samples goes through, so planes are padded to that.
#pragma once

#include "pack.h"

namespace text23d {

constexpr int64_t kStep = 64;  // samples: a whole number of packs of any sort
constexpr int kTile = 4;       // rows, or rows and columns, whose sums stay in registers

template <typename T>
struct Planes {
    T* first;
    int64_t stride;

    T* row(int64_t i) const { return first + i * stride; }
    operator Planes<const T>() const { return {first, stride}; }
};

// A matrix [rows][columns], or its transpose where the steps are exchanged.
template <typename T>
struct Matrix {
    const T* first;
    int64_t row, column;

    T at(int64_t i, int64_t j) const { return first[i * row + j * column]; }
};

constexpr int kPacks = 2;  // side by side, so that one sum need not wait for the last

template <int Rows, typename T>
void multiply_tile(const Matrix<T>& w, int64_t row, int64_t columns, const T* bias, Planes<const T> in, Planes<T> out,
                   int64_t p) {
    Pack<T> sums[Rows][kPacks];
    for (int r = 0; r < Rows; ++r)
        for (int k = 0; k < kPacks; ++k) sums[r][k] = Pack<T>{} + (bias ? bias[row + r] : T(0));
    for (int64_t i = 0; i < columns; ++i) {
        Pack<T> value[kPacks];
        for (int k = 0; k < kPacks; ++k) value[k] = load(in.row(i) + p + k * kLanes<T>);
        for (int r = 0; r < Rows; ++r) {
            const Pack<T> weight = Pack<T>{} + w.at(row + r, i);
            for (int k = 0; k < kPacks; ++k) sums[r][k] = multiply_add(weight, value[k], sums[r][k]);
        }
    }
    for (int r = 0; r < Rows; ++r)
        for (int k = 0; k < kPacks; ++k) store(out.row(row + r) + p + k * kLanes<T>, sums[r][k]);
}

// out [rows][samples] = w [rows][columns] in [columns][samples] + bias [rows], which may be null.
template <typename T>
void multiply(const Matrix<T>& w, int64_t rows, int64_t columns, const T* bias, Planes<const T> in, Planes<T> out,
              int64_t samples) {
    for (int64_t p = 0; p < samples; p += kPacks * kLanes<T>) {
        int64_t row = 0;
        for (; row + kTile <= rows; row += kTile) multiply_tile<kTile>(w, row, columns, bias, in, out, p);
        for (; row < rows; ++row) multiply_tile<1>(w, row, columns, bias, in, out, p);
    }
}

template <int Rows, int Columns, typename T>
void correlate_tile(Planes<const T> a, Planes<const T> b, int64_t i, int64_t j, int64_t samples, T* out,
                    int64_t columns) {
    Pack<T> sums[Rows][Columns] = {};
    for (int64_t p = 0; p < samples; p += kLanes<T>) {
        Pack<T> left[Rows];
        for (int r = 0; r < Rows; ++r) left[r] = load(a.row(i + r) + p);
        for (int c = 0; c < Columns; ++c) {
            const Pack<T> right = load(b.row(j + c) + p);
            for (int r = 0; r < Rows; ++r) sums[r][c] = multiply_add(left[r], right, sums[r][c]);
        }
    }
    for (int r = 0; r < Rows; ++r)
        for (int c = 0; c < Columns; ++c) out[(i + r) * columns + j + c] = sum<T>(sums[r][c]);
}

template <int Rows, typename T>
void correlate_rows(Planes<const T> a, Planes<const T> b, int64_t i, int64_t columns, int64_t samples, T* out) {
    int64_t j = 0;
    for (; j + kTile <= columns; j += kTile) correlate_tile<Rows, kTile>(a, b, i, j, samples, out, columns);
    for (; j < columns; ++j) correlate_tile<Rows, 1>(a, b, i, j, samples, out, columns);
}

// out [rows][columns]: the sums over the samples of a [rows][samples] times b [columns][samples].
template <typename T>
void correlate(Planes<const T> a, int64_t rows, Planes<const T> b, int64_t columns, int64_t samples, T* out) {
    int64_t i = 0;
    for (; i + kTile <= rows; i += kTile) correlate_rows<kTile>(a, b, i, columns, samples, out);
    for (; i < rows; ++i) correlate_rows<1>(a, b, i, columns, samples, out);
}

// out [rows]: the sums over the samples of a [rows][samples].
template <typename T>
void add_up(Planes<const T> a, int64_t rows, int64_t samples, T* out) {
    for (int64_t i = 0; i < rows; ++i) {
        Pack<T> total = {};
        for (int64_t p = 0; p < samples; p += kLanes<T>) total += load(a.row(i) + p);
        out[i] = sum<T>(total);
    }
}

}  // namespace text23d
