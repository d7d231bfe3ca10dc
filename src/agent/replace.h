/* Small files of the guest's that get another content. Threads: one. 0 or -errno. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

/*
 * Gives path this content. Whoever reads it sees the old or the new: what is as long, or longer, is
 * written over in place (and then cut: a reader in between sees the rest of the longer one), which
 * in a guest that was just restored is a third of the work, as it does each step for the first
 * time; anything else is a new file of that mode in its place (PATH.banger until then).
 */
int replace_file(const char *path, const void *data, size_t len, mode_t mode);
