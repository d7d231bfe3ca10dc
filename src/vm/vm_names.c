/* Names for VMs that nobody named: adjective-noun-number, 40 x 40 x 900 of them. */
#include "base/id.h"
#include "vm/vm_priv.h"

#include <stdio.h>

static const char *const adjectives[] = {
    "amber", "brave", "brisk",  "calm",  "clear",  "crisp", "dapper", "deft",   "eager", "early",
    "fair",  "fleet", "fond",   "fresh", "gentle", "glad",  "golden", "grand",  "happy", "keen",
    "kind",  "light", "lively", "lucid", "mellow", "mild",  "neat",   "nimble", "noble", "plain",
    "prime", "proud", "quick",  "quiet", "rapid",  "ready", "sharp",  "sunny",  "swift", "warm",
};
static const char *const nouns[] = {
    "alder", "badger", "beech",  "birch", "bison", "brook", "cedar",  "clover", "cliff", "crane",
    "delta", "falcon", "fern",   "finch", "fjord", "grove", "heron",  "ibis",   "iris",  "kestrel",
    "lark",  "linden", "lotus",  "lynx",  "maple", "marsh", "meadow", "merlin", "moss",  "otter",
    "pine",  "plover", "poplar", "reed",  "robin", "sable", "spruce", "stork",  "tern",  "wren",
};

void vm_generate_name(random_fn random, char ret_name[64])
{
    uint16_t r[3];

    random(r, sizeof(r));
    (void)snprintf(ret_name, 64, "%s-%s-%u", adjectives[r[0] % ARRAY_LEN(adjectives)],
                   nouns[r[1] % ARRAY_LEN(nouns)], 100 + r[2] % 900);
}
