// conv1 and ReLU of one image, and the gradient of conv1's weights.
//
// Letters: C channels, H x W pixels; 32 units of conv1.

#ifndef RAMBO_RAY_FIRST_LAYER_H
#define RAMBO_RAY_FIRST_LAYER_H

#include "vectors.h"

enum { FIRST = 32, SIX = 6 };  // units, and pixels at once

typedef struct {
    int64_t channels, height, width;
    int64_t map_width;  // floats between rows of what conv1 gives are map_width 32
} image;

INLINE void some_pixels(int pixels, int as_bfloat16, const image *s, const float *x, const float *w, void *map,
                        int64_t first) {
    enum { V = FIRST / LANES };
    vec sum[SIX][V];
    const float *bias = w + 9 * s->channels * FIRST;
    UNROLLED
    for (int i = 0; i < pixels; i++)
        UNROLLED
        for (int v = 0; v < V; v++) sum[i][v] = load(bias + v * LANES);
    for (int64_t c = 0; c < s->channels; c++)
        for (int r = 0; r < 3; r++)
            for (int k = 0; k < 3; k++, w += FIRST) {
                const float *under = x + (r * s->width + k) * s->channels + c;
                UNROLLED
                for (int i = 0; i < pixels; i++)
                    UNROLLED
                    for (int v = 0; v < V; v++) sum[i][v] += under[i * s->channels] * load(w + v * LANES);
            }
    UNROLLED
    for (int i = 0; i < pixels; i++)
        UNROLLED
        for (int v = 0; v < V; v++) {
            int64_t at = first + i * FIRST + v * LANES;
            if (as_bfloat16)
                store_rounded((bfloat16 *)map + at, relu(sum[i][v]));
            else
                store((float *)map + at, relu(sum[i][v]));
        }
}

// map [H - 2, map_width, 32] = ReLU of conv1 of x [H, W, C], of floats or of bfloat16; w is [9 C + 1, 32], its
// last row the bias.
INLINE void first_layer(int as_bfloat16, const image *s, const float *x, const float *w, void *map) {
    for (int64_t y = 0; y < s->height - 2; y++) {
        const float *row = x + y * s->width * s->channels;
        int64_t at = 0, first = y * s->map_width * FIRST;
        for (; at + SIX <= s->width - 2; at += SIX)
            some_pixels(SIX, as_bfloat16, s, row + at * s->channels, w, map, first + at * FIRST);
        for (; at < s->width - 2; at++)
            some_pixels(1, as_bfloat16, s, row + at * s->channels, w, map, first + at * FIRST);
    }
}

// w [9 C + 1, 32] += the gradient of conv1's weights, from that of the map, which ReLU has made.
static void first_layer_gradient(const image *s, const float *x, const float *map, const float *of_map, float *w) {
    for (int64_t c = 0; c < s->channels; c++)
        for (int v = 0; v < FIRST; v += LANES) {
            vec sum[9], all = {0};
            for (int k = 0; k < 9; k++) sum[k] = load(w + (c * 9 + k) * FIRST + v);
            for (int64_t y = 0; y < s->height - 2; y++)
                for (int64_t at = 0; at < s->width - 2; at++) {
                    int64_t pixel = (y * s->map_width + at) * FIRST + v;
                    vec g = choose(load(map + pixel) > 0, load(of_map + pixel), (vec){0});
                    const float *under = x + (y * s->width + at) * s->channels + c;
                    UNROLLED
                    for (int k = 0; k < 9; k++)
                        sum[k] += under[(k / 3 * s->width + k % 3) * s->channels] * g;
                    all += g;
                }
            for (int k = 0; k < 9; k++) store(w + (c * 9 + k) * FIRST + v, sum[k]);
            if (c == 0) {
                float *bias = w + 9 * s->channels * FIRST + v;
                store(bias, load(bias) + all);
            }
        }
}

#endif
