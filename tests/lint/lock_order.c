/* What clang's thread-safety analysis must not let pass: each VIOLATION breaks docs/LOCKING.md in
 * one way, and 0 in none. Only looked at by system/test_checks.py, never linked. */
#include "base/thread.h"

static struct lock create, image, leaf, other_leaf;

void needs_token(void) REQUIRES(rank_vm);
void takes_leaf(void) EXCLUDES(rank_leaf);
int takes_token(void) ACQUIRES_IF_ZERO(rank_vm);
void gives_token(void) RELEASES(rank_vm);
void look(int condition);

void look(int condition)
{
    if (takes_token()) {
        return;
    }
    needs_token();
#if VIOLATION == 1 /* a leaf is the last that is taken */
    leaf_lock(&leaf);
    create_lock(&create);
    create_unlock(&create);
    leaf_unlock(&leaf);
#elif VIOLATION == 2 /* and never two of them */
    leaf_lock(&leaf);
    leaf_lock(&other_leaf);
    leaf_unlock(&other_leaf);
    leaf_unlock(&leaf);
#elif VIOLATION == 3 /* a callee takes it */
    leaf_lock(&leaf);
    takes_leaf();
    leaf_unlock(&leaf);
#elif VIOLATION == 4 /* a way out without the unlock */
    leaf_lock(&leaf);
    if (condition) {
        gives_token();
        return;
    }
    leaf_unlock(&leaf);
#elif VIOLATION == 5 /* what is not held is not released */
    image_unlock(&image);
#elif VIOLATION == 6 /* the token is the first */
    gives_token();
    image_lock(&image);
    if (takes_token()) {
        image_unlock(&image);
        return;
    }
    image_unlock(&image);
#elif VIOLATION == 7 /* without the token */
    gives_token();
    needs_token();
    if (takes_token()) {
        return;
    }
#else
    create_lock(&create);
    leaf_lock(&leaf);
    leaf_unlock(&leaf);
    create_unlock(&create);
    image_lock(&image);
    leaf_lock(&other_leaf);
    leaf_unlock(&other_leaf);
    image_unlock(&image);
    takes_leaf();
    (void)condition;
#endif
    gives_token();
}
