/* The whole interface between text23d and its compiled kernels: plain C, no Python and no torch.
 *
 * Two libraries export it: one computes on the CPU, the other on a CUDA device. Every pointer is to contiguous memory
 * of the library's device, except for `grid`, which is always on the host; a suffix f32 or f64 names the type of the
 * real numbers. The caller has checked the shapes and allocates all results.
 *
 * threads   CPU: at most so many are used; no result depends on their number. CUDA: ignored.
 * stream    CUDA: the cudaStream_t of the current device to which the work is added; the call does not wait for it.
 *           CPU: ignored.
 * Each operation returns 0, or a code that text23d_error puts into words.
 *
 * The operations are defined in words in text23d/kernels/ops.py, and in torch in text23d/kernels/reference.py.
 */
#ifndef TEXT23D_NATIVE_H
#define TEXT23D_NATIVE_H

#include <stdint.h>

#if defined(_WIN32)
#define TEXT23D_EXPORT __declspec(dllexport)
#else
#define TEXT23D_EXPORT __attribute__((visibility("default")))
#endif

/* Raised with every change of this file, together with ABI_VERSION in text23d/kernels/backend.py. */
#define TEXT23D_ABI_VERSION 5
#define TEXT23D_MAX_LEVELS 64

#ifdef __cplusplus
extern "C" {
#endif

/* One level of a hash grid: cells per axis, its first entry and number of entries in the table, 1 if stored densely. */
typedef struct {
    int64_t cells, offset, size, dense;
} Text23dLevel;

TEXT23D_EXPORT int32_t text23d_abi_version(void);
TEXT23D_EXPORT const char* text23d_error(int32_t code);

#define TEXT23D_DECLARE(T, suffix)                                                                                     \
    /* x [n][3], table [entries][features] -> out [n][levels * features]; at most TEXT23D_MAX_LEVELS levels */         \
    TEXT23D_EXPORT int32_t text23d_hashgrid_forward_##suffix(                                                          \
        int64_t n, const T* x, const T* table, const Text23dLevel* grid, int64_t levels, int64_t features, T* out,     \
        int32_t threads, void* stream);                                                                                \
    /* grad_out as out -> grad_table as table, zero on entry. CPU: one thread owns a level, so the order of summation, \
       and with it every bit of the result, is fixed; CUDA: atomic additions, in any order */                          \
    TEXT23D_EXPORT int32_t text23d_hashgrid_backward_table_##suffix(                                                   \
        int64_t n, const T* x, const T* grad_out, const Text23dLevel* grid, int64_t levels, int64_t features,          \
        T* grad_table, int32_t threads, void* stream);                                                                 \
    /* grad_out as out -> grad_x as x */                                                                               \
    TEXT23D_EXPORT int32_t text23d_hashgrid_backward_x_##suffix(                                                       \
        int64_t n, const T* x, const T* table, const T* grad_out, const Text23dLevel* grid, int64_t levels,            \
        int64_t features, T* grad_x, int32_t threads, void* stream);                                                   \
    /* x, table, grid as above; network w1 [hidden][levels * features], b1 [hidden], w2 [4][hidden], b2 [4] ->         \
       density [n], rgb [n][3], and kept [levels * features][stride]: the features; stride is n or more and a multiple \
       of 64, or on the CPU 0, where they are not wanted */                                                            \
    TEXT23D_EXPORT int32_t text23d_field_forward_##suffix(                                                             \
        int64_t n, const T* x, const T* table, const Text23dLevel* grid, int64_t levels, int64_t features,             \
        int64_t hidden, const T* w1, const T* b1, const T* w2, const T* b2, double gain, double blob, double radius,   \
        double beta, T* density, T* rgb, T* kept, int64_t stride, int32_t threads, void* stream);                      \
    /* what came out, and gradients as density and rgb -> grad_kept as kept; grads [hidden * levels * features +       \
       hidden + 4 * hidden + 4]: those of w1, b1, w2, b2; grad_table as table, zero on entry, as the grads are */      \
    TEXT23D_EXPORT int32_t text23d_field_backward_##suffix(                                                            \
        int64_t n, const T* x, const Text23dLevel* grid, int64_t levels, int64_t features, int64_t hidden,             \
        const T* w1, const T* b1, const T* w2, double gain, double beta, const T* density, const T* rgb,               \
        const T* kept, int64_t stride, const T* grad_density, const T* grad_rgb, T* grad_kept, T* grads,               \
        T* grad_table, int32_t threads, void* stream);                                                                 \
    /* rays [rays][3], occupancy [cells]^3, jitter [rays] -> counts [rays] */                                          \
    TEXT23D_EXPORT int32_t text23d_march_count_##suffix(                                                               \
        int64_t rays, const T* origins, const T* directions, const uint8_t* occupancy, int64_t cells, const T* jitter, \
        double dt, double near_t, int64_t max_steps, int64_t* counts, int32_t threads, void* stream);                  \
    /* the same, with the running sum of counts, offsets [rays + 1] -> ray, t, step [offsets[rays]] */                 \
    TEXT23D_EXPORT int32_t text23d_march_fill_##suffix(                                                                \
        int64_t rays, const T* origins, const T* directions, const uint8_t* occupancy, int64_t cells, const T* jitter, \
        double dt, double near_t, int64_t max_steps, const int64_t* offsets, int64_t* ray, T* t, int64_t* step,        \
        int32_t threads, void* stream);                                                                                \
    /* sigma_dt [m], values [m][channels], offsets [rays + 1] -> sums [rays][channels], opacity [rays] */              \
    TEXT23D_EXPORT int32_t text23d_composite_forward_##suffix(                                                         \
        int64_t rays, int64_t channels, const T* sigma_dt, const T* values, const int64_t* offsets, T* sums,           \
        T* opacity, int32_t threads, void* stream);                                                                    \
    /* gradients of the two results -> grad_sigma_dt [m], grad_values [m][channels] */                                 \
    TEXT23D_EXPORT int32_t text23d_composite_backward_##suffix(                                                        \
        int64_t rays, int64_t channels, const T* sigma_dt, const T* values, const int64_t* offsets,                    \
        const T* grad_sums, const T* grad_opacity, T* grad_sigma_dt, T* grad_values, int32_t threads, void* stream);

TEXT23D_DECLARE(float, f32)
TEXT23D_DECLARE(double, f64)

#undef TEXT23D_DECLARE

/* CPU only. The samples of march from near_t 0, field and composite in one: rays, occupancy and jitter as there, table,
   grid and network as there -> colour [rays][3], opacity [rays], of each ray's samples until its transmittance has
   fallen below `least` */
#define TEXT23D_DECLARE(T, suffix)                                                                                     \
    TEXT23D_EXPORT int32_t text23d_render_##suffix(                                                                    \
        int64_t rays, const T* origins, const T* directions, const uint8_t* occupancy, int64_t cells, const T* jitter, \
        double dt, int64_t max_steps, const T* table, const Text23dLevel* grid, int64_t levels, int64_t features,      \
        int64_t hidden, const T* w1, const T* b1, const T* w2, const T* b2, double gain, double blob, double radius,   \
        double beta, double least, T* colour, T* opacity, int32_t threads, void* stream);

TEXT23D_DECLARE(float, f32)
TEXT23D_DECLARE(double, f64)

#undef TEXT23D_DECLARE

#ifdef __cplusplus
}
#endif

#endif
