// All that follows fc1, forward and backward, and Adam's step of the small weights.
//
// Letters: n images, U units of fc1, K classes.

#include "adam.h"

enum { U = 128 };

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

// Adam's step of `count` weights w with gradient g and moments m and v.
void adam(int64_t count, float *w, const float *g, float *m, float *v, const adam_step *step) {
    unsigned mode = flush();
    update(count, w, g, m, v, *step);
    restore(mode);
}
