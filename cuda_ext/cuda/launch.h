// How a kernel is launched: work(i, j) for every i < n and j < rows, in any order, a thread each.
//
// A work is a plain structure of pointers and numbers with that operator. Compiled as C++ instead of CUDA, a loop
// stands in for the launch, last first: so the very same sources are tested where there is no GPU.
#pragma once

#include <cstdint>

#include "../shared/hd.h"

#if defined(__CUDACC__)
#include <cooperative_groups.h>
#include <cooperative_groups/reduce.h>
#include <cuda_runtime.h>
#endif

namespace text23d {

// *at += value, whatever other threads add to it.
template <typename T>
TEXT23D_HD void add_to(T* at, T value) {
#if defined(__CUDA_ARCH__)
    atomicAdd(at, value);
#else
    *at += value;
#endif
}

// The same where all threads add to one place: those of a warp that are here do it together.
template <typename T>
TEXT23D_HD void add_up_to(T* at, T value) {
#if defined(__CUDA_ARCH__)
    const auto here = cooperative_groups::coalesced_threads();
    const T sum = cooperative_groups::reduce(here, value, cooperative_groups::plus<T>());
    if (here.thread_rank() == 0) atomicAdd(at, sum);
#else
    *at += value;
#endif
}

#if defined(__CUDACC__)

constexpr int kThreads = 256;            // of a block
constexpr int64_t kMaxBlocks = 1 << 20;  // beyond them a thread does several i

template <typename Work>
__global__ void __launch_bounds__(kThreads) run(int64_t n, const __grid_constant__ Work work) {
    const int64_t stride = int64_t(gridDim.x) * kThreads;
    for (int64_t i = int64_t(blockIdx.x) * kThreads + threadIdx.x; i < n; i += stride) work(i, blockIdx.y);
}

// Adds the work to the stream. Returns cudaSuccess, which is 0, or why it could not be launched.
template <typename Work>
int32_t for_each(int64_t n, int64_t rows, const Work& work, void* stream) {
    if (n == 0 || rows == 0) return cudaSuccess;
    const int64_t blocks = (n + kThreads - 1) / kThreads;
    const dim3 grid(static_cast<unsigned>(blocks < kMaxBlocks ? blocks : kMaxBlocks), static_cast<unsigned>(rows));
    run<<<grid, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(n, work);
    return cudaGetLastError();
}

#else

template <typename Work>
int32_t for_each(int64_t n, int64_t rows, const Work& work, void*) {
    for (int64_t j = rows - 1; j >= 0; --j)
        for (int64_t i = n - 1; i >= 0; --i) work(i, j);
    return 0;
}

#endif

}  // namespace text23d
