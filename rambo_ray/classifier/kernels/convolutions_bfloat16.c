// What convolutions_float32.c does, with conv2's products in bfloat16 and their sums in float32, for CPUs with
// AMX: to transform what is multiplied would take longer than the products that it saves.
//
// Rounded are what conv2 reads, its weights and its outputs' gradient; all else is as in float32. An image's
// pixels stand one behind the other, rows of `row` positions, so that a filter's nine places are nine shifts of
// one matrix, and no pixel is copied. What comes of pixels of two rows is never read, or multiplied by zeros.
//
// Letters: n images, C channels, H x W pixels, p x q pooled positions; 32 units of conv1, 64 of conv2.

#include "first_layer.h"
#include "pooling.h"
#include "tiles.h"

enum { SECOND = 64, PLACES = 9, FILTERS = FIRST * SECOND };

typedef struct {
    image of;
    int64_t p, q;
    int64_t row;      // positions of a row: conv1's columns, and one more if they are odd, as pairs do not cross rows
    int64_t reach;    // from a filter's first place to its last, in positions
    int64_t outputs;  // positions of conv2's outputs that the pool reads, rounded up to SIDE
    int64_t inputs;   // positions of the map that conv1 gives, rounded up to SIDE
    int64_t read;     // positions of the map with those behind it that are read
} shape;

static shape shape_of(int64_t channels, int64_t height, int64_t width) {
    shape s = {.p = (height - 4) / 2, .q = (width - 4) / 2};
    s.row = (width - 2 + 1) / 2 * 2;
    s.of = (image){.channels = channels, .height = height, .width = width, .map_width = s.row};
    s.reach = 2 * s.row + 2;
    s.outputs = up(2 * s.p * s.row);
    s.inputs = up((height - 2) * s.row);
    s.read = up(s.outputs + s.reach > s.inputs ? s.outputs + s.reach : s.inputs);
    return s;
}

typedef struct {
    float *map, *of_map;           // [inputs, 32]
    float *maps, *of_filters;      // conv2's outputs [outputs, 64], [9, 32, 64]
    bfloat16 *rounded, *turned;    // the map [read, 32] and [32, read]
    bfloat16 *of_maps, *pairs;     // the outputs' gradient [reach + .., 64], and in pairs [outputs / 2, 64, 2]
    bfloat16 *forward, *backward;  // the filters in pairs of inputs [9, 16, 64, 2], of outputs [9, 32, 32, 2]
} scratch;

static int64_t cut(const shape *s, float *floats, scratch *k) {
    int64_t most = s->outputs > s->inputs ? s->outputs : s->inputs, at = 0;
#define CUT(name, count) k->name = floats ? (void *)(floats + at) : 0, at += ((count) + 15) / 16 * 16
    CUT(map, s->inputs * FIRST);
    CUT(of_map, s->inputs * FIRST);
    CUT(maps, s->outputs * SECOND);
    CUT(of_filters, PLACES * FILTERS);
    CUT(rounded, s->read * FIRST / 2);
    CUT(turned, s->read * FIRST / 2);
    CUT(of_maps, (s->reach + most) * SECOND / 2);
    CUT(pairs, s->outputs * SECOND / 2);
    CUT(forward, PLACES * FILTERS / 2);
    CUT(backward, PLACES * FILTERS / 2);
#undef CUT
    return at;
}

// How many floats, zeros before the first batch, forward and backward work in.
int64_t scratch_floats_bfloat16(int64_t channels, int64_t height, int64_t width) {
    shape s = shape_of(channels, height, width);
    scratch k;
    return cut(&s, 0, &k);
}

// [9, 16, 64, 2] of w [9, 64, 32].
static void filters_forward(const float *w, bfloat16 *forward) {
    bfloat16 rows[LANES * FIRST];  // of LANES outputs, inputs in pairs as they are
    for (int place = 0; place < PLACES; place++, w += FILTERS, forward += FILTERS)
        for (int output = 0; output < SECOND; output += LANES) {
            pack(LANES, FIRST, w + output * FIRST, FIRST, rows, FIRST);
            turn(LANES, FIRST / 2, (const float *)rows, FIRST / 2, (float *)forward + output, SECOND);
        }
}

// [9, 32, 32, 2] of w [9, 64, 32].
static void filters_backward(const float *w, bfloat16 *backward) {
    for (int pair = 0; pair < PLACES * SECOND / 2; pair++, w += 2 * FIRST, backward += 2 * FIRST)
        for (int v = 0; v < FIRST; v += LANES) store_pairs(backward + 2 * v, load(w + v), load(w + FIRST + v));
}

// turned [32, read] of map [inputs, 32].
static void turn_map(const shape *s, const float *map, bfloat16 *turned) {
    float block[FIRST * LANES];
    for (int64_t at = 0; at < s->inputs; at += LANES) {
        turn(LANES, FIRST, map + at * FIRST, FIRST, block, LANES);
        pack(FIRST, LANES, block, LANES, turned + at, s->read);
    }
}

// maps [outputs, 64] of conv2.
static void multiply(const shape *s, const bfloat16 *map, const bfloat16 *filters, float *maps) {
    int a_at[PLACES], b_at[PLACES];
    for (int place = 0; place < PLACES; place++) {
        a_at[place] = (place / 3 * s->row + place % 3) * FIRST;
        b_at[place] = place * FILTERS;
    }
    for (int64_t at = 0; at < s->outputs; at += SIDE)
        for (int half = 0; half < SECOND; half += SIDE)
            square(0, PLACES, map + at * FIRST, a_at, FIRST, filters + 2 * half, b_at, 2 * SECOND,
                   maps + at * SECOND + half, SECOND);
}

// As pool and unpool in convolutions_float32.c.

static void pool(const shape *s, int64_t n, const float *maps, const float *bias, const float *kept, float *flat,
                 int8_t *from) {
    for (int64_t i = 0; i < s->p; i++)
        for (int64_t j = 0; j < s->q; j++, flat += n * SECOND, from += n * SECOND) {
            const float *at = maps + (2 * i * s->row + 2 * j) * SECOND, *below = at + s->row * SECOND;
            for (int v = 0; v < SECOND; v += LANES)
                pool_window(load(at + v), load(at + SECOND + v), load(below + v), load(below + SECOND + v), bias + v,
                            kept + v, flat + v, from + v);
        }
}

static void unpool(const shape *s, int64_t n, const float *gradient, const float *flat, const int8_t *from,
                   const float *kept, float *bias, bfloat16 *of_maps, bfloat16 *pairs) {
    for (int64_t i = 0; i < s->p; i++)
        for (int64_t j = 0; j < s->q; j++, gradient += n * SECOND, flat += n * SECOND, from += n * SECOND) {
            int64_t position = 2 * i * s->row + 2 * j;
            UNROLLED
            for (int v = 0; v < SECOND; v += LANES) {
                mask which;
                vec g = unpool_window(gradient + v, flat + v, from + v, kept + v, &which);
                store(bias + v, load(bias + v) + g);
                bits value = rounded(g);
                for (int below = 0; below < 2; below++) {
                    bits even = (bits)(which == 2 * below) & value, odd = (bits)(which == 2 * below + 1) & value;
                    int64_t at = (position + below * s->row) * SECOND;
                    *(bits *)(pairs + at + 2 * v) = even | odd << 16;
                    *(halves *)(of_maps + at + v) = __builtin_convertvector(even, halves);
                    *(halves *)(of_maps + at + SECOND + v) = __builtin_convertvector(odd, halves);
                }
            }
        }
}

// of_map [inputs, 32] of the gradient of conv2's outputs, before which `reach` positions are zeros.
static void multiply_back(const shape *s, const bfloat16 *of_maps, const bfloat16 *filters, float *of_map) {
    int a_at[2 * PLACES], b_at[2 * PLACES];
    for (int step = 0; step < 2 * PLACES; step++) {
        int place = step / 2, half = step % 2 * SIDE;
        a_at[step] = (s->reach - (place / 3 * s->row + place % 3)) * SECOND + half;
        b_at[step] = place * FILTERS + half * FIRST;
    }
    for (int64_t at = 0; at < s->inputs; at += SIDE)
        square(0, 2 * PLACES, of_maps + at * SECOND, a_at, SECOND, filters, b_at, 2 * FIRST, of_map + at * FIRST, FIRST);
}

// of_filters [9, 32, 64] += the map [32, read] times pairs.
static void filters_gradient(const shape *s, const bfloat16 *turned, const bfloat16 *pairs, float *of_filters) {
    int steps = s->outputs / SIDE, a_at[steps], b_at[steps];
    for (int i = 0; i < steps; i++) a_at[i] = i * SIDE, b_at[i] = i * SIDE * SECOND;
    for (int place = 0; place < PLACES; place++)
        for (int half = 0; half < SECOND; half += SIDE)
            square(1, steps, turned + place / 3 * s->row + place % 3, a_at, s->read, pairs + 2 * half, b_at,
                   2 * SECOND, of_filters + place * FILTERS + half, SECOND);
}

// As in convolutions_float32.c.
void forward_bfloat16(int64_t n, int64_t channels, int64_t height, int64_t width, const float *x, const float *conv1,
                      const float *conv2, const float *bias, const float *kept, float *flat, int8_t *from,
                      float *floats) {
    shape s = shape_of(channels, height, width);
    scratch k;
    cut(&s, floats, &k);
    tile_shapes before = open_tiles();
    filters_forward(conv2, k.forward);
    for (int64_t i = 0; i < n; i++) {
        first_layer(1, &s.of, x + i * height * width * channels, conv1, k.rounded);
        multiply(&s, k.rounded, k.forward, k.maps);
        pool(&s, n, k.maps, bias, kept + i * SECOND, flat + i * SECOND, from + i * SECOND);
    }
    close_tiles(&before);
}

void backward_bfloat16(int64_t n, int64_t channels, int64_t height, int64_t width, const float *x, const float *conv1,
                       const float *conv2, const float *gradient, const float *flat, const int8_t *from,
                       const float *kept, float *of_conv1, float *of_conv2, float *of_bias, float *floats) {
    shape s = shape_of(channels, height, width);
    scratch k;
    cut(&s, floats, &k);
    tile_shapes before = open_tiles();
    filters_backward(conv2, k.backward);
    memset(k.of_filters, 0, sizeof(float) * PLACES * FILTERS);
    memset(of_conv1, 0, sizeof(float) * (9 * channels + 1) * FIRST);
    memset(of_bias, 0, sizeof(float) * SECOND);
    for (int64_t i = 0; i < n; i++) {
        const float *pixels = x + i * height * width * channels;
        first_layer(0, &s.of, pixels, conv1, k.map);
        turn_map(&s, k.map, k.turned);
        unpool(&s, n, gradient + i * SECOND, flat + i * SECOND, from + i * SECOND, kept + i * SECOND, of_bias,
               k.of_maps + s.reach * SECOND, k.pairs);
        filters_gradient(&s, k.turned, k.pairs, k.of_filters);
        multiply_back(&s, k.of_maps, k.backward, k.of_map);
        first_layer_gradient(&s.of, pixels, k.map, k.of_map, of_conv1);
    }
    for (int place = 0; place < PLACES; place++)
        turn(FIRST, SECOND, k.of_filters + place * FILTERS, SECOND, of_conv2 + place * FILTERS, FIRST);
    close_tiles(&before);
}
