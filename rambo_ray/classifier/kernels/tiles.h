// Products of matrices in bfloat16 with sums in float32, by the tiles of AMX where the CPU has them.
//
// A tile is 16 rows of 64 bytes. TDPBF16PS adds to a 16 x 16 tile of floats the product of 16 rows of 32 numbers
// and a tile that holds 32 rows of 16 numbers as pairs: row k has, side by side, rows 2k and 2k + 1 of a column.
// Elsewhere the same products are computed one by one, for the tests.

#ifndef RAMBO_RAY_TILES_H
#define RAMBO_RAY_TILES_H

#include "vectors.h"

enum { SIDE = 32 };  // of what is computed at once: two tiles by two

INLINE int64_t up(int64_t count) { return (count + SIDE - 1) / SIDE * SIDE; }

// c [32, 32] = the sum over `steps` of a [32, 32] times b [32, 32], or += where add is 1.
//
// a's rows are a_row apart and b's pairs of rows b_row, both in numbers; step i's begin at a + a_at[i] and b + b_at[i].
#if defined(__AMX_BF16__)
#include <immintrin.h>

INLINE void square(int add, int steps, const bfloat16 *a, const int *a_at, int64_t a_row, const bfloat16 *b,
                   const int *b_at, int64_t b_row, float *c, int64_t c_row) {
    if (add) {
        _tile_loadd(0, c, 4 * c_row);
        _tile_loadd(1, c + 16, 4 * c_row);
        _tile_loadd(2, c + 16 * c_row, 4 * c_row);
        _tile_loadd(3, c + 16 * c_row + 16, 4 * c_row);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    for (int i = 0; i < steps; i++) {
        _tile_loadd(4, a + a_at[i], 2 * a_row);
        _tile_loadd(5, a + a_at[i] + 16 * a_row, 2 * a_row);
        _tile_loadd(6, b + b_at[i], 2 * b_row);
        _tile_loadd(7, b + b_at[i] + 32, 2 * b_row);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, c, 4 * c_row);
    _tile_stored(1, c + 16, 4 * c_row);
    _tile_stored(2, c + 16 * c_row, 4 * c_row);
    _tile_stored(3, c + 16 * c_row + 16, 4 * c_row);
}

typedef struct {
    uint8_t palette, start, zero[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} tile_shapes;

// Tiles as square needs them; what others had is theirs again after close_tiles.
INLINE tile_shapes open_tiles(void) {
    tile_shapes before, ours = {.palette = 1};
    _tile_storeconfig(&before);
    for (int i = 0; i < 8; i++) ours.row_bytes[i] = 64, ours.rows[i] = 16;
    _tile_loadconfig(&ours);
    return before;
}
INLINE void close_tiles(const tile_shapes *before) { _tile_loadconfig(before); }

#else

INLINE float wide(bfloat16 value) {
    uint32_t b = (uint32_t)value << 16;
    float f;
    memcpy(&f, &b, 4);
    return f;
}

INLINE void square(int add, int steps, const bfloat16 *a, const int *a_at, int64_t a_row, const bfloat16 *b,
                   const int *b_at, int64_t b_row, float *c, int64_t c_row) {
    for (int row = 0; row < SIDE; row++)
        for (int column = 0; column < SIDE; column++) {
            float sum = add ? c[row * c_row + column] : 0;
            for (int i = 0; i < steps; i++)
                for (int k = 0; k < SIDE; k++)
                    sum += wide(a[a_at[i] + row * a_row + k]) *
                           wide(b[b_at[i] + k / 2 * b_row + 2 * column + k % 2]);
            c[row * c_row + column] = sum;
        }
}

typedef int tile_shapes;
INLINE tile_shapes open_tiles(void) { return 0; }
INLINE void close_tiles(const tile_shapes *before) { (void)before; }
#endif

#endif
