/* The tokens of pieces of text (words.py has the rules as regular expressions, and what is left to them here). */
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

static void add_token(Cutter *c, int begin, int end) {
    int size = c->at[end] - c->at[begin], letters = 0, marks = 0;
    for (int place = begin; place < end; place++) {
        letters += !!(c->is[place] & ALPHA);
        marks += !!(c->is[place] & PUNCTUATION);
    }
    int whole = end - begin;
    if (size > XXH3_LONGEST) {
        c->failed = 1;
        return;
    }
    c->hashes[c->used] = xxh3(c->bytes + c->at[begin], size, 0);
    c->lengths[c->used] = whole;
    c->kinds[c->used++] = letters == whole ? 1 : marks == whole ? 2 : letters > 0;
}

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

static void add_parts(Cutter *c, const uint8_t *entry, int begin) {
    for (int part = 0; part < PARTS && entry[KEY + part]; part++) {
        int end = begin, stop = c->at[begin] + entry[KEY + part];
        while (c->at[end] < stop) end++;
        add_token(c, begin, end);
        begin = end;
    }
}

static void add_word(Cutter *c, int begin, int end) {
    const uint8_t *entry = exception(c, begin, end);
    if (entry) add_parts(c, entry, begin);
    else if (begin < end) add_token(c, begin, end);
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
            if (!(c->is[label] & WORD && c->is[at - 1] & WORD) || c->code[label] == '_' || c->code[at - 1] == '_') break;
        }
        for (at = label; at < end && c->is[at] & LETTER && !(c->code[at] - 'A' < 26);) at++;
        if (!labels || at - label < 2 || at - label > 63) continue;
        if (at < end && c->code[at] == ':') {
            int port = ++at;
            while (at < end && c->is[at] & WORD && !(c->is[at] & LETTER) && c->code[at] != '_') at++;
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
    if (!(before & WORD) || c->code[at - 1] == '_') return at;
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

/* Tokens of what has lost its marks at both ends. */
static void add_inner(Cutter *c, int begin, int end) {
    if (begin == end) return;
    const uint8_t *entry = exception(c, begin, end);
    if (entry) {
        add_parts(c, entry, begin);
        return;
    }
    int hour = begin, dotted = 0;
    while (hour < end && hour - begin < 2 && digit(c, hour)) hour++;
    const uint8_t *rest = c->bytes + c->at[hour];
    int size = c->at[end] - c->at[hour];
    if (hour > begin && (hour - begin == 1 ? c->code[begin] != '0' : c->code[begin] == '1' && c->code[begin + 1] < '3') &&
        ((size == 2 && (!memcmp(rest, "am", 2) || !memcmp(rest, "pm", 2))) ||
         (size == 4 && (!memcmp(rest, "a.m.", 4) || !memcmp(rest, "p.m.", 4))))) {
        add_token(c, begin, hour);
        add_token(c, hour, end);
        return;
    }
    for (int at = begin; at < end; at++) dotted |= c->code[at] == '.';
    if (dotted && is_address(c, begin, end)) {
        add_token(c, begin, end);
        return;
    }
    int start = begin;
    for (int at = begin; at < end;) {
        int stop = infix(c, begin, at, end);
        if (stop == at) {
            at++;
            continue;
        }
        if (start < at) add_token(c, start, at);
        add_token(c, at, stop);
        start = at = stop;
    }
    if (start < end) add_token(c, start, end);
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

static void add_hyphened(Cutter *c, int begin, int end) {
    for (int at = begin; at < end; at++)
        if (c->code[at] == '-') {
            add_token(c, begin, at);
            add_token(c, at, at + 1);
            begin = at + 1;
        }
    add_token(c, begin, end);
}

/* Tokens of what lies between two white spaces; 0 if it has more marks than these rules are for. */
static int add_all(Cutter *c, int begin, int end) {
    int last = end - 1, heads = 0, tails = 0, tail[MOST_MARKS + 2], stop = end;
    uint32_t code = c->code[last];
    if (exception(c, begin, end) || all(c, begin, end, ALPHA)) {
        add_word(c, begin, end);
        return 1;
    }
    int is_mark = code == '.' ? last > begin && c->is[last - 1] & LOWER
                              : code == 0x201d || (code && code < 128 && strchr(",:;!?)\"", (int)code));
    if (last > begin && is_mark && all(c, begin, last, ALPHA)) {
        add_word(c, begin, last);
        add_token(c, last, end);
        return 1;
    }
    while (begin < stop && !exception(c, begin, stop)) {
        if (is_plain(c, begin, stop)) {
            add_hyphened(c, begin, stop);
            begin = stop;
            break;
        }
        if (heads + tails > MOST_MARKS) return 0;
        int inner = prefix(c, begin, stop), before = stop;
        if (inner > begin) {
            if (is_face(c, begin, stop)) inner = begin + 2;
            add_token(c, begin, inner);
            heads++;
            if (exception(c, inner, stop)) {
                begin = inner;
                break;
            }
        }
        stop = suffix(c, inner, stop);
        if (stop < before) tail[tails++] = stop;
        else if (inner == begin) break;
        begin = inner;
    }
    add_inner(c, begin, stop);
    while (tails--) {
        int next = tails ? tail[tails - 1] : end;
        add_token(c, tail[tails], next);
    }
    return 1;
}

/* Reads the characters of a piece; 0 if it has one of no known class, or one of a script without spaces. */
static int read_piece(Cutter *c, const uint8_t *bytes, ptrdiff_t size, int *length) {
    ptrdiff_t at = 0;
    int count = 0;
    while (at < size) {
        uint8_t byte = bytes[at];
        int more = byte < 0x80 ? 0 : byte < 0xe0 ? 1 : byte < 0xf0 ? 2 : 3;
        if (count == LONGEST || size - at <= more) return 0;
        uint32_t code = more ? byte & (0x3fu >> more) : byte;
        c->at[count] = (int16_t)at++;
        for (; more; more--) code = code << 6 | (bytes[at++] & 0x3f);
        if (code >= CODES || !(c->classes[code] & KNOWN) || c->classes[code] & UNSPACED) return 0;
        c->code[count] = code;
        c->is[count++] = c->classes[code];
    }
    c->at[count] = (int16_t)size;
    c->bytes = bytes;
    *length = count;
    return 1;
}

/* Cuts those of the pieces `numbers` that were not yet cut (their `first` is -1) into tokens, each added to the columns
   behind the `used` that are there, and tells where those of each piece stand (`first`, `counts`). Begins at the place
   `at` and stops where there may be no `room` for the tokens of a piece. Gives back how many pieces were left to other
   rules; `left` says which, and their `first` becomes -2. */
ptrdiff_t words_cut(const int64_t *numbers, ptrdiff_t count, const uint8_t *known, const int64_t *ends,
                    const uint16_t *classes, const uint8_t *exceptions, ptrdiff_t exception_count, const char *units,
                    int64_t *first, int64_t *counts, uint64_t *hashes, int64_t *lengths, uint8_t *kinds, ptrdiff_t room,
                    int64_t *used, int64_t *left, int64_t *at) {
    Cutter cutter = {.classes = classes, .exceptions = exceptions, .exception_count = exception_count, .units = units,
                     .hashes = hashes, .lengths = lengths, .kinds = kinds};
    ptrdiff_t remaining = 0;
    for (; *at < count && *used + 4 * LONGEST <= room; ++*at) {
        int64_t number = numbers[*at], size = ends[number + 1] - ends[number];
        if (first[number] != -1) continue;
        int length, whole = size <= 4 * LONGEST && read_piece(&cutter, known + ends[number], size, &length);
        cutter.used = *used;
        cutter.failed = 0;
        for (int place = 0, begin; whole && place < length;) {
            for (begin = place; place < length && !(cutter.is[place] & BLANK);) place++;
            if (begin < place) whole = add_all(&cutter, begin, place) && !cutter.failed;
            else place++;
        }
        if (whole) {
            first[number] = *used;
            counts[number] = cutter.used - *used;
            *used = cutter.used;
        } else {
            first[number] = -2;
            left[remaining++] = number;
        }
    }
    return remaining;
}
