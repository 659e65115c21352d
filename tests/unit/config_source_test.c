// SPDX-License-Identifier: Apache-2.0
/* The policy folder, its transport to the redirector, and the small parsers. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/config.h"

static char folder[PATH_MAX];

static void make_folder(void)
{
	snprintf(folder, sizeof(folder), "/tmp/sluice-config-XXXXXX");
	cr_assert(mkdtemp(folder));
}

static void remove_folder(void)
{
	char command[PATH_MAX + 16];

	snprintf(command, sizeof(command), "rm -rf '%s'", folder);
	cr_assert_eq(system(command), 0);
}

TestSuite(config_source, .init = make_folder, .fini = remove_folder);

static const char *within(const char *name)
{
	static char path[PATH_MAX + 64];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return path;
}

static void write_text(const char *name, const char *text)
{
	FILE *out = fopen(within(name), "w");

	cr_assert(out);
	fputs(text, out);
	fclose(out);
}

static int read_folder(struct config_source *source, struct config *config)
{
	return config_source_read(source, folder, config);
}

Test(config_source, folder_is_read_sorted_and_not_recursively)
{
	__attribute__((cleanup(config_source_free))) struct config_source source = {0};
	struct config *config = config_new();

	write_text("b.yaml", "b");
	write_text("a.yml", "a");
	write_text("c.txt", "c");
	write_text(".hidden.yaml", "h");
	cr_assert_eq(mkdir(within("d.yaml"), 0755), 0);
	cr_assert_eq(read_folder(&source, config), 0);
	cr_assert_eq(source.count, 2);
	cr_expect_str_eq(source.files[0].name, within("a.yml"));
	cr_expect_str_eq(source.files[1].name, within("b.yaml"));
	cr_expect_str_eq(source.files[1].text, "b");
	cr_expect_eq(config->problem_count, 0);
	config_free(config);
}

Test(config_source, mounted_config_map_is_read_through_its_symlinks)
{
	__attribute__((cleanup(config_source_free))) struct config_source source = {0};
	struct config *config = config_new();

	cr_assert_eq(mkdir(within("..2026_01"), 0755), 0);
	write_text("..2026_01/p.yaml", "x");
	cr_assert_eq(symlink("..2026_01", within("..data")), 0);
	cr_assert_eq(symlink("..data/p.yaml", within("p.yaml")), 0);
	cr_assert_eq(read_folder(&source, config), 0);
	cr_assert_eq(source.count, 1);
	cr_expect_str_eq(source.files[0].name, within("p.yaml"));
	cr_expect_str_eq(source.files[0].text, "x");
	config_free(config);
}

Test(config_source, what_cannot_be_read_is_a_problem)
{
	__attribute__((cleanup(config_source_free))) struct config_source source = {0};
	struct config *config = config_new();
	int fd;

	cr_expect_eq(config_source_read(&source, within("none"), config), -ENOENT);
	cr_assert_eq(symlink("gone", within("dangling.yaml")), 0);
	cr_expect_eq(read_folder(&source, config), -ENOENT);
	cr_assert_eq(unlink(within("dangling.yaml")), 0);
	fd = open(within("big.yaml"), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
	cr_assert_eq(ftruncate(fd, (16 << 20) + 1), 0);
	close(fd);
	cr_expect_eq(read_folder(&source, config), -EFBIG);
	cr_assert_eq(unlink(within("big.yaml")), 0);
	cr_assert_eq(mkfifo(within("pipe"), 0644), 0);
	cr_expect_eq(config_source_read(&source, within("pipe"), config), -EINVAL);
	cr_expect_eq(config->error_count, 4);
	cr_expect_str_eq(config->problems[2].text, "is larger than 16 MiB; split it");
	cr_expect_str_eq(config->problems[2].at.file, within("big.yaml"));
	config_free(config);
}

Test(config_source, files_that_are_too_large_together_are_refused)
{
	__attribute__((cleanup(config_source_free))) struct config_source source = {0};
	struct config *config = config_new();

	for (int i = 0; i < 5; i++) {
		_cleanup_free_ char *name = xasprintf("%d.yaml", i);
		int fd = open(within(name), O_CREAT | O_WRONLY | O_CLOEXEC, 0644);

		cr_assert_eq(ftruncate(fd, 15 << 20), 0);
		close(fd);
	}
	cr_expect_eq(read_folder(&source, config), -E2BIG);
	cr_expect_eq(source.count, 4);
	cr_expect_eq(config->error_count, 1);
	cr_expect_str_eq(config->problems[0].text, "is too much: the files are larger than 64 MiB together");
	config_free(config);
}

static void rewrite_forever(char *text, size_t length)
{
	alarm(20); /* never outlives the test by much */
	for (int i = 0;; i++) {
		int fd = open(within("p.yaml"), O_WRONLY | O_CLOEXEC);

		memset(text, 'a' + i % 26, length);
		if (write(fd, text, length) < 0)
			_exit(1);
		close(fd);
	}
}

/* A file that is rewritten all the time is either read whole or refused with -EAGAIN, never torn. */
Test(config_source, file_that_changes_while_it_is_read_is_read_again)
{
	size_t length = 4 << 20, again = 0;
	char *text = malloc(length);
	pid_t writer;

	write_text("p.yaml", "#\n");
	writer = fork();
	if (writer == 0)
		rewrite_forever(text, length);
	for (int i = 0; i < 100 && again == 0; i++) {
		struct config_source source = {0};
		struct config *config = config_new();
		int error = read_folder(&source, config);

		cr_expect(error == 0 || error == -EAGAIN || error == -ENODATA, "%d", error);
		cr_expect_eq(source.count, error ? 0 : 1);
		again += error == -EAGAIN;
		config_source_free(&source);
		config_free(config);
	}
	kill(writer, SIGKILL);
	waitpid(writer, NULL, 0);
	cr_expect_gt(again, 0);
	free(text);
}

static void truncate_and_write(int times)
{
	for (int i = 0; i < times; i++) {
		int fd = open(within("p.yaml"), O_WRONLY | O_TRUNC | O_CLOEXEC);

		usleep(10000);
		if (write(fd, "whole", 5) != 5)
			_exit(1);
		close(fd);
		usleep(60000);
	}
	_exit(0);
}

Test(config_source, file_between_truncate_and_write_is_never_taken_for_empty)
{
	size_t whole = 0;
	pid_t writer;

	write_text("p.yaml", "whole");
	writer = fork();
	if (writer == 0)
		truncate_and_write(8);
	while (waitpid(writer, NULL, WNOHANG) == 0) {
		__attribute__((cleanup(config_source_free))) struct config_source source = {0};
		struct config *config = config_new();

		if (read_folder(&source, config) == 0) {
			cr_expect_str_eq(source.files[0].text, "whole");
			whole++;
		}
		config_free(config);
	}
	cr_expect_gt(whole, 0);
}

Test(config_source, load_reads_parses_and_validates_all_paths)
{
	__attribute__((cleanup(config_source_free))) struct config_source source = {0};
	struct config *config = config_new();
	const char *paths[] = {folder, "/nonexistent/x.yaml"};

	write_text("a.yaml", "apiVersion: sluice.dev/v1\nkind: Workload\nmetadata: {name: a}\nspec: {cgroup: /a}\n");
	write_text("b.yaml", "apiVersion: sluice.dev/v1\nkind: Workload\nmetadata: {name: a}\nspec: {cgroup: /b}\n");
	cr_expect_eq(config_load(config, &source, paths, 2, "istio-system"), -ENOENT);
	cr_expect_eq(config->workload_count, 2);
	cr_expect_eq(config->error_count, 2); /* the path that is missing, and the duplicate */
	cr_expect_str_eq(config->problems[1].at.file, within("b.yaml"));
	config_free(config);
}

Test(config_source, an_empty_file_is_refused_as_half_written)
{
	__attribute__((cleanup(config_source_free))) struct config_source source = {0};
	struct config *config = config_new();

	write_text("a.yaml", "");
	cr_expect_eq(read_folder(&source, config), -ENODATA);
	cr_expect_eq(config->error_count, 1);
	config_free(config);
}

Test(config_source, packing_and_unpacking_gives_the_same_files)
{
	__attribute__((cleanup(config_source_free))) struct config_source source = {0}, copy = {0};
	__attribute__((cleanup(cleanup_free))) char *bytes = NULL;
	struct config *config = config_new();
	size_t length;

	write_text("a.yaml", "kind: x\n");
	write_text("b.yaml", "#\n");
	cr_assert_eq(read_folder(&source, config), 0);
	cr_assert_eq(config_source_pack(&source, &bytes, &length), 0);
	cr_assert_eq(config_source_unpack(&copy, bytes, length), 0);
	cr_assert_eq(copy.count, 2);
	cr_expect_str_eq(copy.files[0].name, source.files[0].name);
	cr_expect_str_eq(copy.files[0].text, "kind: x\n");
	cr_expect_eq(copy.files[1].length, 2);
	for (size_t cut = 0; cut < length; cut++) {
		struct config_source broken = {0};

		cr_expect_eq(config_source_unpack(&broken, bytes, cut), -EBADMSG, "cut at %zu", cut);
		cr_expect_null(broken.files);
	}
	memset(bytes + 4, 0xff, 4);
	config_source_free(&copy);
	cr_expect_eq(config_source_unpack(&copy, bytes, length), -EBADMSG);
	config_free(config);
}

/* ---- small parsers ---- */

Test(config, addresses_have_one_canonical_form)
{
	static const char *const wrong[] = {"", "1.2.3", "1.2.3.4.5", "1.2.3.4/32", "::g", " ::1", "01.2.3.4", "a.com"};
	uint8_t v4[16], mapped[16];
	char text[SLUICE_PREFIX_TEXT];

	cr_expect_eq(parse_address(v4, "192.0.2.1"), 0);
	cr_expect_eq(parse_address(mapped, "::ffff:192.0.2.1"), 0);
	cr_expect_eq(memcmp(v4, mapped, 16), 0);
	cr_expect_str_eq(format_address(text, mapped), "192.0.2.1");
	for (size_t i = 0; i < ARRAY_SIZE(wrong); i++)
		cr_expect_eq(parse_address(v4, wrong[i]), -EINVAL, "%s", wrong[i]);
}

Test(config, cidrs_lose_their_host_bits)
{
	static const char *const cases[][2] = {
		{"10.1.2.3/8", "10.0.0.0/8"}, {"192.0.2.1", "192.0.2.1"}, {"192.0.2.1/32", "192.0.2.1"}, {"0.0.0.0/0", "0.0.0.0/0"},
		{"2001:db8:ffff::/33", "2001:db8:8000::/33"}, {"::1", "::1"}, {"::/0", "::/0"}, {"::ffff:10.0.0.0/104", "10.0.0.0/8"},
		{"10.0.0.0/33", NULL}, {"10.0.0.0/", NULL}, {"10.0.0.0/08", NULL}, {"/8", NULL}, {"10.0.0.0/8/8", NULL}, {"::/129", NULL},
		{"10.0.0.0/-1", NULL}, {"10.0.0.0/99999999999", NULL}, {"*", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct cidr cidr = {0};
		char text[SLUICE_PREFIX_TEXT];

		cr_expect_eq(parse_cidr(&cidr, cases[i][0]), cases[i][1] ? 0 : -EINVAL, "%s", cases[i][0]);
		if (cases[i][1])
			cr_expect_str_eq(format_cidr(text, cidr.addr, cidr.bits), cases[i][1]);
	}
}

Test(config, labels_and_ports_of_the_command_line)
{
	struct arena *arena = arena_new();
	struct label label;
	uint16_t port = 7;

	cr_expect_eq(parse_label(&label, arena, "app=web=1"), 0);
	cr_expect_str_eq(label.key, "app");
	cr_expect_str_eq(label.value, "web=1");
	cr_expect_eq(parse_label(&label, arena, "=web"), -EINVAL);
	cr_expect_eq(parse_label(&label, arena, "app"), -EINVAL);
	cr_expect_eq(parse_port(&port, "65536"), -EINVAL);
	cr_expect_eq(parse_port(&port, "0"), -EINVAL);
	cr_expect_eq(parse_port(&port, "80x"), -EINVAL);
	cr_expect_eq(port, 7);
	cr_expect_eq(parse_port(&port, "65535"), 0);
	cr_expect_eq(port, 65535);
	arena_free(arena);
}
