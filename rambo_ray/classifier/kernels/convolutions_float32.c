// conv1, ReLU, conv2, 2x2 max-pool, ReLU and dropout of MnistNet, and their gradient, image by image, so
// that all between pixels and pooled values stays in a core's cache.
//
// conv2 works on tiles (winograd.h). Kept for the backward pass is only which pixel of its window each
// pooled value was: an image's first layer takes less time again than fetching it from memory.
//
// Letters: n images, C channels, H x W pixels, t x u tiles, T = t u tiles of an image rounded up to SIX,
// p x q pooled positions; 32 units of conv1, 64 of conv2.

#include "first_layer.h"
#include "pooling.h"
#include "winograd.h"

enum { SECOND = 64, EIGHT = 8 };  // units, and channels at once

typedef struct {
    image of;
    int64_t p, q;
    int64_t t, u, tiles;
    int64_t map_height;  // of what conv1 gives, as of.map_width with the zeros under tiles that reach over the edge
} shape;

static shape shape_of(int64_t channels, int64_t height, int64_t width) {
    shape s = {.p = (height - 4) / 2, .q = (width - 4) / 2};
    s.t = (s.p + 1) / 2, s.u = (s.q + 1) / 2;
    s.tiles = (s.t * s.u + SIX - 1) / SIX * SIX;
    s.map_height = 4 * s.t + 2 > height - 2 ? 4 * s.t + 2 : height - 2;
    s.of = (image){.channels = channels, .height = height, .width = width};
    s.of.map_width = 4 * s.u + 2 > width - 2 ? 4 * s.u + 2 : width - 2;
    return s;
}

// ---- What is done once for a batch.

enum { FILTERS = FIRST * SECOND };  // of one point

// conv2's weights w [9, 64, 32] at the 36 points: u [36, 64, 32].
static void transform_filters(const float *w, float *u) {
    for (int at = 0; at < FILTERS; at += LANES) {
        vec x[9], half[18], y[36];
        UNROLLED
        for (int k = 0; k < 9; k++) x[k] = load(w + k * FILTERS + at);
        UNROLLED
        for (int k = 0; k < 3; k++) filter_transform(x + k, half + k, 3);
        UNROLLED
        for (int i = 0; i < 6; i++) filter_transform(half + 3 * i, y + 6 * i, 1);
        UNROLLED
        for (int point = 0; point < POINTS; point++) store(u + point * FILTERS + at, y[point]);
    }
}

static void adjoint_of_filters(const float *u, float *w) {
    for (int at = 0; at < FILTERS; at += LANES) {
        vec y[36], half[18], x[9];
        UNROLLED
        for (int point = 0; point < POINTS; point++) y[point] = load(u + point * FILTERS + at);
        UNROLLED
        for (int j = 0; j < 6; j++) filter_adjoint(y + j, half + j, 6);
        UNROLLED
        for (int k = 0; k < 3; k++) filter_adjoint(half + 6 * k, x + 3 * k, 1);
        UNROLLED
        for (int k = 0; k < 9; k++) store(w + k * FILTERS + at, x[k]);
    }
}

// turned [36, 32, 64] of u [36, 64, 32].
static void turn_filters(const float *u, float *turned) {
    for (int point = 0; point < POINTS; point++, u += FILTERS, turned += FILTERS)
        turn(SECOND, FIRST, u, FIRST, turned, SECOND);
}

// ---- One image's tiles.

static void tiles_of_inputs(const shape *s, const float *map, float *inputs) {
    for (int64_t tile = 0; tile < s->t * s->u; tile++) {
        const float *corner = map + (tile / s->u * s->of.map_width + tile % s->u) * 4 * FIRST;
        for (int v = 0; v < FIRST; v += LANES) {
            vec x[36], y[36];
            UNROLLED
            for (int j = 0; j < 6; j++) {
                UNROLLED
                for (int i = 0; i < 6; i++) x[i * 6 + j] = load(corner + (i * s->of.map_width + j) * FIRST + v);
                input_transform(x + j, y + j, 6);
            }
            UNROLLED
            for (int i = 0; i < 6; i++) {
                input_transform(y + 6 * i, x + 6 * i, 1);
                UNROLLED
                for (int j = 0; j < 6; j++)
                    store(inputs + ((i * 6 + j) * s->tiles + tile) * FIRST + v, x[i * 6 + j]);
            }
        }
    }
}

// map += the adjoint of tiles_of_inputs.
static void gradient_of_map(const shape *s, const float *inputs, float *map) {
    for (int64_t tile = 0; tile < s->t * s->u; tile++) {
        float *corner = map + (tile / s->u * s->of.map_width + tile % s->u) * 4 * FIRST;
        for (int v = 0; v < FIRST; v += LANES) {
            vec x[36], y[36];
            UNROLLED
            for (int j = 0; j < 6; j++) {
                UNROLLED
                for (int i = 0; i < 6; i++)
                    y[i * 6 + j] = load(inputs + ((i * 6 + j) * s->tiles + tile) * FIRST + v);
                input_adjoint(y + j, x + j, 6);
            }
            UNROLLED
            for (int i = 0; i < 6; i++) {
                input_adjoint(x + 6 * i, y + 6 * i, 1);
                UNROLLED
                for (int j = 0; j < 6; j++) {
                    float *at = corner + (i * s->of.map_width + j) * FIRST + v;
                    store(at, load(at) + y[i * 6 + j]);
                }
            }
        }
    }
}

// Pool, bias, ReLU and dropout of an image's tiles: flat, rows of 64 each n from the next, and which of its four pixels each
// pooled value came from, the first of equal ones; kept [64] is dropout's factor of a channel.
static void pool(const shape *s, int64_t n, const float *products, const float *bias, const float *kept, float *flat,
                 int8_t *from) {
    for (int64_t tile = 0; tile < s->t * s->u; tile++)
        for (int v = 0; v < SECOND; v += LANES) {
            vec m[36], half[24], y[16];
            UNROLLED
            for (int j = 0; j < 6; j++) {
                UNROLLED
                for (int i = 0; i < 6; i++)
                    m[i * 6 + j] = load(products + ((i * 6 + j) * s->tiles + tile) * SECOND + v);
                output_transform(m + j, half + j, 6);
            }
            UNROLLED
            for (int i = 0; i < 4; i++) output_transform(half + 6 * i, y + 4 * i, 1);
            UNROLLED
            for (int window = 0; window < 4; window++) {
                int64_t row = tile / s->u * 2 + window / 2, column = tile % s->u * 2 + window % 2;
                if (row >= s->p || column >= s->q) continue;
                const vec *corner = y + window / 2 * 8 + window % 2 * 2;
                int64_t at = (row * s->q + column) * n * SECOND + v;
                pool_window(corner[0], corner[1], corner[4], corner[5], bias + v, kept + v, flat + at, from + at);
            }
        }
}

// The adjoint of pool, from the gradient of flat: that of the products, and bias += its own.
static void unpool(const shape *s, int64_t n, const float *gradient, const float *flat, const int8_t *from,
                   const float *kept, float *bias, float *products) {
    for (int64_t tile = 0; tile < s->t * s->u; tile++)
        for (int v = 0; v < SECOND; v += LANES) {
            vec y[16], half[24], m[36], all = {0};
            UNROLLED
            for (int window = 0; window < 4; window++) {
                int64_t row = tile / s->u * 2 + window / 2, column = tile % s->u * 2 + window % 2;
                vec *corner = y + window / 2 * 8 + window % 2 * 2;
                vec g = {0};
                mask which = {0};
                if (row < s->p && column < s->q) {
                    int64_t at = (row * s->q + column) * n * SECOND + v;
                    g = unpool_window(gradient + at, flat + at, from + at, kept + v, &which);
                }
                all += g;
                corner[0] = choose(which == 0, g, (vec){0}), corner[1] = choose(which == 1, g, (vec){0});
                corner[4] = choose(which == 2, g, (vec){0}), corner[5] = choose(which == 3, g, (vec){0});
            }
            store(bias + v, load(bias + v) + all);
            UNROLLED
            for (int j = 0; j < 4; j++) output_adjoint(y + j, half + j, 4);
            UNROLLED
            for (int i = 0; i < 6; i++) {
                output_adjoint(half + 4 * i, m + 6 * i, 1);
                UNROLLED
                for (int j = 0; j < 6; j++)
                    store(products + ((i * 6 + j) * s->tiles + tile) * SECOND + v, m[i * 6 + j]);
            }
        }
}

// ---- One image's products at all points, and their adjoints.

// products [36, T, 64] of inputs [36, T, 32] and turned [36, 32, 64].
static void multiply(const shape *s, const float *inputs, const float *turned, float *products) {
    for (int point = 0; point < POINTS; point++, inputs += s->tiles * FIRST, products += s->tiles * SECOND)
        for (int64_t tile = 0; tile < s->tiles; tile += SIX)
            for (int v = 0; v < SECOND; v += WIDE * LANES)
                product(SIX, WIDE, 0, FIRST, inputs + tile * FIRST, FIRST, 1, turned + point * FILTERS + v, SECOND,
                        products + tile * SECOND + v, SECOND, 0, 0);
}

// of_filters [36, 64, 32] += products' inputs, and then inputs = products filters [36, 64, 32], of those channels
// that dropout has kept: the others' products are 0. They stand first in `order`, and are `many`.
static void multiply_back(const shape *s, const float *products, const float *filters, const int *order, int many,
                          float *inputs, float *of_filters) {
    for (int point = 0; point < POINTS; point++, inputs += s->tiles * FIRST, products += s->tiles * SECOND) {
        for (int at = 0; at < many; at += EIGHT)
            for (int v = 0; v < FIRST; v += 2 * LANES)
                product(EIGHT, 2, 1, s->tiles, products, 1, SECOND, inputs + v, FIRST,
                        of_filters + point * FILTERS + v, FIRST, order + at, 0);
        for (int v = 0; v < FIRST; v += 2 * LANES) {
            const float *w = filters + point * FILTERS + v;
            int64_t tile = 0;
            for (; tile + TALL <= s->tiles; tile += TALL)
                product(TALL, 2, 0, many, products + tile * SECOND, SECOND, 1, w, FIRST, inputs + tile * FIRST + v,
                        FIRST, 0, order);
            for (; tile < s->tiles; tile += SIX)
                product(SIX, 2, 0, many, products + tile * SECOND, SECOND, 1, w, FIRST, inputs + tile * FIRST + v,
                        FIRST, 0, order);
        }
    }
}

// The channels with a factor in kept [64], then the others; returns how many the first are, rounded up to EIGHT.
static int order_channels(const float *kept, int *order) {
    int many = 0, rest = SECOND;
    for (int channel = 0; channel < SECOND; channel++)
        if (kept[channel] != 0)
            order[many++] = channel;
        else
            order[--rest] = channel;
    return (many + EIGHT - 1) / EIGHT * EIGHT;
}

// ---- Batches.

typedef struct {
    float *filters, *turned, *of_filters;     // [36, 64, 32], [36, 32, 64], [36, 64, 32]
    float *map, *of_map, *inputs, *products;  // [map_height, map_width, 32] twice, [36, T, 32], [36, T, 64]
} scratch;

// How many floats, zeros before the first batch, forward and backward work in.
int64_t scratch_floats_float32(int64_t channels, int64_t height, int64_t width) {
    shape s = shape_of(channels, height, width);
    return 3 * POINTS * FILTERS + 2 * s.map_height * s.of.map_width * FIRST + POINTS * s.tiles * (FIRST + SECOND);
}

static scratch cut(const shape *s, float *floats) {
    int64_t map = s->map_height * s->of.map_width * FIRST;
    scratch k;
    k.filters = floats;
    k.turned = k.filters + POINTS * FILTERS;
    k.of_filters = k.turned + POINTS * FILTERS;
    k.map = k.of_filters + POINTS * FILTERS;
    k.of_map = k.map + map;
    k.inputs = k.of_map + map;
    k.products = k.inputs + POINTS * s->tiles * FIRST;
    return k;
}

// flat [p q, n, 64] of images x [n, H, W, C]: conv1's weights are [9 C + 1, 32] by channel, row and column,
// then the bias; conv2's [9, 64, 32] by row and column, and bias [64]; kept [n, 64] and from as in pool.
void forward_float32(int64_t n, int64_t channels, int64_t height, int64_t width, const float *x, const float *conv1,
             const float *conv2, const float *bias, const float *kept, float *flat, int8_t *from, float *floats) {
    shape s = shape_of(channels, height, width);
    scratch k = cut(&s, floats);
    transform_filters(conv2, k.filters);
    turn_filters(k.filters, k.turned);
    for (int64_t i = 0; i < n; i++) {
        first_layer(0, &s.of, x + i * height * width * channels, conv1, k.map);
        tiles_of_inputs(&s, k.map, k.inputs);
        multiply(&s, k.inputs, k.turned, k.products);
        pool(&s, n, k.products, bias, kept + i * SECOND, flat + i * SECOND, from + i * SECOND);
    }
}

// The gradients of all weights, from that of flat, straight after forward: the other arrays are as it left them.
void backward_float32(int64_t n, int64_t channels, int64_t height, int64_t width, const float *x, const float *conv1,
              const float *conv2, const float *gradient, const float *flat, const int8_t *from, const float *kept,
              float *of_conv1, float *of_conv2, float *of_bias, float *floats) {
    shape s = shape_of(channels, height, width);
    scratch k = cut(&s, floats);
    (void)conv2;  // its transform is still in floats
    memset(k.of_filters, 0, sizeof(float) * POINTS * FILTERS);
    memset(of_conv1, 0, sizeof(float) * (9 * channels + 1) * FIRST);
    memset(of_bias, 0, sizeof(float) * SECOND);
    for (int64_t i = 0; i < n; i++) {
        int64_t map = s.map_height * s.of.map_width * FIRST;
        const float *pixels = x + i * height * width * channels;
        first_layer(0, &s.of, pixels, conv1, k.map);
        tiles_of_inputs(&s, k.map, k.inputs);
        unpool(&s, n, gradient + i * SECOND, flat + i * SECOND, from + i * SECOND, kept + i * SECOND, of_bias,
               k.products);
        int order[SECOND], many = order_channels(kept + i * SECOND, order);
        multiply_back(&s, k.products, k.filters, order, many, k.inputs, k.of_filters);
        memset(k.of_map, 0, sizeof(float) * map);
        gradient_of_map(&s, k.inputs, k.of_map);
        first_layer_gradient(&s.of, pixels, k.map, k.of_map, of_conv1);
    }
    adjoint_of_filters(k.of_filters, of_conv2);
}
