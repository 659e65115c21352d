// SPDX-License-Identifier: Apache-2.0
/*
 * Endpoints that are Unix sockets: unix:///PATH. Of Istio's proxy the path is in a pod; here it is the node's, and whoever may
 * write a ServiceEntry must not reach every daemon of a node by it. So an operator says where they may be (--unix-endpoints),
 * and a path says plainly that it is there. Whether it leads there is seen when it is dialled (workload/unix_dial.c).
 */
#include <string.h>

#include "config/reader.h"
#include "config/walk.h"

#define PREFIX "unix://"
#define MAX_PATH 107 /* sun_path, and Istio's proxy */

bool is_unix_address(const char *address)
{
	return !strncmp(address, "unix:", 5);
}

static bool is_printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < 0x20 || *text == 0x7f)
			return false;
	return true;
}

static bool is_plain(const char *path)
{
	return !strstr(path, "//") && !strstr(path, "/./") && !strstr(path, "/../");
}

/* Of a file: "/.." and "/." are folders. */
static bool names_file(const char *path)
{
	const char *name = strrchr(path, '/') + 1;

	return *name && strcmp(name, ".") && strcmp(name, "..");
}

static bool is_below(const char *path, const char *directory)
{
	size_t n = strlen(directory);

	return !strncmp(path, directory, n) && path[n] == '/';
}

void check_unix_address(struct walk *walk, const struct node *node, struct endpoint *endpoint)
{
	const char *path = endpoint->address + strlen(PREFIX), *directory = walk->config->unix_directory;

	if (strncmp(endpoint->address, PREFIX, strlen(PREFIX)) || (path[0] != '/' && path[0] != '@'))
		walk_error(walk, node, "%s is not unix:///PATH", node_shown(walk, node));
	else if (path[0] == '@')
		walk_error(walk, node, "%s is an abstract Unix socket: its name is anybody's on the node, no directory can allow it; give it a path",
			   node_shown(walk, node));
	else if (!names_file(path) || !is_plain(path) || !is_printable(path))
		walk_error(walk, node, "%s is not the plain path of a socket: no \"//\", \"/./\", \"/../\", final \"/\" or control character",
			   node_shown(walk, node));
	else if (strlen(path) > MAX_PATH)
		walk_error(walk, node, "%s is longer than the %d bytes that a Unix socket's path may have", node_shown(walk, node), MAX_PATH);
	else if (!directory)
		walk_error(walk, node, "%s is a Unix socket of the node, and no operator allows any: `sluice run --unix-endpoints DIR` allows those below DIR",
			   node_shown(walk, node));
	else if (!is_below(path, directory))
		walk_error(walk, node, "%s is not below %.128s, where --unix-endpoints allows Unix sockets", node_shown(walk, node),
			   *directory ? directory : "/");
	else
		endpoint->socket = path;
}
