// Vectors of floats as wide as the machine's, and the one matrix product that all kernels share.
//
// GCC's and Clang's vector extensions, so the same text compiles for AVX-512, AVX2, NEON or nothing.

#ifndef RAMBO_RAY_VECTORS_H
#define RAMBO_RAY_VECTORS_H

#include <stdint.h>
#include <string.h>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

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

typedef uint16_t bfloat16;  // the upper half of a float
typedef uint32_t bits __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef uint16_t halves __attribute__((vector_size(2 * LANES), aligned(2), may_alias));

// Rounded to the nearest, of two to the even one.
INLINE bits rounded(vec value) {
    bits b = (bits)value;
    return (b + 0x7fff + (b >> 16 & 1)) >> 16;
}

INLINE void store_rounded(bfloat16 *at, vec value) {
#if defined(__AVX512BF16__)
    *(halves *)at = (halves)_mm512_cvtneps_pbh((__m512)value);
#else
    *(halves *)at = __builtin_convertvector(rounded(value), halves);
#endif
}

// to [rows, columns] of from, rounded.
INLINE void pack(int64_t rows, int64_t columns, const float *from, int64_t from_row, bfloat16 *to, int64_t to_row) {
    for (int64_t i = 0; i < rows; i++)
        for (int64_t at = 0; at < columns; at += LANES)
            store_rounded(to + i * to_row + at, load(from + i * from_row + at));
}

// Two rows as pairs: the second's numbers in the upper halves.
INLINE void store_pairs(bfloat16 *at, vec even, vec odd) {
#if defined(__AVX512BF16__)
    typedef int16_t words __attribute__((vector_size(64)));
    const words in_turn = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23,
                           8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
    __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)odd, (__m512)even);
    *(bits *)at = (bits)_mm512_permutexvar_epi16((__m512i)in_turn, both);
#else
    *(bits *)at = rounded(even) | rounded(odd) << 16;
#endif
}

// The first, and the last, halves of two vectors, element by element in turn.
#if defined(__AVX512F__)
#define FIRST_HALF 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define LAST_HALF 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX__)
#define FIRST_HALF 0, 8, 1, 9, 2, 10, 3, 11
#define LAST_HALF 4, 12, 5, 13, 6, 14, 7, 15
#else
#define FIRST_HALF 0, 4, 1, 5
#define LAST_HALF 2, 6, 3, 7
#endif
#if defined(__clang__)
INLINE vec interleave_first(vec a, vec b) { return __builtin_shufflevector(a, b, FIRST_HALF); }
INLINE vec interleave_last(vec a, vec b) { return __builtin_shufflevector(a, b, LAST_HALF); }
#else
INLINE vec interleave_first(vec a, vec b) { return __builtin_shuffle(a, b, (mask){FIRST_HALF}); }
INLINE vec interleave_last(vec a, vec b) { return __builtin_shuffle(a, b, (mask){LAST_HALF}); }
#endif

// A square of LANES x LANES floats, transposed; rows are from_row and to_row apart.
INLINE void transpose(const float *from, int64_t from_row, float *to, int64_t to_row) {
    vec x[LANES], y[LANES];
    UNROLLED
    for (int i = 0; i < LANES; i++) x[i] = load(from + i * from_row);
    // To interleave the lower half of the rows with the upper one moves a bit of an element's row to its
    // column; as often as there are bits, and the two have changed places.
    UNROLLED
    for (int half = 1; half < LANES; half *= 2) {
        UNROLLED
        for (int i = 0; i < LANES / 2; i++) {
            y[2 * i] = interleave_first(x[i], x[i + LANES / 2]);
            y[2 * i + 1] = interleave_last(x[i], x[i + LANES / 2]);
        }
        UNROLLED
        for (int i = 0; i < LANES; i++) x[i] = y[i];
    }
    UNROLLED
    for (int i = 0; i < LANES; i++) store(to + i * to_row, x[i]);
}

// to [columns, rows] of from [rows, columns], whose sides are multiples of LANES.
INLINE void turn(int rows, int columns, const float *from, int64_t from_row, float *to, int64_t to_row) {
    for (int row = 0; row < rows; row += LANES)
        for (int column = 0; column < columns; column += LANES)
            transpose(from + row * from_row + column, from_row, to + column * to_row + row, to_row);
}

// The i-th of an order, which is the natural one if not given.
INLINE int64_t ith(const int *order, int i) { return order ? order[i] : i; }

// c [rows, wide * LANES] = a [rows, depth] b [depth, wide * LANES], or += where add is 1.
//
// a's element (r, k) lies at a[r * a_row + k * a_step], so a may be transposed; the rows of b and c are b_row
// and c_row apart. The orders say which rows of a and c, and which columns of a and rows of b, are meant.
// rows, wide and add are constants at every call: the sums are registers.
INLINE void product(int rows, int wide, int add, int depth, const float *a, int64_t a_row, int64_t a_step,
                    const float *b, int64_t b_row, float *c, int64_t c_row, const int *row_order,
                    const int *depth_order) {
    vec sum[12][8];
    UNROLLED
    for (int r = 0; r < rows; r++) {
        UNROLLED
        for (int s = 0; s < wide; s++) sum[r][s] = (vec){0};
    }
    for (int k = 0; k < depth; k++) {
        const float *left = a + ith(depth_order, k) * a_step, *right = b + ith(depth_order, k) * b_row;
        vec value[8];
        UNROLLED
        for (int s = 0; s < wide; s++) value[s] = load(right + s * LANES);
        UNROLLED
        for (int r = 0; r < rows; r++) {
            float factor = left[ith(row_order, r) * a_row];
            UNROLLED
            for (int s = 0; s < wide; s++) sum[r][s] += factor * value[s];
        }
    }
    UNROLLED
    for (int r = 0; r < rows; r++) {
        UNROLLED
        for (int s = 0; s < wide; s++) {
            float *at = c + ith(row_order, r) * c_row + s * LANES;
            if (add) sum[r][s] += load(at);
            store(at, sum[r][s]);
        }
    }
}

#endif
