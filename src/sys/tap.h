/*
 * TAP devices (the kernel's Documentation/networking/tuntap.rst). A persistent one stays when its
 * descriptor is closed, and nobody but root may open it then.
 * All return 0 or -errno. Threads: any.
 */
#pragma once

/* Makes the TAP `name`, or takes one that is there and that nobody has open (else -EBUSY): one
 * queue, Ethernet frames behind a vnet header of 10 bytes, without offloads or filters, which QEMU
 * then changes as it likes. *ret_fd is the caller's, close-on-exec. */
int tap_open(const char *name, int *ret_fd);

/* It stays from now on. */
int tap_keep(int fd);
