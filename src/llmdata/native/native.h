/* What every file of the library needs. All functions are exported, and called through ctypes by what stands beside
   their counterpart in NumPy. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Some functions are built for several generations of processors, and the loader chooses: the library can be built on
   one machine for many. It takes GCC 12 and glibc; elsewhere there is the plain build alone. */
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#define GENERATIONS
#define FOR_EACH_PROCESSOR __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FOR_EACH_PROCESSOR
#endif
