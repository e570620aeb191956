// What dense_float32.c does, with fc1's products in bfloat16 and their sums in float32, for CPUs with AMX. Weights,
// moments and Adam's step stay float32; rounded are inputs, weights and gradients where they are multiplied.
//
// Letters: n images, R of them rounded up to SIDE, F inputs of fc1 in groups of CHANNELS, U of its units.

#include "adam.h"
#include "tiles.h"

enum { CHANNELS = 64, U = 128, HALVES = CHANNELS / SIDE, QUARTERS = U / SIDE };

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

// to [R, U] of from [n, U], rounded, in pairs of rows.
static void pack_pairs(int64_t n, const float *from, bfloat16 *to) {
    for (int64_t i = 0; i < up(n); i += 2, from += 2 * U, to += 2 * U)
        for (int unit = 0; unit < U; unit += LANES)
            store_pairs(to + 2 * unit, i < n ? load(from + unit) : (vec){0},
                        i + 1 < n ? load(from + U + unit) : (vec){0});
}

typedef struct {
    bfloat16 *by_images, *by_units;  // the gradient in pairs, [R / 2, U, 2] and [U / 2, R, 2]
    bfloat16 *turned;                // some inputs of all images [SIDE, R]
    float *sums;                     // outputs [R, U]
} scratch;

// How many floats both passes work in.
int64_t work_floats_bfloat16(int64_t n) { return up(n) * (U + SIDE / 2); }

static scratch cut(int64_t n, float *floats) {
    int64_t r = up(n);
    scratch k = {.by_images = (bfloat16 *)floats, .sums = floats};  // of the one pass and of the other
    k.by_units = k.by_images + r * U;
    k.turned = k.by_units + r * U;
    return k;
}

void dense_bfloat16(int64_t n, int64_t f, const float *inputs, const float *w, float *outputs, float *work) {
    tile_shapes before = open_tiles();
    scratch k = cut(n, work);
    bfloat16 rows[SIDE * CHANNELS] = {0}, pairs[CHANNELS * U];
    const int a_at[HALVES] = {0, SIDE}, b_at[HALVES] = {0, SIDE * U};
    for (int64_t first = 0; first < f; first += CHANNELS, inputs += n * CHANNELS, w += CHANNELS * U) {
        pack_pairs(CHANNELS, w, pairs);
        for (int64_t i = 0; i < n; i += SIDE) {
            pack(least(n - i, SIDE), CHANNELS, inputs + i * CHANNELS, CHANNELS, rows, CHANNELS);
            for (int unit = 0; unit < U; unit += SIDE)
                square(first > 0, HALVES, rows, a_at, CHANNELS, pairs + 2 * unit, b_at, 2 * U, k.sums + i * U + unit,
                       U);
        }
    }
    memcpy(outputs, k.sums, sizeof(float) * n * U);
    close_tiles(&before);
}

void dense_backward_bfloat16(int64_t n, int64_t f, const float *inputs, const float *gradient, float *of_inputs,
                             float *w, float *m, float *v, const adam_step *step, float *work) {
    unsigned mode = flush();
    tile_shapes before = open_tiles();
    scratch k = cut(n, work);
    int64_t r = up(n);
    bfloat16 rounded[SIDE * U];
    float of_w[SIDE * U], part[SIDE * SIDE], turned[SIDE * SIDE];
    pack_pairs(n, gradient, k.by_images);
    int a_at[QUARTERS], b_at[QUARTERS];
    for (int i = 0; i < QUARTERS; i++) a_at[i] = i * SIDE, b_at[i] = i * SIDE * r;
    for (int64_t i = 0; i < r; i += SIDE) {
        memset(rounded, 0, sizeof rounded);
        pack(least(n - i, SIDE), U, gradient + i * U, U, rounded, U);
        turn(SIDE, U / 2, (float *)rounded, U / 2, (float *)k.by_units + i, r);  // pairs as they are
    }
    memset(part, 0, sizeof part);
    for (int64_t first = 0; first < f; first += SIDE) {
        int64_t here = first / CHANNELS * n * CHANNELS + first % CHANNELS;
        pack(SIDE, U, w + first * U, U, rounded, U);
        for (int64_t i = 0; i < n; i += SIDE) {
            int64_t many = least(n - i, SIDE);
            const float *from = inputs + here + i * CHANNELS;
            float *to = of_inputs + here + i * CHANNELS;
            square(0, QUARTERS, rounded, a_at, U, k.by_units + 2 * i, b_at, 2 * r, part, SIDE);
            turn(SIDE, SIDE, part, SIDE, turned, SIDE);
            for (int64_t row = 0; row < many; row++)
                for (int at = 0; at < SIDE; at += LANES) store(to + row * CHANNELS + at, load(turned + row * SIDE + at));
            for (int64_t row = 0; row < SIDE; row++)
                for (int at = 0; at < SIDE; at += LANES)
                    store(part + row * SIDE + at, row < many ? load(from + row * CHANNELS + at) : (vec){0});
            turn(SIDE, SIDE, part, SIDE, turned, SIDE);
            pack(SIDE, SIDE, turned, SIDE, k.turned + i, r);
        }
        for (int unit = 0; unit < U; unit += SIDE)
            for (int64_t i = 0; i < n; i += SIDE) {
                const int columns = i, rows = i * U;
                square(i > 0, 1, k.turned, &columns, r, k.by_images + 2 * unit, &rows, 2 * U, of_w + unit, U);
            }
        update(SIDE * U, w + first * U, of_w, m + first * U, v + first * U, *step);
    }
    close_tiles(&before);
    restore(mode);
}
