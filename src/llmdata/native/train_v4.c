/* The trainer's loops for processors with registers of 512 bits. */
#include "native.h"
#ifdef GENERATIONS
#pragma GCC target("arch=x86-64-v4,prefer-vector-width=512")
#pragma GCC optimize("fp-contract=fast,no-trapping-math")
#define LANES 16
#define ROWS 8
#define NAMED(name) name##_v4
#include "products.h"
#include "activations.h"
#include "dropout.h"
#include "attention.h"
#include "branches.h"
#endif
