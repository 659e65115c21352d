// SPDX-License-Identifier: Apache-2.0
/* sluice redirector: internal, started by `sluice run` with a listening socket as descriptor 3. */
#include <stdio.h>
#include <sys/socket.h>

#include "command/command.h"
#include "redirect/protocol.h"
#include "redirect/server.h"

int command_redirector(int argc, char **argv)
{
	int listening = 0;
	socklen_t size = sizeof(listening);

	(void)argc;
	(void)argv;
	if (getsockopt(REDIRECTOR_LISTEN_FD, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) < 0 || !listening) {
		fputs("sluice: redirector is started by `sluice run`, not by hand\n", stderr);
		return 2;
	}
	return redirector_run() ? 1 : 0;
}
