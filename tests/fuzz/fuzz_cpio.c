/* cpio archives: what the reader accepts lies in the input, and the writer says it again. */
#include "codec/cpio.h"

#include <stdint.h>
#include <string.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int put_again(struct cpio_writer *w, const struct cpio_entry *e)
{
    return cpio_put_file(w, e->name, e->mode & 07777, e->data, e->len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    _cleanup_buf_ struct buf out;
    struct cpio_writer w;
    struct cpio_reader r;
    struct cpio_entry e;
    unsigned written = 0, again = 0;
    int n;

    buf_init(&out, 1U << 20);
    cpio_writer_init(&w, &out);
    cpio_reader_init(&r, data, size);
    while ((n = cpio_next(&r, &e)) > 0) {
        if (strlen(e.name) != e.name_len || e.name_len == 0 || e.name_len > CPIO_NAME_MAX ||
            (const uint8_t *)e.name < data || e.len > size ||
            (e.len > 0 && (e.data < data || e.data > data + size - e.len))) {
            __builtin_trap();
        }
        written += put_again(&w, &e) == 0;
    }
    if (n < 0 && cpio_next(&r, &e) == 0) {
        __builtin_trap();
    }
    if (cpio_put_end(&w) < 0) {
        return 0;
    }
    cpio_reader_init(&r, buf_head(&out), out.len);
    while ((n = cpio_next(&r, &e)) > 0) {
        again++;
    }
    if (n < 0 || again != written) {
        __builtin_trap();
    }
    return 0;
}
