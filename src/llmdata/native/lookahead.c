/* Texts with marks, to count words without looking ahead (tokenizer/lookahead.py). */
#include "native.h"

static const char MARK[] = "\xef\xb7\x90"; /* U+FDD0 */
enum { WIDTH = 3 };

static const uint8_t MAY_BE_BLANK[256] = {['\t' ... '\r'] = 1, [' '] = 1, [0xC2] = 1, [0xE1 ... 0xE3] = 1};

/* Bytes of the blank (Unicode's White_Space) that begins at text[0], in UTF-8; 0 if none does. */
static int blank_width(const uint8_t *text, ptrdiff_t left) {
    if (text[0] <= ' ')
        return MAY_BE_BLANK[text[0]];
    if (text[0] == 0xC2 && left > 1)
        return text[1] == 0x85 || text[1] == 0xA0 ? 2 : 0;
    if (text[0] < 0xE1 || text[0] > 0xE3 || left < 3)
        return 0;
    uint32_t code = (uint32_t)text[0] << 16 | (uint32_t)text[1] << 8 | text[2];
    return code == 0xE19A80 || (code >= 0xE28080 && code <= 0xE2808A) || code == 0xE280A8 || code == 0xE280A9 ||
                   code == 0xE280AF || code == 0xE2819F || code == 0xE38080
               ? 3
               : 0;
}

/* The texts that end at `ends` with marks: between two, before the last of several blanks that something follows (a line
   break only if `lines`), and at `inside`, places in order. `marked` has room for four times the bytes. `cuts` gets the
   first mark behind every `size` bytes, and then the size of all; returns how many before that. */
ptrdiff_t mark_blanks(const uint8_t *raw, const int64_t *ends, ptrdiff_t texts, const int64_t *inside,
                      ptrdiff_t inside_count, ptrdiff_t lines, ptrdiff_t size, uint8_t *marked, int64_t *cuts) {
    ptrdiff_t copied = 0, written = 0, target = size, count = 0, next = 0, start = 0;
    ptrdiff_t total = texts ? (ptrdiff_t)ends[texts - 1] : 0;
    for (ptrdiff_t text = 0; text < texts; start = (ptrdiff_t)ends[text++]) {
        ptrdiff_t end = (ptrdiff_t)ends[text], behind_blank = 0;
        for (ptrdiff_t at = start; at < end;) {
            ptrdiff_t from = at, stop = next < inside_count && inside[next] < end ? inside[next] : end;
            while (at > start && at < stop && !MAY_BE_BLANK[raw[at]])
                at++;
            if (at > from) {
                behind_blank = 0;
                continue;
            }
            int width = MAY_BE_BLANK[raw[at]] ? blank_width(raw + at, end - at) : 0;
            int here = (at == start && at > 0) || (next < inside_count && inside[next] == at);
            next += next < inside_count && inside[next] == at;
            if (width && behind_blank && at + width < end && !blank_width(raw + at + width, end - at - width))
                here |= lines || (raw[at] != '\n' && raw[at] != '\r');
            if (here) {
                memcpy(marked + written, raw + copied, (size_t)(at - copied));
                written += at - copied;
                copied = at;
                if (written >= target) {
                    cuts[count++] = written;
                    target = (written / size + 1) * size;
                }
                memcpy(marked + written, MARK, WIDTH);
                written += WIDTH;
            }
            behind_blank = width;
            at += width ? width : 1;
        }
    }
    memcpy(marked + written, raw + copied, (size_t)(total - copied));
    cuts[count] = written + total - copied;
    return count;
}
