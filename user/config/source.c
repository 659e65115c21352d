// SPDX-License-Identifier: Apache-2.0
/* The policy folder: its files as they stood at one moment, and the way to hand them to another process. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "config/config.h"
#include "config/walk.h"

/*
 * How long a file must have been left alone before it counts as written. The kernel stamps a file when a write
 * begins, in steps of a few ms: size and times alone show neither a file between truncate and write nor a
 * write that is still copying.
 */
#define QUIET_NS 50000000LL

static void free_files(struct config_file *files, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		free((char *)files[i].name);
		secret_wipe(&(struct secret){(char *)files[i].text, files[i].length});
	}
	free(files);
}

void config_source_free(struct config_source *source)
{
	free_files(source->files, source->count);
	free_files(source->credentials, source->credential_count);
	memset(source, 0, sizeof(*source));
}

static int unreadable(struct config *config, const char *path, int error)
{
	struct position at = {arena_strdup(config->arena, path), 0, 0};

	if (error == -EFBIG)
		config_problem(config, SEVERITY_ERROR, &at, "", "", "is larger than 16 MiB; split it");
	else if (error == -E2BIG)
		config_problem(config, SEVERITY_ERROR, &at, "", "", "is too much: the files are larger than 64 MiB together");
	else if (error == -EAGAIN)
		config_problem(config, SEVERITY_ERROR, &at, "", "", "changed while it was read");
	else if (error == -EINVAL)
		config_problem(config, SEVERITY_ERROR, &at, "", "", "is neither a file nor a folder");
	else
		config_problem(config, SEVERITY_ERROR, &at, "", "", "%s",
			       error == -ENODATA ? "is empty, as a file is that is just being written; to drop its policies, remove it"
						 : strerror(-error));
	return error;
}

static bool same_state(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	       a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* ext4 shows a truncated file's size before its new times: an empty one is always looked at twice. */
static void wait_until_quiet(const struct stat *file)
{
	struct timespec now, rest = {.tv_nsec = QUIET_NS};
	long long age;

	clock_gettime(CLOCK_REALTIME, &now);
	age = (now.tv_sec - file->st_mtim.tv_sec) * 1000000000LL + now.tv_nsec - file->st_mtim.tv_nsec;
	if (file->st_size && (age < 0 || age >= QUIET_NS))
		return;
	if (file->st_size)
		rest.tv_nsec = QUIET_NS - age;
	nanosleep(&rest, NULL);
}

static int read_all(int fd, char *text, size_t length)
{
	size_t done = 0;

	while (done < length) {
		ssize_t n = read(fd, text + done, length - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return -EAGAIN; /* shorter than it was a moment ago */
		done += (size_t)n;
	}
	return 0;
}

/* 0, 1 for something that is no regular file, or -errno. `path` again afterwards: a rename over it is a change too. */
static int read_file(struct config_source *source, int directory, const char *path, const char *shown)
{
	_cleanup_close_ int fd = openat(directory, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	_cleanup_secret_ struct secret text = {0};
	struct stat before, after, named;
	struct config_file *file;
	int error;

	if (fd < 0 || fstat(fd, &before) < 0)
		return -errno;
	if (!S_ISREG(before.st_mode))
		return 1;
	if (before.st_size > CONFIG_MAX_FILE)
		return -EFBIG;
	if (source->bytes + (size_t)before.st_size > CONFIG_MAX_BYTES)
		return -E2BIG;
	wait_until_quiet(&before);
	text = (struct secret){xcalloc((size_t)before.st_size + 1, 1), (size_t)before.st_size};
	error = read_all(fd, text.bytes, text.length);
	if (error)
		return error;
	if (fstat(fd, &after) < 0)
		return -errno;
	if (!same_state(&before, &after) || fstatat(directory, path, &named, 0) < 0 || !same_state(&before, &named))
		return -EAGAIN;
	if (!before.st_size)
		return -ENODATA;
	file = array_append(source->files, source->count, source->capacity);
	*file = (struct config_file){.name = xstrdup(shown), .text = text.bytes, .length = text.length};
	text.bytes = NULL; /* the file's now */
	source->bytes += text.length;
	return 0;
}

static bool is_policy_name(const char *name)
{
	const char *dot = strrchr(name, '.');

	return name[0] != '.' && dot && (!strcmp(dot, ".yaml") || !strcmp(dot, ".yml"));
}

static void cleanup_directory(DIR **directory)
{
	if (*directory)
		closedir(*directory);
}

static int read_entries(struct config_source *source, const char *path, DIR *directory, struct config *config)
{
	int result = 0;

	for (;;) {
		_cleanup_free_ char *shown = NULL;
		const struct dirent *entry;
		int error;

		errno = 0;
		entry = readdir(directory);
		if (!entry && errno)
			return unreadable(config, path, -errno);
		if (!entry)
			return result;
		if (!is_policy_name(entry->d_name))
			continue;
		shown = xasprintf("%s%s%s", path, path[strlen(path) - 1] == '/' ? "" : "/", entry->d_name);
		error = read_file(source, dirfd(directory), entry->d_name, shown);
		if (error < 0)
			result = unreadable(config, shown, error);
		if (error == -E2BIG)
			return result;
	}
}

/* A ConfigMap is updated by renaming ..data, which changes the folder: then its files may be of two versions. */
static int read_folder(struct config_source *source, const char *path, int fd, struct config *config)
{
	__attribute__((cleanup(cleanup_directory))) DIR *directory = fdopendir(fd);
	struct stat before, after;
	int error;

	if (!directory) {
		error = -errno;
		close(fd);
		return unreadable(config, path, error);
	}
	if (fstat(dirfd(directory), &before) < 0)
		return unreadable(config, path, -errno);
	error = read_entries(source, path, directory, config);
	if (error)
		return error;
	if (fstat(dirfd(directory), &after) < 0)
		return unreadable(config, path, -errno);
	return same_state(&before, &after) ? 0 : unreadable(config, path, -EAGAIN);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct config_file *)a)->name, ((const struct config_file *)b)->name);
}

int config_source_read(struct config_source *out, const char *path, struct config *config)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_DIRECTORY), error;

	if (fd >= 0) {
		error = read_folder(out, path, fd, config);
	} else if (errno == ENOTDIR) {
		error = read_file(out, AT_FDCWD, path, path);
		if (error)
			error = unreadable(config, path, error > 0 ? -EINVAL : error);
	} else {
		error = unreadable(config, path, -errno);
	}
	if (out->count)
		qsort(out->files, out->count, sizeof(*out->files), by_name);
	return error;
}

static const char *fault_of(int error)
{
	switch (error) {
	case -EFBIG:
		return "it is larger than 16 MiB";
	case -E2BIG:
		return "the files are larger than 64 MiB together";
	case -EAGAIN:
		return "it changed while it was read";
	case -ENODATA:
		return "it is empty";
	default:
		return error > 0 ? "it is no file" : strerror(-error);
	}
}

const char *credential_file(const char *path)
{
	static const char *const places[] = {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"};

	if (strcmp(path, SYSTEM_AUTHORITIES))
		return path;
	for (size_t i = 0; i < ARRAY_SIZE(places); i++)
		if (!access(places[i], R_OK))
			return places[i];
	return places[0];
}

/* -EAGAIN: one changed while it was read; what else is wrong is a problem of the document. */
static int read_credentials(struct config_source *source, struct config *config)
{
	struct config_source one = {0};
	int result = 0;

	for (size_t i = 0; i < config->credential_count; i++) {
		const struct credential *wanted = &config->credentials[i];
		const char *file = credential_file(wanted->path);
		int error = read_file(&one, AT_FDCWD, file, wanted->path);

		if (error)
			config_problem(config, SEVERITY_ERROR, &wanted->at, wanted->object, wanted->field, "\"%s\": cannot be read: %s",
				       file, fault_of(error));
		if (error == -EAGAIN)
			result = error;
	}
	source->credentials = one.files;
	source->credential_count = one.count;
	source->credential_capacity = one.capacity;
	return result;
}

static char *owned_copy(const char *bytes, size_t length)
{
	char *copy = xcalloc(length + 1, 1);

	memcpy(copy, bytes, length);
	return copy;
}

static void use_credentials(struct config *config, const struct config_source *source)
{
	for (size_t i = 0; i < config->credential_count; i++) {
		struct credential *wanted = &config->credentials[i];

		for (size_t k = 0; k < source->credential_count && !wanted->text.bytes; k++) {
			const struct config_file *file = &source->credentials[k];

			if (!strcmp(file->name, wanted->path))
				wanted->text = (struct secret){owned_copy(file->text, file->length), file->length};
		}
	}
}

void config_parse_source(struct config *config, const struct config_source *source, const char *root_namespace)
{
	for (size_t i = 0; i < source->count; i++)
		config_parse(config, &source->files[i]);
	use_credentials(config, source);
	config_validate(config, root_namespace);
}

int config_load(struct config *config, struct config_source *source, const char *const *paths, size_t count,
		const char *root_namespace)
{
	int result = 0, error;

	for (size_t i = 0; i < count; i++) {
		error = config_source_read(source, paths[i], config);

		if (!result)
			result = error;
	}
	for (size_t i = 0; i < source->count; i++)
		config_parse(config, &source->files[i]);
	error = read_credentials(source, config);
	use_credentials(config, source);
	config_validate(config, root_namespace);
	config_forget_credentials(config); /* the source has what the redirector needs */
	return result ? result : error;
}

/*
 * u32 count; for each file u32 length and bytes of its name, then of its text; the same of credentials. Both ends are the
 * same binary.
 */
static char *pack_bytes(char *p, const char *bytes, size_t length)
{
	uint32_t n = (uint32_t)length;

	memcpy(p, &n, sizeof(n));
	memcpy(p + sizeof(n), bytes, length);
	return p + sizeof(n) + length;
}

static size_t packed_size(const struct config_file *files, size_t count)
{
	size_t total = sizeof(uint32_t);

	for (size_t i = 0; i < count; i++)
		total += 2 * sizeof(uint32_t) + strlen(files[i].name) + files[i].length;
	return total;
}

static char *pack_files(char *p, const struct config_file *files, size_t count)
{
	uint32_t n = (uint32_t)count;

	memcpy(p, &n, sizeof(n));
	p += sizeof(n);
	for (size_t i = 0; i < count; i++) {
		p = pack_bytes(p, files[i].name, strlen(files[i].name));
		p = pack_bytes(p, files[i].text, files[i].length);
	}
	return p;
}

int config_source_pack(const struct config_source *source, char **bytes, size_t *length)
{
	size_t total = packed_size(source->files, source->count) + packed_size(source->credentials, source->credential_count);
	char *packed;

	for (size_t i = 0; i < source->count; i++)
		if (source->files[i].length > CONFIG_MAX_FILE)
			return -EFBIG;
	packed = xcalloc(total, 1);
	pack_files(pack_files(packed, source->files, source->count), source->credentials, source->credential_count);
	*bytes = packed;
	*length = total;
	return 0;
}

static int unpack_bytes(const char **p, size_t *left, const char **out, uint32_t *length, size_t max)
{
	uint32_t n;

	if (*left < sizeof(n))
		return -EBADMSG;
	memcpy(&n, *p, sizeof(n));
	if (n > max || n > *left - sizeof(n))
		return -EBADMSG;
	*out = *p + sizeof(n);
	*length = n;
	*p += sizeof(n) + n;
	*left -= sizeof(n) + n;
	return 0;
}

static int unpack_files(const char **p, size_t *left, struct config_file **files, size_t *total, size_t *capacity)
{
	uint32_t count;

	if (*left < sizeof(count))
		return -EBADMSG;
	memcpy(&count, *p, sizeof(count));
	*p += sizeof(count);
	*left -= sizeof(count);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t name_length, text_length;
		const char *name, *text;

		if (unpack_bytes(p, left, &name, &name_length, PATH_MAX) || unpack_bytes(p, left, &text, &text_length, CONFIG_MAX_FILE))
			return -EBADMSG;
		*array_append(*files, *total, *capacity) =
			(struct config_file){owned_copy(name, name_length), owned_copy(text, text_length), text_length};
	}
	return 0;
}

int config_source_unpack(struct config_source *out, const char *bytes, size_t length)
{
	__attribute__((cleanup(config_source_free))) struct config_source source = {0};

	if (unpack_files(&bytes, &length, &source.files, &source.count, &source.capacity) ||
	    unpack_files(&bytes, &length, &source.credentials, &source.credential_count, &source.credential_capacity) || length)
		return -EBADMSG;
	*out = source;
	memset(&source, 0, sizeof(source));
	return 0;
}
