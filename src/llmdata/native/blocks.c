/* One walk over a page's tree (clean/extractor/blocks.py; `_walk` there says the same in Python).

   All that is written goes to arrays of Python's. What finds no room is left out, and the caller is told to come again with
   larger ones. */
#include "lexbor.h"
#include "table.h"
#include "writer.h"

enum { INLINE, BLOCK, EMPTY, DROPPED, LINK, BR, IMG, HR, TITLE, META, SCRIPT }; /* `_KINDS` */
enum { LONGEST_WORD = 40 };

typedef struct { int64_t mask, container, path, link_chars, links, images, indent; } Block;
typedef struct { int64_t parent, path, start, end; } Container;
typedef struct { int64_t parent, tag, name, length, hash; } Path;
typedef struct { int64_t node, mask, path, is_block; } Open;

typedef struct {
    Lexbor lexbor;
    const Node *document, *body, *unseen;  /* `unseen` is the outermost element around that is not shown */
    int is_inside;                         /* the body */
    Table words;                           /* tags, and attributes with their values */
    const int64_t *meanings;               /* of each word: bits × 16 + kind */
    const uint32_t *zeros;                 /* the digit 0 of each script, ascending */
    ptrdiff_t scripts, room;               /* room for so many elements, and so for what there are no more of */
    int64_t link, pre, hidden;             /* bits */
    Buffer names, head;
    const uint8_t *names_start;
    Block *blocks;
    Container *containers;
    Path *paths;
    Open *open;
    int64_t *known;                        /* twice `room`: numbers of paths, 1 the first, by their hash */
    int64_t n_blocks, n_containers, n_paths, depth, container;
    int is_short, is_begun;                /* a room; the block in hand */
    Writer writer;
    Block block;
} Walk;

/* What the word `first` + `second` means; 0 if it is none of those known. */
static int64_t meaning(const Walk *w, const char *first, const uint8_t *second, size_t length) {
    uint8_t word[LONGEST_WORD];
    size_t before = strlen(first);
    if (before + length > sizeof word) return 0;
    memcpy(word, first, before);
    memcpy(word + before, second, length);
    int32_t number = look_up(&w->words, word, before + length, 0);
    return number < 0 ? 0 : w->meanings[number];
}

static int is_digit(const Walk *w, uint32_t point) { /* as str.isdecimal(); all digits come in tens */
    ptrdiff_t low = 0, high = w->scripts;
    while (low < high) {
        ptrdiff_t middle = (low + high) / 2;
        if (w->zeros[middle] + 9 < point) low = middle + 1;
        else high = middle;
    }
    return low < w->scripts && point >= w->zeros[low];
}

/* The end of the block in hand. */
static void flush(Walk *w) {
    if (w->is_begun && finish(&w->writer)) {
        w->block.container = w->container;
        if (w->n_blocks == w->room) w->is_short = 1;
        else w->blocks[w->n_blocks++] = w->block;
        w->block.images = 0;
    }
    if (w->is_begun) w->block.link_chars = w->block.links = 0;
    w->is_begun = 0;
    w->block.indent = 0;
}

/* The column in a line of code behind the blanks from `at` to `end`, which begin at `column`. */
static int64_t column_behind(int64_t column, const uint8_t *at, const uint8_t *end) {
    for (size_t length; at < end; at += length) {
        uint32_t point = character(at, end, &length);
        if (point == '\n' || point == '\r') column = 0;
        else column += point == '\t' ? 4 - column % 4 : 1;
    }
    return column;
}

static void see_text(Walk *w, const Node *node) {
    size_t length = 0, step;
    uint8_t *text = w->lexbor.text(node, &length);
    if (!text) return;
    const uint8_t *at = text, *end = text + length;
    while (at < end && is_blank(character(at, end, &step))) at += step;
    const Open *around = &w->open[w->depth - 1];
    if (at == end) {
        if (!w->is_begun && around->mask & w->pre) w->block.indent = column_behind(w->block.indent, text, end);
    } else {
        if (!w->is_begun) {
            for (const uint8_t *k = text; k < at; k++)
                if (*k == '\n' || *k == '\r') w->block.indent = 0;
            w->is_begun = 1;
            begin(&w->writer, (around->mask & w->pre) != 0);
            w->block.mask = around->mask;
            w->block.path = around->path;
        }
        if (around->mask & w->link)
            for (at = text; at < end; at++) w->block.link_chars += (*at & 0xC0) != 0x80; /* characters */
    }
    if (w->is_begun) write_text(&w->writer, text, end);
    if (w->document) w->lexbor.free_text(w->document, text);
}

/* Whether a style says `name:value`, blanks between them, in any case. */
static int says(const uint8_t *at, const uint8_t *end, const char *name, const char *value) {
    size_t before = strlen(name), after = strlen(value), length;
    for (; (size_t)(end - at) >= before + after; at++) {
        if (!is_lower(at, name, before)) continue;
        const uint8_t *next = at + before;
        while (next < end && is_blank(character(next, end, &length))) next += length;
        if ((size_t)(end - next) >= after && is_lower(next, value, after)) return 1;
    }
    return 0;
}

/* The bits that an element's attributes add; its class and id, without digits, go to `names`. */
static int64_t read_attributes(Walk *w, const Node *node) {
    const uint8_t *class = NULL, *id = NULL, *style = NULL;
    size_t class_length = 0, id_length = 0, style_length = 0;
    int is_hidden = 0;
    int64_t bits = 0;
    for (const Attribute *a = w->lexbor.first_attribute(node); a; a = w->lexbor.next_attribute(a)) {
        size_t length = 0, size = 0;
        const uint8_t *name = w->lexbor.name(a, &length), *value = w->lexbor.value(a, &size);
        if (!name) continue;
        if (IS(name, length, "hidden")) is_hidden = 1;
        if (!value) continue;
        if (IS(name, length, "class")) class = value, class_length = size;
        else if (IS(name, length, "id")) id = value, id_length = size;
        else if (IS(name, length, "style")) style = value, style_length = size;
        else if (IS(name, length, "role")) bits |= meaning(w, "role ", value, size) >> 4;
        else if (IS(name, length, "itemprop")) bits |= meaning(w, "itemprop ", value, size) >> 4;
        else if (IS(name, length, "aria-hidden")) bits |= meaning(w, "aria-hidden ", value, size) >> 4;
    }
    if (!is_hidden && style_length)
        is_hidden = says(style, style + style_length, "display:", "none") ||
                    says(style, style + style_length, "visibility:", "hidden");
    if (class_length) put(&w->names, class, class_length);
    if (id_length) put(&w->names, " ", 1);
    for (size_t k = 0, length; k < id_length; k += length) {
        uint32_t point = character(id + k, id + id_length, &length);
        if (point < 0x80 ? point < '0' || point > '9' : !is_digit(w, point)) put(&w->names, id + k, length);
    }
    return is_hidden ? bits | w->hidden : bits;
}

static uint64_t hash(uint64_t seed, const uint8_t *bytes, size_t length) { /* FNV-1a */
    for (size_t k = 0; k < length; k++) seed = (seed ^ bytes[k]) * 0x100000001b3u;
    return seed;
}

/* The number of the path that `tag` and the name at `name`, to the end of `names`, make below `parent`. */
static int64_t path_of(Walk *w, int64_t parent, const Node *node, uint8_t *begin, uint8_t *name) {
    size_t length = (size_t)(w->names.at - name);
    int64_t tag = (int64_t)w->lexbor.tag_id(node);
    /* No two pages share a seed, so nobody can make names that all fall together. */
    uint64_t key = hash((uint64_t)(uintptr_t)w->body ^ ((uint64_t)parent << 32) ^ (uint64_t)tag, name, length);
    key ^= key >> 32;
    size_t slots = (size_t)(2 * w->room), slot = key % slots;
    for (; w->known[slot]; slot = slot + 1 == slots ? 0 : slot + 1) {
        const Path *path = &w->paths[w->known[slot] - 1];
        if (path->hash == (int64_t)key && path->parent == parent && path->tag == tag && path->length == (int64_t)length &&
            !memcmp(w->names_start + path->name, name, length)) {
            w->names.at = begin;
            return w->known[slot] - 1;
        }
    }
    put(&w->names, "", 1);
    if (w->n_paths == w->room || w->names.is_short) w->is_short = 1;
    if (w->is_short) return 0;
    w->paths[w->n_paths] = (Path){parent, tag, name - w->names_start, (int64_t)length, (int64_t)key};
    w->known[slot] = ++w->n_paths;
    return w->n_paths - 1;
}

/* A visible element begins, which may hold others. */
static void enter(Walk *w, const Node *node, const uint8_t *tag, size_t length, int64_t means) {
    int kind = (int)(means & 15), is_block = kind == BLOCK;
    Open around = w->depth ? w->open[w->depth - 1] : (Open){0, 0, -1, 0};
    uint8_t *begin = w->names.at;
    put(&w->names, tag, length);
    put(&w->names, "", 1);
    uint8_t *name = w->names.at;
    int64_t mask = around.mask | means >> 4 | read_attributes(w, node);
    int64_t path = path_of(w, around.path, node, begin, name);
    if (w->depth == w->room || w->n_containers == w->room) w->is_short = 1;
    if (w->is_short) return;
    w->open[w->depth++] = (Open){(int64_t)(uintptr_t)node, mask, path, is_block};
    if (is_block) {
        flush(w);
        w->containers[w->n_containers] = (Container){w->container, path, w->n_blocks, 0};
        w->container = w->n_containers++;
    } else if (kind == LINK) w->block.links++;
}

static void leave(Walk *w, const Node *node) {
    if (node == w->unseen) w->unseen = NULL;
    if (!w->depth || w->open[w->depth - 1].node != (int64_t)(uintptr_t)node) return;
    if (w->open[--w->depth].is_block) {
        flush(w);
        w->containers[w->container].end = w->n_blocks;
        w->container = w->containers[w->container].parent;
    }
    if (node == w->body) w->is_inside = 0;
}

/* What the page says of itself goes to `head`: t for its title, o for og:type, l for linked data. */
static void note(Walk *w, const Node *node, int kind) {
    size_t length = 0, size = 0;
    if (kind == META) {
        const uint8_t *name = attribute(&w->lexbor, node, "property", &length), *content = NULL;
        if (!length) name = attribute(&w->lexbor, node, "name", &length);
        if (length != 7 || !is_lower(name, "og:type", 7)) return;
        content = attribute(&w->lexbor, node, "content", &size);
        put(&w->head, "o", 1);
        if (size) put(&w->head, content, size);
    } else {
        if (kind == SCRIPT) {
            const uint8_t *type = attribute(&w->lexbor, node, "type", &length);
            if (!length || !IS(type, length, "application/ld+json")) return;
        }
        uint8_t *text = w->lexbor.text(node, &size);
        put(&w->head, kind == TITLE ? "t" : "l", 1);
        if (text && size) put(&w->head, text, size);
        if (text && w->document) w->lexbor.free_text(w->document, text);
    }
    put(&w->head, "", 1);
}

/* Returns whether what is below `node` is to be looked at. */
static int visit(Walk *w, const Node *node) {
    unsigned type = w->lexbor.type(node);
    int is_seen = w->is_inside && !w->unseen;
    if (type == TEXT && is_seen) see_text(w, node);
    if (type != ELEMENT) return 0;
    size_t length = 0;
    const uint8_t *tag = w->lexbor.tag(node, &length);
    if (!tag) return 0;
    int64_t means = meaning(w, "", tag, length);
    int kind = (int)(means & 15);
    if (kind >= TITLE) note(w, node, kind);
    if (node == w->body) w->is_inside = is_seen = 1;
    if (!is_seen) return 1;
    switch (kind) {
    case BR:
        if (w->is_begun) write_break(&w->writer);
        else w->block.indent = 0;
        return 0;
    case HR:
        flush(w);
        return 0;
    case IMG:
        w->block.images++;
        return 0;
    case META:
    case EMPTY:
        return 0;
    case SCRIPT:
    case DROPPED:
        w->unseen = node;
        return 1;
    default:
        enter(w, node, tag, length, means);
        return 1;
    }
}

/* Walk from `root`; `body` is 0 where there is none to read. `rooms` says how much of `text`, `names` and `head` there is,
   and then how much of each was used, and how many blocks, containers and paths there are. Returns 1 if a room was short. */
ptrdiff_t blocks_walk(const uint64_t *functions, ptrdiff_t root, ptrdiff_t body, const char *words, const int64_t *starts,
                      const int32_t *slots, ptrdiff_t n_slots, const int64_t *meanings, const int64_t *bits, const uint32_t *zeros, ptrdiff_t scripts, ptrdiff_t room,
                      int64_t *rooms, uint8_t *text, uint8_t *names, uint8_t *head, int64_t *blocks, int64_t *containers,
                      int64_t *paths, int64_t *open, int64_t *known) {
    const Node *top = (const Node *)root, *node = top;
    Walk w = {
        .body = (const Node *)body, .words = {(const uint8_t *)words, starts, slots, (size_t)n_slots - 1}, .meanings = meanings, .zeros = zeros,
        .scripts = scripts, .room = room, .link = bits[0], .pre = bits[1], .hidden = bits[2],
        .names = {names, names + rooms[1], 0},
        .head = {head, head + rooms[2], 0}, .writer = {.buffer = {text, text + rooms[0], 0}},
        .names_start = names, .blocks = (Block *)blocks, .containers = (Container *)containers, .paths = (Path *)paths,
        .open = (Open *)open, .known = known, .container = -1,
    };
    memcpy(&w.lexbor, functions, sizeof w.lexbor);
    for (const Node *above = top; above; above = w.lexbor.parent(above))
        if (w.lexbor.type(above) == DOCUMENT) w.document = above;
    while (node && !w.is_short) {
        const Node *child = visit(&w, node) ? w.lexbor.first_child(node) : NULL;
        if (child) {
            node = child;
            continue;
        }
        while (node) {
            leave(&w, node);
            const Node *next = node == top ? NULL : w.lexbor.next(node);
            if (next || node == top) {
                node = next;
                break;
            }
            node = w.lexbor.parent(node);
        }
    }
    rooms[0] = w.writer.buffer.at - text;
    rooms[1] = w.names.at - names;
    rooms[2] = w.head.at - head;
    rooms[3] = w.n_blocks;
    rooms[4] = w.n_containers;
    rooms[5] = w.n_paths;
    return w.is_short || w.names.is_short || w.head.is_short || w.writer.buffer.is_short;
}
