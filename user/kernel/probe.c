// SPDX-License-Identifier: Apache-2.0
#include "kernel/probe.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "base/log.h"
#include "base/memory.h"
#include "probe.skel.h"

#ifndef SO_NETNS_COOKIE
#define SO_NETNS_COOKIE 71
#endif
#define TCX_INGRESS 46     /* enum bpf_attach_type of Linux 6.6 */
#define LOOPBACK_INDEX 1
#define RING_BYTES 4096U

const struct feature_text kernel_features[FEATURE_COUNT] = {
	[FEATURE_CONNECT] = {"connect", "cgroup/connect4 and 6 that may name the process", "no connection is judged"},
	[FEATURE_SENDMSG] = {"sendmsg", "cgroup/sendmsg4 and 6", "no datagram is judged"},
	[FEATURE_RECVMSG] = {"recvmsg", "cgroup/recvmsg4 and 6", "UDP servers cannot answer"},
	[FEATURE_GETPEERNAME] = {"getpeername", "cgroup/getpeername4 and 6", "redirected applications see the redirector"},
	[FEATURE_SET_RETVAL] = {"set-retval", "bpf_set_retval() in socket hooks", "a refusal looks like a lack of permission"},
	[FEATURE_CGROUP_ID] = {"cgroup-id", "ids of the current cgroup and its ancestors", "nobody is known by cgroup"},
	[FEATURE_NETNS_COOKIE] = {"netns-cookie", "cookies of network namespaces in socket hooks", "nobody is known by namespace"},
	[FEATURE_SOCKET_COOKIE] = {"socket-cookie", "SO_NETNS_COOKIE", "nobody is known by namespace"},
	[FEATURE_SOCKET_STORAGE] = {"socket-storage", "socket storage in socket hooks", "nothing can be redirected"},
	[FEATURE_SOCKOPS] = {"sockops", "sockops with socket storage", "nothing can be redirected"},
	[FEATURE_GETSOCKOPT] = {"getsockopt", "cgroup/getsockopt with socket storage", "nothing can be redirected"},
	[FEATURE_LPM_TRIE] = {"lpm-trie", "tries in maps of maps", "rules cannot be stored"},
	[FEATURE_LRU] = {"lru", "hashes that forget what was used least", "who spoke to whom cannot be remembered"},
	[FEATURE_RINGBUF] = {"ringbuf", "ring buffers", "the kernel cannot ask for listeners"},
	[FEATURE_MMAP] = {"mmap", "arrays that can be mapped", "there is no log of flows"},
	[FEATURE_BIND] = {"bind", "cgroup/post_bind4 and 6 with bpf_set_retval()",
			  "a workload can take the redirector's port in its namespace before sluice listens there; its redirected flows are refused then"},
	[FEATURE_GUARD] = {"guard", "cgroup_skb with socket storage, bpf_loop() and bpf_rdonly_cast()",
			   "raw sockets, and sockets older than sluice, are judged on pods' links only; hostCheck: kernel is refused"},
	[FEATURE_VETH] = {"veth", "tc programs with socket storage, bpf_loop() and bpf_rdonly_cast()",
			  "frames that meet no socket hook (packet sockets, tunnels) are not judged; inbound UDP exchanges are not seen"},
	[FEATURE_TCX] = {"tcx", "links at a device's ingress and egress", "filters of clsact are used, which whoever manages the device may remove"},
	[FEATURE_DESTROY] = {"socket-destroy", "SOCK_DESTROY of sock_diag",
			     "open direct flows that a tighter policy forbids are stopped by guard and veth, without a word to their owners"},
	[FEATURE_DIAG_STORAGE] = {"diag-storage", "socket storage in answers of sock_diag",
				  "sluice's own sockets are not told from the workload's, so none is ended: as without socket-destroy"},
};

/* ---- trying ---- */

static bool loads(const char *program, bool with_storage)
{
	struct probe_bpf *probe = probe_bpf__open();
	struct bpf_program *wanted = probe ? bpf_object__find_program_by_name(probe->obj, program) : NULL;
	bool loaded;

	if (!wanted)
		return false;
	bpf_program__set_autoload(wanted, true);
	bpf_map__set_autocreate(probe->maps.probe_storage, with_storage);
	loaded = !probe_bpf__load(probe);
	probe_bpf__destroy(probe);
	return loaded;
}

static int make_map(enum bpf_map_type type, __u32 key_size, __u32 value_size, __u32 entries, __u32 flags, int inner)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = flags, .inner_map_fd = inner >= 0 ? (__u32)inner : 0);

	return bpf_map_create(type, "probe", key_size, value_size, entries, &options);
}

static bool has_tries(void)
{
	_cleanup_close_ int inner = make_map(BPF_MAP_TYPE_LPM_TRIE, 24, 8, 1, BPF_F_NO_PREALLOC, -1);
	_cleanup_close_ int outer = inner < 0 ? -1 : make_map(BPF_MAP_TYPE_ARRAY_OF_MAPS, 4, 4, 2, 0, inner);

	return outer >= 0;
}

static bool has_lru(void)
{
	_cleanup_close_ int fd = make_map(BPF_MAP_TYPE_LRU_HASH, 8, 8, 64, 0, -1);

	return fd >= 0;
}

static bool has_ring_buffers(void)
{
	_cleanup_close_ int fd = make_map(BPF_MAP_TYPE_RINGBUF, 0, 0, RING_BYTES, 0, -1);

	return fd >= 0;
}

static bool maps_arrays(void)
{
	_cleanup_close_ int fd = make_map(BPF_MAP_TYPE_ARRAY, 4, 8, 1, BPF_F_MMAPABLE, -1);
	void *memory = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return memory != MAP_FAILED && !munmap(memory, 4096);
}

static bool tells_netns_cookies(void)
{
	_cleanup_close_ int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t cookie;
	socklen_t size = sizeof(cookie);

	return fd >= 0 && !getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &size);
}

/* Asking what is attached is enough: a kernel without tcx does not know the question. */
static bool has_tcx(void)
{
	__u32 flags, count = 0;

	return !bpf_prog_query(LOOPBACK_INDEX, (enum bpf_attach_type)TCX_INGRESS, 0, &flags, NULL, &count);
}

static int silent(enum libbpf_print_level level, const char *format, va_list args)
{
	(void)level;
	(void)format;
	(void)args;
	return 0;
}

uint32_t kernel_probe(void)
{
	static const struct {
		const char *program;
		enum feature feature;
		bool with_storage;
	} programs[] = {
		{"probe_connect", FEATURE_CONNECT, false},
		{"probe_sendmsg", FEATURE_SENDMSG, false},
		{"probe_recvmsg", FEATURE_RECVMSG, false},
		{"probe_getpeername", FEATURE_GETPEERNAME, false},
		{"probe_set_retval", FEATURE_SET_RETVAL, false},
		{"probe_cgroup_id", FEATURE_CGROUP_ID, false},
		{"probe_netns_cookie", FEATURE_NETNS_COOKIE, false},
		{"probe_socket_storage", FEATURE_SOCKET_STORAGE, true},
		{"probe_sockops", FEATURE_SOCKOPS, true},
		{"probe_getsockopt", FEATURE_GETSOCKOPT, true},
		{"probe_bind", FEATURE_BIND, true},
		{"probe_guard", FEATURE_GUARD, true},
		{"probe_veth", FEATURE_VETH, true},
	};
	static const struct {
		enum feature feature;
		bool (*works)(void);
	} others[] = {
		{FEATURE_SOCKET_COOKIE, tells_netns_cookies}, {FEATURE_LPM_TRIE, has_tries}, {FEATURE_LRU, has_lru},
		{FEATURE_RINGBUF, has_ring_buffers}, {FEATURE_MMAP, maps_arrays}, {FEATURE_TCX, has_tcx},
	};
	libbpf_print_fn_t print = libbpf_set_print(silent); /* the verifier's complaints are the answer "no" */
	uint32_t found = 0;

	for (size_t i = 0; i < ARRAY_SIZE(programs); i++)
		if (loads(programs[i].program, programs[i].with_storage))
			found |= 1U << programs[i].feature;
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		if (others[i].works())
			found |= 1U << others[i].feature;
	libbpf_set_print(print);
	return found;
}

enum feature kernel_feature_named(const char *name)
{
	enum feature feature = 0;

	while (feature < FEATURE_COUNT && strcmp(kernel_features[feature].name, name))
		feature++;
	return feature;
}
