/* A pass of a Llama decoder over a few tokens, in float32 on one core.
 *
 * host.py compiles this file at start and calls ``decode``; its numpy code computes the same. Each weight is
 * read once for all tokens of the pass, because reading the weights takes most of the time. Loops are written
 * so that a compiler turns them into vector instructions of any processor. Sums have a fixed order.
 */

#include <stdint.h>

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif
/* Columns of a matrix that are multiplied together. */
enum { PART = 256 };
typedef float vector __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

struct layer {
    const float *norm1, *qkv, *qkv_bias, *out, *norm2, *gate_up, *down, *qk_norm; /* qk_norm: or NULL */
};

struct decoder {
    int64_t layers, width, heads, kv_heads, head_dim, mlp;
    float eps;
    const struct layer *layer;
    const float *embedding, *norm;
};

struct buffers { /* keys and values: (layers, rows, kv_heads, capacity, head_dim) */
    int64_t rows, capacity;
    float *keys, *values;
    const float *cos, *sin; /* (capacity, head_dim) */
};

/* exp with a relative error below 2e-7; 0 or a huge number beyond float32's range. */
static inline float exponential(float x)
{
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    float power = x * 1.44269504f;
    int32_t whole = (int32_t)(power + (power < 0 ? -0.5f : 0.5f));
    float rest = x - (float)whole * 0.693359375f + (float)whole * 2.12194440e-4f;
    float sum = 1.9875691500e-4f;
    sum = sum * rest + 1.3981999507e-3f;
    sum = sum * rest + 8.3334519073e-3f;
    sum = sum * rest + 4.1665795894e-2f;
    sum = sum * rest + 1.6666665459e-1f;
    sum = sum * rest + 5.0000001201e-1f;
    sum = sum * rest * rest + rest + 1.0f;
    union { int32_t bits; float value; } scale = { (whole + 127) << 23 };
    return sum * scale.value;
}

static inline float root(float x) { return __builtin_sqrtf(x); }

/* y (tokens, width) += x (tokens, rows) @ w (rows, width), whose rows are ``columns``, ``inner`` and
 * ``columns`` apart. ``tokens`` and ``rows`` are constants, so that the sums stay in registers. */
static inline __attribute__((always_inline)) void add_rows(const int tokens, const int rows, const float *x,
    int64_t inner, const float *w, int64_t width, int64_t columns, float *y)
{
    int64_t j = 0;
    for (; j + LANES <= width; j += LANES) {
        vector sums[4];
        for (int t = 0; t < tokens; t++)
            sums[t] = *(const vector *)(y + t * columns + j);
        for (int k = 0; k < rows; k++)
            for (int t = 0; t < tokens; t++)
                sums[t] += x[t * inner + k] * *(const vector *)(w + k * columns + j);
        for (int t = 0; t < tokens; t++)
            *(vector *)(y + t * columns + j) = sums[t];
    }
    for (; j < width; j++)
        for (int k = 0; k < rows; k++)
            for (int t = 0; t < tokens; t++)
                y[t * columns + j] += x[t * inner + k] * w[k * columns + j];
}

/* The same for any number of tokens. A part of w is read once, and stays in the first cache for all tokens. */
static inline __attribute__((always_inline)) void add_some(const int rows, const float *x, int64_t count,
    int64_t inner, const float *w, int64_t columns, float *y)
{
    for (int64_t j = 0; j < columns; j += PART) {
        int64_t width = columns - j < PART ? columns - j : PART, t = 0;
        for (; t + 4 <= count; t += 4)
            add_rows(4, rows, x + t * inner, inner, w + j, width, columns, y + t * columns + j);
        for (; t + 2 <= count; t += 2)
            add_rows(2, rows, x + t * inner, inner, w + j, width, columns, y + t * columns + j);
        if (t < count)
            add_rows(1, rows, x + t * inner, inner, w + j, width, columns, y + t * columns + j);
    }
}

/* y (count, columns) += x (count, inner) @ w (inner, columns). Rows of w are read side by side, from the first
 * column to the last: memory is fastest in this order. */
static void multiply(const float *x, int64_t count, int64_t inner, const float *w, int64_t columns, float *y)
{
    int64_t k = 0;
    for (; k + 8 <= inner; k += 8)
        add_some(8, x + k, count, inner, w + k * columns, columns, y);
    for (; k < inner; k++)
        add_some(1, x + k, count, inner, w + k * columns, columns, y);
}

/* RMSNorm of one vector; y may be x. */
static void normalise(const float *x, int64_t size, const float *weight, float eps, float *y)
{
    float squares = 0;
    for (int64_t i = 0; i < size; i++)
        squares += x[i] * x[i];
    float scale = 1.0f / root(squares / (float)size + eps);
    for (int64_t i = 0; i < size; i++)
        y[i] = x[i] * scale * weight[i];
}

/* Rotary embedding of one head; the first half of ``sin`` is negative. */
static void rotate(float *restrict x, int64_t size, const float *restrict cos, const float *restrict sin)
{
    int64_t half = size / 2;
    for (int64_t i = 0; i < half; i++) {
        float low = x[i], high = x[i + half];
        x[i] = low * cos[i] + high * sin[i];
        x[i + half] = high * cos[i + half] + low * sin[i + half];
    }
}

/* Attention of one query over ``length`` keys and values (length, size); ``scores`` has room for them. */
static void attend(const float *restrict query, const float *restrict keys, const float *restrict values,
                   int64_t length, int64_t size, float scale, float *restrict scores, float *restrict y)
{
    float best = -__builtin_inff(), sum = 0;
    for (int64_t i = 0; i < length; i++) {
        float score = 0;
        for (int64_t j = 0; j < size; j++)
            score += query[j] * keys[i * size + j];
        scores[i] = score * scale;
        best = scores[i] > best ? scores[i] : best;
    }
    for (int64_t i = 0; i < length; i++) {
        scores[i] = exponential(scores[i] - best);
        sum += scores[i];
    }
    for (int64_t j = 0; j < size; j++)
        y[j] = 0;
    multiply(scores, 1, length, values, size, y);
    for (int64_t j = 0; j < size; j++)
        y[j] /= sum;
}

/* Append tokens, each at its place in its row; ``states`` (count, width) gets their normalised hidden states.
 *
 * A row's tokens are in order. ``scratch`` has room for count * (2 * width + largest of a layer's products)
 * + capacity floats.
 */
void decode(const struct decoder *m, const struct buffers *kept, int64_t count, const int64_t *tokens,
            const int64_t *row, const int64_t *place, float *scratch, float *states)
{
    int64_t width = m->width, size = m->head_dim, heads = m->heads, rotated = heads + m->kv_heads;
    int64_t joined = (rotated + m->kv_heads) * size, group = heads / m->kv_heads;
    float scale = 1.0f / root((float)size);
    float *x = states, *h = scratch, *attended = h + count * width;
    float *made = attended + count * heads * size, *scores = made + count * (joined > 2 * m->mlp ? joined : 2 * m->mlp);
    for (int64_t t = 0; t < count; t++)
        for (int64_t i = 0; i < width; i++)
            x[t * width + i] = m->embedding[tokens[t] * width + i];
    for (int64_t n = 0; n < m->layers; n++) {
        const struct layer *l = m->layer + n;
        for (int64_t t = 0; t < count; t++) {
            normalise(x + t * width, width, l->norm1, m->eps, h + t * width);
            for (int64_t i = 0; i < joined; i++)
                made[t * joined + i] = l->qkv_bias[i];
        }
        multiply(h, count, width, l->qkv, joined, made);
        for (int64_t t = 0; t < count; t++) {
            float *qkv = made + t * joined;
            for (int64_t i = 0; i < rotated; i++) {
                if (l->qk_norm)
                    normalise(qkv + i * size, size, l->qk_norm + i * size, m->eps, qkv + i * size);
                rotate(qkv + i * size, size, kept->cos + place[t] * size, kept->sin + place[t] * size);
            }
            for (int64_t i = 0; i < m->kv_heads; i++) {
                int64_t at = (((n * kept->rows + row[t]) * m->kv_heads + i) * kept->capacity + place[t]) * size;
                for (int64_t j = 0; j < size; j++) {
                    kept->keys[at + j] = qkv[(heads + i) * size + j];
                    kept->values[at + j] = qkv[(rotated + i) * size + j];
                }
            }
        }
        for (int64_t t = 0; t < count; t++)
            for (int64_t i = 0; i < heads; i++) {
                int64_t at = ((n * kept->rows + row[t]) * m->kv_heads + i / group) * kept->capacity * size;
                attend(made + t * joined + i * size, kept->keys + at, kept->values + at, place[t] + 1, size,
                       scale, scores, attended + (t * heads + i) * size);
            }
        multiply(attended, count, heads * size, l->out, width, x);
        for (int64_t t = 0; t < count; t++)
            normalise(x + t * width, width, l->norm2, m->eps, h + t * width);
        for (int64_t i = 0; i < count * 2 * m->mlp; i++)
            made[i] = 0;
        multiply(h, count, width, l->gate_up, 2 * m->mlp, made);
        for (int64_t t = 0; t < count; t++) {
            float *restrict gate = made + 2 * t * m->mlp;
            const float *restrict up = gate + m->mlp;
            for (int64_t i = 0; i < m->mlp; i++)
                gate[i] = gate[i] / (1.0f + exponential(-gate[i])) * up[i];
        }
        for (int64_t t = 1; t < count; t++) /* close the gaps between the rows */
            for (int64_t i = 0; i < m->mlp; i++)
                made[t * m->mlp + i] = made[2 * t * m->mlp + i];
        multiply(made, count, m->mlp, l->down, width, x);
    }
    for (int64_t t = 0; t < count; t++)
        normalise(x + t * width, width, m->norm, m->eps, x + t * width);
}
