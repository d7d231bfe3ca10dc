/*
 * A network namespace of a test's own, and frames as a guest would send them. The test's process
 * (one thread) is in the namespace; `far` is another, at the end of the uplink up0, which is
 * 192.0.2.1 and 2001:db8::1 here, 192.0.2.2 and 2001:db8::2 there.
 */
#pragma once

#include "base/buf.h"
#include "host/net.h"
#include "scratch.h"

#include <stdbool.h>

/* NULL, or why networks cannot be tested here. */
const char *net_fixture_lacks(void);

/* Enters a new namespace with lo, and with up0 when uplink is set. */
void net_fixture_enter(bool uplink);

/* Runs "ip link ..." and the like, words at spaces; it must succeed. */
void net_run(const char *command);
/* What it says, which the caller frees. */
char *net_output(const char *command);
/* Writes to a file of /proc/sys. */
void net_switch(const char *name, const char *value);
/* All that the kernel has of networks here: links, addresses, routes, rules, neighbours, nft's
 * rules, switches. */
char *net_state(void);

/* A UDP (or, listening, TCP) socket at an address such as "192.0.2.2" or "::"; far: over there. */
int net_socket(bool far, int type, const char *address, uint16_t port);

/* Frames --------------------------------------------------------------------------------------- */

struct frame {
    uint8_t bytes[2048]; /* from the Ethernet header on */
    size_t len;
};

#define GUEST_PORT 4000

/* From GUEST_PORT, of the guest's MAC; IPv4 or IPv6 by what the addresses are. */
struct frame frame_udp(const char *from, const char *to, uint16_t port, const char *text);
struct frame frame_syn(const char *from, const char *to, uint16_t port);
struct frame frame_echo(const char *from, const char *to);
/* A neighbour solicitation for target, sent to `to`. */
struct frame frame_solicit(const char *from, const char *to, const char *target);
struct frame frame_arp(const char *from, const char *asks_for);
void frame_from_mac(struct frame *f, const char *mac);

/* By the TAP's descriptor, behind a vnet header. */
void tap_send(int fd, const struct frame *f);
/* Waits for a frame that is told as `text` (net_fixture.c: tell). Any other before it is a failure,
 * but what a host says of itself (MLD). */
void tap_expect(int fd, const char *text);
/* Waits for a datagram with the text, and from whom: "192.0.2.1"; and answers with `answer`, if
 * that is not NULL. */
void socket_expect(int fd, const char *text, const char *from, const char *answer);
void socket_send(int fd, const char *to, uint16_t port, const char *text);
