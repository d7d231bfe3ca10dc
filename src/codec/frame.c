#include "codec/frame.h"

#include <assert.h>
#include <errno.h>

static uint16_t get16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static uint32_t get32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint64_t get64(const uint8_t *p)
{
    return (uint64_t)get32(p) | (uint64_t)get32(p + 4) << 32;
}

int frame_parse(const uint8_t *data, size_t len, struct frame *ret_frame)
{
    uint32_t length;

    if (len > 0 && data[0] != FRAME_MAGIC) {
        return -EPROTO;
    }
    if (len < FRAME_HEADER_SIZE) {
        return 0;
    }
    length = get32(data + 16);
    if (length > FRAME_PAYLOAD_MAX || data[2] >= FRAME_CHANNELS || (data[3] & ~FRAME_MORE)) {
        return -EPROTO;
    }
    if (len < frame_size(length)) {
        return 0;
    }
    *ret_frame = (struct frame){
        .type = data[1],
        .channel = data[2],
        .flags = data[3],
        .stream = get32(data + 4),
        .offset = get64(data + 8),
        .length = length,
        .payload = data + FRAME_HEADER_SIZE,
    };
    if (get32(data + FRAME_HEADER_SIZE + length) != FRAME_TRAILER) {
        return -EBADMSG;
    }
    return (int)frame_size(length);
}

/* Could these be the first bytes of a HELLO's or HELLO_OK's header? Only the length varies. */
static bool may_start(const uint8_t *data, size_t len, uint8_t type)
{
    const uint8_t head[16] = {FRAME_MAGIC, type};

    if (memcmp(data, head, len < sizeof(head) ? len : sizeof(head)) != 0) {
        return false;
    }
    return len < FRAME_HEADER_SIZE ||
           (get32(data + 16) >= FRAME_NONCE_SIZE && get32(data + 16) <= FRAME_HELLO_MAX);
}

size_t frame_scan(const uint8_t *data, size_t len, uint8_t type)
{
    size_t at = 0;

    while (at < len) {
        const uint8_t *p = memchr(data + at, FRAME_MAGIC, len - at);

        if (!p) {
            return len;
        }
        at = (size_t)(p - data);
        if (may_start(p, len - at, type)) {
            return at;
        }
        at++;
    }
    return len;
}

static void set32(uint8_t *p, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

void frame_seal(uint8_t *place, const struct frame *frame)
{
    assert(frame->length <= FRAME_PAYLOAD_MAX);
    place[0] = FRAME_MAGIC;
    place[1] = frame->type;
    place[2] = frame->channel;
    place[3] = frame->flags;
    set32(place + 4, frame->stream);
    set32(place + 8, (uint32_t)frame->offset);
    set32(place + 12, (uint32_t)(frame->offset >> 32));
    set32(place + 16, frame->length);
    set32(place + FRAME_HEADER_SIZE + frame->length, FRAME_TRAILER);
}

int frame_put(struct buf *out, const struct frame *frame)
{
    uint8_t *place;

    assert(frame->length <= FRAME_PAYLOAD_MAX);
    if (buf_room(out) < frame_size(frame->length)) {
        return -ENOBUFS;
    }
    /* Room was checked for the whole frame. */
    place = buf_reserve(out, frame_size(frame->length));
    if (frame->length > 0) {
        memcpy(place + FRAME_HEADER_SIZE, frame->payload, frame->length);
    }
    frame_seal(place, frame);
    buf_commit(out, frame_size(frame->length));
    return 0;
}

int frame_put_u32(struct buf *out, uint8_t type, uint32_t stream, uint32_t value)
{
    uint8_t p[4] = {(uint8_t)value, (uint8_t)(value >> 8), (uint8_t)(value >> 16),
                    (uint8_t)(value >> 24)};

    return frame_put(
        out, &(struct frame){.type = type, .stream = stream, .payload = p, .length = sizeof(p)});
}

int frame_put_window(struct buf *out, uint32_t stream, uint8_t channel, uint64_t acked,
                     uint64_t limit)
{
    uint8_t p[8];

    for (int i = 0; i < 8; i++) {
        p[i] = (uint8_t)(limit >> (8 * i));
    }
    return frame_put(out, &(struct frame){.type = FRAME_WINDOW,
                                          .channel = channel,
                                          .stream = stream,
                                          .offset = acked,
                                          .payload = p,
                                          .length = sizeof(p)});
}

int frame_put_resync(struct buf *out)
{
    uint8_t *p = buf_reserve(out, FRAME_MAX);

    if (!p) {
        return -ENOBUFS;
    }
    memset(p, 0, FRAME_MAX);
    buf_commit(out, FRAME_MAX);
    return 0;
}

int frame_put_hello(struct buf *out, const uint8_t nonce[FRAME_NONCE_SIZE])
{
    uint8_t p[FRAME_NONCE_SIZE + 4];

    memcpy(p, nonce, FRAME_NONCE_SIZE);
    p[FRAME_NONCE_SIZE] = FRAME_PROTO_MIN;
    p[FRAME_NONCE_SIZE + 1] = 0;
    p[FRAME_NONCE_SIZE + 2] = FRAME_PROTO_MAX;
    p[FRAME_NONCE_SIZE + 3] = 0;
    return frame_put(out, &(struct frame){.type = FRAME_HELLO, .payload = p, .length = sizeof(p)});
}

int frame_take_bytes(struct frame_reader *r, size_t len, const uint8_t **ret)
{
    if (len > r->left) {
        return -EPROTO;
    }
    *ret = r->p;
    r->p += len;
    r->left -= len;
    return 0;
}

int frame_take_u8(struct frame_reader *r, uint8_t *ret)
{
    const uint8_t *p;

    if (frame_take_bytes(r, 1, &p) < 0) {
        return -EPROTO;
    }
    *ret = p[0];
    return 0;
}

int frame_take_u16(struct frame_reader *r, uint16_t *ret)
{
    const uint8_t *p;

    if (frame_take_bytes(r, 2, &p) < 0) {
        return -EPROTO;
    }
    *ret = get16(p);
    return 0;
}

int frame_take_u32(struct frame_reader *r, uint32_t *ret)
{
    const uint8_t *p;

    if (frame_take_bytes(r, 4, &p) < 0) {
        return -EPROTO;
    }
    *ret = get32(p);
    return 0;
}

int frame_take_u64(struct frame_reader *r, uint64_t *ret)
{
    const uint8_t *p;

    if (frame_take_bytes(r, 8, &p) < 0) {
        return -EPROTO;
    }
    *ret = get64(p);
    return 0;
}

int frame_take_tlv(struct frame_reader *r, uint8_t *ret_tag, const uint8_t **ret_value,
                   uint32_t *ret_len)
{
    struct frame_reader at = *r;
    const uint8_t *value;
    uint8_t tag;
    uint32_t len;

    if (r->left == 0) {
        return 0;
    }
    if (frame_take_u8(&at, &tag) < 0 || frame_take_u32(&at, &len) < 0 ||
        frame_take_bytes(&at, len, &value) < 0) {
        return -EPROTO;
    }
    *r = at;
    *ret_tag = tag;
    *ret_value = value;
    *ret_len = len;
    return 1;
}

int frame_put_tlv(struct buf *out, uint8_t tag, const void *value, size_t len)
{
    if (len > UINT32_MAX || buf_room(out) < 5 + len) {
        return -ENOBUFS;
    }
    if (buf_append_u8(out, tag) || buf_append_le32(out, (uint32_t)len) ||
        buf_append(out, value, len)) {
        return -ENOBUFS;
    }
    return 0;
}

int frame_put_body(struct buf *out, uint8_t type, uint32_t stream, const uint8_t *body, size_t len)
{
    do {
        size_t piece = len < FRAME_PAYLOAD_MAX ? len : FRAME_PAYLOAD_MAX;
        struct frame f = {
            .type = type,
            .flags = piece < len ? FRAME_MORE : 0,
            .stream = stream,
            .payload = body,
            .length = (uint32_t)piece,
        };

        if (frame_put(out, &f) < 0) {
            return -ENOBUFS;
        }
        body += piece;
        len -= piece;
    } while (len > 0);
    return 0;
}

int frame_put_network(struct buf *out, const struct frame_network *n)
{
    uint8_t value[FRAME_NETWORK_SIZE];

    memcpy(value, n->ipv4, 4);
    memcpy(value + 4, n->gateway4, 4);
    memcpy(value + 8, n->ipv6, 16);
    memcpy(value + 24, n->mac, 6);
    memcpy(value + 30, n->gateway_mac, 6);
    value[36] = (uint8_t)n->mtu;
    value[37] = (uint8_t)(n->mtu >> 8);
    return frame_put_tlv(out, FRAME_TAG_NETWORK, value, sizeof(value));
}

int frame_take_network(const uint8_t *value, uint32_t len, struct frame_network *ret)
{
    if (len != FRAME_NETWORK_SIZE) {
        return -EPROTO;
    }
    memcpy(ret->ipv4, value, 4);
    memcpy(ret->gateway4, value + 4, 4);
    memcpy(ret->ipv6, value + 8, 16);
    memcpy(ret->mac, value + 24, 6);
    memcpy(ret->gateway_mac, value + 30, 6);
    ret->mtu = get16(value + 36);
    return 0;
}
