// A 2x2 window's way through max-pool, bias, ReLU and dropout, and its gradient's way back, LANES channels at once.

#ifndef RAMBO_RAY_POOLING_H
#define RAMBO_RAY_POOLING_H

#include "vectors.h"

// flat, the pooled value of four pixels after ReLU, times dropout's factors kept; and from, which pixel it was,
// the first of equal ones.
INLINE void pool_window(vec first, vec second, vec third, vec fourth, const float *bias, const float *kept, float *flat,
                        int8_t *from) {
    const vec pixel[4] = {first, second, third, fourth};
    vec best = first;
    mask which = {0};
    UNROLLED
    for (int k = 1; k < 4; k++) {
        mask larger = pixel[k] > best;
        best = choose(larger, pixel[k], best);
        which = (larger & k) | (~larger & which);
    }
    store(flat, relu(best + load(bias)) * load(kept));
    *(bytes *)from = __builtin_convertvector(which, bytes);
}

// Returns the gradient of the pixel at the place `which`, from that of flat.
INLINE vec unpool_window(const float *gradient, const float *flat, const int8_t *from, const float *kept, mask *which) {
    *which = __builtin_convertvector(*(const bytes *)from, mask);
    return choose(load(flat) > 0, load(gradient) * load(kept), (vec){0});
}

#endif
