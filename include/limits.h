/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/* Sizes that both the kernel programs and user space must agree on. */
#ifndef SLUICE_LIMITS_H
#define SLUICE_LIMITS_H

#define SLUICE_PREFIX_TEXT 48   /* "ffff:...:255.255.255.255/128" and a NUL, padded */
#define SLUICE_HOST_TEXT 64     /* host names in LPM values: cut here; whole in the catalog */
#define SLUICE_NAME_TEXT 64     /* "namespace/name" of a workload */
#define SLUICE_ORIGIN_TEXT 128  /* "file:line Kind/name" */
#define SLUICE_NAME_KEY 250     /* bytes of a name in an LPM key of at most 256 */
#define SLUICE_HOST_MAX 256     /* a DNS name (RFC 1035: 253 and a dot) and a NUL */
#define SLUICE_ERROR_TEXT 512
#define SLUICE_COMM_TEXT 16     /* TASK_COMM_LEN */

#define SLUICE_CGROUP_LEVELS 16     /* a registered cgroup lies at most this deep */
#define SLUICE_MAX_WORKLOADS 16384
#define SLUICE_MAX_NETNS 8192
#define SLUICE_FLOW_SLOTS 8192      /* ring of decisions; a power of two */
#define SLUICE_MAX_HANDOVER 65536   /* redirected connections that were not accepted yet */
#define SLUICE_MAX_UDP_PEERS 65536
#define SLUICE_UDP_PEER_NS (60ULL * 1000000000ULL)    /* how long a UDP server may answer a peer */
#define SLUICE_UDP_RECORD_NS (1ULL * 1000000000ULL)   /* at most one event per UDP peer in this time */
#define SLUICE_MAX_COUNTERS 65536
#define SLUICE_MAX_SOURCES 65536
#define SLUICE_MAX_EXCHANGES 262144
#define SLUICE_MAX_DRAINING 65536
#define SLUICE_MAX_HELLOS 65536       /* flows whose name is checked in the kernel */
#define SLUICE_HELLO_PARTS 12         /* segments of one ClientHello: 16 KB of 1,400 bytes each */
#define SLUICE_MAX_UNREADABLE 4096
#define SLUICE_MAX_FRAGMENTS 16384
#define SLUICE_MAX_OWNERS 65536       /* flows on links that a driver judges (backstop: xdp) */
#define SLUICE_FRAGMENT_NS (30ULL * 1000000000ULL)     /* RFC 791: how long a datagram is put together */
#define SLUICE_EXCHANGE_NS (86400ULL * 1000000000ULL)  /* an inbound TCP connection may be silent this long */

#endif
