#include "doctor/report.h"

static json_t *finding(const char *id, const struct doctor_finding *f)
{
    json_t *o = json_object();

    json_put_str(o, "id", id);
    json_put_str(o, "status", doctor_status_name(f->status));
    json_put_str(o, "summary", f->summary);
    json_put_str(o, "evidence", f->evidence[0] ? f->evidence : NULL);
    json_put_str(o, "fix", f->fix[0] ? f->fix : NULL);
    return o;
}

json_t *doctor_report(const struct doctor *d)
{
    json_t *list = json_array();
    const struct doctor_check *c;

    for (size_t i = 0; (c = doctor_at(d, i)); i++) {
        struct doctor_finding f;

        doctor_run(d, i, &f);
        json_array_append_new(list, finding(c->id, &f));
    }
    return list;
}
