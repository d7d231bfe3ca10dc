#include "store/doctor.h"

#include "base/str.h"

#include <stdio.h>
#include <string.h>

struct problems {
    unsigned count;
    char first[400];
};

static void note(void *arg, const char *text)
{
    struct problems *p = arg;

    if (p->count++ == 0) {
        (void)snprintf(p->first, sizeof(p->first), "%s", text);
    }
}

static void no_store(const struct store_doctor *s, struct doctor_finding *f)
{
    switch (s->why->code) {
    case ERR_NOT_FOUND:
        doctor_pass(f, "there is no database yet: the first daemon makes it");
        break;
    case ERR_CONFLICT:
        doctor_pass(f, "the next daemon will bring the database up to date");
        break;
    default:
        doctor_fail_err(f, s->why);
        if (!f->fix[0]) {
            doctor_fix(f,
                       "banger daemon verify-store; a copy from before the last upgrade may be "
                       "beside it: %.200s/banger.db.v*",
                       s->state_dir);
        }
    }
    doctor_evidence(f, "%s/banger.db: %s", s->state_dir, s->why->message);
}

static void check_store(const void *ctx, struct doctor_finding *f)
{
    const struct store_doctor *s = ctx;
    struct problems p = {0};
    struct err err;

    if (!s->store) {
        no_store(s, f);
        return;
    }
    if (store_verify(s->store, note, &p, &err) < 0) {
        p.count++;
        (void)snprintf(p.first, sizeof(p.first), "%.390s", err.message);
    }
    if (p.count == 0) {
        doctor_evidence(f, "%s/banger.db: verified", s->state_dir);
        doctor_pass(f, "the database is sound");
        return;
    }
    doctor_evidence(f, "%s/banger.db: %s", s->state_dir, p.first);
    doctor_fail(f, "the database is damaged: %u problem%s", p.count, p.count == 1 ? "" : "s");
    doctor_fix(f, "see all of it: banger daemon verify-store; what differs from the host is mended "
                  "by: banger daemon reconcile");
}

const struct doctor_check store_checks[] = {
    {"store", "The database", 0, check_store},
    {0},
};
