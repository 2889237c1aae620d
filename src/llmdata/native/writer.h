/* How the texts of a page become the text of a block. */
#ifndef WRITER_H
#define WRITER_H
#include "utf8.h"

enum { NOTHING, SPACE, LINE }; /* between two words */
enum { BREAK = 0xE000 };       /* a private character that stands for <br> */

/* Room for bytes; what finds none is left out, and `is_short` says so. */
typedef struct { uint8_t *at, *end; int is_short; } Buffer;

/* The block in hand. */
typedef struct {
    Buffer buffer;
    uint8_t *start, *solid; /* where its text begins, and where its last character but blanks ends */
    int is_code, gap;
    int64_t column;
} Writer;

static inline void put(Buffer *buffer, const void *bytes, size_t length) {
    if ((size_t)(buffer->end - buffer->at) < length) {
        buffer->is_short = 1;
        return;
    }
    memcpy(buffer->at, bytes, length);
    buffer->at += length;
}

static inline void begin(Writer *w, int is_code) {
    w->start = w->solid = w->buffer.at;
    w->is_code = is_code;
    w->gap = NOTHING;
    w->column = 0;
}

/* One more character, where any run of blanks is one. */
static inline void write_prose(Writer *w, uint32_t point, const uint8_t *bytes, size_t length) {
    if (point == BREAK || is_blank(point)) {
        int gap = point == BREAK ? LINE : SPACE;
        if (gap > w->gap) w->gap = gap;
        return;
    }
    if (w->gap && w->buffer.at > w->start) put(&w->buffer, w->gap == LINE ? "\n" : " ", 1);
    w->gap = NOTHING;
    put(&w->buffer, bytes, length);
    w->solid = w->buffer.at;
}

/* One more character of code, which keeps its blanks but for lines at its beginning: "\r\n" is a line's end, a tab goes to
   the next column that 4 divides. */
static inline void write_code(Writer *w, uint32_t point, const uint8_t *bytes, size_t length) {
    if (point == BREAK || point == '\n') {
        if (w->buffer.at > w->start && w->buffer.at[-1] == '\r') w->buffer.at--;
        if (w->buffer.at > w->start) put(&w->buffer, "\n", 1);
        w->column = 0;
    } else if (point == '\t') {
        put(&w->buffer, "    ", (size_t)(4 - w->column % 4));
        w->column += 4 - w->column % 4;
    } else {
        put(&w->buffer, bytes, length);
        w->column = point == '\r' ? 0 : w->column + 1;
        if (!is_blank(point)) w->solid = w->buffer.at;
    }
}

static inline void write_text(Writer *w, const uint8_t *at, const uint8_t *end) {
    for (size_t length; at < end; at += length) {
        uint32_t point = character(at, end, &length);
        if (!point) continue; /* Lexbor leaves none; here it parts blocks */
        if (w->is_code) write_code(w, point, at, length);
        else write_prose(w, point, at, length);
    }
}

static inline void write_break(Writer *w) {
    static const uint8_t character[] = {0xEE, 0x80, 0x80};
    write_text(w, character, character + sizeof character);
}

/* Ends the text, without blanks behind it; whether there is any. */
static inline int finish(Writer *w) {
    w->buffer.at = w->solid;
    if (w->solid == w->start) return 0;
    put(&w->buffer, "", 1);
    return 1;
}

#endif
