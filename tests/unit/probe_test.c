// SPDX-License-Identifier: Apache-2.0
/* What the kernel can do, asked with and without the right to. Runs as root. */
#include <criterion/criterion.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kernel/kernel.h"

Test(probe, a_kernel_that_runs_sluice_has_all_that_is_mandatory)
{
	uint32_t found = kernel_probe();

	for (enum feature i = 0; feature_is_mandatory(i); i++)
		cr_expect(found & 1U << i, "%s: %s", kernel_features[i].name, kernel_features[i].what);
}

/* A probe that cannot fail would prove nothing. */
Test(probe, what_the_kernel_refuses_is_missing)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		/* Nobody may load a program or make a map; the socket's cookie is everybody's to ask for. */
		_exit(setuid(65534) == 0 && kernel_probe() == 1U << FEATURE_SOCKET_COOKIE ? 0 : 1);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", (unsigned int)status);
}

Test(probe, every_feature_has_a_name_of_its_own_and_says_what_is_lost)
{
	for (enum feature i = 0; i < FEATURE_COUNT; i++) {
		cr_expect_eq(kernel_feature_named(kernel_features[i].name), i);
		cr_expect(kernel_features[i].what[0] && kernel_features[i].without[0], "%s", kernel_features[i].name);
	}
	cr_expect_eq(kernel_feature_named("nonsense"), FEATURE_COUNT);
}

Test(probe, a_program_runs_where_its_feature_is)
{
	const struct state guard = {.features = 1U << FEATURE_GUARD}, bind = {.features = 1U << FEATURE_BIND},
			   host = {.features = 1U << FEATURE_GUARD, .watches_host = 1}, none = {0};

	cr_assert(kernel_runs(&none, "connect4"));
	cr_assert(!kernel_runs(&bind, "guard"));
	cr_assert(kernel_runs(&guard, "guard"));
	cr_assert(!kernel_runs(&guard, "guard_inbound"), "nobody governed lives in the host's namespace");
	cr_assert(kernel_runs(&host, "guard_inbound"));
	cr_assert(!kernel_runs(&guard, "sock_ops"), "guard hands over");
	cr_assert(kernel_runs(&none, "sock_ops"));
	cr_assert(!kernel_runs(&guard, "post_bind6"));
	cr_assert(kernel_runs(&bind, "post_bind6"));
}
