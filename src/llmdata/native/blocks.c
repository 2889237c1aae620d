/* One walk over a page's tree (clean/extractor/blocks.py; the walk in Python there says the same).

   The tree is Lexbor's. It is read by Lexbor's own functions alone, whose addresses Python finds in the library that made
   it, so nothing here knows how a node lies in memory. Whatever is written goes to arrays of Python's; what finds no room is
   left out, and the caller is told to come again with larger ones. */
#include "utf8.h"

typedef struct lxb_dom_node Node;
typedef struct lxb_dom_attr Attribute;

typedef struct { /* in the order of `_FUNCTIONS` */
    const Node *(*first_child)(const Node *), *(*next)(const Node *), *(*parent)(const Node *);
    unsigned (*type)(const Node *);
    const uint8_t *(*tag)(const Node *, size_t *);
    uintptr_t (*tag_id)(const Node *);
    uint8_t *(*text)(const Node *, size_t *);
    void *(*free_text)(const Node *, uint8_t *);
    const Attribute *(*first_attribute)(const Node *), *(*next_attribute)(const Attribute *);
    const uint8_t *(*name)(const Attribute *, size_t *), *(*value)(const Attribute *, size_t *);
} Lexbor;

enum { ELEMENT = 1, TEXT = 3, DOCUMENT = 9 };                                         /* node types of the DOM */
enum { INLINE, BLOCK, EMPTY, DROPPED, LINK, BR, IMG, HR, TITLE, META, SCRIPT };       /* `_KINDS` */
enum { NOTHING, SPACE, LINE };                                                        /* between two words */
enum { WORDS = 256, BREAK = 0xE000 };

typedef struct { uint8_t *at, *end; } Buffer;
typedef struct { int64_t mask, container, path, link_chars, links, images; } Block;
typedef struct { int64_t parent, path, start, end; } Container;
typedef struct { int64_t parent, tag, name, length, hash; } Path;
typedef struct { int64_t node, mask, path, is_block; } Open;

typedef struct {
    Lexbor lexbor;
    const Node *document, *body, *unseen;            /* `unseen` is the outermost element around that is not shown */
    int is_inside;                                   /* the body */
    const uint8_t *words;                            /* tags, and attributes with their values, each ended by a zero */
    const int64_t *meanings;                         /* of each word: bits × 16 + kind */
    uint16_t starts[WORDS];
    uint8_t slots[2 * WORDS];
    const uint32_t *zeros;                           /* the digit 0 of each script, ascending */
    ptrdiff_t scripts, room;                         /* room for so many elements, and so for what there are no more of */
    int64_t link, pre, hidden;                       /* bits */
    Buffer text, names, head;
    const uint8_t *names_start;
    Block *blocks;
    Container *containers;
    Path *paths;
    Open *open;
    int64_t *known;                                  /* twice `room`: numbers of paths, 1 the first, by their hash */
    int64_t n_blocks, n_containers, n_paths, depth, container;
    int is_short;
    /* The block in hand. */
    int is_begun, gap;
    int64_t first_mask, first_path, link_chars, links, images, column;
    uint8_t *start, *solid;                          /* where its text begins, and where its last character but blanks ends */
} Walk;

#define IS(bytes, length, word) ((length) == sizeof(word) - 1 && !memcmp(bytes, word, sizeof(word) - 1))

static void put(Walk *w, Buffer *buffer, const void *bytes, size_t length) {
    if ((size_t)(buffer->end - buffer->at) < length) {
        w->is_short = 1;
        return;
    }
    memcpy(buffer->at, bytes, length);
    buffer->at += length;
}

static uint64_t hash(uint64_t seed, const uint8_t *bytes, size_t length) { /* FNV-1a */
    for (size_t k = 0; k < length; k++) seed = (seed ^ bytes[k]) * 0x100000001b3u;
    return seed;
}

static uint64_t hash_pair(const char *first, const uint8_t *second, size_t length) {
    return hash(hash(0xcbf29ce484222325u, (const uint8_t *)first, strlen(first)), second, length);
}

static void learn(Walk *w, ptrdiff_t count) {
    const uint8_t *word = w->words;
    for (ptrdiff_t number = 0; number < count && number < WORDS - 1; number++) {
        size_t length = strlen((const char *)word);
        size_t slot = hash_pair("", word, length) % (2 * WORDS);
        while (w->slots[slot]) slot = (slot + 1) % (2 * WORDS);
        w->slots[slot] = (uint8_t)(number + 1);
        w->starts[number + 1] = (uint16_t)(word - w->words);
        word += length + 1;
    }
}

/* What the word `first` + `second` means; 0 if it is none of those known. */
static int64_t meaning(const Walk *w, const char *first, const uint8_t *second, size_t length) {
    for (size_t slot = hash_pair(first, second, length) % (2 * WORDS); w->slots[slot]; slot = (slot + 1) % (2 * WORDS)) {
        const char *word = (const char *)w->words + w->starts[w->slots[slot]];
        size_t before = strlen(first);
        if (strlen(word) == before + length && !memcmp(word, first, before) && !memcmp(word + before, second, length))
            return w->meanings[w->slots[slot] - 1];
    }
    return 0;
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

/* One more character of the block in hand, whose blanks are made one. */
static inline void write_prose(Walk *w, uint32_t point, const uint8_t *bytes, size_t length) {
    if (point == BREAK || is_blank(point)) {
        int gap = point == BREAK ? LINE : SPACE;
        if (gap > w->gap) w->gap = gap;
        return;
    }
    if (w->gap && w->text.at > w->start) put(w, &w->text, w->gap == LINE ? "\n" : " ", 1);
    w->gap = NOTHING;
    put(w, &w->text, bytes, length);
    w->solid = w->text.at;
}

/* One more character of code, which keeps its blanks but those around it: "\r\n" is a line's end, a tab goes to the next
   column that 4 divides. */
static void write_code(Walk *w, uint32_t point, const uint8_t *bytes, size_t length) {
    if (point == BREAK || point == '\n') {
        if (w->text.at > w->start && w->text.at[-1] == '\r') w->text.at--;
        if (w->text.at > w->start) put(w, &w->text, "\n", 1);
        w->column = 0;
    } else if (point == '\t') {
        put(w, &w->text, "    ", (size_t)(4 - w->column % 4));
        w->column += 4 - w->column % 4;
    } else {
        put(w, &w->text, bytes, length);
        w->column = point == '\r' ? 0 : w->column + 1;
        if (!is_blank(point)) w->solid = w->text.at;
    }
}

static void write_text(Walk *w, const uint8_t *at, const uint8_t *end) {
    int is_code = (w->first_mask & w->pre) != 0;
    for (size_t length; at < end; at += length) {
        uint32_t point = character(at, end, &length);
        if (!point) continue; /* Lexbor leaves none; here it parts blocks */
        if (is_code) write_code(w, point, at, length);
        else write_prose(w, point, at, length);
    }
}

/* The end of the block in hand. */
static void flush(Walk *w) {
    if (!w->is_begun) return;
    w->text.at = w->solid;
    if (w->solid > w->start) {
        put(w, &w->text, "", 1);
        if (w->n_blocks == w->room) w->is_short = 1;
        else
            w->blocks[w->n_blocks++] = (Block){w->first_mask, w->container, w->first_path, w->link_chars, w->links, w->images};
        w->images = 0;
    }
    w->is_begun = 0;
    w->link_chars = w->links = 0;
}

static void see_text(Walk *w, const Node *node) {
    size_t length = 0;
    uint8_t *text = w->lexbor.text(node, &length);
    if (!text) return;
    const uint8_t *at = text, *end = text + length;
    int64_t characters = 0;
    for (size_t step; at < end && is_blank(character(at, end, &step)); at += step);
    if (at < end) {
        const Open *around = &w->open[w->depth - 1];
        if (!w->is_begun) {
            w->is_begun = 1;
            w->gap = NOTHING;
            w->column = 0;
            w->start = w->solid = w->text.at;
            w->first_mask = around->mask;
            w->first_path = around->path;
        }
        if (around->mask & w->link) {
            for (at = text; at < end; at++) characters += (*at & 0xC0) != 0x80;
            w->link_chars += characters;
        }
    }
    if (w->is_begun) write_text(w, text, end);
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
    if (class_length) put(w, &w->names, class, class_length);
    if (id_length) put(w, &w->names, " ", 1);
    for (size_t k = 0, length; k < id_length; k += length) {
        uint32_t point = character(id + k, id + id_length, &length);
        if (point < 0x80 ? point < '0' || point > '9' : !is_digit(w, point)) put(w, &w->names, id + k, length);
    }
    return is_hidden ? bits | w->hidden : bits;
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
    put(w, &w->names, "", 1);
    if (w->n_paths == w->room) w->is_short = 1;
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
    put(w, &w->names, tag, length);
    put(w, &w->names, "", 1);
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
    } else if (kind == LINK) w->links++;
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

static const uint8_t *attribute(const Walk *w, const Node *node, const char *wanted, size_t *length) {
    for (const Attribute *a = w->lexbor.first_attribute(node); a; a = w->lexbor.next_attribute(a)) {
        const uint8_t *name = w->lexbor.name(a, length);
        if (name && *length == strlen(wanted) && !memcmp(name, wanted, *length)) return w->lexbor.value(a, length);
    }
    *length = 0;
    return NULL;
}

/* What the page says of itself goes to `head`: t for its title, o for og:type, l for linked data. */
static void note(Walk *w, const Node *node, int kind) {
    size_t length = 0, size = 0;
    if (kind == META) {
        const uint8_t *name = attribute(w, node, "property", &length), *content = NULL;
        if (!length) name = attribute(w, node, "name", &length);
        if (length != 7 || !is_lower(name, "og:type", 7)) return;
        content = attribute(w, node, "content", &size);
        put(w, &w->head, "o", 1);
        if (size) put(w, &w->head, content, size);
    } else {
        if (kind == SCRIPT) {
            const uint8_t *type = attribute(w, node, "type", &length);
            if (!length || !IS(type, length, "application/ld+json")) return;
        }
        uint8_t *text = w->lexbor.text(node, &size);
        put(w, &w->head, kind == TITLE ? "t" : "l", 1);
        if (text && size) put(w, &w->head, text, size);
        if (text && w->document) w->lexbor.free_text(w->document, text);
    }
    put(w, &w->head, "", 1);
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
        if (w->is_begun) write_text(w, (const uint8_t *)"\xEE\x80\x80", (const uint8_t *)"\xEE\x80\x80" + 3);
        return 0;
    case HR:
        flush(w);
        return 0;
    case IMG:
        w->images++;
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
ptrdiff_t blocks_walk(const uint64_t *functions, ptrdiff_t root, ptrdiff_t body, const char *words, const int64_t *meanings,
                      ptrdiff_t n_words, const int64_t *bits, const uint32_t *zeros, ptrdiff_t scripts, ptrdiff_t room,
                      int64_t *rooms, uint8_t *text, uint8_t *names, uint8_t *head, int64_t *blocks, int64_t *containers,
                      int64_t *paths, int64_t *open, int64_t *known) {
    const Node *top = (const Node *)root, *node = top;
    Walk w = {
        .body = (const Node *)body, .words = (const uint8_t *)words, .meanings = meanings, .zeros = zeros,
        .scripts = scripts, .room = room, .link = bits[0], .pre = bits[1], .hidden = bits[2],
        .text = {text, text + rooms[0]}, .names = {names, names + rooms[1]}, .head = {head, head + rooms[2]},
        .names_start = names, .blocks = (Block *)blocks, .containers = (Container *)containers, .paths = (Path *)paths,
        .open = (Open *)open, .known = known, .container = -1,
    };
    memcpy(&w.lexbor, functions, sizeof w.lexbor);
    learn(&w, n_words);
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
    rooms[0] = w.text.at - text;
    rooms[1] = w.names.at - names;
    rooms[2] = w.head.at - head;
    rooms[3] = w.n_blocks;
    rooms[4] = w.n_containers;
    rooms[5] = w.n_paths;
    return w.is_short;
}
