// SPDX-License-Identifier: Apache-2.0
/* The maps that outlive generations: state, workloads, namespaces, marks, flows, requests. */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "kernel/internal.h"

const char *const kernel_fixed_maps[] = {
	"state",  "cgroups",  "workloads", "netns",    "marks",     "redirected", "accepted",
	"devices", "sources", "exchanges", "draining", "hellos", "hello_scratch", "unreadable", "fragments", "owners", "verdict_cache", "judgements", "strangers",
	"handover", "udp_peers", "counters", "flows", "flow_head", "requests",
};
const size_t kernel_fixed_map_count = ARRAY_SIZE(kernel_fixed_maps);

int kernel_write_state(struct kernel *kernel)
{
	__u32 zero = 0;

	if (bpf_map_update_elem(bpf_map__fd(kernel->bpf->maps.state), &zero, &kernel->state, BPF_ANY))
		return log_errno(-errno, "state map: cannot write it: %s", strerror(errno));
	return 0;
}

/* What programs have cached of the tables, of cgroups or of namespaces is void from here on. */
int kernel_bump_epoch(struct kernel *kernel)
{
	kernel->state.epoch++;
	return kernel_write_state(kernel);
}

void kernel_set_error(struct kernel *kernel, const char *text, bool counts)
{
	kernel->state.config_errors += counts;
	snprintf(kernel->state.last_error, sizeof(kernel->state.last_error), "%s", text);
	kernel_write_state(kernel);
}

void kernel_set_pids(struct kernel *kernel, uint32_t loader, uint32_t redirector)
{
	kernel->state.loader_pid = loader;
	kernel->state.redirector_pid = redirector;
	kernel_write_state(kernel);
}

static int put(struct bpf_map *map, const void *key, const void *value)
{
	return bpf_map_update_elem(bpf_map__fd(map), key, value, BPF_ANY) ? -errno : 0;
}

int kernel_set_cgroup(struct kernel *kernel, uint64_t id, const struct cgroup_value *value)
{
	int error = put(kernel->bpf->maps.cgroups, &id, value);

	return error ? error : kernel_bump_epoch(kernel);
}

int kernel_get_cgroup(const struct kernel *kernel, uint64_t id, struct cgroup_value *out)
{
	return bpf_map_lookup_elem(bpf_map__fd(kernel->bpf->maps.cgroups), &id, out) ? -ENOENT : 0;
}

void kernel_delete_cgroup(struct kernel *kernel, uint64_t id)
{
	bpf_map_delete_elem(bpf_map__fd(kernel->bpf->maps.cgroups), &id);
	kernel_bump_epoch(kernel);
}

int kernel_set_workload(struct kernel *kernel, uint32_t id, const struct workload_value *value)
{
	return put(kernel->bpf->maps.workloads, &id, value);
}

void kernel_delete_workload(struct kernel *kernel, uint32_t id)
{
	bpf_map_delete_elem(bpf_map__fd(kernel->bpf->maps.workloads), &id);
}

int kernel_set_netns(struct kernel *kernel, uint64_t cookie, const struct netns_value *value)
{
	int error = put(kernel->bpf->maps.netns, &cookie, value);

	return error ? error : kernel_bump_epoch(kernel);
}

void kernel_delete_netns(struct kernel *kernel, uint64_t cookie)
{
	bpf_map_delete_elem(bpf_map__fd(kernel->bpf->maps.netns), &cookie);
	kernel_bump_epoch(kernel);
}

int kernel_get_netns(const struct kernel *kernel, uint64_t cookie, struct netns_value *out)
{
	return bpf_map_lookup_elem(bpf_map__fd(kernel->bpf->maps.netns), &cookie, out) ? -ENOENT : 0;
}

/* All keys first: deleting while walking a hash starts the walk over. */
static uint64_t *keys_of(struct bpf_map *map, size_t *count)
{
	uint64_t *keys = NULL, key;
	size_t n = 0, capacity = 0;
	int fd = bpf_map__fd(map), end = bpf_map_get_next_key(fd, NULL, &key);

	for (; !end && n < bpf_map__max_entries(map); end = bpf_map_get_next_key(fd, &keys[n - 1], &key))
		*array_append(keys, n, capacity) = key;
	*count = n;
	return keys;
}

void kernel_each_cgroup(struct kernel *kernel, void (*visit)(void *context, uint64_t id, const struct cgroup_value *v),
			void *context)
{
	struct bpf_map *map = kernel->bpf->maps.cgroups;
	struct cgroup_value value;
	size_t count;
	_cleanup_free_ uint64_t *keys = keys_of(map, &count);

	for (size_t i = 0; i < count; i++)
		if (!bpf_map_lookup_elem(bpf_map__fd(map), &keys[i], &value))
			visit(context, keys[i], &value);
}

void kernel_each_netns(struct kernel *kernel, void (*visit)(void *context, uint64_t cookie, const struct netns_value *v),
		       void *context)
{
	struct bpf_map *map = kernel->bpf->maps.netns;
	struct netns_value value;
	size_t count;
	_cleanup_free_ uint64_t *keys = keys_of(map, &count);

	for (size_t i = 0; i < count; i++)
		if (!bpf_map_lookup_elem(bpf_map__fd(map), &keys[i], &value))
			visit(context, keys[i], &value);
}

int kernel_mark_socket(const struct kernel *kernel, int fd, uint32_t mark, uint32_t workload)
{
	struct socket_mark value = {mark, workload};

	return bpf_map_update_elem(bpf_map__fd(kernel->bpf->maps.marks), &fd, &value, BPF_ANY) ? -errno : 0;
}

int kernel_marks_fd(const struct kernel *kernel)
{
	return bpf_map__fd(kernel->bpf->maps.marks);
}

int kernel_set_exchange(struct kernel *kernel, const struct exchange_key *key)
{
	struct exchange_value value = {.seen = kernel_boottime_ns(), .inbound = 1};

	return put(kernel->bpf->maps.exchanges, key, &value);
}

bool kernel_is_inbound(const struct kernel *kernel, const struct exchange_key *key)
{
	struct exchange_value value;

	return !bpf_map_lookup_elem(bpf_map__fd(kernel->bpf->maps.exchanges), key, &value) && value.inbound;
}

int kernel_get_workload(const struct kernel *kernel, uint32_t id, struct workload_value *out)
{
	return bpf_map_lookup_elem(bpf_map__fd(kernel->bpf->maps.workloads), &id, out) ? -ENOENT : 0;
}

void kernel_read_state(const struct kernel *kernel, struct state *out)
{
	__u32 zero = 0;

	if (bpf_map_lookup_elem(bpf_map__fd(kernel->bpf->maps.state), &zero, out))
		*out = (struct state){0};
}

void kernel_each_counter(const struct kernel *kernel,
			 void (*visit)(void *context, const struct counter_key *key, uint64_t count), void *context)
{
	int fd = bpf_map__fd(kernel->bpf->maps.counters), cpus = libbpf_num_possible_cpus();
	_cleanup_free_ uint64_t *counts = cpus > 0 ? xcalloc((size_t)cpus, sizeof(*counts)) : NULL;
	struct counter_key key, next;
	int end = bpf_map_get_next_key(fd, NULL, &next);

	while (counts && !end) {
		uint64_t sum = 0;

		key = next;
		if (!bpf_map_lookup_elem(fd, &key, counts)) {
			for (int i = 0; i < cpus; i++)
				sum += counts[i];
			visit(context, &key, sum);
		}
		end = bpf_map_get_next_key(fd, &key, &next);
	}
}

uint64_t kernel_boottime_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000ULL + (uint64_t)now.tv_nsec;
}

void kernel_count(struct kernel *kernel, const struct flow_event *event)
{
	struct counter_key key = {event->workload, event->verdict, event->reason, event->by_redirector, 0};
	int fd = bpf_map__fd(kernel->bpf->maps.counters), cpus = libbpf_num_possible_cpus();
	_cleanup_free_ uint64_t *counts = cpus > 0 ? xcalloc((size_t)cpus, sizeof(*counts)) : NULL;

	if (!counts)
		return;
	bpf_map_lookup_elem(fd, &key, counts);
	counts[0]++;
	bpf_map_update_elem(fd, &key, counts, BPF_ANY);
}

void kernel_record(struct kernel *kernel, const struct flow_event *event)
{
	uint64_t seq = __atomic_fetch_add(kernel->flow_head, 1, __ATOMIC_ACQ_REL);
	struct flow_event *slot = &kernel->flows[seq % SLUICE_FLOW_SLOTS], copy = *event;

	copy.seq = 0;
	copy.time = kernel_boottime_ns();
	copy.generation = kernel->state.generation;
	__atomic_store_n(&slot->seq, 0, __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	*slot = copy;
	__atomic_store_n(&slot->seq, seq, __ATOMIC_RELEASE);
	kernel_count(kernel, event);
}

uint64_t kernel_flows_read(struct kernel *kernel, void (*visit)(void *context, const struct flow_event *event),
			   void *context)
{
	uint64_t head = __atomic_load_n(kernel->flow_head, __ATOMIC_ACQUIRE), lost = 0;

	if (head - kernel->flow_next > SLUICE_FLOW_SLOTS) {
		lost = head - SLUICE_FLOW_SLOTS - kernel->flow_next;
		kernel->flow_next = head - SLUICE_FLOW_SLOTS;
	}
	for (; kernel->flow_next < head; kernel->flow_next++) {
		const struct flow_event *slot = &kernel->flows[kernel->flow_next % SLUICE_FLOW_SLOTS];
		struct flow_event copy;

		if (__atomic_load_n(&slot->seq, __ATOMIC_ACQUIRE) != kernel->flow_next) {
			lost++;
			continue;
		}
		copy = *slot;
		__atomic_thread_fence(__ATOMIC_SEQ_CST);
		if (__atomic_load_n(&slot->seq, __ATOMIC_ACQUIRE) != kernel->flow_next) {
			lost++;
			continue;
		}
		visit(context, &copy);
	}
	return lost;
}

static int on_ring(void *context, void *data, size_t size)
{
	struct kernel *kernel = context;

	if (size >= sizeof(struct listener_request) && kernel->on_request)
		kernel->on_request(kernel->request_context, data);
	return 0;
}

int kernel_open_requests(struct kernel *kernel)
{
	kernel->requests = ring_buffer__new(bpf_map__fd(kernel->bpf->maps.requests), on_ring, kernel, NULL);
	if (!kernel->requests)
		return log_errno(-errno, "requests ring: cannot open it: %s; not started", strerror(errno));
	return 0;
}

int kernel_requests_fd(const struct kernel *kernel)
{
	return ring_buffer__epoll_fd(kernel->requests);
}

void kernel_requests_read(struct kernel *kernel)
{
	ring_buffer__consume(kernel->requests);
}

void kernel_on_request(struct kernel *kernel, void (*handler)(void *context, const struct listener_request *request),
		       void *context)
{
	kernel->on_request = handler;
	kernel->request_context = context;
}
