/* What the trainer's loops (train_v3.c, train_v4.c) have to know of the processor. */
#include "native.h"

/* Which of the two builds runs here: 4, 3, or 0 for none. */
ptrdiff_t processor_generation(void) {
#ifdef GENERATIONS
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512cd"))
        return 4;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2"))
        return 3;
#endif
    return 0;
}

ptrdiff_t processor_is_intel(void) {
#ifdef GENERATIONS
    return __builtin_cpu_is("intel") != 0;
#else
    return 0;
#endif
}
