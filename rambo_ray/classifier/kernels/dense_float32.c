// fc1, and its share of Adam. Its weights and moments are 14 MB for images of 28 x 28, more than a core has for
// itself: they are fetched once for the backward pass and the update together.
//
// Letters: n images, F inputs of fc1, in groups of CHANNELS (those of a pooled position), U of its units.

#include "adam.h"

enum { CHANNELS = 64, U = 128, BLOCK = 32, FIVE = 5, FOUR = 4, LINE = 64 };
// BLOCK: inputs whose weights are in the cache together

// Where the first image's inputs from `first` on stand in inputs [F / CHANNELS, n, CHANNELS].
INLINE int64_t place(int64_t n, int64_t first) { return first / CHANNELS * n * CHANNELS + first % CHANNELS; }

// outputs [n, U] = inputs [F / CHANNELS, n, CHANNELS] w [F, U]; work, here and below, is what bfloat16 needs.
void dense_float32(int64_t n, int64_t f, const float *inputs, const float *w, float *outputs, float *work) {
    (void)work;
    memset(outputs, 0, sizeof(float) * n * U);
    for (int64_t first = 0; first < f; first += BLOCK)
        for (int unit = 0; unit < U; unit += WIDE * LANES) {
            const float *a = inputs + place(n, first), *b = w + first * U + unit;
            // Asked for a little at a time while the processor computes, as a block comes in halves of rows,
            // which it does not foresee; to ask for what lies behind the last block does no harm.
            const char *ahead = (const char *)(w + (first + BLOCK) * U + unit * BLOCK);
            int64_t i = 0;
            for (; i + FIVE <= n; i += FIVE, ahead += 32 * LINE) {
                for (int line = 0; line < 32; line++) __builtin_prefetch(ahead + line * LINE);
                product(FIVE, WIDE, 1, BLOCK, a + i * CHANNELS, CHANNELS, 1, b, U, outputs + i * U + unit, U, 0, 0);
            }
            for (; i < n; i++)
                product(1, WIDE, 1, BLOCK, a + i * CHANNELS, CHANNELS, 1, b, U, outputs + i * U + unit, U, 0, 0);
        }
}

// of_inputs = gradient [n, U] w', as inputs stand, and then Adam's step of w [F, U] with its gradient inputs' gradient.
void dense_backward_float32(int64_t n, int64_t f, const float *inputs, const float *gradient, float *of_inputs,
                            float *w, float *m, float *v, const adam_step *step, float *work) {
    (void)work;
    unsigned mode = flush();
    float transposed[U * BLOCK], of_w[FOUR * U];
    for (int64_t first = 0; first < f; first += BLOCK) {
        turn(BLOCK, U, w + first * U, U, transposed, BLOCK);
        for (int at = 0; at < BLOCK; at += 2 * LANES) {
            float *to = of_inputs + place(n, first) + at;
            int64_t i = 0;
            for (; i + FIVE <= n; i += FIVE)
                product(FIVE, 2, 0, U, gradient + i * U, U, 1, transposed + at, BLOCK, to + i * CHANNELS, CHANNELS, 0,
                        0);
            for (; i < n; i++)
                product(1, 2, 0, U, gradient + i * U, U, 1, transposed + at, BLOCK, to + i * CHANNELS, CHANNELS, 0, 0);
        }
        for (int64_t row = 0; row < BLOCK; row += FOUR) {
            for (int unit = 0; unit < U; unit += WIDE * LANES)
                product(FOUR, WIDE, 0, n, inputs + place(n, first) + row, 1, CHANNELS, gradient + unit, U, of_w + unit,
                        U, 0, 0);
            int64_t here = (first + row) * U;
            update(FOUR * U, w + here, of_w, m + here, v + here, *step);
        }
    }
    restore(mode);
}

// How many floats of work they need.
int64_t work_floats_float32(int64_t n) { return 0 * n; }
