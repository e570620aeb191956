// Adam's step (Kingma and Ba 2015), as torch's, and numbers too small for a processor.

#ifndef RAMBO_RAY_ADAM_H
#define RAMBO_RAY_ADAM_H

#include <math.h>

#include "vectors.h"

typedef struct {
    float rate;  // lr / (1 - beta1^t)
    float beta1, rest1, beta2, rest2;  // rest1 is 1 - beta1
    float root;  // 1 / sqrt(1 - beta2^t)
    float epsilon;
} adam_step;

// Moments of weights without a gradient fade by a tenth a step and would become denormal numbers, with which
// x86 computes a hundred times slower, and everybody as if they were 0.
#if defined(__SSE__)
#include <xmmintrin.h>
enum { FLUSH = 0x8040 };  // denormal results and arguments are 0
INLINE unsigned flush(void) {
    unsigned before = _mm_getcsr();
    _mm_setcsr(before | FLUSH);
    return before;
}
INLINE void restore(unsigned before) { _mm_setcsr(before); }
#else
INLINE unsigned flush(void) { return 0; }
INLINE void restore(unsigned before) { (void)before; }
#endif

INLINE void update(int64_t count, float *restrict w, const float *restrict g, float *restrict m, float *restrict v,
                   adam_step a) {
    for (int64_t i = 0; i < count; i++) {
        m[i] = a.beta1 * m[i] + a.rest1 * g[i];
        v[i] = a.beta2 * v[i] + a.rest2 * g[i] * g[i];
        w[i] -= a.rate * m[i] / (sqrtf(v[i]) * a.root + a.epsilon);
    }
}

#endif
