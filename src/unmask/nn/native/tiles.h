// Products of few rows with matrices as they lie in memory, bfloat16 or float32.
//
// Each weight is read once, whatever the number of rows: a tile of R rows of a matrix stays in the first cache while all
// tokens pass by, and the next tile is asked for meanwhile. A sum runs in an order that depends on its length alone, so
// that a row comes out the same whatever rows are beside it and however many threads there are.

#pragma once

#include <omp.h>

#include <cstdint>
#include <cstring>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#elif defined(__AVX2__)
constexpr int LANES = 8;
#else
constexpr int LANES = 4;
#endif
constexpr int R = 6, C = 4;                  // rows of a matrix and tokens in a tile: R * C sums stay in registers
constexpr int64_t WORTH_A_THREAD = 1 << 16;  // products; fewer cost less than waking another thread

typedef float Floats __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Words __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

Floats load(const float* p) { return *reinterpret_cast<const Floats*>(p); }
void store(float* p, Floats v) { *reinterpret_cast<Floats*>(p) = v; }
Floats bits(Words w) { return reinterpret_cast<Floats>(w); }

template <int N>
struct Vector {
    typedef float type __attribute__((vector_size(4 * N)));
};

// The sum of a vector: its upper half on its lower one, until one number is left.
template <int N = LANES>
float total(typename Vector<N>::type v) {
    if constexpr (N == 2) {
        return v[0] + v[1];
    } else {
        typename Vector<N / 2>::type half[2];
        std::memcpy(half, &v, sizeof v);
        return total<N / 2>(half[0] + half[1]);
    }
}

// A bfloat16 is the upper half of a float. A vector of 2 * LANES of them is read as words: those at even places are the
// lower halves, those at odd places the upper ones. `spread` puts floats into the order of `load`.
struct Half {
    using Number = uint16_t;
    static constexpr int PARTS = 2;
    static void load(const Number* p, Floats (&v)[PARTS]) {
        const Words both = *reinterpret_cast<const Words*>(p);
        v[0] = bits(both << 16);
        v[1] = bits(both & static_cast<int32_t>(0xffff0000));
    }
    static float widen(Number h) {
        const uint32_t word = static_cast<uint32_t>(h) << 16;
        float f;
        std::memcpy(&f, &word, sizeof f);
        return f;
    }
    static Number narrow(float f) {  // to the nearest, ties to even; NaN stays NaN
        uint32_t word;
        std::memcpy(&word, &f, sizeof word);
        if ((word & 0x7fffffffu) > 0x7f800000u) return static_cast<Number>(word >> 16 | 0x40u);
        return static_cast<Number>((word + 0x7fffu + (word >> 16 & 1u)) >> 16);
    }
};

struct Single {
    using Number = float;
    static constexpr int PARTS = 1;
    static void load(const Number* p, Floats (&v)[PARTS]) { v[0] = *reinterpret_cast<const Floats*>(p); }
    static float widen(Number f) { return f; }
    static Number narrow(float f) { return f; }
};

template <class T>
constexpr int STEP = T::PARTS* LANES;  // numbers in a `load`

template <class T>
float at(const typename T::Number* p, int64_t i) {
    return p ? T::widen(p[i]) : 0.0f;
}

// [M, K] in the order of `load`, each row for itself.
template <class T>
void spread(const float* x, float* out, int64_t M, int64_t K) {
    for (int64_t m = 0; m < M; m++, x += K, out += K) {
        int64_t k = 0;
        for (; k + STEP<T> <= K; k += STEP<T>)
            for (int part = 0; part < T::PARTS; part++)
                for (int i = 0; i < LANES; i++) out[k + part * LANES + i] = x[k + i * T::PARTS + part];
        for (; k < K; k++) out[k] = x[k];
    }
}

// out[r][c] = the product of row r of w and token c. FETCH: ask for the tile that follows this one in memory.
template <class T, int ROWS, int COLS, bool FETCH>
void tile(const typename T::Number* w, const float* x, int64_t K, float (&out)[R][C]) {
    Floats sums[ROWS][COLS] = {};
    int64_t k = 0;
    for (; k + STEP<T> <= K; k += STEP<T>) {
        Floats xs[COLS][T::PARTS];
        for (int c = 0; c < COLS; c++)
            for (int part = 0; part < T::PARTS; part++) xs[c][part] = load(x + c * K + k + part * LANES);
        for (int r = 0; r < ROWS; r++) {
            const typename T::Number* row = w + r * K + k;
            if (FETCH) __builtin_prefetch(row + R * K);
            Floats ws[T::PARTS];
            T::load(row, ws);
            for (int part = 0; part < T::PARTS; part++)
                for (int c = 0; c < COLS; c++) sums[r][c] += ws[part] * xs[c][part];
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLS; c++) {
            float sum = total(sums[r][c]);
            for (int64_t j = k; j < K; j++) sum += T::widen(w[r * K + j]) * x[c * K + j];
            out[r][c] = sum;
        }
}

template <class T, int COLS, bool FETCH>
void tiles(const typename T::Number* w, const float* x, int64_t K, int64_t rows, int64_t cols, float (&out)[R][C]) {
    if constexpr (COLS > 1) {
        if (cols < COLS) return tiles<T, COLS - 1, FETCH>(w, x, K, rows, cols, out);
    }
    if (rows == R) return tile<T, R, COLS, FETCH>(w, x, K, out);
    for (int64_t r = 0; r < rows; r++) {
        float one[R][C];
        tile<T, 1, COLS, false>(w + r * K, x, K, one);
        std::memcpy(out[r], one[0], sizeof one[0]);
    }
}

// What one thread of a team does of `count` things, in units.
struct Share {
    int64_t first, end;
    Share(int64_t count, int64_t unit = 1) {
        const int64_t mine = omp_get_thread_num(), all = omp_get_num_threads(), units = (count + unit - 1) / unit;
        first = units * mine / all * unit;
        end = units * (mine + 1) / all * unit;
        if (end > count) end = count;
    }
};

// give(m, n, product of token m and row n of w) for this thread's rows; x [M, K] spread, w [N, K].
template <class T, class Give>
void products(const typename T::Number* w, const float* x, int64_t M, int64_t K, Share mine, const Give& give) {
    for (int64_t n = mine.first; n < mine.end; n += R) {
        const int64_t rows = mine.end - n < R ? mine.end - n : R;
        for (int64_t m = 0; m < M; m += C) {
            const int64_t cols = M - m < C ? M - m : C;
            float out[R][C];
            if (m == 0)
                tiles<T, C, true>(w + n * K, x, K, rows, cols, out);
            else
                tiles<T, C, false>(w + n * K, x + m * K, K, rows, cols, out);
            for (int64_t r = 0; r < rows; r++)
                for (int64_t c = 0; c < cols; c++) give(m + c, n + r, out[r][c]);
        }
    }
}

}  // namespace
