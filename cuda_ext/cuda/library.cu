// What the CUDA library says of itself.
#include "../text23d_native.h"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#endif

extern "C" {

int32_t text23d_abi_version(void) { return TEXT23D_ABI_VERSION; }

const char* text23d_error(int32_t code) {
#if defined(__CUDACC__)
    return cudaGetErrorString(static_cast<cudaError_t>(code));
#else
    return code == 0 ? "none" : "unknown";
#endif
}
}
