/* What is in a registered image. A process of its own reads it: its contents are a stranger's. */
#include "image/image_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int image_find_init(struct image_registry *r, const char *digest, const char *name,
                    struct cancel *cancel, char ret_path[IMAGE_INIT_SIZE], struct err *err)
{
    const char *argv[] = {r->mkroot_path, "--find-init", NULL};
    _cleanup_close_ int disk_fd = -1, pidfd = -1, said_fd = -1, child_fd = -1;
    _cleanup_buf_ struct buf said;
    int pipe_fds[2], status;
    pid_t pid;

    buf_init(&said, 1024);
    if (image_open_disk(r, digest, &disk_fd, err) < 0) {
        return -1;
    }
    if (pipe2(pipe_fds, O_CLOEXEC) < 0) {
        return err_set_errno(err, ERR_IO, errno, "cannot make a pipe");
    }
    said_fd = pipe_fds[0];
    child_fd = pipe_fds[1];
    status = r->spawn(
        &(struct spawn_params){
            .argv = argv, .fds = (struct spawn_fd[]){{disk_fd, 0}, {child_fd, 1}}, .fd_count = 2},
        &pid, &pidfd);
    if (status < 0) {
        err_set_errno(err, ERR_IO, status, "cannot run '%s'", r->mkroot_path);
        return err_hint(err, "is banger installed completely?");
    }
    close_p(&child_fd);
    status = image_wait_child(pid, pidfd, said_fd, cancel, &said);
    if (status == -ECANCELED) {
        return err_set_errno(err, ERR_CANCELLED, status, "looking for the init of image '%s'",
                             name);
    }
    if (status != 0) {
        return err_set(err, ERR_IO, "image '%s' cannot be read (status %d)", name, status);
    }
    if (said.len < 2 || said.len > IMAGE_INIT_SIZE) {
        err_set(err, ERR_INVALID, "image '%s' has no init: no /sbin/init, and no systemd", name);
        return err_hint(err, "use --init agent, which needs none, or an image with systemd-sysv or "
                             "another init");
    }
    memcpy(ret_path, buf_head(&said), said.len - 1);
    ret_path[said.len - 1] = '\0'; /* in the place of the newline */
    return 0;
}
