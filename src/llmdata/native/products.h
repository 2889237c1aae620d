/* Products of float32 matrices for one processor (train/kernels.py): included once for each width of its registers.

   LANES numbers fit a register, and there are as many registers as ROWS × 2 for sums and three others. The sums of a tile
   stay in them through all terms: 95 % of what the processor can do, where matrices are small enough for its caches. */
#include "native.h"

#include <stdlib.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define PANEL (2 * LANES) /* columns */
#define DEPTH 512         /* terms of each sum at a time: a packed panel of them stays in the second cache */
#define BLOCK 96          /* rows that go through all panels while they are in the second cache */
#define NEAR 1024         /* numbers between two rows up to which a matrix need not be packed */

typedef float lanes __attribute__((vector_size(LANES * sizeof(float)), aligned(sizeof(float))));

/* The sum of TERM for each `i` below COUNT. */
#define SUM(RESULT, COUNT, TERM)                                                                                    \
    float RESULT = 0;                                                                                               \
    {                                                                                                               \
        float part[LANES] = {0};                                                                                    \
        ptrdiff_t start = 0;                                                                                        \
        for (; start + LANES <= (COUNT); start += LANES)                                                            \
            for (int l = 0; l < LANES; l++) {                                                                       \
                ptrdiff_t i = start + l;                                                                            \
                part[l] += (TERM);                                                                                  \
            }                                                                                                       \
        for (ptrdiff_t i = start; i < (COUNT); i++)                                                                 \
            RESULT += (TERM);                                                                                       \
        for (int l = 0; l < LANES; l++)                                                                             \
            RESULT += part[l];                                                                                      \
    }

/* c (rows, 2 registers or 1) = a b, or c + a b: element (i, k) of `a` is at i * row + k * term. */
#define DEFINE_TILE(NAME, HEIGHT, WIDTH)                                                                            \
    static void NAME(const float *a, ptrdiff_t row, ptrdiff_t term, const float *b, ptrdiff_t b_row, float *c,      \
                     ptrdiff_t c_row, ptrdiff_t terms, int add) {                                                   \
        lanes sum[HEIGHT][WIDTH];                                                                                   \
        UNROLL for (int i = 0; i < HEIGHT; i++) UNROLL for (int j = 0; j < WIDTH; j++)                              \
            sum[i][j] = add ? *(const lanes *)(c + i * c_row + j * LANES) : (lanes){0};                             \
        for (ptrdiff_t k = 0; k < terms; k++) {                                                                     \
            lanes factor[WIDTH];                                                                                    \
            UNROLL for (int j = 0; j < WIDTH; j++) factor[j] = *(const lanes *)(b + k * b_row + j * LANES);         \
            UNROLL for (int i = 0; i < HEIGHT; i++) {                                                               \
                float one = a[i * row + k * term];                                                                  \
                UNROLL for (int j = 0; j < WIDTH; j++) sum[i][j] += one * factor[j];                                \
            }                                                                                                       \
        }                                                                                                           \
        UNROLL for (int i = 0; i < HEIGHT; i++) UNROLL for (int j = 0; j < WIDTH; j++)                              \
            *(lanes *)(c + i * c_row + j * LANES) = sum[i][j];                                                      \
    }

DEFINE_TILE(tile_rows_2, ROWS, 2)
DEFINE_TILE(tile_half_2, ROWS / 2, 2)
DEFINE_TILE(tile_one_2, 1, 2)
DEFINE_TILE(tile_rows_1, ROWS, 1)
DEFINE_TILE(tile_half_1, ROWS / 2, 1)
DEFINE_TILE(tile_one_1, 1, 1)

/* c (rows, columns) = a b, or c + a b, where the columns are a multiple of LANES and b's lie beside each other. */
static void multiply(const float *a, ptrdiff_t row, ptrdiff_t term, const float *b, ptrdiff_t b_row, float *c,
                     ptrdiff_t c_row, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t terms, int add) {
    for (ptrdiff_t j = 0; j < columns; j += PANEL) {
        int whole = columns - j >= PANEL;
        ptrdiff_t i = 0;
#define TILES(HEIGHT, NAME)                                                                                         \
    for (; i + (HEIGHT) <= rows; i += (HEIGHT))                                                                     \
        (whole ? NAME##_2 : NAME##_1)(a + i * row, row, term, b + j, b_row, c + i * c_row + j, c_row, terms, add);
        TILES(ROWS, tile_rows)
        TILES(ROWS / 2, tile_half)
        TILES(1, tile_one)
    }
}

static ptrdiff_t padded(ptrdiff_t count, ptrdiff_t to) { return (count + to - 1) / to * to; }

/* b (terms, columns) as panels of PANEL columns, one after the other, the last filled up with zeros: where b's rows lie
   far from each other, they would push each other out of the caches. */
static void pack(const float *b, ptrdiff_t b_row, ptrdiff_t b_column, ptrdiff_t terms, ptrdiff_t columns, float *out) {
    for (ptrdiff_t j = 0; j < columns; j += PANEL, out += terms * PANEL) {
        ptrdiff_t width = columns - j < PANEL ? columns - j : PANEL, k = 0;
        if (width < PANEL)
            memset(out, 0, (size_t)(terms * PANEL) * sizeof *out);
        if (b_column == 1)
            for (; k < terms; k++)
                memcpy(out + k * PANEL, b + k * b_row + j, (size_t)width * sizeof *out);
        if (b_row == 1)
            for (; k + LANES <= terms; k += LANES)
                for (ptrdiff_t i = 0; i < width; i++)
                    UNROLL for (int l = 0; l < LANES; l++)
                        out[(k + l) * PANEL + i] = b[k + l + (j + i) * b_column];
        for (; k < terms; k++)
            for (ptrdiff_t i = 0; i < width; i++)
                out[k * PANEL + i] = b[k * b_row + (j + i) * b_column];
    }
}

/* As `multiply`, for any number of columns and at most BLOCK rows, of what `pack` made. */
static void multiply_packed(const float *a, ptrdiff_t row, ptrdiff_t term, const float *panel, float *c, ptrdiff_t c_row,
                            ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t terms, int add) {
    float edge[BLOCK * PANEL];
    for (ptrdiff_t j = 0; j < columns; j += PANEL, c += PANEL, panel += terms * PANEL) {
        ptrdiff_t width = columns - j;
        if (width >= PANEL) {
            multiply(a, row, term, panel, PANEL, c, c_row, rows, PANEL, terms, add);
            continue;
        }
        multiply(a, row, term, panel, PANEL, edge, PANEL, rows, padded(width, LANES), terms, 0);
        for (ptrdiff_t i = 0; i < rows; i++)
            for (ptrdiff_t l = 0; l < width; l++)
                c[i * c_row + l] = edge[i * PANEL + l] + (add ? c[i * c_row + l] : 0);
    }
}

typedef void Sgemm(const char *, const char *, const int *, const int *, const int *, const float *, const float *,
                   const int *, const float *, const int *, const float *, float *, const int *);
static Sgemm *sgemm; /* of the BLAS at hand, where it is faster than what stands here */

ptrdiff_t NAMED(use_sgemm)(ptrdiff_t address) {
    sgemm = (Sgemm *)address;
    return 0;
}

/* The distance of `count` rows of `length` numbers for BLAS, which wants them in one piece each; 0 if they are not. */
static int leading(ptrdiff_t distance, ptrdiff_t length, ptrdiff_t count) {
    ptrdiff_t found = count > 1 ? distance : length > 1 ? length : 1;
    return found < length || found > INT32_MAX ? 0 : (int)found;
}

/* As `product`, by BLAS, for which matrices lie the other way: it is given bᵀ and aᵀ. Returns whether it was done. */
static int by_sgemm(const float *a, ptrdiff_t row, ptrdiff_t term, const float *b, ptrdiff_t b_row, ptrdiff_t b_column,
                    float *c, ptrdiff_t c_row, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t terms, int add) {
    int a_leads = term == 1 ? leading(row, terms, rows) : row == 1 ? leading(term, rows, terms) : 0;
    int b_leads = b_column == 1 ? leading(b_row, columns, terms) : b_row == 1 ? leading(b_column, terms, columns) : 0;
    int c_leads = leading(c_row, columns, rows), m = (int)columns, n = (int)rows, k = (int)terms;
    if (!sgemm || !a_leads || !b_leads || !c_leads || m != columns || n != rows || k != terms)
        return 0;
    const float one = 1, before = add != 0;
    sgemm(b_column == 1 ? "N" : "T", term == 1 ? "N" : "T", &m, &n, &k, &one, b, &b_leads, a, &a_leads, &before, c, &c_leads);
    return 1;
}

/* A matrix (terms, columns) that blocks of rows are multiplied by: packed, unless BLAS does it. */
typedef struct {
    const float *b;
    ptrdiff_t row, column, terms, columns;
    float *panels;
} Matrix;

/* Numbers that it takes to prepare such a matrix. */
static ptrdiff_t room_of(ptrdiff_t terms, ptrdiff_t columns) { return sgemm ? 0 : padded(columns, PANEL) * terms; }

static Matrix prepared(const float *b, ptrdiff_t row, ptrdiff_t column, ptrdiff_t terms, ptrdiff_t columns, float *room) {
    if (!sgemm)
        pack(b, row, column, terms, columns, room);
    return (Matrix){b, row, column, terms, columns, room};
}

/* c (rows, columns) = a times the matrix, for at most BLOCK rows. */
static void through(const Matrix *matrix, const float *a, float *c, ptrdiff_t rows) {
    const Matrix *m = matrix;
    if (!by_sgemm(a, m->terms, 1, m->b, m->row, m->column, c, m->columns, rows, m->columns, m->terms, 0))
        multiply_packed(a, m->terms, 1, m->panels, c, m->columns, rows, m->columns, m->terms, 0);
}

/* c (rows, columns) = a b, or c + a b. Rows and columns of a and b may lie at any distance; c's columns lie beside each
   other. Returns -1 if there is no memory. */
ptrdiff_t NAMED(product)(const float *a, ptrdiff_t row, ptrdiff_t term, const float *b, ptrdiff_t b_row,
                         ptrdiff_t b_column, float *c, ptrdiff_t c_row, ptrdiff_t rows, ptrdiff_t columns,
                         ptrdiff_t terms, ptrdiff_t add) {
    if (by_sgemm(a, row, term, b, b_row, b_column, c, c_row, rows, columns, terms, add != 0))
        return 0;
    int near = b_column == 1 && b_row <= NEAR && term <= NEAR && columns % LANES == 0;
    ptrdiff_t depth = terms < DEPTH ? terms : DEPTH;
    float *packed = near ? NULL : malloc((size_t)((padded(columns, PANEL) + BLOCK) * depth + 1) * sizeof *packed);
    if (!near && !packed)
        return -1;
    float *block = packed + padded(columns, PANEL) * depth;
    for (ptrdiff_t k = 0; k < terms || k == 0; k += DEPTH, add = 1) {
        ptrdiff_t deep = near || terms - k < DEPTH ? terms - k : DEPTH;
        if (!near)
            pack(b + k * b_row, b_row, b_column, deep, columns, packed);
        for (ptrdiff_t i = 0; i < rows; i += BLOCK) {
            ptrdiff_t high = rows - i < BLOCK ? rows - i : BLOCK;
            const float *left = a + i * row + k * term;
            float *out = c + i * c_row;
            if (near) {
                multiply(left, row, term, b, b_row, out, c_row, high, columns, terms, add != 0);
            } else if (row == 1) { /* else every term is on a page of its own */
                for (ptrdiff_t l = 0; l < deep; l++)
                    memcpy(block + l * BLOCK, left + l * term, (size_t)high * sizeof *block);
                multiply_packed(block, 1, BLOCK, packed, out, c_row, high, columns, deep, add != 0);
            } else
                multiply_packed(left, row, term, packed, out, c_row, high, columns, deep, add != 0);
        }
        if (near)
            break;
    }
    free(packed);
    return 0;
}
