/* The tokens of pieces of text, by the rules of words.py, which also says what is left to it. */
#include "marks.h"

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

/* Tokens of what has lost its marks at both ends. */
static void add_inner(Cutter *c, int begin, int end) {
    if (begin == end) return;
    const uint8_t *entry = exception(c, begin, end);
    if (entry) {
        add_parts(c, entry, begin);
        return;
    }
    int hour = end_of_hour(c, begin, end), dotted = 0;
    if (hour > begin) {
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
   rules; `left` says which, some more than once. */
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
            left[remaining++] = number;
        }
    }
    return remaining;
}
