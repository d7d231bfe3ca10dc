/*
 * What the kernel tells of its devices (kobject_uevent, netlink(7)): something to wait for while
 * one is not there yet, or not as it is to be. What was told is not looked at. Threads: any; each
 * its own descriptor.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* A descriptor that hears of all changes from here on, or -errno. */
int uevent_open(void);

/* CLOCK_MONOTONIC, for a deadline. */
int64_t uevent_now_ms(void);

/* Waits for the next change. False: none came until the deadline. */
bool uevent_wait(int fd, int64_t deadline_ms);
