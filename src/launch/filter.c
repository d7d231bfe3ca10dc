/*
 * A seccomp filter beside QEMU's own, which has nothing against system calls that act on other
 * processes or raise a limit. Where the VMM's uid is a user's it would have power over all that the
 * user runs; here a pid can only be our own, which the exec does not change. In raw BPF: libseccomp
 * is no static library of musl's, and this is a list.
 */
#include "launch/launch_priv.h"

#include "base/attr.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

/* Of another ABI on the same machine. */
#define X32_BIT 0x40000000
#define FCHMODAT2 452 /* newer than the headers */

#define REFUSE BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM)
#define LOAD_AT(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset)
#define LOAD(member) LOAD_AT(offsetof(struct seccomp_data, member))

/* What nothing in a VMM has any use for: modes and owners (of what it has got for reading), other
 * processes, keys, the kernel itself. */
static const int refused[] = {
    SYS_chmod,
    SYS_fchmod,
    SYS_fchmodat,
    FCHMODAT2,
    SYS_chown,
    SYS_fchown,
    SYS_lchown,
    SYS_fchownat,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_process_madvise,
    SYS_kcmp,
    SYS_pidfd_open,
    SYS_pidfd_getfd,
    SYS_pidfd_send_signal,
    SYS_tkill,
    SYS_move_pages,
    SYS_migrate_pages,
    SYS_setns,
    SYS_unshare,
    SYS_mount,
    SYS_umount2,
    SYS_move_mount,
    SYS_open_tree,
    SYS_fsopen,
    SYS_fsmount,
    SYS_mount_setattr,
    SYS_pivot_root,
    SYS_chroot,
    SYS_add_key,
    SYS_request_key,
    SYS_keyctl,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_quotactl,
    SYS_syslog,
    SYS_iopl,
    SYS_ioperm,
    SYS_open_by_handle_at,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_adjtimex,
    SYS_clock_adjtime,
    SYS_sethostname,
    SYS_setdomainname,
    SYS_setrlimit,
};

/* Their first argument is a process: only us. */
static const int own_pid[] = {SYS_kill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo};

#define PROGRAM_MAX 256

struct program {
    struct sock_filter code[PROGRAM_MAX];
    unsigned short count;
};

static void add(struct program *p, struct sock_filter instruction)
{
    p->code[p->count++] = instruction;
}

/* The accumulator has the number of the call, and has it again afterwards. */
static void refuse(struct program *p, int call)
{
    add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 1));
    add(p, (struct sock_filter)REFUSE);
}

/* A pid is an int: the kernel looks at its lower half alone. */
static void allow_pid(struct program *p, int call, unsigned pid)
{
    add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)call, 0, 4));
    add(p, (struct sock_filter)LOAD(args[0]));
    add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, pid, 1, 0));
    add(p, (struct sock_filter)REFUSE);
    add(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
}

/* prlimit64: what our limits are, without new ones. "Us" is 0, too; a pointer has two halves. */
static void allow_getting_limits(struct program *p, unsigned pid)
{
    add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_prlimit64, 0, 9));
    add(p, (struct sock_filter)LOAD(args[0]));
    add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, pid, 1, 0));
    add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 4));
    add(p, (struct sock_filter)LOAD(args[2]));
    add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2));
    add(p, (struct sock_filter)LOAD_AT(offsetof(struct seccomp_data, args[2]) + 4));
    add(p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0));
    add(p, (struct sock_filter)REFUSE);
    add(p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
}

int launch_filter(void)
{
    static struct program p;
    unsigned pid = (unsigned)getpid();
    struct sock_fprog program = {.filter = p.code};

    add(&p, (struct sock_filter)LOAD(arch));
    add(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0));
    add(&p, (struct sock_filter)REFUSE);
    add(&p, (struct sock_filter)LOAD(nr));
    add(&p, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, X32_BIT, 0, 1));
    add(&p, (struct sock_filter)REFUSE);
    for (size_t i = 0; i < ARRAY_LEN(refused); i++) {
        refuse(&p, refused[i]);
    }
    for (size_t i = 0; i < ARRAY_LEN(own_pid); i++) {
        allow_pid(&p, own_pid[i], pid);
    }
    allow_getting_limits(&p, pid);
    add(&p, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    program.len = p.count;
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) < 0 ? -errno : 0;
}
