// SPDX-License-Identifier: Apache-2.0
/*
 * escape list                                  the rows: ROW PORT FLAGS FAMILY NEEDS|WHAT
 * escape try PHASE [-h FILE] [-p MS] ROW...    runs rows in this pod: off and on (against the forbidden address), allowed
 * escape sniff|sink|remote|donor|ask ...       the judge and the peers
 *
 * `try` prints for each row: ROW TOKEN PORT RESULT STEP
 */
#include <ifaddrs.h>
#include <net/if.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "escape.h"

#define ROW_SECONDS 8
#define HELD_MAX 128

static const struct method *const families[] = {
	tcp_methods, udp_methods, uring_methods, prepared_methods, raw_methods, fragment_methods, reflect_methods, packet_methods,
	device_methods, rewrite_methods, identity_methods, inbound_methods, redirector_methods,
};

const struct method *method_at(size_t index)
{
	for (size_t i = 0; i < sizeof(families) / sizeof(*families); i++)
		for (const struct method *m = families[i]; m->name; m++)
			if (index-- == 0)
				return m;
	return NULL;
}

uint16_t port_of(size_t method, enum family family)
{
	return (uint16_t)(FIRST_PORT + method * 3 + (family == V4 ? 0 : family == V6 ? 1 : 2));
}

static const char *family_name(enum family family)
{
	return family == V4 ? "v4" : family == V6 ? "v6" : "mapped";
}

static int list(void)
{
	static const char *const names[] = {"legit", "registered", "tuple", "may-lack", "at-attach", "at-policy", "limit", "holds-port",
					    "enforced-only", "disruptive"};
	const struct method *m;

	for (size_t at = 0; (m = method_at(at)); at++) {
		for (enum family family = V4; family <= MAPPED; family <<= 1) {
			if (!(m->families & family))
				continue;
			printf("%s/%s %u ", m->name, family_name(family), port_of(at, family));
			for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
				if (m->flags & 1u << i)
					printf("%s,", names[i]);
			printf(". %s|%s\n", m->needs, m->what);
		}
	}
	return 0;
}

static const struct method *find(const char *row, enum family *family, uint16_t *port)
{
	const char *slash = strchr(row, '/');
	const struct method *m;

	for (size_t at = 0; slash && (m = method_at(at)); at++) {
		if (strlen(m->name) != (size_t)(slash - row) || memcmp(m->name, row, strlen(m->name)) != 0)
			continue;
		for (*family = V4; *family <= MAPPED; *family <<= 1) {
			if (strcmp(slash + 1, family_name(*family)) == 0 && (m->families & *family)) {
				*port = port_of(at, *family);
				return m;
			}
		}
	}
	fprintf(stderr, "escape: there is no row %s\n", row);
	exit(2);
}

/* Of the pod: its address and MAC on eth0, and who is at the other end of the link. */
static void look_around(struct context *c)
{
	struct ifaddrs *all, *one;
	unsigned mac[6] = {0};
	FILE *file;

	c->eth0 = if_nametoindex("eth0");
	if (getifaddrs(&all) == 0) {
		for (one = all; one; one = one->ifa_next) {
			bool v6 = one->ifa_addr && one->ifa_addr->sa_family == AF_INET6;

			if (!one->ifa_addr || strcmp(one->ifa_name, "eth0") != 0 || v6 != is_v6(c) ||
			    (!v6 && one->ifa_addr->sa_family != AF_INET) ||
			    (v6 && IN6_IS_ADDR_LINKLOCAL(&((struct sockaddr_in6 *)one->ifa_addr)->sin6_addr)))
				continue;
			c->own.length = v6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
			memcpy(&c->own.addr, one->ifa_addr, c->own.length);
		}
		freeifaddrs(all);
	}
	file = popen("exec 2>/dev/null; ip -o link show eth0 | sed 's/.*ether \\([^ ]*\\).*/\\1/'; ip neigh show fe80::1 | sed 's/.*lladdr \\([^ ]*\\).*/\\1/'", "r");
	for (int i = 0; i < 2 && file; i++) {
		uint8_t *out = i ? c->gateway_mac : c->own_mac;

		if (fscanf(file, "%x:%x:%x:%x:%x:%x", mac, mac + 1, mac + 2, mac + 3, mac + 4, mac + 5) == 6)
			for (int j = 0; j < 6; j++)
				out[j] = (uint8_t)mac[j];
	}
	if (file)
		pclose(file);
}

static void random_token(struct context *c)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ01";
	uint8_t bytes[TOKEN_LENGTH];

	if (getrandom(bytes, sizeof(bytes), 0) != sizeof(bytes))
		exit(1);
	for (int i = 0; i < TOKEN_LENGTH; i++)
		c->token[i] = letters[bytes[i] & 63];
	memcpy(c->token, TOKEN_MAGIC, sizeof(TOKEN_MAGIC) - 1);
	c->source_port = (uint16_t)(40000 + (bytes[0] << 4 | (bytes[1] & 15)));
}

struct attempt {
	struct context *context; /* shared with the child */
	pid_t pid;
};

static struct context *prepare(const char *row, bool allowed, const char *hold, double patience_ms)
{
	struct context *c = mmap(NULL, sizeof(*c), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	c->row = row;
	c->method = find(row, &c->family, &c->port);
	c->patience_ms = patience_ms;
	c->hold = hold;
	c->to = allowed ? endpoint_at(ALLOWED_V4, ALLOWED_V6, c, c->port) : endpoint_at(FORBIDDEN_V4, FORBIDDEN_V6, c, c->port);
	c->decoy = endpoint_at(ALLOWED_V4, ALLOWED_V6, c, c->port);
	random_token(c);
	look_around(c);
	return c;
}

static void child(struct context *c)
{
	alarm(c->hold ? 70 : ROW_SECONDS);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setpgid(0, 0);
	errno = 0;
	c->result = c->method->run(c);
}

static void finish(struct attempt *a)
{
	struct context *c = a->context;
	const char *result = "sent";
	int status;

	waitpid(a->pid, &status, 0);
	kill(-a->pid, SIGKILL); /* what it may have left behind */
	if (c->method->undo)
		c->method->undo(c);
	if (WIFSIGNALED(status))
		result = "killed";
	else if (c->result > 0)
		result = "echo";
	else if (c->result < 0)
		result = strerrorname_np(-c->result);
	printf("%s %s %u %s %s\n", c->row, c->token, c->port, result ? result : "?", c->step ? c->step : "-");
	fflush(stdout);
}

static void start(struct attempt *a)
{
	fflush(stdout);
	a->pid = fork();
	if (a->pid == 0) {
		child(a->context);
		_exit(0);
	}
}

static int try(int argc, char **argv)
{
	struct attempt attempts[HELD_MAX];
	const char *hold = NULL;
	double patience_ms = 1000;
	bool allowed;
	int option, held = 0;

	while ((option = getopt(argc, argv, "+h:p:")) != -1) {
		switch (option) {
		case 'h': hold = optarg; break;
		case 'p': patience_ms = atof(optarg); break;
		default: return 2;
		}
	}
	if (argc - optind < 2)
		return 2;
	allowed = strcmp(argv[optind], "allowed") == 0;
	for (int i = optind + 1; i < argc; i++) {
		struct attempt *a = &attempts[hold ? held++ : 0];

		if (held == HELD_MAX)
			return 2;
		a->context = prepare(argv[i], allowed, hold, patience_ms);
		start(a);
		if (!hold)
			finish(a);
	}
	for (int i = 0; i < held; i++)
		finish(&attempts[i]);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		int (*run)(int argc, char **argv);
	} commands[] = {{"try", try}, {"sniff", sniff_main}, {"sink", sink_main}, {"remote", remote_main}, {"donor", donor_main}, {"ask", ask_main}};

	signal(SIGPIPE, SIG_IGN);
	if (argc > 1 && strcmp(argv[1], "list") == 0)
		return list();
	for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(*commands); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	fputs("usage: escape list | try | sniff | sink | remote | donor | ask\n", stderr);
	return 2;
}
