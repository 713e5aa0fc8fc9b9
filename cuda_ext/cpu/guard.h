// Memory that is not to be had becomes a code: no exception may leave a C function, nor a loop of OpenMP's.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

namespace text23d {

constexpr int32_t kOutOfMemory = 1;

// Does pieces of work, by several threads at once, and remembers whether one of them could not have its memory.
class Guard {
  public:
    template <typename Work>
    void operator()(Work work) {
        try {
            work();
        } catch (const std::exception&) {  // std::bad_alloc, and std::length_error of a vector
            failed_ = true;
        }
    }

    int32_t code() const { return failed_ ? kOutOfMemory : 0; }

  private:
    std::atomic<bool> failed_{false};
};

}  // namespace text23d
