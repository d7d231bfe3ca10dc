/* One end of a stream of frames, for a test that is the other end of a link or a session. What is
 * not as expected fails the test. */
#pragma once

#include "codec/frame.h"

#include <sys/types.h>

struct peer {
    int fd;
    struct buf in;
    size_t taken; /* bytes of the frame that was returned last */
};

void peer_pair(struct peer *p, int *ret_other);
void peer_done(struct peer *p);
void peer_write(struct peer *p, const void *data, size_t len);
void peer_send(struct peer *p, const struct frame *f);
void peer_send_window(struct peer *p, uint32_t stream, uint8_t channel, uint64_t acked,
                      uint64_t limit);
void peer_send_data(struct peer *p, uint32_t stream, uint8_t channel, uint64_t offset,
                    const char *text);
void peer_send_end(struct peer *p, uint32_t stream, uint8_t channel, uint64_t offset);

/* Reads more; the count, or 0 at the end of the stream (also when the other end reset it). */
ssize_t peer_fill(struct peer *p);
/* The next frame, valid until the next call; one of type 0 is the end of the stream. */
struct frame peer_next_or_end(struct peer *p);
/* The same where there is no end. */
struct frame peer_next(struct peer *p);
struct frame peer_expect(struct peer *p, uint8_t type);
void peer_expect_text(struct peer *p, uint8_t type, const char *text);
struct frame peer_expect_window(struct peer *p, uint8_t channel, uint64_t acked, uint64_t limit);
void peer_expect_data(struct peer *p, uint8_t channel, uint64_t offset, const char *text);
void peer_expect_eof(struct peer *p);
