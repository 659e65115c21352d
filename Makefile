# SPDX-License-Identifier: Apache-2.0
# sluice: `make help` lists the targets.

SANITIZE ?= 0
FUZZ     ?= 0
BUILD    ?= $(if $(filter 1,$(FUZZ)),build/fuzz,$(if $(filter 1,$(SANITIZE)),build/sanitize,build))
PREFIX   ?= /usr/local
DESTDIR  ?=
CC       ?= gcc
CLANG    ?= clang
ifeq ($(FUZZ),1)
CC        = $(CLANG)
endif
BPFTOOL  ?= $(firstword $(wildcard /usr/sbin/bpftool) bpftool)
V        ?= 0
msg       = @$(if $(filter 0,$(V)),printf '  %-8s %s\n' "$(1)" "$(patsubst $(CURDIR)/%,%,$(2))";)

# Warnings are judged as gcc sees them; the fuzzers alone are built by clang.
WARNINGS  = -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes \
	    $(if $(filter 1,$(FUZZ)),-Wno-missing-field-initializers,-Werror)
LIBRARIES = libbpf libelf zlib yaml-0.1 libcares libmicrohttpd libcap-ng libmnl libseccomp json-c libpcre2-8 libpsl libssl libcrypto libnghttp2
CFLAGS   ?= -O2 -g
ALL_CFLAGS = -std=gnu11 $(WARNINGS) -D_GNU_SOURCE -iquote include -iquote user -iquote $(BUILD) -fno-strict-aliasing -fstack-protector-strong \
	     $(CFLAGS) $(SANITIZERS) $(shell pkg-config --cflags $(LIBRARIES) 2>/dev/null)
LDLIBS     = $(shell pkg-config --libs $(LIBRARIES) 2>/dev/null) -lpthread
SANITIZERS = $(if $(filter 1,$(SANITIZE) $(FUZZ)),-fsanitize=address$(comma)undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer) \
	     $(if $(filter 1,$(FUZZ)),-fsanitize=fuzzer-no-link)
comma      = ,

BPF_CFLAGS = -target bpf -mcpu=v3 -O2 -g -std=gnu11 -Wall -Wextra -Wshadow -Werror -iquote include -iquote bpf \
	     -I/usr/include/$(shell gcc -dumpmachine 2>/dev/null)

SOURCES := $(shell find user -name '*.c' | sort)
OBJECTS  = $(SOURCES:%.c=$(BUILD)/%.o)
LIBRARY_OBJECTS = $(filter-out $(BUILD)/user/main.o,$(OBJECTS))
BPF_SOURCES := $(sort $(wildcard bpf/*.bpf.c))
SKELETONS = $(BUILD)/sluice.skel.h $(BUILD)/probe.skel.h
UNIT_SOURCES := $(wildcard tests/unit/*.c)
UNIT_OBJECTS  = $(UNIT_SOURCES:%.c=$(BUILD)/%.o)
FUZZERS       = $(patsubst %.c,$(BUILD)/%,$(wildcard tests/fuzz/*.c))
TEST_TOOLS    = $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/e2e/*.c) $(wildcard tests/bench/*.c))

.DELETE_ON_ERROR:
.PHONY: all help deps test sanitize test-programs fuzz fuzz-programs demo bench escape unit kernels conformance analyze install clean
.DEFAULT_GOAL := all

all: $(BUILD)/sluice ## build build/sluice

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

deps: ## install what a bare Debian 12 needs (as root)
	@tools/install-deps

# One unit of all programs, because they share maps (bpf/maps.h).
$(BUILD)/sluice.bpf.o: $(BPF_SOURCES)
	@mkdir -p $(@D)
	$(call msg,BPF,$@)
	printf '#include "%s"\n' $(notdir $(BPF_SOURCES)) | \
		$(CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -MF $(@:.o=.d) -x c - -c -o $@
	llvm-strip -g $@

# By themselves, so that one the kernel does not know takes no other along.
$(BUILD)/probe.bpf.o: bpf/probe/probe.bpf.c
	@mkdir -p $(@D)
	$(call msg,BPF,$@)
	$(CLANG) $(BPF_CFLAGS) -MMD -MP -MT $@ -MF $(@:.o=.d) -c $< -o $@
	llvm-strip -g $@

$(BUILD)/%.skel.h: $(BUILD)/%.bpf.o
	$(call msg,SKEL,$@)
	$(BPFTOOL) gen skeleton $< name $*_bpf > $@

$(BUILD)/%.o: %.c | $(SKELETONS)
	@mkdir -p $(@D)
	$(call msg,CC,$@)
	$(CC) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

$(BUILD)/sluice: $(OBJECTS)
	$(call msg,LINK,$@)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -o $@

$(BUILD)/unit-tests: $(UNIT_OBJECTS) $(LIBRARY_OBJECTS)
	$(call msg,LINK,$@)
	$(CC) $(ALL_CFLAGS) $(LDFLAGS) $^ $(LDLIBS) -lcriterion -o $@

$(BUILD)/tests/%: tests/%.c
	@mkdir -p $(@D)
	$(call msg,CC,$@)
	$(CC) -std=gnu11 $(WARNINGS) -D_GNU_SOURCE -iquote include -O2 -g -MMD -MP $< -lpthread -o $@

# An archive, so that a fuzzer's own clock or loop takes the place of the real one.
$(BUILD)/user.a: $(LIBRARY_OBJECTS)
	$(call msg,AR,$@)
	rm -f $@
	$(AR) rcs $@ $^

$(BUILD)/tests/fuzz/dns: LDFLAGS += -Wl,--wrap=ares_init_options
# The model is no subject of its own fuzzer.
$(BUILD)/tests/unit/verdict_model.o: SANITIZERS += $(if $(filter 1,$(FUZZ)),-fno-sanitize=fuzzer-no-link)
$(BUILD)/tests/fuzz/verdict: $(BUILD)/tests/unit/verdict_model.o $(BUILD)/tests/unit/random_policy.o
$(FUZZERS): %: %.o $(BUILD)/user.a
	$(call msg,LINK,$@)
	$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer $(LDFLAGS) $(filter %.o,$^) $(filter %.a,$^) $(LDLIBS) -o $@

$(BUILD)/tests/escape/escape: $(wildcard tests/escape/*.c) tests/escape/escape.h tests/e2e/net.h
	@mkdir -p $(@D)
	$(call msg,CC,$@)
	$(CC) -std=gnu11 $(WARNINGS) -D_GNU_SOURCE -O2 -g $(filter %.c,$^) -lpthread -o $@

# What tests/run needs. The tools that tests run in the lab are never sanitized.
test-programs: $(BUILD)/sluice $(BUILD)/unit-tests $(TEST_TOOLS)

unit: $(BUILD)/unit-tests ## run the unit tests only
	$(BUILD)/unit-tests

test: deps ## install, build, run unit and end-to-end tests, plain and under ASan and UBSan (as root)
	@$(MAKE) --no-print-directory test-programs
	@$(MAKE) --no-print-directory SANITIZE=1 test-programs
	@$(MAKE) --no-print-directory FUZZ=1 fuzz-programs
	@tests/run --both

sanitize: deps ## install, build, run all tests under ASan and UBSan (as root)
	@$(MAKE) --no-print-directory SANITIZE=1 test-programs
	@tests/run --sanitize

fuzz-programs: $(FUZZERS)

SECONDS ?= 10
fuzz: deps ## install, build, run each fuzzer of tests/fuzz for SECONDS=10 (TARGET= only that one, EXECUTIONS= that many)
	@$(MAKE) --no-print-directory FUZZ=1 fuzz-programs
	@tests/fuzz/run $(if $(EXECUTIONS),--executions $(EXECUTIONS),--seconds $(SECONDS)) $(TARGET)

demo: deps ## install, build, show the scenarios of the documentation in a lab (as root)
	@$(MAKE) --no-print-directory $(BUILD)/sluice
	@tools/demo

bench: deps ## install, build, compare with no policy, haproxy and iptables (as root)
	@$(MAKE) --no-print-directory $(BUILD)/sluice $(TEST_TOOLS)
	@tests/bench/run; status=$$?; tests/bench/backstop && exit $$status

escape: deps ## install, build, try every way out of a pod, print the matrix and write build/escape.md (as root)
	@$(MAKE) --no-print-directory $(BUILD)/sluice $(BUILD)/tests/escape/escape
	@tests/escape/run

kernels: ## install, build, boot Debian's kernels under qemu and see what sluice does there (as root)
	@tools/install-deps --kernels
	@$(MAKE) --no-print-directory $(BUILD)/sluice $(TEST_TOOLS)
	@tests/kernels/run

CORPUS ?= ../shared/istio-corpus
conformance: $(BUILD)/sluice ## check the files of CORPUS=DIR, which say whether Istio accepts or rejects them
	@tests/conformance/run $(CORPUS)

analyze: ## clang-tidy and cppcheck
	@tools/analyze

install: $(BUILD)/sluice ## install the binary, README, samples and systemd unit (DESTDIR=, PREFIX=)
	install -Dm755 $(BUILD)/sluice $(DESTDIR)$(PREFIX)/bin/sluice
	install -d $(DESTDIR)$(PREFIX)/share/sluice/policies
	cp -r policies/. $(DESTDIR)$(PREFIX)/share/sluice/policies
	install -Dm644 README.md $(DESTDIR)$(PREFIX)/share/doc/sluice/README.md
	install -d $(DESTDIR)$(PREFIX)/lib/systemd/system
	sed 's,/usr/local,$(PREFIX),' tools/deploy/sluice.service > $(DESTDIR)$(PREFIX)/lib/systemd/system/sluice.service
	install -d $(DESTDIR)/etc/sluice/policies

clean: ## remove everything that was built
	rm -rf build

ifneq ($(V),1)
.SILENT:
endif

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
