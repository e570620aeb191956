// A 3x3 convolution with a quarter of the multiplications.
//
// Winograd's minimal filtering F(4x4, 3x3) (Lavin and Gray 2016) computes a 4x4 tile of outputs from the
// 6x6 inputs under it with 36 products instead of 144:
//
//     Y = A' [ (G w G') * (B' d B) ] A,    * elementwise, ' the transpose
//
// which is Toom and Cook's multiplication of polynomials by their values at points, transposed, along
// each axis. Summed over input channels, the products of many tiles are one matrix product per point.
// Equal to a convolution but for rounding, about four times that of a plain one: these points lose four
// times less than the usual 0, 1, -1, 2, -2.

#ifndef RAMBO_RAY_WINOGRAD_H
#define RAMBO_RAY_WINOGRAD_H

#include "vectors.h"

// The points are 0, a, -a, b, -b and infinity.
#define A 0.70710678118654752f
#define B 1.41421356237309505f
#define A2 0.5f
#define B2 2.0f

enum { POINTS = 36 };  // of both axes

// One axis: values of the first argument become those of the second, both `step` vectors apart.

INLINE void input_transform(const vec *x, vec *y, int step) {  // B' x
    vec even_a = x[4 * step] - B2 * x[2 * step], odd_a = A * (x[3 * step] - B2 * x[step]);
    vec even_b = x[4 * step] - A2 * x[2 * step], odd_b = B * (x[3 * step] - A2 * x[step]);
    y[0] = x[0] - (A2 + B2) * x[2 * step] + x[4 * step];
    vec last = x[step] - (A2 + B2) * x[3 * step] + x[5 * step];
    y[step] = even_a + odd_a, y[2 * step] = even_a - odd_a;
    y[3 * step] = even_b + odd_b, y[4 * step] = even_b - odd_b;
    y[5 * step] = last;
}

INLINE void input_adjoint(const vec *y, vec *x, int step) {  // B y
    vec sum_a = y[step] + y[2 * step], odd_a = A * (y[step] - y[2 * step]);
    vec sum_b = y[3 * step] + y[4 * step], odd_b = B * (y[3 * step] - y[4 * step]);
    vec zero = y[0], last = y[5 * step];
    x[0] = zero;
    x[step] = last - B2 * odd_a - A2 * odd_b;
    x[2 * step] = -(A2 + B2) * zero - B2 * sum_a - A2 * sum_b;
    x[3 * step] = odd_a + odd_b - (A2 + B2) * last;
    x[4 * step] = zero + sum_a + sum_b;
    x[5 * step] = last;
}

INLINE void output_transform(const vec *m, vec *y, int step) {  // A' m
    vec sum_a = m[step] + m[2 * step], odd_a = A * (m[step] - m[2 * step]);
    vec sum_b = m[3 * step] + m[4 * step], odd_b = B * (m[3 * step] - m[4 * step]);
    vec last = m[5 * step];
    y[0] = m[0] + sum_a + sum_b;
    y[step] = odd_a + odd_b;
    y[2 * step] = A2 * sum_a + B2 * sum_b;
    y[3 * step] = A2 * odd_a + B2 * odd_b + last;
}

INLINE void output_adjoint(const vec *y, vec *m, int step) {  // A y
    vec even_a = y[0] + A2 * y[2 * step], odd_a = A * (y[step] + A2 * y[3 * step]);
    vec even_b = y[0] + B2 * y[2 * step], odd_b = B * (y[step] + B2 * y[3 * step]);
    vec first = y[0], last = y[3 * step];
    m[0] = first;
    m[step] = even_a + odd_a, m[2 * step] = even_a - odd_a;
    m[3 * step] = even_b + odd_b, m[4 * step] = even_b - odd_b;
    m[5 * step] = last;
}

INLINE void filter_transform(const vec *w, vec *u, int step) {  // G w
    vec even_a = (-2 / 3.f) * w[0] - (1 / 3.f) * w[2 * step], odd_a = (-2 / 3.f * A) * w[step];
    vec even_b = (1 / 6.f) * w[0] + (1 / 3.f) * w[2 * step], odd_b = (1 / 6.f * B) * w[step];
    vec first = w[0], last = w[2 * step];
    u[0] = first;
    u[step] = even_a + odd_a, u[2 * step] = even_a - odd_a;
    u[3 * step] = even_b + odd_b, u[4 * step] = even_b - odd_b;
    u[5 * step] = last;
}

INLINE void filter_adjoint(const vec *u, vec *w, int step) {  // G' u
    vec sum_a = u[step] + u[2 * step], odd_a = u[step] - u[2 * step];
    vec sum_b = u[3 * step] + u[4 * step], odd_b = u[3 * step] - u[4 * step];
    vec first = u[0], last = u[5 * step];
    w[0] = first - (2 / 3.f) * sum_a + (1 / 6.f) * sum_b;
    w[step] = (-2 / 3.f * A) * odd_a + (1 / 6.f * B) * odd_b;
    w[2 * step] = last - (1 / 3.f) * sum_a + (1 / 3.f) * sum_b;
}

#endif
