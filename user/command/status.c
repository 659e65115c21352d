// SPDX-License-Identifier: Apache-2.0
/* sluice status: whether it enforces, what, and since when; from the pins alone. */
#include <errno.h>
#include <ftw.h>
#include <getopt.h>
#include <json-c/json.h>
#include <linux/limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "command/command.h"
#include "command/flow_print.h"
#include "command/paths.h"
#include "kernel/kernel.h"
#include "workload/cgroup.h"

static const char usage[] =
	"Usage: sluice status [-o json] [--pin DIR]\n"
	"\n"
	"Says whether sluice enforces, and what. Exit status 1 if it does not, or would not without its daemon.\n";

#define DAEMON_PATIENCE_MS 1000

/* ---- collecting: one JSON object, from which the text is printed too ---- */

/* Names may be paths of cgroups that others made, and errors quote what others wrote. */
static struct json_object *foreign_text(const char *text)
{
	char safe[2 * SLUICE_ERROR_TEXT];

	return json_object_new_string(printable(safe, sizeof(safe), text));
}

static bool is_alive(__u32 pid)
{
	return pid && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

static struct json_object *process(__u32 pid)
{
	struct json_object *out = json_object_new_object();

	json_object_object_add(out, "pid", json_object_new_int64(pid));
	json_object_object_add(out, "alive", json_object_new_boolean(is_alive(pid)));
	return out;
}

static uint64_t wanted_cgroup;
static char found_cgroup[PATH_MAX];

static int match_cgroup(const char *path, const struct stat *st, int type, struct FTW *where)
{
	(void)where;
	if (type != FTW_D || st->st_ino != wanted_cgroup)
		return 0;
	snprintf(found_cgroup, sizeof(found_cgroup), "%s", path);
	return 1;
}

/* Links are attached at the root, which is found at once; elsewhere the tree is walked. */
static const char *cgroup_path(uint64_t id)
{
	char mount[PATH_MAX];

	wanted_cgroup = id;
	snprintf(found_cgroup, sizeof(found_cgroup), "cgroup %llu", (unsigned long long)id);
	if (!cgroup_mount_point(mount))
		nftw(mount, match_cgroup, 16, FTW_PHYS | FTW_MOUNT);
	return found_cgroup;
}

/* `problem`: what is wrong with the first hook that is not in its place, or empty. */
static struct json_object *hooks(const struct pins *pins, const char *pin, char *problem, size_t room)
{
	struct json_object *out = json_object_new_array();
	char mount[PATH_MAX] = "";

	problem[0] = 0;
	cgroup_mount_point(mount);
	for (size_t i = 0; i < KERNEL_PROGRAM_COUNT; i++) {
		if (!kernel_runs(pins_state(pins), kernel_programs[i]))
			continue; /* for want of a feature, which is told of, or of anything to do */
		struct json_object *hook = json_object_new_object();
		__u64 cgroup = 0;
		bool is_attached = !pins_link(pins, kernel_programs[i], &cgroup) && cgroup;
		char why[256] = "";

		if (!kernel_hook_holds(pin, kernel_programs[i], mount, why, sizeof(why)) && !problem[0])
			snprintf(problem, room, "%s", why);
		json_object_object_add(hook, "program", json_object_new_string(kernel_programs[i]));
		json_object_object_add(hook, "attached", json_object_new_boolean(is_attached));
		if (is_attached)
			json_object_object_add(hook, "cgroup", json_object_new_string(cgroup_path(cgroup)));
		json_object_object_add(hook, "problem", foreign_text(why));
		json_object_array_add(out, hook);
	}
	return out;
}

struct sums {
	__u64 counts[2][VERDICT_COUNT][REASON_COUNT];
};

static void add_counter(void *context, const struct counter_key *key, __u64 count)
{
	struct sums *sums = context;

	if (key->verdict < VERDICT_COUNT && key->reason < REASON_COUNT)
		sums->counts[!!key->by_redirector][key->verdict][key->reason] += count;
}

static struct json_object *verdicts(const struct pins *pins)
{
	struct json_object *out = json_object_new_array();
	_cleanup_free_ struct sums *sums = xcalloc(1, sizeof(*sums));

	pins_each_counter(pins, add_counter, sums);
	for (int by = 0; by < 2; by++) {
		for (int verdict = 0; verdict < VERDICT_COUNT; verdict++) {
			for (int reason = 0; reason < REASON_COUNT; reason++) {
				struct json_object *row;

				if (!sums->counts[by][verdict][reason])
					continue;
				row = json_object_new_object();
				json_object_object_add(row, "verdict", json_object_new_string(verdict_name(verdict)));
				json_object_object_add(row, "reason", json_object_new_string(verdict_reason_name(reason)));
				json_object_object_add(row, "by", json_object_new_string(by ? "redirector" : "kernel"));
				json_object_object_add(row, "count", json_object_new_int64((int64_t)sums->counts[by][verdict][reason]));
				json_object_array_add(out, row);
			}
		}
	}
	return out;
}

/* ---- network namespaces, with the host's ends of their links ---- */

struct netns_rows {
	const struct pins *pins;
	const char *pin;
	struct json_object *rows;
	struct json_object *devices; /* of the row under way */
	__u64 cookie;
	char broken[16];             /* a device whose programs are not attached, or empty */
};

static void add_device(void *context, const void *key, const void *value)
{
	const struct device_value *device = value;
	struct netns_rows *rows = context;
	struct json_object *row;
	__u32 index;
	bool attached;

	if (device->netns != rows->cookie)
		return;
	memcpy(&index, key, sizeof(index));
	attached = pins_state(rows->pins)->features & 1U << FEATURE_VETH &&
		   kernel_device_attached(rows->pin, index, pins_state(rows->pins));
	if (!attached && pins_state(rows->pins)->features & 1U << FEATURE_VETH)
		snprintf(rows->broken, sizeof(rows->broken), "%s", device->name);
	row = json_object_new_object();
	json_object_object_add(row, "name", json_object_new_string(device->name));
	json_object_object_add(row, "index", json_object_new_int64(index));
	json_object_object_add(row, "attached", json_object_new_boolean(attached));
	json_object_object_add(row, "in_driver", json_object_new_boolean(device->in_driver));
	json_object_array_add(rows->devices, row);
}

static void add_netns(void *context, const void *key, const void *value)
{
	const struct netns_value *netns = value;
	struct netns_rows *rows = context;
	struct json_object *row;
	__u64 cookie;

	if (netns->workload == WORKLOAD_CANARY)
		return; /* nobody's */
	row = json_object_new_object();
	memcpy(&cookie, key, sizeof(cookie));
	rows->cookie = cookie;
	rows->devices = json_object_new_array();
	pins_each(rows->pins, PIN_DEVICES, add_device, rows);
	json_object_object_add(row, "cookie", json_object_new_int64((int64_t)cookie));
	json_object_object_add(row, "workload", foreign_text(netns->name));
	json_object_object_add(row, "host", json_object_new_boolean(netns->is_host));
	json_object_object_add(row, "identity", json_object_new_string(netns->is_identity ? "netns or cgroup" : "cgroup only"));
	json_object_object_add(row, "listens_v4", json_object_new_boolean(netns->listens_v4));
	json_object_object_add(row, "listens_v6", json_object_new_boolean(netns->listens_v6));
	json_object_object_add(row, "devices", rows->devices);
	json_object_array_add(rows->rows, row);
}

/* host → list of addresses, from what clients may dial, and from where the names are that they showed below a wildcard. */
static void add_name(void *context, const void *key, const void *value)
{
	const struct service_key *where = key;
	const struct service_value *service = value;
	struct json_object *names = context, *addresses;
	bool is_asked = where->kind == KIND_UPSTREAM && service->flags & SERVICE_DYNAMIC;

	if ((where->kind != KIND_SERVICE && !is_asked) || where->prefixlen != SERVICE_KEY_FIXED_BITS + 128)
		return;
	if (!json_object_object_get_ex(names, service->host, &addresses)) {
		addresses = json_object_new_array();
		json_object_object_add(names, service->host, addresses);
	}
	for (size_t i = 0; i < json_object_array_length(addresses); i++)
		if (!strcmp(json_object_get_string(json_object_array_get_idx(addresses, i)), service->prefix))
			return;
	json_object_array_add(addresses, json_object_new_string(service->prefix));
}

/* Such a wildcard itself, which has no address. */
static void add_dynamic(void *context, const void *key, const void *value)
{
	const struct catalog_value *service = value;

	(void)key;
	if (service->flags & SERVICE_DYNAMIC)
		json_object_object_add(context, service->host, json_object_new_array());
}

static void add_one(void *context, const void *key, const void *value)
{
	(void)key;
	(void)value;
	++*(int *)context;
}

/* The first `count` of all. */
static struct json_object *features(__u32 found, enum feature count)
{
	struct json_object *out = json_object_new_array();

	for (enum feature i = 0; i < count; i++) {
		struct json_object *row = json_object_new_object();

		json_object_object_add(row, "name", json_object_new_string(kernel_features[i].name));
		json_object_object_add(row, "what", json_object_new_string(kernel_features[i].what));
		json_object_object_add(row, "on", json_object_new_boolean(found & 1U << i));
		json_object_object_add(row, "mandatory", json_object_new_boolean(feature_is_mandatory(i)));
		json_object_object_add(row, "without", json_object_new_string(kernel_features[i].without));
		json_object_array_add(out, row);
	}
	return out;
}

/* NULL: it enforces. */
static const char *why_not(const struct state *now, int governed, const char *broken_hook, const char *broken_device,
			   const char *trouble)
{
	static char text[SLUICE_ERROR_TEXT * 3];

	if (!now->generation)
		return "no configuration was ever valid; governed traffic is denied";
	if (!governed)
		return "no cgroup is governed";
	if (broken_hook[0])
		snprintf(text, sizeof(text), "%s", broken_hook);
	else if (broken_device[0])
		snprintf(text, sizeof(text), "device %s: the backstop is not attached", broken_device);
	else if (trouble[0])
		snprintf(text, sizeof(text), "the daemon says so: %s", trouble);
	else
		return NULL;
	return text;
}

/* What the daemon says of itself: "" when there is none. `*well`: that it enforces as it should. True: it answers. */
static bool ask_daemon(const char *pin, char *text, size_t room, bool *well)
{
	struct control_request request = {.type = CONTROL_HEALTH};
	struct control_answer answer;
	struct run_paths paths;
	int error;

	run_paths_of(&paths, pin);
	error = control_ask(&paths, &request, &answer, DAEMON_PATIENCE_MS);
	if (!error)
		snprintf(text, room, "%s", answer.text);
	else if (error == -ENOENT || error == -ECONNREFUSED)
		text[0] = 0;
	else
		snprintf(text, room, "nothing (%s); what is pinned goes on enforcing, changes wait for it", strerror(-error));
	*well = !error && !answer.error;
	return !error;
}

static struct json_object *collect(const struct pins *pins, const char *pin, bool *enforcing)
{
	const struct state *now = pins_state(pins);
	struct json_object *out = json_object_new_object(), *netns = json_object_new_array(), *names = json_object_new_object();
	struct netns_rows rows = {.pins = pins, .pin = pin, .rows = netns};
	struct json_object *hook_list;
	char said[sizeof(((struct control_answer *)0)->text)], broken_hook[256];
	const char *why;
	bool trouble, well;
	int workloads = 0, governed = 0;

	hook_list = hooks(pins, pin, broken_hook, sizeof(broken_hook));
	pins_each(pins, PIN_NETNS, add_netns, &rows);
	pins_each(pins, PIN_CATALOG, add_dynamic, names);
	pins_each(pins, PIN_SERVICES, add_name, names);
	pins_each(pins, PIN_WORKLOADS, add_one, &workloads);
	pins_each(pins, PIN_CGROUPS, add_one, &governed);
	trouble = ask_daemon(pin, said, sizeof(said), &well) && !well;
	why = why_not(now, governed, broken_hook, rows.broken, trouble ? said : "");
	*enforcing = !why;
	json_object_object_add(out, "enforcing", json_object_new_boolean(*enforcing));
	json_object_object_add(out, "not_enforcing_because", foreign_text(why ? why : ""));
	json_object_object_add(out, "generation", json_object_new_int64((int64_t)now->generation));
	json_object_object_add(out, "applied_at", json_object_new_int64((int64_t)now->applied_at));
	json_object_object_add(out, "config", json_object_new_string(now->config));
	json_object_object_add(out, "last_error", foreign_text(now->last_error));
	json_object_object_add(out, "config_errors", json_object_new_int64((int64_t)now->config_errors));
	json_object_object_add(out, "abi", json_object_new_int64(now->abi));
	json_object_object_add(out, "daemon", process(now->loader_pid));
	json_object_object_add(out, "daemon_says", foreign_text(said));
	json_object_object_add(out, "redirector", process(now->redirector_pid));
	json_object_object_add(out, "redirector_port", json_object_new_int64(now->redirector_port));
	json_object_object_add(out, "hooks", hook_list);
	json_object_object_add(out, "backstop", json_object_new_string(now->notes_owners ? "xdp" : "tc"));
	json_object_object_add(out, "kernel_features", features(now->features, FEATURE_COUNT));
	json_object_object_add(out, "governed_cgroups", json_object_new_int(governed));
	json_object_object_add(out, "workloads", json_object_new_int(workloads));
	json_object_object_add(out, "netns", netns);
	json_object_object_add(out, "verdicts", verdicts(pins));
	json_object_object_add(out, "names", names);
	return out;
}

/* ---- printing ---- */

static struct json_object *get(struct json_object *object, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(object, key, &value);
	return value;
}

static const char *text_of(struct json_object *object, const char *key)
{
	return json_object_get_string(get(object, key));
}

static void print_process(const char *label, struct json_object *object)
{
	if (json_object_get_boolean(get(object, "alive")))
		printf("%s pid %s\n", label, text_of(object, "pid"));
	else
		printf("%s not running; what is pinned goes on enforcing\n", label);
}

static void print_hooks(struct json_object *list)
{
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *hook = json_object_array_get_idx(list, i);
		bool attached = json_object_get_boolean(get(hook, "attached"));

		printf("  %-13s %s%s%s\n", text_of(hook, "program"), attached ? text_of(hook, "cgroup") : "NOT ATTACHED",
		       text_of(hook, "problem")[0] ? ": " : "", text_of(hook, "problem"));
	}
}

static void print_features(struct json_object *list)
{
	size_t count = json_object_array_length(list);

	printf("kernel      can:");
	for (size_t i = 0; i < count; i++)
		if (json_object_get_boolean(get(json_object_array_get_idx(list, i), "on")))
			printf(" %s", text_of(json_object_array_get_idx(list, i), "name"));
	putchar('\n');
	for (size_t i = 0; i < count; i++) {
		struct json_object *feature = json_object_array_get_idx(list, i);

		if (!json_object_get_boolean(get(feature, "on")))
			printf("  LACKS %s (%s): %s\n", text_of(feature, "name"), text_of(feature, "what"), text_of(feature, "without"));
	}
}

static void print_devices(struct json_object *list, bool host)
{
	if (!host && !json_object_array_length(list))
		printf(", no device: only its sockets are judged");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *device = json_object_array_get_idx(list, i);

		printf("%s %s%s", i ? "" : ", devices:", text_of(device, "name"),
		       json_object_get_boolean(get(device, "attached")) ? "" : " NOT ATTACHED");
	}
	putchar('\n');
}

static void print_text(struct json_object *all, bool enforcing)
{
	struct json_object *list;
	char when[40] = "never";
	time_t applied = json_object_get_int64(get(all, "applied_at"));
	struct tm local;

	if (applied) {
		localtime_r(&applied, &local);
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &local);
	}
	printf(enforcing ? "enforcing\n" : "NOT ENFORCING: %s\n", text_of(all, "not_enforcing_because"));
	printf("generation  %s, applied %s, from %s\n", text_of(all, "generation"), when, text_of(all, "config"));
	if (text_of(all, "last_error")[0])
		printf("last error  %s\n", text_of(all, "last_error"));
	print_process("daemon     ", get(all, "daemon"));
	if (text_of(all, "daemon_says")[0])
		printf("  it says   %s\n", text_of(all, "daemon_says"));
	print_process("redirector ", get(all, "redirector"));
	printf("governed    cgroups: %s, known workloads: %s\n", text_of(all, "governed_cgroups"), text_of(all, "workloads"));
	print_features(get(all, "kernel_features"));
	if (!strcmp(text_of(all, "backstop"), "xdp"))
		printf("backstop    xdp: the drivers of pods' links judge frames\n");
	puts("hooks");
	print_hooks(get(all, "hooks"));
	list = get(all, "netns");
	puts("network namespaces");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *row = json_object_array_get_idx(list, i);

		printf("  %-8s %s, identity: %s, listeners:%s%s", text_of(row, "cookie"), text_of(row, "workload"),
		       text_of(row, "identity"), json_object_get_boolean(get(row, "listens_v4")) ? " v4" : "",
		       json_object_get_boolean(get(row, "listens_v6")) ? " v6" : "");
		print_devices(get(row, "devices"), json_object_get_boolean(get(row, "host")));
	}
	list = get(all, "verdicts");
	puts(json_object_array_length(list) ? "verdicts" : "verdicts    none yet");
	for (size_t i = 0; i < json_object_array_length(list); i++) {
		struct json_object *row = json_object_array_get_idx(list, i);

		printf("  %10s %s, %s, by %s\n", text_of(row, "count"), text_of(row, "verdict"), text_of(row, "reason"),
		       text_of(row, "by"));
	}
	puts(json_object_object_length(get(all, "names")) ? "names" : "names       none");
	json_object_object_foreach(get(all, "names"), host, addresses) {
		printf("  %s:", host);
		for (size_t i = 0; i < json_object_array_length(addresses); i++)
			printf(" %s", json_object_get_string(json_object_array_get_idx(addresses, i)));
		puts(json_object_array_length(addresses) ? "" : " resolved when asked for");
	}
}

static void print_unpinned(const char *pin, const char *why, bool json)
{
	char said[sizeof(((struct control_answer *)0)->text)];
	bool well, runs = ask_daemon(pin, said, sizeof(said), &well);
	/* Where no daemon has left word of what this kernel can do, it may be why none runs. */
	struct json_object *out, *list = features(kernel_probe(), FEATURE_DESTROY /* the rest takes maps to try */);

	if (!json) {
		printf("%s: %s\n", runs ? "NOT PINNED" : "NOT ENFORCING", why);
		if (said[0])
			printf("daemon      %s\n", said);
		print_features(list);
		json_object_put(list);
		return;
	}
	out = json_object_new_object();
	json_object_object_add(out, "enforcing", json_object_new_boolean(false));
	json_object_object_add(out, "not_enforcing_because", json_object_new_string(why));
	json_object_object_add(out, "daemon_says", json_object_new_string(said));
	json_object_object_add(out, "kernel_features", list);
	puts(json_object_to_json_string_ext(out, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(out);
}

int command_status(int argc, char **argv)
{
	static const struct option options[] = {
		{"pin", required_argument, NULL, 'p'}, {"output", required_argument, NULL, 'o'}, {"help", no_argument, NULL, 'h'}, {0},
	};
	const char *pin = DEFAULT_PIN;
	bool json = false, enforcing;
	struct json_object *all;
	char why[512];
	struct pins *pins;
	int option, error;

	while ((option = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
		if (option == 'o') {
			if (take_output(&json, optarg))
				return EXIT_USAGE;
		} else if (option == 'p') {
			pin = optarg;
		} else {
			fputs(usage, option == 'h' ? stdout : stderr);
			return option == 'h' ? 0 : EXIT_USAGE;
		}
	}
	if (optind < argc)
		return refuse_arguments(argv + optind);
	error = pins_open(&pins, pin, why, sizeof(why));
	if (error == -EACCES || error == -EPERM) {
		fprintf(stderr, "sluice: %s\n", why);
		return 1;
	}
	if (error) {
		print_unpinned(pin, why, json);
		return 1;
	}
	all = collect(pins, pin, &enforcing);
	if (json)
		puts(json_object_to_json_string_ext(all, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		print_text(all, enforcing);
	json_object_put(all);
	pins_close(pins);
	return enforcing ? 0 : 1;
}
