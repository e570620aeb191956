// Vectors of floats as wide as the machine's, and the one matrix product that all kernels share.
//
// GCC's and Clang's vector extensions, so the same text compiles for AVX-512, AVX2, NEON or nothing.

#ifndef RAMBO_RAY_VECTORS_H
#define RAMBO_RAY_VECTORS_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16, WIDE = 4, TALL = 12 };
#elif defined(__AVX__)
enum { LANES = 8, WIDE = 2, TALL = 6 };
#else
enum { LANES = 4, WIDE = 4, TALL = 12 };
#endif
// LANES: floats of a vector. WIDE: vectors side by side in a product of up to six rows, and TALL: rows
// of a product of two vectors' width, with as many sums as there are registers.

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t mask __attribute__((vector_size(4 * LANES)));
typedef int8_t bytes __attribute__((vector_size(LANES), aligned(1), may_alias));

// Before a loop over registers, whose bounds are known when its function is inlined.
#if defined(__clang__)
#define UNROLLED _Pragma("clang loop unroll(full)")
#else
#define UNROLLED _Pragma("GCC unroll 16")
#endif

#define INLINE static inline __attribute__((always_inline))

INLINE vec load(const float *at) { return *(const vec *)at; }
INLINE void store(float *at, vec value) { *(vec *)at = value; }
INLINE vec choose(mask where, vec yes, vec no) { return (vec)((where & (mask)yes) | (~where & (mask)no)); }
INLINE vec relu(vec value) { return choose(value < 0, (vec){0}, value); }  // not a number stays so

// c [rows, wide * LANES] = a [rows, depth] b [depth, wide * LANES], or += where add is 1.
//
// a's element (r, k) lies at a[r * a_row + k * a_step], so a may be transposed; the rows of b and c
// are b_row and c_row apart. rows, wide and add are constants at every call: the accumulators are registers.
INLINE void product(int rows, int wide, int add, int depth, const float *a, int64_t a_row, int64_t a_step,
                    const float *b, int64_t b_row, float *c, int64_t c_row) {
    vec sum[12][8];
UNROLLED
    for (int r = 0; r < rows; r++)
UNROLLED
        for (int s = 0; s < wide; s++) sum[r][s] = (vec){0};
    for (int k = 0; k < depth; k++) {
        vec right[8];
UNROLLED
        for (int s = 0; s < wide; s++) right[s] = load(b + k * b_row + s * LANES);
UNROLLED
        for (int r = 0; r < rows; r++) {
            float left = a[r * a_row + k * a_step];
UNROLLED
            for (int s = 0; s < wide; s++) sum[r][s] += left * right[s];
        }
    }
UNROLLED
    for (int r = 0; r < rows; r++)
UNROLLED
        for (int s = 0; s < wide; s++) {
            float *at = c + r * c_row + s * LANES;
            if (add) sum[r][s] += load(at);
            store(at, sum[r][s]);
        }
}

#endif
