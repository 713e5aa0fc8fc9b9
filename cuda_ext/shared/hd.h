// Marks functions that serve on the host and, where nvcc compiles them, on the device.
#pragma once

#if defined(__CUDACC__)
#define TEXT23D_HD __host__ __device__ inline
#else
#define TEXT23D_HD inline
#endif
