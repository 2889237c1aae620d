/* Lexbor's tree, by Lexbor's own functions, whose addresses Python finds in the library that made the tree: nothing here
   knows how a node lies in memory. */
#ifndef LEXBOR_H
#define LEXBOR_H
#include "native.h"

typedef struct lxb_dom_node Node;
typedef struct lxb_dom_attr Attribute;

typedef struct { /* in the order of `_FUNCTIONS` in clean/extractor/native_blocks.py */
    const Node *(*first_child)(const Node *), *(*next)(const Node *), *(*parent)(const Node *);
    unsigned (*type)(const Node *);
    const uint8_t *(*tag)(const Node *, size_t *);
    uintptr_t (*tag_id)(const Node *);
    uint8_t *(*text)(const Node *, size_t *);
    void *(*free_text)(const Node *, uint8_t *);
    const Attribute *(*first_attribute)(const Node *), *(*next_attribute)(const Attribute *);
    const uint8_t *(*name)(const Attribute *, size_t *), *(*value)(const Attribute *, size_t *);
} Lexbor;

enum { ELEMENT = 1, TEXT = 3, DOCUMENT = 9 }; /* node types of the DOM */

/* Whether `bytes` are the literal `word`. */
#define IS(bytes, length, word) ((length) == sizeof(word) - 1 && !memcmp(bytes, word, sizeof(word) - 1))

/* The value of an attribute; NULL and a length of 0 where it has none. */
static inline const uint8_t *attribute(const Lexbor *lexbor, const Node *node, const char *wanted, size_t *length) {
    for (const Attribute *a = lexbor->first_attribute(node); a; a = lexbor->next_attribute(a)) {
        const uint8_t *name = lexbor->name(a, length);
        if (name && *length == strlen(wanted) && !memcmp(name, wanted, *length)) return lexbor->value(a, length);
    }
    *length = 0;
    return NULL;
}

#endif
