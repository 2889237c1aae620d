/* What stands at the ends and in the middle of words: the regular expressions of words.py, one after the other. */
#include "xxh3.h"

/* What a character is, by the bits of `words.class_of`. */
enum { KNOWN = 1, WORD = 2, LETTER = 4, UPPER = 8, BLANK = 16, OPENING = 32, CURRENCY = 64, ICON = 128, QUOTE = 256,
       MARK = 512, UNSPACED = 1024, ALPHA = 2048, LOWER = 4096, PUNCTUATION = 8192 };
enum { LONGEST = 500, MOST_MARKS = 40, KEY = 16, PARTS = 3, FACE = KEY + PARTS, ENTRY = FACE + 1, CODES = 0x110000 };

typedef struct {
    const uint16_t *classes;
    const uint8_t *exceptions; /* sorted: each a key of 16 bytes, the sizes of its parts, and whether it is a face */
    ptrdiff_t exception_count;
    const char *units; /* with a | around each */
    uint64_t *hashes;
    int64_t *lengths;
    uint8_t *kinds;
    ptrdiff_t used;
    int failed; /* a token is too long for this hash */
    const uint8_t *bytes;      /* of the piece in hand */
    int16_t at[LONGEST + 1];   /* where each of its characters begins, and the last ends */
    uint32_t code[LONGEST];
    uint16_t is[LONGEST];
} Cutter;

static int all(const Cutter *c, int begin, int end, int bits) {
    for (; begin < end; begin++)
        if (!(c->is[begin] & bits)) return 0;
    return 1;
}

static int digit(const Cutter *c, int place) { return c->code[place] - '0' < 10; }

static int is_alnum(const Cutter *c, int place) { return c->is[place] & WORD && c->code[place] != '_'; }

static const uint8_t *exception(const Cutter *c, int begin, int end) {
    int size = c->at[end] - c->at[begin];
    if (size == 0 || size > KEY) return NULL;
    uint8_t key[KEY] = {0};
    memcpy(key, c->bytes + c->at[begin], (size_t)size);
    ptrdiff_t low = 0, high = c->exception_count;
    while (low < high) {
        ptrdiff_t middle = (low + high) / 2;
        const uint8_t *entry = c->exceptions + middle * ENTRY;
        int order = memcmp(key, entry, KEY);
        if (order == 0) return entry[KEY] + entry[KEY + 1] + entry[KEY + 2] == size ? entry : NULL;
        if (order < 0) high = middle;
        else low = middle + 1;
    }
    return NULL;
}

static int is_face(const Cutter *c, int begin, int end) {
    const uint8_t *entry = begin + 2 <= end ? exception(c, begin, begin + 2) : NULL;
    return entry && entry[FACE];
}

/* The end of the mark at `begin`, or `begin`. */
static int prefix(const Cutter *c, int begin, int end) {
    uint32_t first = c->code[begin];
    int at = begin;
    while (at < end && c->code[at] == '.') at++;
    if (at - begin > 1) return at;
    if (first == 'U' && end - begin > 2 && c->code[begin + 1] == 'S' && c->code[begin + 2] == '$') return begin + 3;
    if ((first == 'C' || first == 'A') && end - begin > 1 && c->code[begin + 1] == '$') return begin + 2;
    if (first == '+') return begin + 1 < end && digit(c, begin + 1) ? begin : begin + 1;
    return c->is[begin] & MARK ? begin + 1 : begin;
}

static int is_unit(const Cutter *c, int begin, int end) {
    const char *text = (const char *)c->bytes + c->at[begin];
    size_t size = (size_t)(c->at[end] - c->at[begin]);
    for (const char *unit = c->units; unit[1]; unit += strcspn(unit + 1, "|") + 1)
        if (strcspn(unit + 1, "|") == size && !memcmp(unit + 1, text, size)) return 1;
    return 0;
}

/* The beginning of the mark that ends at `end`, or `end`. */
static int suffix(const Cutter *c, int begin, int end) {
    if (begin == end) return end;
    int last = end - 1, before = last - 1, dots = end, unit = end;
    uint32_t code = c->code[last];
    while (dots > begin && c->code[dots - 1] == '.') dots--;
    if (end - dots > 1) return dots;
    while (unit > begin && unit > end - 5 && !digit(c, unit - 1)) unit--;
    int found = end;
    if (unit < end && unit > begin && digit(c, unit - 1) && is_unit(c, unit, end))
        found = unit;
    else if ((code == 's' || code == 'S') && before >= begin && (c->code[before] == '\'' || c->code[before] == 0x2019))
        found = before;
    else if (c->is[last] & (OPENING | ICON) || code == 0x2014 || code == 0x2013)
        found = last;
    else if (before >= begin && digit(c, before) && (code == '+' || c->is[last] & CURRENCY))
        found = last;
    else if (code == '.' && before >= begin) {
        uint32_t point = c->code[before];
        if (c->is[before] & UPPER ? before > begin && c->is[before - 1] & UPPER
                                  : c->is[before] & (WORD | OPENING) || point == '%' || point == '+' || point == '-')
            found = last;
    }
    return found < end && before >= begin && is_face(c, before, end) ? before : found;
}

/* Whether what is left is one address: scheme, user, host, port, path. */
static int is_address(const Cutter *c, int begin, int end) {
    int starts[4] = {begin}, count = 1, at = begin;
    while (at < end && (c->is[at] & WORD || c->code[at] == '+' || c->code[at] == '.' || c->code[at] == '-')) at++;
    if (at - begin > 1 && end - at > 2 && c->code[at] == ':' && c->code[at + 1] == '/' && c->code[at + 2] == '/')
        starts[count++] = at + 3;
    for (int known = count, start = 0; start < known; start++) {
        for (at = starts[start]; at < end && c->code[at] != '@';) at++;
        if (at < end && at > starts[start]) starts[count++] = at + 1;
    }
    for (int start = 0; start < count; start++) {
        int labels = 0, label = at = starts[start];
        for (;; label = ++at, labels++) {
            while (at < end && (c->is[at] & WORD || c->code[at] == '-')) at++;
            if (at == end || c->code[at] != '.' || at == label || at - label > 64) break;
            if (!is_alnum(c, label) || !is_alnum(c, at - 1)) break;
        }
        for (at = label; at < end && c->is[at] & LETTER && !(c->code[at] - 'A' < 26);) at++;
        if (!labels || at - label < 2 || at - label > 63) continue;
        if (at < end && c->code[at] == ':') {
            int port = ++at;
            while (at < end && is_alnum(c, at) && !(c->is[at] & LETTER)) at++;
            if (at - port < 2 || at - port > 5) continue;
        }
        if (at == end || c->code[at] == '/' || c->code[at] == '?' || c->code[at] == '#') return 1;
    }
    return 0;
}

static int is_dash(uint32_t code) { return code == '-' || code == 0x2013 || code == 0x2014 || code == '~'; }

/* The end of the mark at `at`, with something before it or not, or `at`. */
static int infix(const Cutter *c, int begin, int at, int end) {
    uint32_t code = c->code[at];
    int stop = at;
    while (stop < end && c->code[stop] == '.') stop++;
    if (stop - at > 1) return stop;
    if (code == 0x2026 || c->is[at] & ICON) return at + 1;
    if (at == begin || at + 1 == end) return at;
    int before = c->is[at - 1], after = c->is[at + 1];
    if ((code == '+' || code == '-' || code == '*' || code == '^') && digit(c, at - 1) &&
        (digit(c, at + 1) || c->code[at + 1] == '-'))
        return at + 1;
    if (code == '.')
        return ((before & LETTER && !(before & UPPER)) || before & QUOTE) && after & (UPPER | QUOTE) ? at + 1 : at;
    if (code == ',') return before & after & LETTER ? at + 1 : at;
    if (!is_alnum(c, at - 1)) return at;
    if (is_dash(code)) {
        int most = code == '-' ? 3 : code == 0x2014 ? 2 : 1;
        for (int size = most; size > 0; size--) {
            for (stop = at; stop < end && stop < at + size && c->code[stop] == code;) stop++;
            if (stop == at + size && stop < end && c->is[stop] & LETTER) return stop;
        }
        return at;
    }
    return (code == ':' || code == '<' || code == '>' || code == '=' || code == '/') && after & LETTER ? at + 1 : at;
}

/* Where `am` or `pm` begins in a time of day without minutes, or `begin`. */
static int end_of_hour(const Cutter *c, int begin, int end) {
    int hour = begin;
    while (hour < end && hour - begin < 2 && digit(c, hour)) hour++;
    const uint8_t *rest = c->bytes + c->at[hour];
    int size = c->at[end] - c->at[hour], two = hour - begin == 2;
    if (hour == begin || c->code[begin] == '0' || (two && (c->code[begin] > '1' || c->code[begin + 1] > '2')))
        return begin;
    int is_half = size == 2 && (!memcmp(rest, "am", 2) || !memcmp(rest, "pm", 2));
    return is_half || (size == 4 && (!memcmp(rest, "a.m.", 4) || !memcmp(rest, "p.m.", 4))) ? hour : begin;
}

/* Whether it is letters of ASCII with hyphens between, or digits of ASCII. */
static int is_plain(const Cutter *c, int begin, int end) {
    if (digit(c, begin)) {
        while (begin < end && digit(c, begin)) begin++;
        return begin == end;
    }
    for (int at = begin; at < end; at++) {
        int letter = (c->code[at] | 32) - 'a' < 26;
        if (!letter && !(c->code[at] == '-' && at > begin && c->code[at - 1] != '-' && at + 1 < end)) return 0;
    }
    return 1;
}
