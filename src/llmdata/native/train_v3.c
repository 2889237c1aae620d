/* The trainer's loops for processors with registers of 256 bits. */
#include "native.h"
#ifdef GENERATIONS
#pragma GCC target("arch=x86-64-v3")
#pragma GCC optimize("fp-contract=fast,no-trapping-math")
#define LANES 8
#define ROWS 6
#define NAMED(name) name##_v3
#include "products.h"
#include "activations.h"
#include "dropout.h"
#include "attention.h"
#include "branches.h"
#endif
