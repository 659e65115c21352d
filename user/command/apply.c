// SPDX-License-Identifier: Apache-2.0
/*
 * From the policy folder to the generation in force. The folder is looked at four times a second (that sees writes,
 * renames, deletes, a ConfigMap's ..data swap and files behind symlinks alike) and judged once it has stopped
 * changing. A configuration goes in whole or not at all: read, parse, compile, ask for its names, hand it to the
 * redirector, flip.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "command/log_file.h"
#include "command/run.h"
#include "kernel/pins.h"
#include "workload/tighten.h"

#define WATCH_PERIOD_MS 250
#define STABLE_MS 60       /* a folder that changed is read when it was quiet for so long */
#define SETTLE_MS 400      /* how long the flip waits for the first answers about new names */
#define SETTLE_STEP_MS 20
#define TIGHTEN_DELAY_MS 100 /* workloads come and go in crowds */
#define RETRY_MS 5000      /* after a failure that is not the configuration's own; doubled each time */
#define RETRY_MAX_MS 300000 /* a redirector that cannot hold the table dies of each try, and open connections with it */
#define REFRESH_DELAY_MS 5 /* several answers in a row make one update */
#define REFRESH_SHARE 4    /* of the time that updates may take, for names that clients make up: a fifth */

static void configuration_fini(struct configuration *configuration)
{
	policy_free(configuration->policy);
	config_free(configuration->config);
	config_source_free(&configuration->source);
	if (configuration->has_log)
		close(configuration->log_fd);
	*configuration = (struct configuration){0};
}

/* ---- the folder ---- */

static uint64_t mix(uint64_t hash, const void *bytes, size_t n)
{
	const unsigned char *p = bytes;

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ p[i]) * 0x100000001b3ULL; /* FNV-1a */
	return hash;
}

static uint64_t mix_file(const char *path, const char *name)
{
	uint64_t hash = mix(0xcbf29ce484222325ULL, name, strlen(name));
	struct stat st;

	if (stat(path, &st) < 0)
		return hash;
	hash = mix(hash, &st.st_ino, sizeof(st.st_ino));
	hash = mix(hash, &st.st_dev, sizeof(st.st_dev));
	hash = mix(hash, &st.st_size, sizeof(st.st_size));
	hash = mix(hash, &st.st_mtim, sizeof(st.st_mtim));
	return mix(hash, &st.st_ctim, sizeof(st.st_ctim));
}

static bool is_policy_file(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml"));
}

/* A number that changes with what a generation is made from: the folder's files, whatever their order, and the node's resolvers. */
static uint64_t sources_signature(const char *folder)
{
	uint64_t sum = 1 + mix_file(RESOLV_CONF, RESOLV_CONF);
	DIR *directory = opendir(folder);
	struct dirent *entry;

	if (!directory)
		return sum + mix_file(folder, folder);
	while ((entry = readdir(directory))) {
		char path[PATH_MAX];

		if (entry->d_name[0] == '.' || !is_policy_file(entry->d_name) || snprintf(path, sizeof(path), "%s/%s", folder, entry->d_name) >= PATH_MAX)
			continue;
		sum += mix_file(path, entry->d_name);
	}
	closedir(directory);
	return sum;
}

/* The same of the PEM files that a configuration names. */
static uint64_t credentials_signature(const struct daemon *daemon)
{
	uint64_t sum = 1;

	for (size_t i = 0; i < daemon->credentials.count; i++)
		sum += mix_file(daemon->credentials.items[i], daemon->credentials.items[i]);
	return sum;
}

static void forget_credentials(struct daemon *daemon)
{
	for (size_t i = 0; i < daemon->credentials.count; i++)
		free((char *)daemon->credentials.items[i]);
	daemon->credentials.count = 0;
}

/* Of the folder as it was judged last, whether it was taken or not: a file that was missing may come. */
static void watch_credentials(struct daemon *daemon, const struct config *config)
{
	forget_credentials(daemon);
	for (size_t i = 0; i < config->credential_count; i++)
		*array_append(daemon->credentials.items, daemon->credentials.count, daemon->credentials.capacity) =
			xstrdup(credential_file(config->credentials[i].path));
	daemon->credentials_signature = credentials_signature(daemon);
}

/* ---- refusing ---- */

static void refuse(struct daemon *daemon, const char *first)
{
	uint64_t generation = kernel_generation(daemon->kernel);
	char kept[64] = "no generation was ever applied: governed traffic is denied";

	if (generation)
		snprintf(kept, sizeof(kept), "kept generation %llu", (unsigned long long)generation);
	snprintf(daemon->refused, sizeof(daemon->refused), "%.*s; %s", (int)(sizeof(daemon->refused) - 80), first, kept);
	log_error("configuration refused: %s", daemon->refused);
	kernel_set_error(daemon->kernel, daemon->refused, true);
}

static void refuse_problems(struct daemon *daemon, const struct config *config)
{
	char line[SLUICE_ERROR_TEXT], first[SLUICE_ERROR_TEXT] = "";

	for (size_t i = 0; i < config->problem_count; i++) {
		if (config->problems[i].severity != SEVERITY_ERROR)
			continue;
		config_problem_format(line, sizeof(line), &config->problems[i]);
		if (!first[0])
			memcpy(first, line, sizeof(first));
		else
			log_error("%s", line);
	}
	refuse(daemon, first);
}

static void log_warnings(const struct config *config)
{
	char line[1024];

	for (size_t i = 0; i < config->problem_count; i++) {
		if (config->problems[i].severity != SEVERITY_WARNING)
			continue;
		config_problem_format(line, sizeof(line), &config->problems[i]);
		log_warning("%s", line);
	}
}

/* ---- compiling ---- */

/* No name would be checked where guard cannot run, or where a link's driver has the last word: nothing may pass for want of it. */
static void refuse_unguarded(struct daemon *daemon, struct config *config)
{
	const bool has_guard = kernel_has(daemon->kernel, FEATURE_GUARD), in_driver = kernel_judges_in_driver(daemon->kernel);

	for (size_t i = 0; i < config->egress_policy_count && (!has_guard || in_driver); i++) {
		const struct egress_policy *policy = config->egress_policies[i];
		char object[SLUICE_ORIGIN_TEXT];

		snprintf(object, sizeof(object), "EgressPolicy/%s", policy->object.name);
		if (!policy->has_host_check || policy->host_check != HOST_CHECK_KERNEL)
			continue;
		if (!has_guard)
			config_problem(config, SEVERITY_ERROR, &policy->object.at, object, "spec.hostCheck",
				       "\"kernel\" needs %s, which this kernel lacks: use \"proxy\"",
				       kernel_features[FEATURE_GUARD].what);
		else
			config_problem(config, SEVERITY_ERROR, &policy->object.at, object, "spec.hostCheck",
				       "\"kernel\" needs tc on pods' links, and this sluice runs with --backstop xdp: use \"proxy\"");
	}
}

static int compile(struct daemon *daemon, struct configuration *out)
{
	uint8_t resolvers[MAX_RESOLVERS][16];
	struct policy_options options = {.root_namespace = daemon->options->root_namespace,
					 .resolvers = (const uint8_t (*)[16])resolvers};
	int error = names_resolvers(RESOLV_CONF, resolvers, MAX_RESOLVERS, &options.resolver_count);

	if (error)
		log_warning(RESOLV_CONF ": %s; only resolvers that an EgressPolicy lists are admitted", strerror(-error));
	refuse_unguarded(daemon, out->config);
	out->policy = out->config->error_count ? NULL : policy_compile(out->config, &options);
	return out->policy ? 0 : -EINVAL;
}

/* 0; -EAGAIN: changed while it was read; another -errno: refused, and said. */
static int read_folder(struct daemon *daemon, struct configuration *out)
{
	int error;

	*out = (struct configuration){.config = config_new()};
	out->config->unix_directory = daemon->options->unix_directory;
	error = config_load(out->config, &out->source, &daemon->options->config, 1, daemon->options->root_namespace);
	if (error == -EAGAIN)
		return error;
	if (out->config->error_count) {
		refuse_problems(daemon, out->config);
		return -EINVAL;
	}
	if (error || !out->config->document_count) {
		char why[SLUICE_ERROR_TEXT];

		snprintf(why, sizeof(why), "%s: %s", daemon->options->config,
			 error ? strerror(-error) : "holds no document (allowing everything needs an EgressPolicy that says so)");
		refuse(daemon, why);
		return error ? error : -ENODATA;
	}
	error = compile(daemon, out);
	if (error)
		refuse_problems(daemon, out->config);
	return error;
}

/* ---- the kernel's and the redirector's view ---- */

static const uint8_t (*lookup_name(void *context, const char *host, size_t *count))[16]
{
	struct daemon *daemon = context;

	return names_get(daemon->names, host, count);
}

static const uint8_t (*lookup_former(void *context, const char *host, size_t *count))[16]
{
	struct daemon *daemon = context;

	return names_former(daemon->names, host, count);
}

static int send_table(struct daemon *daemon, uint64_t generation, const struct configuration *configuration, char *why, size_t room)
{
	return supervisor_send_table(daemon->supervisor, generation, &configuration->source,
				     configuration->has_log ? configuration->log_fd : -1, why, room);
}

/* The rule set of each known workload; 0 is the node's default, and the canary has its own. */
static struct assignment *assign(struct daemon *daemon, struct policy *policy, size_t *count)
{
	static const struct workload_identity node_default = {.namespace_ = "", .name = ""};
	size_t known = workloads_count(daemon->workloads);
	struct assignment *assignments = xcalloc(known + 2, sizeof(*assignments));
	const struct rule_set *rules;

	assignments[0] = (struct assignment){0, policy_rule_set(policy, &node_default, &rules)};
	for (size_t i = 0; i < known; i++) {
		const struct workload *workload = workloads_get(daemon->workloads, i);
		struct workload_identity who = {workload->namespace_, workload->name, workload->labels, workload->label_count};

		assignments[i + 1] = (struct assignment){workload->id, policy_rule_set(policy, &who, &rules)};
	}
	assignments[known + 1] = (struct assignment){WORKLOAD_CANARY, WORKLOAD_CANARY};
	*count = known + 2;
	return assignments;
}

static void send_name(struct daemon *daemon, const char *host)
{
	size_t count;
	const uint8_t (*addresses)[16] = names_get(daemon->names, host, &count);

	supervisor_send_name(daemon->supervisor, host, addresses, count, !count && names_settled(daemon->names));
}

static void flush_changed_names(struct daemon *daemon)
{
	for (size_t i = 0; i < daemon->changed_count; i++) {
		send_name(daemon, daemon->changed_names[i]);
		free(daemon->changed_names[i]);
	}
	daemon->changed_count = 0;
	for (size_t i = 0; i < daemon->changed_asked_count; i++) {
		asked_send(daemon, daemon->changed_asked[i]);
		free(daemon->changed_asked[i]);
	}
	daemon->changed_asked_count = 0;
}

/*
 * The live maps have room for so many additions. Larger ones are made by a swap: the same configuration becomes a
 * generation of its own.
 */
static int renew(struct daemon *daemon, struct image *image, const struct assignment *assignments, size_t count)
{
	uint64_t next = kernel_generation(daemon->kernel) + 1;
	char why[SLUICE_ERROR_TEXT] = "";
	int error = send_table(daemon, next, &daemon->live, why, sizeof(why));

	if (!error)
		error = kernel_swap(daemon->kernel, image, assignments, count);
	if (!error)
		log_info("generation %llu in force: the same configuration, in larger maps", (unsigned long long)next);
	return error;
}

static void note_outdated(struct daemon *daemon, int error)
{
	daemon->outdated[0] = 0;
	if (!error)
		return;
	snprintf(daemon->outdated, sizeof(daemon->outdated),
		 "maps: the kernel does not take names or workloads that changed: %s; it has the earlier ones, tried again",
		 kernel_map_error(error));
	loop_timer_arm(daemon->refresh, RETRY_MS);
}

/* Before rules come into force that forbid open connections: some may have a while yet. */
static void let_drain(struct daemon *daemon, const struct image *image, const struct assignment *assignments, size_t count)
{
	unsigned int draining =
		tighten_drain(daemon->kernel, daemon->workloads, image, assignments, count, daemon->options->redirector_port);

	if (draining)
		log_info("%u open connections are forbidden from here on, but may drain", draining);
}

/* Names or workloads changed: small additions to the live generation. The kernel learns an address before the redirector. */
static void refresh(struct daemon *daemon, bool regrouped)
{
	uint64_t began_ms = loop_now_ms();

	if (daemon->live.policy) {
		struct asked_names asked = dynamic_names_list(daemon->asked);
		size_t count;
		_cleanup_free_ struct assignment *assignments = assign(daemon, daemon->live.policy, &count);
		struct image *image = policy_image_build(daemon->live.policy, lookup_name, lookup_former, daemon, &asked);
		int error;

		if (regrouped)
			let_drain(daemon, image, assignments, count);
		error = kernel_update(daemon->kernel, image, assignments, count);
		if (error == -E2BIG || error == -ENOSPC)
			error = renew(daemon, image, assignments, count);
		note_outdated(daemon, error);
		if (error)
			image_free(image);
	}
	daemon->refresh_ms = loop_now_ms() - began_ms;
	flush_changed_names(daemon);
}

static void on_refresh(void *context)
{
	refresh(context, false);
}

/* What the policy forbids by now is ended: its packets are dropped already, and its owner would wait in vain. */
static void on_tighten(void *context)
{
	struct daemon *daemon = context;
	struct tightened done;

	if (!daemon->live.policy)
		return; /* nobody knows who is who: workloads_scan() */
	done = tighten(daemon->kernel, daemon->workloads, daemon->options->redirector_port);
	if (done.destroyed)
		log_info("generation %llu: ended %u open connections of %zu workloads that it forbids",
			 (unsigned long long)kernel_generation(daemon->kernel), done.destroyed, done.workloads);
	if (done.unfinished)
		loop_timer_arm(daemon->tighten, 0);
	if (done.drained_in_ms)
		loop_timer_arm(daemon->drained, done.drained_in_ms);
	else
		loop_timer_disarm(daemon->drained);
}

void apply_names_changed(struct daemon *daemon, const char *host)
{
	*array_append(daemon->changed_names, daemon->changed_count, daemon->changed_capacity) = xstrdup(host);
	if (!loop_timer_armed(daemon->refresh))
		loop_timer_arm(daemon->refresh, REFRESH_DELAY_MS);
}

void apply_asked_changed(struct daemon *daemon, const char *host)
{
	if (host)
		*array_append(daemon->changed_asked, daemon->changed_asked_count, daemon->changed_asked_capacity) = xstrdup(host);
	if (!loop_timer_armed(daemon->refresh))
		loop_timer_arm(daemon->refresh, REFRESH_DELAY_MS + REFRESH_SHARE * daemon->refresh_ms);
}

/* At once: `exec` waits for its assignment. */
void apply_workloads_changed(struct daemon *daemon)
{
	if (!daemon->supervisor)
		return;
	for (size_t i = 0; i < workloads_count(daemon->workloads); i++)
		supervisor_send_workload(daemon->supervisor, workloads_get(daemon->workloads, i));
	refresh(daemon, true);
	if (!loop_timer_armed(daemon->tighten))
		loop_timer_arm(daemon->tighten, TIGHTEN_DELAY_MS);
}

static void send_netns(void *context, const struct workload_netns *netns)
{
	struct daemon *daemon = context;

	supervisor_send_netns(daemon->supervisor, netns);
}

/* Only a redirector that has a table may accept. */
static void fill_listeners(struct daemon *daemon)
{
	if (daemon->filled)
		return;
	workloads_each_netns(daemon->workloads, send_netns, daemon);
	daemon->filled = true;
}

void apply_refill(struct daemon *daemon)
{
	const struct string_list *hosts = daemon->live.policy ? policy_names(daemon->live.policy) : NULL;
	char why[SLUICE_ERROR_TEXT];
	int error;

	for (size_t i = 0; hosts && i < hosts->count; i++)
		send_name(daemon, hosts->items[i]);
	asked_send_all(daemon);
	for (size_t i = 0; i < workloads_count(daemon->workloads); i++)
		supervisor_send_workload(daemon->supervisor, workloads_get(daemon->workloads, i));
	daemon->filled = false;
	if (daemon->live.policy) {
		error = send_table(daemon, kernel_generation(daemon->kernel), &daemon->live, why, sizeof(why));
		if (error)
			log_error("redirector: does not take generation %llu: %s: %s",
				  (unsigned long long)kernel_generation(daemon->kernel), strerror(-error), why);
		else
			fill_listeners(daemon);
	}
	kernel_set_pids(daemon->kernel, (uint32_t)getpid(), supervisor_pid(daemon->supervisor));
}

/* ---- what survives a restart ---- */

/* The generation in force, for a daemon that starts while the folder is broken. Replaced by rename: whole or not. */
static int save_applied(const struct daemon *daemon)
{
	char next[PATH_MAX + 8];
	_cleanup_secret_ struct secret packed = {0};
	_cleanup_close_ int fd = -1;
	ssize_t n;
	int error = config_source_pack(&daemon->live.source, &packed.bytes, &packed.length);

	if (error)
		return error;
	snprintf(next, sizeof(next), "%s.next", daemon->paths.applied);
	fd = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	n = fd < 0 ? -1 : write(fd, packed.bytes, packed.length);
	if (n == (ssize_t)packed.length && rename(next, daemon->paths.applied) == 0)
		return 0;
	error = n >= 0 && n < (ssize_t)packed.length ? -ENOSPC : -errno;
	unlink(next);
	return error;
}

static void save(struct daemon *daemon)
{
	int error = save_applied(daemon);
	char text[PATH_MAX + 256];

	daemon->unsaved = error != 0;
	snprintf(text, sizeof(text), "disk: %s: cannot save generation %llu: %s; a restart with a broken folder would not refresh "
		 "its names, tried again", daemon->paths.applied, (unsigned long long)kernel_generation(daemon->kernel),
		 strerror(-error));
	health_set(daemon->health, TROUBLE_DISK, error ? text : NULL);
}

void apply_save_again(struct daemon *daemon)
{
	if (daemon->unsaved)
		save(daemon);
}

static int read_applied(struct daemon *daemon, struct configuration *out)
{
	_cleanup_close_ int fd = open(daemon->paths.applied, O_RDONLY | O_CLOEXEC);
	_cleanup_secret_ struct secret packed = {0};
	struct stat st;

	*out = (struct configuration){.config = config_new()};
	out->config->unix_directory = daemon->options->unix_directory;
	if (fd < 0 || fstat(fd, &st) < 0)
		return -errno;
	packed = (struct secret){xcalloc((size_t)st.st_size + 1, 1), (size_t)st.st_size};
	if (read(fd, packed.bytes, packed.length) != st.st_size || config_source_unpack(&out->source, packed.bytes, packed.length))
		return -EIO;
	config_parse_source(out->config, &out->source, daemon->options->root_namespace);
	return out->config->error_count ? -EINVAL : compile(daemon, out);
}

/* ---- flipping ---- */

static void add_names(struct daemon *daemon, const struct policy *policy)
{
	const struct string_list *hosts = policy ? policy_names(policy) : NULL;

	for (size_t i = 0; hosts && i < hosts->count; i++)
		*array_append(daemon->wanted.items, daemon->wanted.count, daemon->wanted.capacity) = hosts->items[i];
}

static void want_names(struct daemon *daemon)
{
	daemon->wanted.count = 0;
	add_names(daemon, daemon->live.policy);
	add_names(daemon, daemon->pending.policy);
	names_want(daemon->names, &daemon->wanted);
	asked_retain(daemon);
}

struct adoption {
	struct pins *pins;
	struct daemon *daemon;
	const struct policy *policy;
};

static void adopt_address(void *context, const void *key, const void *value)
{
	const struct service_value *service = value;
	const struct service_key *where = key;
	struct adoption *adoption = context;
	struct catalog_value catalog;

	asked_adopt(adoption->daemon, adoption->policy, where, service);
	if ((where->kind == KIND_SERVICE || where->kind == KIND_FORMER) &&
	    where->prefixlen == SERVICE_KEY_FIXED_BITS + 128 && !pins_lookup(adoption->pins, PIN_CATALOG, &service->service, &catalog))
		names_adopt(adoption->daemon->names, catalog.host, where->addr);
}

/* What an earlier loader resolved: the answers of now may have other addresses, and open connections are not theirs. */
static void adopt_addresses(struct daemon *daemon, const struct policy *policy)
{
	struct adoption adoption = {.daemon = daemon, .policy = policy};
	char why[SLUICE_ERROR_TEXT];

	if (daemon->live.policy || !kernel_generation(daemon->kernel) ||
	    pins_open(&adoption.pins, daemon->options->pin, why, sizeof(why)))
		return;
	pins_each(adoption.pins, PIN_SERVICES, adopt_address, &adoption);
	pins_close(adoption.pins);
}

/* Nobody touches the folder when memory or a redirector comes back. */
static void retry_later(struct daemon *daemon)
{
	daemon->retry_ms = daemon->retry_ms ? daemon->retry_ms * 2 : RETRY_MS;
	if (daemon->retry_ms > RETRY_MAX_MS)
		daemon->retry_ms = RETRY_MAX_MS;
	log_info("configuration: tried again in %u s", (unsigned int)(daemon->retry_ms / 1000));
	loop_timer_arm(daemon->retry, daemon->retry_ms);
}

/* Anew for each configuration: SIGHUP, which makes one, is for a log that was rotated. */
static int open_access_log(struct daemon *daemon, struct configuration *next)
{
	const struct mesh *mesh = next->config->mesh;
	const struct access_log *log = mesh ? &mesh->access_log : NULL;

	if (!log || !log->file)
		return 0;
	next->log_fd = log_file_open(log->file);
	next->has_log = next->log_fd >= 0;
	if (next->has_log)
		return 0;
	config_problem(next->config, SEVERITY_ERROR, &log->at, log->object, log->field, "\"%s\": cannot be opened: %s", log->file,
		       strerror(-next->log_fd));
	refuse_problems(daemon, next->config);
	retry_later(daemon);
	return next->log_fd;
}

static int flip(struct daemon *daemon, struct configuration *next)
{
	char why[SLUICE_ERROR_TEXT] = "";
	size_t count;
	_cleanup_free_ struct assignment *assignments = NULL;
	struct asked_names asked;
	struct image *image;
	int error;

	error = open_access_log(daemon, next);
	if (error)
		return error;
	/* From here to the end of the flip the redirector may decide by either. */
	supply_set_sockets(daemon->supply, daemon->live.policy, next->policy);
	error = send_table(daemon, kernel_generation(daemon->kernel) + 1, next, why, sizeof(why));
	if (error) {
		char line[SLUICE_ERROR_TEXT];

		snprintf(line, sizeof(line), "%s: the redirector did not take it: %.300s", daemon->options->config, why);
		refuse(daemon, line);
		if (error != -EINVAL)
			retry_later(daemon);
		return error;
	}
	adopt_addresses(daemon, next->policy);
	workloads_set_documents(daemon->workloads, next->config);
	workloads_scan(daemon->workloads);
	assignments = assign(daemon, next->policy, &count);
	asked = dynamic_names_list(daemon->asked);
	image = policy_image_build(next->policy, lookup_name, lookup_former, daemon, &asked);
	let_drain(daemon, image, assignments, count);
	error = kernel_swap(daemon->kernel, image, assignments, count);
	if (error) {
		char line[SLUICE_ERROR_TEXT];

		image_free(image);
		workloads_set_documents(daemon->workloads, daemon->live.config);
		snprintf(line, sizeof(line), "%s: the kernel did not take it: %s", daemon->options->config, kernel_map_error(error));
		refuse(daemon, line);
		retry_later(daemon);
	}
	return error;
}

/* The hooks come last: then nothing is refused for want of rules that were about to come. */
static void attach_once(struct daemon *daemon)
{
	if (daemon->attached)
		return;
	daemon->attached = true;
	devices_settle(daemon->devices); /* the workloads were looked at by now */
	daemon->error = kernel_attach(daemon->kernel);
	if (daemon->error) {
		loop_stop(daemon->loop);
		return;
	}
	log_info("enforcing: %u hooks attached", kernel_attached(daemon->kernel));
	proof_look(daemon);
}

static void finish_pending(struct daemon *daemon)
{
	struct configuration next = daemon->pending;

	loop_timer_disarm(daemon->settle);
	daemon->pending = (struct configuration){0};
	if (flip(daemon, &next)) {
		supply_set_sockets(daemon->supply, daemon->live.policy, NULL);
		configuration_fini(&next);
		want_names(daemon);
		workloads_scan(daemon->workloads);
		attach_once(daemon);
		return;
	}
	supply_set_sockets(daemon->supply, next.policy, NULL);
	configuration_fini(&daemon->live);
	daemon->live = next;
	daemon->retry_ms = 0;
	daemon->outdated[0] = 0;
	want_names(daemon);
	flush_changed_names(daemon);
	fill_listeners(daemon);
	attach_once(daemon);
	denials_forget(daemon->denials);
	kernel_set_error(daemon->kernel, daemon->refused, false);
	save(daemon);
	log_info("generation %llu in force: documents: %zu, services: %zu, names: %zu",
		 (unsigned long long)kernel_generation(daemon->kernel), daemon->live.config->document_count,
		 policy_service_count(daemon->live.policy), policy_names(daemon->live.policy)->count);
	on_tighten(daemon);
}

static void on_settle(void *context)
{
	struct daemon *daemon = context;

	if (names_settled(daemon->names) || loop_now_ms() - daemon->pending_since_ms >= SETTLE_MS)
		finish_pending(daemon);
	else
		loop_timer_arm(daemon->settle, SETTLE_STEP_MS);
}

static void set_pending(struct daemon *daemon, const struct configuration *next)
{
	configuration_fini(&daemon->pending);
	daemon->pending = *next;
	daemon->pending_since_ms = loop_now_ms();
	log_warnings(next->config);
	want_names(daemon);
	loop_timer_arm(daemon->settle, 0);
}

/* Judges the folder as it is now. False: it changed meanwhile, look again. */
static bool judge_folder(struct daemon *daemon)
{
	struct configuration next;
	int error = read_folder(daemon, &next);

	loop_timer_disarm(daemon->retry);
	watch_credentials(daemon, next.config);
	if (error) {
		configuration_fini(&next);
		return error != -EAGAIN;
	}
	daemon->refused[0] = 0;
	set_pending(daemon, &next);
	return true;
}

static void on_watch(void *context)
{
	struct daemon *daemon = context;
	uint64_t now = sources_signature(daemon->options->config);
	uint64_t wait = WATCH_PERIOD_MS;

	if (credentials_signature(daemon) != daemon->credentials_signature)
		daemon->signature = 0;
	if (now != daemon->signature) {
		if (now != daemon->unstable)
			wait = STABLE_MS;
		else if (judge_folder(daemon))
			daemon->signature = now;
	}
	daemon->unstable = now;
	loop_timer_arm(daemon->watch, wait);
}

void apply_reload(struct daemon *daemon)
{
	daemon->signature = 0;
	loop_timer_arm(daemon->watch, 0);
}

static void on_retry(void *context)
{
	apply_reload(context);
}

int apply_start(struct daemon *daemon)
{
	struct configuration next;
	uint64_t now = sources_signature(daemon->options->config);
	int error;

	daemon->watch = loop_timer_new(daemon->loop, on_watch, daemon);
	daemon->settle = loop_timer_new(daemon->loop, on_settle, daemon);
	daemon->refresh = loop_timer_new(daemon->loop, on_refresh, daemon);
	daemon->tighten = loop_timer_new(daemon->loop, on_tighten, daemon);
	daemon->drained = loop_timer_new(daemon->loop, on_tighten, daemon);
	daemon->retry = loop_timer_new(daemon->loop, on_retry, daemon);
	daemon->unstable = now;
	loop_timer_arm(daemon->watch, WATCH_PERIOD_MS);
	if (judge_folder(daemon)) {
		daemon->signature = now;
		if (daemon->pending.policy)
			return 0;
	}
	if (!kernel_generation(daemon->kernel)) {
		workloads_scan(daemon->workloads);
		attach_once(daemon);
		return daemon->error;
	}
	error = read_applied(daemon, &next);
	if (error) {
		configuration_fini(&next);
		workloads_scan(daemon->workloads);
		attach_once(daemon);
		log_warning("generation %llu stays in force as it is pinned; its names are not refreshed until a configuration is valid",
			    (unsigned long long)kernel_generation(daemon->kernel));
		return daemon->error;
	}
	set_pending(daemon, &next);
	return 0;
}

void apply_stop(struct daemon *daemon)
{
	loop_timer_free(daemon->watch);
	loop_timer_free(daemon->settle);
	loop_timer_free(daemon->refresh);
	loop_timer_free(daemon->tighten);
	loop_timer_free(daemon->drained);
	loop_timer_free(daemon->retry);
	daemon->watch = daemon->settle = daemon->refresh = daemon->tighten = daemon->drained = daemon->retry = NULL;
	for (size_t i = 0; i < daemon->changed_count; i++)
		free(daemon->changed_names[i]);
	free(daemon->changed_names);
	for (size_t i = 0; i < daemon->changed_asked_count; i++)
		free(daemon->changed_asked[i]);
	free(daemon->changed_asked);
	free(daemon->wanted.items);
	forget_credentials(daemon);
	free(daemon->credentials.items);
	configuration_fini(&daemon->pending);
	configuration_fini(&daemon->live);
}
