/* What the extractor counts and looks up for every block, container and path (clean/extractor/features.py). */
#include "table.h"

/* How many characters of each kind each text has, added to `counts`: (texts, n_kinds). `lengths` are in characters, `kinds`
   is asked about the basic plane. */
ptrdiff_t count_characters(const char *bytes, ptrdiff_t size, const int64_t *lengths, ptrdiff_t texts, const uint8_t *kinds,
                           ptrdiff_t n_kinds, double *counts) {
    const uint8_t *at = (const uint8_t *)bytes, *end = at + size;
    for (ptrdiff_t text = 0; text < texts; text++, counts += n_kinds)
        for (int64_t k = 0; k < lengths[text] && at < end; k++) {
            size_t length;
            uint32_t point = character(at, end, &length);
            counts[kinds[point < 0xFFFF ? point : 0xFFFF]] += 1;
            at += length;
        }
    return 0;
}

/* Fills the slots, more than there are words, of a table with all of them. */
ptrdiff_t table_fill(const char *letters, const int64_t *starts, ptrdiff_t words, int32_t *slots, ptrdiff_t n_slots) {
    size_t mask = (size_t)n_slots - 1;
    for (ptrdiff_t word = 0; word < words; word++) {
        size_t length = (size_t)(starts[word + 1] - starts[word]);
        size_t slot = slot_of(slots, mask, (const uint8_t *)letters + starts[word], length);
        while (slots[slot]) slot = (slot + 1) & mask;
        slots[slot] = (int32_t)(word + 1);
    }
    return 0;
}

/* The numbers of all words between blanks. */
static int32_t *look_up_words(const Table *table, const uint8_t *at, const uint8_t *end, int32_t *found) {
    const uint8_t *word = NULL;
    for (size_t length; at < end; at += length) {
        if (!is_blank(character(at, end, &length))) {
            if (!word) word = at;
        } else if (word) {
            *found++ = look_up(table, word, (size_t)(at - word), 1);
            word = NULL;
        }
    }
    if (word) *found++ = look_up(table, word, (size_t)(end - word), 1);
    return found;
}

static const uint8_t *run(const uint8_t *at, const uint8_t *end, uint8_t first, uint8_t last) {
    while (at < end && *at >= first && *at <= last) at++;
    return at;
}

/* The numbers of the parts of a name, as `_SPLIT_NAME` cuts it; all are of ASCII's letters. */
static int32_t *look_up_parts(const Table *table, const uint8_t *at, const uint8_t *end, int32_t *found) {
    while (at < end) {
        const uint8_t *capitals = run(at, end, 'A', 'Z'), *part = run(capitals, end, 'a', 'z');
        if (part == at) {
            at++;
            continue;
        }
        if (capitals > at && part > capitals && capitals - at > 1) part = capitals - 1; /* of XMLHttp, XML */
        *found++ = look_up(table, at, (size_t)(part - at), 1);
        at = part;
    }
    return found;
}

/* For each of `items`, each ended by a zero, the numbers of its words, -1 for those that the table has not, and how many
   they are. `lowered` are the items in lower case. `names` are the same in their own case, and their parts are looked up
   too, and -1 follows each; or it is empty. There is room for two numbers more than each item has bytes in both. */
ptrdiff_t table_look_up(const char *lowered, const char *names, ptrdiff_t are_names, ptrdiff_t items, const char *letters,
                        const int64_t *starts, const int32_t *slots, ptrdiff_t n_slots, int32_t *found, int64_t *sizes) {
    Table table = {(const uint8_t *)letters, starts, slots, (size_t)n_slots - 1};
    const uint8_t *low = (const uint8_t *)lowered, *name = (const uint8_t *)names;
    int32_t *next = found;
    for (ptrdiff_t item = 0; item < items; item++) {
        int32_t *before = next;
        size_t length = strlen((const char *)low);
        next = look_up_words(&table, low, low + length, next);
        if (are_names) {
            size_t own = strlen((const char *)name);
            if (own != length || memcmp(low, name, length)) next = look_up_parts(&table, name, name + own, next);
            else if (run(low, low + length, 'a', 'z') < low + length) next = look_up_parts(&table, low, low + length, next);
            *next++ = -1;
            name += own + 1;
        }
        low += length + 1;
        sizes[item] = next - before;
    }
    return next - found;
}

/* For each path, which comes after its parent: how deep it lies, and of the least and most log-odds of names the least, the
   most and the sum on the way to it. */
ptrdiff_t paths_inherit(const int64_t *parents, ptrdiff_t paths, const double *floors, const double *tops, double *low,
                        double *high, double *total) {
    for (ptrdiff_t path = 0; path < paths; path++) {
        int64_t parent = parents[path];
        double above_low = parent < 0 ? 0 : low[parent], above_high = parent < 0 ? 0 : high[parent];
        low[path] = floors[path] < above_low ? floors[path] : above_low;
        high[path] = tops[path] > above_high ? tops[path] : above_high;
        total[path] = (parent < 0 ? 0 : total[parent]) + floors[path] + tops[path];
    }
    return 0;
}

ptrdiff_t paths_depth(const int64_t *parents, ptrdiff_t paths, int64_t *depth) {
    for (ptrdiff_t path = 0; path < paths; path++) depth[path] = parents[path] < 0 ? 0 : depth[parents[path]] + 1;
    return 0;
}

/* For each container the next around it that holds more blocks; the outermost stands for itself. */
ptrdiff_t containers_larger(const int64_t *parents, const int64_t *starts, const int64_t *ends, ptrdiff_t containers,
                            int64_t *larger) {
    for (ptrdiff_t c = 0; c < containers; c++) {
        int64_t parent = parents[c];
        larger[c] = parent < 0 ? 0 : starts[parent] == starts[c] && ends[parent] == ends[c] ? larger[parent] : parent;
    }
    return 0;
}
