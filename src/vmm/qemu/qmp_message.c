#include "vmm/qemu/qmp_message.h"

static int read_id(const json_t *root, uint64_t *ret_id)
{
    const json_t *id = json_object_get(root, "id");

    *ret_id = 0;
    if (id) {
        /* We count from 1, so what else comes back is not an answer to us. */
        if (!json_is_integer(id) || json_integer_value(id) <= 0) {
            return -1;
        }
        *ret_id = (uint64_t)json_integer_value(id);
    }
    return 0;
}

/* Says what root is; everything in *m points into it. */
static int classify(json_t *root, struct qmp_message *m)
{
    json_t *value;

    if ((value = json_object_get(root, "QMP"))) {
        m->kind = QMP_GREETING;
        m->data = value;
        return json_is_object(value) ? 0 : -1;
    }
    if ((value = json_object_get(root, "event"))) {
        m->kind = QMP_EVENT;
        m->name = json_string_value(value);
        m->data = json_object_get(root, "data");
        return m->name && (!m->data || json_is_object(m->data)) ? 0 : -1;
    }
    if ((value = json_object_get(root, "error"))) {
        m->kind = QMP_ERROR;
        m->name = json_string_value(json_object_get(value, "class"));
        m->text = json_string_value(json_object_get(value, "desc"));
        return m->name && m->text ? read_id(root, &m->id) : -1;
    }
    if ((value = json_object_get(root, "return"))) {
        m->kind = QMP_RETURN;
        m->data = value;
        return read_id(root, &m->id);
    }
    return -1;
}

int qmp_message_parse(const char *line, size_t len, struct qmp_message *ret, struct err *err)
{
    _cleanup_json_ json_t *root = NULL;
    struct qmp_message m = {0};

    if (json_parse(line, len, &root, err) < 0) {
        err->code = ERR_VMM;
        return err_wrap(err, "QMP");
    }
    if (classify(root, &m) < 0) {
        return err_set(err, ERR_VMM, "QMP: a line that is neither greeting, event nor reply");
    }
    m.root = STEAL_PTR(root);
    *ret = m;
    return 0;
}

void qmp_message_done(struct qmp_message *m)
{
    json_decref(m->root);
    *m = (struct qmp_message){0};
}
