// What the CPU library says of itself.
#include "../text23d_native.h"
#include "guard.h"

extern "C" {

int32_t text23d_abi_version(void) { return TEXT23D_ABI_VERSION; }

const char* text23d_error(int32_t code) { return code == 0 ? "none" : code == text23d::kOutOfMemory ? "out of memory" : "unknown"; }
}
