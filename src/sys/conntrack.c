#include "sys/conntrack.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netfilter/nfnetlink_conntrack.h>

int conntrack_forget(struct netlink *n, uint32_t mark)
{
    struct nlmsghdr *m = netlink_request(n, NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE,
                                         NLM_F_ACK, NETLINK_MAY_BE_GONE);
    struct nfgenmsg *g = mnl_nlmsg_put_extra_header(m, sizeof(*g));
    int r;

    assert(mark != 0);
    g->nfgen_family = AF_UNSPEC;
    g->version = NFNETLINK_V0;
    mnl_attr_put_u32(m, CTA_MARK, htonl(mark));
    mnl_attr_put_u32(m, CTA_MARK_MASK, htonl(UINT32_MAX));
    r = netlink_run(n);
    /* nfnetlink's way to say that it has no such part is EINVAL. */
    return r == -EINVAL ? -EOPNOTSUPP : r;
}
