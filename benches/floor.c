/* The least that the kernel asks for links: NAMESPACES namespaces with LINKS veths each, the n-th of each onto the n-th
 * of LINKS bridges. Four requests a link and nothing else: make both ends, address, inner end up, outer end up as a port.
 * usage: floor NAMESPACES LINKS      prints the milliseconds that the links took */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

struct request {
    struct nlmsghdr header;
    char body[1024];
};

static void *tail(struct request *r) { return (char *)r + NLMSG_ALIGN(r->header.nlmsg_len); }

static void begin(struct request *r, int type, int flags, const void *fixed, size_t size) {
    memset(r, 0, sizeof *r);
    r->header.nlmsg_type = type;
    r->header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    r->header.nlmsg_len = NLMSG_LENGTH(size);
    memcpy(NLMSG_DATA(&r->header), fixed, size);
}

static struct rtattr *attribute(struct request *r, int type, const void *data, size_t size) {
    struct rtattr *a = tail(r);
    a->rta_type = type;
    a->rta_len = RTA_LENGTH(size);
    if (size) memcpy(RTA_DATA(a), data, size);
    r->header.nlmsg_len = NLMSG_ALIGN(r->header.nlmsg_len) + RTA_ALIGN(a->rta_len);
    return a;
}

static void close_nest(struct request *r, struct rtattr *a) { a->rta_len = (char *)tail(r) - (char *)a; }

static void text(struct request *r, int type, const char *value) { attribute(r, type, value, strlen(value) + 1); }

static void fail(const char *what, int error) {
    fprintf(stderr, "floor: %s: %s\n", what, strerror(error));
    exit(1);
}

static void ask(int socket, struct request *r, const char *what) {
    char answer[4096];
    if (send(socket, r, r->header.nlmsg_len, 0) < 0 || recv(socket, answer, sizeof answer, 0) < 0) fail(what, errno);
    struct nlmsgerr *error = NLMSG_DATA((struct nlmsghdr *)answer);
    if (error->error) fail(what, -error->error);
}

static int netlink(void) {
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0) fail("socket", errno);
    return fd;
}

static void up(int socket, int index, int master, const char *what) {
    struct request r;
    struct ifinfomsg info = {.ifi_index = index, .ifi_flags = IFF_UP, .ifi_change = IFF_UP};
    begin(&r, RTM_NEWLINK, 0, &info, sizeof info);
    if (master) attribute(&r, IFLA_MASTER, &master, sizeof master);
    ask(socket, &r, what);
}

static int new_netns(void) {
    if (unshare(CLONE_NEWNET)) fail("unshare", errno);
    return open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

int main(int argc, char **argv) {
    int spaces = argc > 1 ? atoi(argv[1]) : 200, links = argc > 2 ? atoi(argv[2]) : 1;
    struct request r;
    struct ifinfomsg none = {0};
    int home = new_netns(), root = netlink();
    int *inside = calloc(spaces, sizeof *inside), *bridge = calloc(links, sizeof *bridge);
    for (int i = 0; i < spaces; i++) inside[i] = new_netns();
    setns(home, CLONE_NEWNET);
    double start = now();
    for (int i = 0; i < links; i++) {
        char name[16];
        snprintf(name, sizeof name, "lan%d", i);
        begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &none, sizeof none);
        text(&r, IFLA_IFNAME, name);
        struct rtattr *info = attribute(&r, IFLA_LINKINFO, 0, 0);
        text(&r, IFLA_INFO_KIND, "bridge");
        close_nest(&r, info);
        ask(root, &r, "make bridge");
        up(root, bridge[i] = if_nametoindex(name), 0, "bridge up");
    }
    for (int i = 0; i < spaces; i++) {
        setns(inside[i], CLONE_NEWNET);
        int here = netlink();
        setns(home, CLONE_NEWNET);
        for (int j = 0; j < links; j++) {
            char inner[IFNAMSIZ], outer[32];
            unsigned mtu = 65535, address = htonl(10u << 24 | j << 16 | (i + 1));
            unsigned char mac[6] = {0xc2, 0, i >> 8, i, j >> 8, j};
            snprintf(inner, sizeof inner, "eth%d", j);
            snprintf(outer, sizeof outer, "h_%d-eth%d", i + 1, j);
            begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &none, sizeof none);
            text(&r, IFLA_IFNAME, outer);
            attribute(&r, IFLA_MTU, &mtu, sizeof mtu);
            struct rtattr *info = attribute(&r, IFLA_LINKINFO, 0, 0);
            text(&r, IFLA_INFO_KIND, "veth");
            struct rtattr *data = attribute(&r, IFLA_INFO_DATA, 0, 0);
            struct rtattr *peer = attribute(&r, VETH_INFO_PEER, &none, sizeof none);
            text(&r, IFLA_IFNAME, inner);
            attribute(&r, IFLA_ADDRESS, mac, sizeof mac);
            attribute(&r, IFLA_MTU, &mtu, sizeof mtu);
            attribute(&r, IFLA_NET_NS_FD, &inside[i], sizeof inside[i]);
            close_nest(&r, peer);
            close_nest(&r, data);
            close_nest(&r, info);
            ask(root, &r, "make veth");
            setns(inside[i], CLONE_NEWNET);
            int index = if_nametoindex(inner);
            setns(home, CLONE_NEWNET);
            struct ifaddrmsg where = {.ifa_family = AF_INET, .ifa_prefixlen = 16, .ifa_index = index};
            begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &where, sizeof where);
            attribute(&r, IFA_LOCAL, &address, sizeof address);
            attribute(&r, IFA_ADDRESS, &address, sizeof address);
            ask(here, &r, "add address");
            up(here, index, 0, "inner end up");
            up(root, if_nametoindex(outer), bridge[j], "outer end up");
        }
        close(here);
    }
    printf("%.1f\n", now() - start);
    fflush(stdout);
    _exit(0);
}
