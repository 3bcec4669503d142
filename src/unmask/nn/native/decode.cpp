// One token a row through the blocks of a transformer, at the speed of reading its weights (see ../decoding.py).
//
// Weights and cache are bfloat16 or float32; everything between them is float32. GPT-2's block: norm, attention, norm,
// MLP with GELU, each added to the residual stream.

#include <cmath>
#include <vector>

#include "tiles.h"

namespace {

// e^x to float32's precision for x up to 88; 0 below -87. NaN stays NaN.
Floats exponential(Floats x) {
    const Words gone = x < -87.0f;
    x = gone ? Floats{} : x;
    const Floats shift = Floats{} + 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to a whole number
    const Floats whole = (x * 1.44269504f + shift) - shift;
    const Floats r = (x - whole * 0.693145751953125f) - whole * 1.42860682e-6f;  // ln 2, its first 16 bits and the rest
    Floats sum = Floats{} + 1.0f / 5040;
    for (float next : {1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1.0f, 1.0f}) sum = sum * r + next;
    const Words power = (__builtin_convertvector(whole, Words) + 127) << 23;
    return gone ? Floats{} : sum * bits(power);
}

// Layer norm of [M, D], eps 1e-5.
template <class T>
void norm(const float* x, const typename T::Number* weight, const typename T::Number* bias, float* out, int64_t M,
          int64_t D) {
    for (int64_t m = 0; m < M; m++, x += D, out += D) {
        float mean = 0, square = 0;
#pragma omp simd reduction(+ : mean)
        for (int64_t i = 0; i < D; i++) mean += x[i];
        mean /= static_cast<float>(D);
#pragma omp simd reduction(+ : square)
        for (int64_t i = 0; i < D; i++) square += (x[i] - mean) * (x[i] - mean);
        const float scale = 1.0f / std::sqrt(square / static_cast<float>(D) + 1e-5f);
        for (int64_t i = 0; i < D; i++) out[i] = (x[i] - mean) * scale * T::widen(weight[i]) + at<T>(bias, i);
    }
}

// GELU with tanh, in place: x / (1 + e^(-2 u)).
void gelu(float* x, int64_t count) {
    const auto apply = [](Floats v) {
        const Floats u = 0.7978845608f * (v + 0.044715f * v * v * v), e = -2.0f * u;
        return v / (1.0f + exponential(e < 80.0f ? e : Floats{} + 80.0f));
    };
    int64_t i = 0;
    for (; i + LANES <= count; i += LANES) store(x + i, apply(load(x + i)));
    if (i < count) {
        float rest[LANES] = {};
        std::memcpy(rest, x + i, sizeof(float) * (count - i));
        store(rest, apply(load(rest)));
        std::memcpy(x + i, rest, sizeof(float) * (count - i));
    }
}

void rotate(float* x, const float* turn, int64_t d) {
    const float *cosine = turn, *sine = turn + d / 2;
    for (int64_t i = 0; i < d / 2; i++) {
        const float a = x[i], b = x[i + d / 2];
        x[i] = a * cosine[i] - b * sine[i];
        x[i + d / 2] = a * sine[i] + b * cosine[i];
    }
}

// sum_j p_j v_j / sum, [d], of values v [n, d].
template <class T>
void mean(const typename T::Number* values, const float* p, float sum, int64_t n, int64_t d, float* out) {
    int64_t i = 0;
    for (; i + STEP<T> <= d; i += STEP<T>) {
        Floats sums[T::PARTS] = {};
        for (int64_t j = 0; j < n; j++) {
            Floats v[T::PARTS];
            T::load(values + j * d + i, v);
            for (int part = 0; part < T::PARTS; part++) sums[part] += p[j] * v[part];
        }
        for (int part = 0; part < T::PARTS; part++)
            for (int lane = 0; lane < LANES; lane++) out[i + lane * T::PARTS + part] = sums[part][lane] / sum;
    }
    for (; i < d; i++) {
        float one = 0;
        for (int64_t j = 0; j < n; j++) one += p[j] * T::widen(values[j * d + i]);
        out[i] = one / sum;
    }
}

// One head of one token: its key and value go to place n of the cache, and it attends to places 0 to n.
template <class T>
void attend(float* q, float* k, const float* v, typename T::Number* keys, typename T::Number* values, int64_t n,
            int64_t d, const float* turn, float* scratch, float* out) {
    if (turn) {
        rotate(q, turn, d);
        rotate(k, turn, d);
    }
    for (int64_t i = 0; i < d; i++) {
        keys[n * d + i] = T::narrow(k[i]);
        values[n * d + i] = T::narrow(v[i]);
        q[i] /= std::sqrt(static_cast<float>(d));
    }
    float *query = scratch, *scores = scratch + d, top = -INFINITY, sum = 0;
    spread<T>(q, query, 1, d);
    Share all(0);
    all.first = 0, all.end = n + 1;
    products<T>(keys, query, 1, d, all, [&](int64_t, int64_t j, float score) {
        scores[j] = score;
        top = score > top ? score : top;
    });
    for (int64_t j = n + 1; j % LANES; j++) scores[j] = -INFINITY;
    for (int64_t j = 0; j <= n; j += LANES) {
        const Floats p = exponential(load(scores + j) - top);
        store(scores + j, p);
        sum += total(p);
    }
    mean<T>(values, scores, sum, n + 1, d, out);
}

template <class T>
struct Layer {
    const typename T::Number *norm1, *norm1_bias, *qkv, *qkv_bias, *out, *out_bias;
    const typename T::Number *norm2, *norm2_bias, *up, *up_bias, *down, *down_bias;
};

}  // namespace

struct Step {
    int64_t batch, width, heads, inner, depth, capacity, length, threads;
};

namespace {

int team(const Step& s, int64_t products) {
    const int64_t worth = 1 + s.batch * products / WORTH_A_THREAD;
    return static_cast<int>(worth < s.threads ? worth : s.threads);
}

template <class T>
void decode(const Step& s, const Layer<T>* layers, typename T::Number* keys, typename T::Number* values,
            const float* turn, float* x) {
    const int64_t B = s.batch, D = s.width, H = s.heads, F = s.inner, d = D / H, head = s.capacity * d;
    std::vector<float> qkv(B * 3 * D), seen(B * D), inner(B * F);
#pragma omp parallel num_threads(team(s, D * F))
    {
        std::vector<float> plain(B * D), ready(B * (D > F ? D : F)), scratch(d + s.length + 1 + LANES);
        for (int64_t l = 0; l < s.depth; l++) {
            const Layer<T>& w = layers[l];
            const auto add = [&](const typename T::Number* bias) {
                return [=](int64_t m, int64_t n, float v) { x[m * D + n] += v + at<T>(bias, n); };
            };
            norm<T>(x, w.norm1, w.norm1_bias, plain.data(), B, D);
            spread<T>(plain.data(), ready.data(), B, D);
            products<T>(w.qkv, ready.data(), B, D, Share(3 * D, R), [&](int64_t m, int64_t n, float v) {
                qkv[m * 3 * D + n] = v + at<T>(w.qkv_bias, n);
            });
#pragma omp barrier
            const Share heads(B * H);
            for (int64_t i = heads.first; i < heads.end; i++) {
                float* q = qkv.data() + i / H * 3 * D + i % H * d;
                const int64_t place = (l * B * H + i) * head;
                attend<T>(q, q + D, q + 2 * D, keys + place, values + place, s.length, d, turn, scratch.data(),
                          seen.data() + i * d);
            }
#pragma omp barrier
            spread<T>(seen.data(), ready.data(), B, D);
            products<T>(w.out, ready.data(), B, D, Share(D, R), add(w.out_bias));
#pragma omp barrier
            norm<T>(x, w.norm2, w.norm2_bias, plain.data(), B, D);
            spread<T>(plain.data(), ready.data(), B, D);
            const Share own(F, R);
            products<T>(w.up, ready.data(), B, D, own, [&](int64_t m, int64_t n, float v) {
                inner[m * F + n] = v + at<T>(w.up_bias, n);
            });
            for (int64_t m = 0; m < B; m++) gelu(inner.data() + m * F + own.first, own.end - own.first);
#pragma omp barrier
            spread<T>(inner.data(), ready.data(), B, F);
            products<T>(w.down, ready.data(), B, F, Share(D, R), add(w.down_bias));
#pragma omp barrier
        }
    }
}

template <class T>
void project(const Step& s, const typename T::Number* w, const typename T::Number* bias, const float* x,
             typename T::Number* y) {
    std::vector<float> ready(s.batch * s.width);
    spread<T>(x, ready.data(), s.batch, s.width);
#pragma omp parallel num_threads(team(s, s.inner * s.width))
    products<T>(w, ready.data(), s.batch, s.width, Share(s.inner, R), [&](int64_t m, int64_t n, float v) {
        y[m * s.inner + n] = T::narrow(v + at<T>(bias, n));
    });
}

}  // namespace

// x [B, D]: the embedded tokens, and after all blocks the residual stream. keys, values [depth, B, H, capacity, d].
// turn: d / 2 cosines and d / 2 sines of the position, or null.
extern "C" void decode_half(const Step* s, const void* layers, uint16_t* keys, uint16_t* values, const float* turn,
                            float* x) {
    decode<Half>(*s, static_cast<const Layer<Half>*>(layers), keys, values, turn, x);
}
extern "C" void decode_single(const Step* s, const void* layers, float* keys, float* values, const float* turn, float* x) {
    decode<Single>(*s, static_cast<const Layer<Single>*>(layers), keys, values, turn, x);
}

// y [B, inner] = x [B, width] times w [inner, width], and the bias, or null.
extern "C" void project_half(const Step* s, const uint16_t* w, const uint16_t* bias, const float* x, uint16_t* y) {
    project<Half>(*s, w, bias, x, y);
}
extern "C" void project_single(const Step* s, const float* w, const float* bias, const float* x, float* y) {
    project<Single>(*s, w, bias, x, y);
}
