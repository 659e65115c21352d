// SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause
#include "judge.h"

SEC("tc")
int veth(struct __sk_buff *skb)
{
	(void)skb;
	return -1; /* TCX_NEXT, TC_ACT_UNSPEC */
}

SEC("tc")
int veth_inbound(struct __sk_buff *skb)
{
	(void)skb;
	return -1;
}
