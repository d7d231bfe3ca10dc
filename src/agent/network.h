/*
 * The guest's card, by rtnetlink(7): one socket, two writes, and no program of the image's. What it
 * has is what it is told, and nothing that it might find out by itself: no link-local address, no
 * router's advertisement, no duplicate address detection (RFC 4862 §5.4), no resolution of the
 * gateway's address (ARP, RFC 4861). At the other end there is the host, and nobody else.
 * Threads: one.
 */
#pragma once

#include "codec/frame.h"

/* What could be a guest's: two ends of one link with addresses of single hosts, and an MTU that
 * IPv6 can have (RFC 8200 §5). */
#define NETWORK_MTU_MIN 1280
bool network_valid(const struct frame_network *n);

/*
 * Makes it so, whatever was so before: other addresses of the card are removed. old_gateway4: of
 * the last call, or zeros; what is known of it goes. Without IPv6 in the kernel or, in its sysctls,
 * on the card, there is none, which is no failure. *ret_now: what the card has, read back, as in an
 * answer to CONFIGURE. 0, or -errno with the step that failed, such as "network: route" (static):
 * -ENODEV for "network: card" when there is none with wanted->mac, nor only one.
 */
int network_set(const struct frame_network *wanted, const uint8_t old_gateway4[4],
                struct frame_network *ret_now, const char **ret_step);
