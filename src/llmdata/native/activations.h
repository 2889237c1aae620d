/* What lies between the two products of a feed-forward layer, for one processor (train/kernels.py). */

enum activation { GELU, GELU_TANH, SWIGLU };

/* e to the x (Cephes' polynomial, within 2 units in the last place) for x of at most 88; 0 below -87. The power of 2 is a
   factor, not added to the bits: that would make a number of what is none. */
INLINE float exponential(float exponent) {
    float x = exponent < -87.0f ? -87.0f : exponent;
    /* 1.5 * 2^23: what is added to it is rounded to a whole number; 127 more, as the bits of the power have it. */
    float turns = x * 1.44269504f + 12583039.0f;
    int32_t power;
    memcpy(&power, &turns, sizeof power);
    power = (int32_t)((uint32_t)power << 23);
    float factor;
    memcpy(&factor, &power, sizeof factor);
    turns -= 12583039.0f;
    float rest = x - turns * 0.693359375f + turns * 2.12194440e-4f;
    float value = 1.9875691500e-4f;
    value = value * rest + 1.3981999507e-3f;
    value = value * rest + 8.3334519073e-3f;
    value = value * rest + 4.1665795894e-2f;
    value = value * rest + 1.6666665459e-1f;
    value = value * rest + 5.0000001201e-1f;
    value = value * rest * rest + rest + 1.0f;
    return exponent < -87.0f ? 0.0f : value * factor;
}

/* Both kinds of GELU (arXiv 1606.08415) and SiLU are x times such a gate: the normal distribution up to x, what the tanh
   form takes for it, and the logistic function. For the first also e to -x^2 / 2, of which its slope is made. */
INLINE float gate(float x, enum activation kind, float *bell) {
    if (kind != GELU) {
        float u = kind == SWIGLU ? -x : -1.59576912f * (x + 0.044715f * x * x * x);
        return 1.0f / (1.0f + exponential(u > 88.0f ? 88.0f : u));
    }
    float z = 0.70710678f * (x < 0 ? -x : x), t = 1.0f / (1.0f + 0.3275911f * z); /* Abramowitz and Stegun 7.1.26 */
    float sum = 1.061405429f;
    sum = sum * t - 1.453152027f;
    sum = sum * t + 1.421413741f;
    sum = sum * t - 0.284496736f;
    sum = sum * t + 0.254829592f;
    *bell = exponential(-0.5f * x * x);
    float rest = 0.5f * sum * t * *bell;
    return x < 0 ? rest : 1.0f - rest;
}

/* The derivative of x times its gate `g`. */
INLINE float slope(float x, float g, float bell, enum activation kind) {
    if (kind == GELU)
        return g + x * 0.39894228f * bell;
    float inner = kind == SWIGLU ? 1.0f : 1.59576912f * (1.0f + 3 * 0.044715f * x * x);
    return g * (1.0f + x * (1.0f - g) * inner);
}

/* What a position gives to the second product, of what the first gave: `inner` numbers, and as many again for SwiGLU; and
   the same once more with the gradient of `hidden` from that of it. */
#define DEFINE_ACTIVATE(KIND)                                                                                       \
    static void activate_##KIND(const float *restrict hidden, ptrdiff_t inner, float *restrict out) {               \
        for (ptrdiff_t i = 0; i < inner; i++) {                                                                     \
            float x = hidden[i], bell, y = x * gate(x, KIND, &bell);                                                \
            out[i] = KIND == SWIGLU ? y * hidden[inner + i] : y;                                                    \
        }                                                                                                           \
    }                                                                                                               \
    static void differentiate_##KIND(const float *restrict hidden, const float *restrict d_out, ptrdiff_t inner,    \
                                     float *restrict out, float *restrict d_hidden) {                               \
        for (ptrdiff_t i = 0; i < inner; i++) {                                                                     \
            float x = hidden[i], bell = 0, g = gate(x, KIND, &bell), other = KIND == SWIGLU ? hidden[inner + i] : 1; \
            out[i] = x * g * other;                                                                                 \
            d_hidden[i] = d_out[i] * slope(x, g, bell, KIND) * other;                                               \
            if (KIND == SWIGLU)                                                                                     \
                d_hidden[inner + i] = d_out[i] * x * g;                                                             \
        }                                                                                                           \
    }

DEFINE_ACTIVATE(GELU)
DEFINE_ACTIVATE(GELU_TANH)
DEFINE_ACTIVATE(SWIGLU)

static void (*const activate[])(const float *, ptrdiff_t, float *) = {activate_GELU, activate_GELU_TANH, activate_SWIGLU};
static void (*const differentiate[])(const float *, const float *, ptrdiff_t, float *, float *) = {
    differentiate_GELU, differentiate_GELU_TANH, differentiate_SWIGLU};
