// fc1, all that follows it, and Adam. The large layer's weights and moments are 14 MB for images of 28 x 28, more
// than a core has for itself: they are fetched once for the backward pass and the update together.
//
// Letters: n images, F inputs of fc1, U of its units, K classes.

#include <math.h>

#include "vectors.h"

enum { U = 128, BLOCK = 32, FIVE = 5, FOUR = 4, LINE = 64 };  // BLOCK: inputs whose weights are in the cache together

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

// Adam's step of `count` weights w with gradient g and moments m and v.
void adam(int64_t count, float *w, const float *g, float *m, float *v, const adam_step *step) {
    unsigned mode = flush();
    update(count, w, g, m, v, *step);
    restore(mode);
}

// outputs [n, U] = inputs [n, F] w [F, U]; F is a multiple of BLOCK, here and below.
void dense(int64_t n, int64_t f, const float *inputs, const float *w, float *outputs) {
    memset(outputs, 0, sizeof(float) * n * U);
    for (int64_t first = 0; first < f; first += BLOCK)
        for (int unit = 0; unit < U; unit += WIDE * LANES) {
            const float *a = inputs + first, *b = w + first * U + unit;
            // Asked for a little at a time while the processor computes, as a block comes in halves of rows,
            // which it does not foresee; to ask for what lies behind the last block does no harm.
            const char *ahead = (const char *)(w + (first + BLOCK) * U + unit * BLOCK);
            int64_t i = 0;
            for (; i + FIVE <= n; i += FIVE, ahead += 32 * LINE) {
                for (int line = 0; line < 32; line++) __builtin_prefetch(ahead + line * LINE);
                product(FIVE, WIDE, 1, BLOCK, a + i * f, f, 1, b, U, outputs + i * U + unit, U, 0, 0);
            }
            for (; i < n; i++) product(1, WIDE, 1, BLOCK, a + i * f, f, 1, b, U, outputs + i * U + unit, U, 0, 0);
        }
}

// packed [n, BLOCK] of inputs [n, F] from a column on. Rows of inputs are often a multiple of a page apart, and
// then all of them compete for the same few lines of the first cache.
INLINE void pack(int64_t n, int64_t f, const float *inputs, float *packed) {
    for (int64_t i = 0; i < n; i++)
        for (int64_t at = 0; at < BLOCK; at += LANES) store(packed + i * BLOCK + at, load(inputs + i * f + at));
}

// of_inputs [n, F] = gradient [n, U] w', and then Adam's step of w [F, U] with its gradient inputs' gradient; work
// has n BLOCK floats.
void dense_backward(int64_t n, int64_t f, const float *inputs, const float *gradient, float *of_inputs, float *w,
                    float *m, float *v, const adam_step *step, float *work) {
    unsigned mode = flush();
    float transposed[U * BLOCK], of_w[FOUR * U];
    for (int64_t first = 0; first < f; first += BLOCK) {
        for (int row = 0; row < BLOCK; row += LANES)
            for (int unit = 0; unit < U; unit += LANES)
                transpose(w + (first + row) * U + unit, U, transposed + unit * BLOCK + row, BLOCK);
        for (int at = 0; at < BLOCK; at += 2 * LANES) {
            float *to = of_inputs + first + at;
            int64_t i = 0;
            for (; i + FIVE <= n; i += FIVE)
                product(FIVE, 2, 0, U, gradient + i * U, U, 1, transposed + at, BLOCK, to + i * f, f, 0, 0);
            for (; i < n; i++)
                product(1, 2, 0, U, gradient + i * U, U, 1, transposed + at, BLOCK, to + i * f, f, 0, 0);
        }
        pack(n, f, inputs + first, work);
        for (int64_t row = 0; row < BLOCK; row += FOUR) {
            for (int unit = 0; unit < U; unit += WIDE * LANES)
                product(FOUR, WIDE, 0, n, work + row, 1, BLOCK, gradient + unit, U, of_w + unit, U, 0, 0);
            int64_t here = (first + row) * U;
            update(FOUR * U, w + here, of_w, m + here, v + here, *step);
        }
    }
    restore(mode);
}

// From what dense gave (hidden [n, U]) to logits [n, K] and cross-entropy's gradient: fc1's bias, ReLU,
// dropout by the factors kept [n, U], fc2 (w [K, U]). hidden becomes what fc2 reads, of_hidden [n, U] the
// gradient of what dense gave. Returns how many images have their largest logit at their label.
int64_t head(int64_t n, int64_t classes, float *hidden, const float *hidden_bias, const float *kept, const float *w,
             const float *bias, const int64_t *labels, float *logits, float *of_hidden, float *of_hidden_bias,
             float *of_w, float *of_bias) {
    int64_t right = 0;
    memset(of_hidden_bias, 0, sizeof(float) * U);
    memset(of_w, 0, sizeof(float) * classes * U);
    memset(of_bias, 0, sizeof(float) * classes);
    for (int64_t i = 0; i < n; i++, hidden += U, kept += U, of_hidden += U, logits += classes) {
        for (int u = 0; u < U; u++) {
            float value = hidden[u] + hidden_bias[u];
            hidden[u] = value < 0 ? 0 : value * kept[u];  // not a number stays so
            of_hidden[u] = 0;
        }
        int64_t best = 0;
        for (int64_t k = 0; k < classes; k++) {
            vec sum = {0};
            for (int u = 0; u < U; u += LANES) sum += load(hidden + u) * load(w + k * U + u);
            logits[k] = bias[k];
            for (int lane = 0; lane < LANES; lane++) logits[k] += sum[lane];
            if (logits[k] > logits[best]) best = k;
        }
        right += best == labels[i];
        float total = 0, largest = logits[best];
        for (int64_t k = 0; k < classes; k++) total += expf(logits[k] - largest);
        for (int64_t k = 0; k < classes; k++) {
            float g = (expf(logits[k] - largest) / total - (k == labels[i])) / n;
            of_bias[k] += g;
            for (int u = 0; u < U; u++) {
                of_w[k * U + u] += g * hidden[u];
                of_hidden[u] += g * w[k * U + u];
            }
        }
        for (int u = 0; u < U; u++) {
            of_hidden[u] = hidden[u] > 0 ? of_hidden[u] * kept[u] : 0;
            of_hidden_bias[u] += of_hidden[u];
        }
    }
    return right;
}
