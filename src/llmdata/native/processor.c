/* Which of the builds for one processor (train_v3.c, train_v4.c) run here: 4, 3, or 0 for none. */
#include "native.h"

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
