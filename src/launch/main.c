/* banger-launch: see launch.h. */
#include "launch/launch.h"

#include "version.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

BANGER_VERSION_MARK;

/* Tells whoever waits which step failed, and ends. */
static int fail(int report_fd, const char *what, const char *subject, int errnum)
{
    struct launch_report report = {.errnum = errnum};

    (void)snprintf(report.step, sizeof(report.step), "%s%s", what, subject);
    if (report_fd < 0 || write(report_fd, &report, sizeof(report)) != (ssize_t)sizeof(report)) {
        (void)fprintf(stderr, LAUNCH_PROGRAM ": %s\n", report.step);
    }
    return 1;
}

int main(int argc, char **argv)
{
    struct launch_options o;
    const char *what = NULL;
    int r;

    if (launch_parse(argc, argv, &o, &what) < 0) {
        return fail(o.report_fd, "argument ", what, EINVAL);
    }
    r = launch_confine(&o, &what);
    if (r < 0) {
        return fail(o.report_fd, what, "", -r);
    }
    (void)execv(o.program, o.argv);
    return fail(o.report_fd, "start of ", o.program, errno);
}
