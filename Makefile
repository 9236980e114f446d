# wasmcached: one non-recursive Makefile. `make help` lists the targets.
VERSION   := 0.1.0
# Tests need the fault points; the programs that are installed have none.
VARIANT   ?= $(if $(filter tests unit flow unit-flow fuzz-replay e2e crash,$(MAKECMDGOALS)),test,release)
BUILD     ?= build
B         := $(BUILD)/$(VARIANT)
PREFIX    ?= /usr/local
DESTDIR   ?=
SYSCONFDIR ?= /etc
UNITDIR   ?= $(PREFIX)/lib/systemd/system
PYTEST    ?= python3 -m pytest
CLANG     ?= clang
FUZZ_SECONDS ?= 60

ifneq ($(V),1)
Q := @
say = @printf '  %-5s %s\n' $(1) $(2)
endif

# ---- flags: the user's CFLAGS, CPPFLAGS and LDFLAGS come after ours
PACKAGES  := libcurl sqlite3 libcrypto libsodium libuv libzstd zlib libarchive jansson yaml-0.1 libmicrohttpd libsystemd
ifneq ($(filter-out clean help print-version,$(or $(MAKECMDGOALS),all)),)
  MISSING := $(shell for p in $(PACKAGES) cmocka; do pkg-config --exists $$p || echo $$p; done)
  ifneq ($(MISSING),)
    $(error missing development packages for: $(MISSING). tools/install-build-deps installs all of them on Debian 12)
  endif
  PKG_CFLAGS := $(shell pkg-config --cflags $(PACKAGES))
  PKG_LIBS   := $(shell pkg-config --libs $(PACKAGES)) -lisal -lm
endif
IS_CLANG := $(findstring clang,$(shell $(CC) --version 2>/dev/null | head -n 1))
ARCH     := $(shell uname -m)

WARNINGS := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition -Wpointer-arith -Wwrite-strings \
            -Wformat=2 -Wundef -Wvla -Wimplicit-fallthrough -Wcast-qual -Wdouble-promotion
ifneq ($(WERROR)$(CI),)
  WARNINGS += -Werror
endif
HARDENING := -fstack-protector-strong -fstack-clash-protection -fPIC
HARDENING_LD := -Wl,-z,relro,-z,now,-z,noexecstack,--as-needed
ifeq ($(ARCH),x86_64)
  HARDENING += -fcf-protection
endif
ifeq ($(IS_CLANG),)
  HARDENING += -ftrivial-auto-var-init=zero
endif

VARIANT_CFLAGS_release  := -O2 -g -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3 $(HARDENING)
VARIANT_CFLAGS_test     := -O1 -g -fPIC -DWASMCACHED_FAULTS
VARIANT_CFLAGS_asan     := -O1 -g -fPIC -DWASMCACHED_FAULTS -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=undefined
VARIANT_CFLAGS_tsan     := -O1 -g -fPIC -DWASMCACHED_FAULTS -fno-omit-frame-pointer -fsanitize=thread
VARIANT_CFLAGS_coverage := -O0 -g -fPIC -DWASMCACHED_FAULTS --coverage
VARIANT_CFLAGS_fuzz     := -O1 -g -fPIC -DWASMCACHED_FAULTS -fno-omit-frame-pointer -fsanitize=address,undefined,fuzzer-no-link
VARIANT_LDFLAGS_release := $(HARDENING_LD) -pie
VARIANT_LDFLAGS_asan    := -fsanitize=address,undefined
VARIANT_LDFLAGS_tsan    := -fsanitize=thread
VARIANT_LDFLAGS_coverage := --coverage
VARIANT_LDFLAGS_fuzz    := -fsanitize=address,undefined
ifeq ($(origin VARIANT_CFLAGS_$(VARIANT)),undefined)
  $(error VARIANT is one of release test asan tsan coverage fuzz)
endif

ALL_CPPFLAGS = -D_GNU_SOURCE -DWASMCACHED_VERSION='"$(VERSION)"' -DWASMCACHED_SYSCONFDIR='"$(SYSCONFDIR)"' -Iinclude $(PKG_CFLAGS) $(CPPFLAGS)
ALL_CFLAGS   = -std=gnu17 $(WARNINGS) $(VARIANT_CFLAGS_$(VARIANT)) -pthread $(CFLAGS)
ALL_LDFLAGS  = $(VARIANT_LDFLAGS_$(VARIANT)) -pthread $(LDFLAGS)

# ---- sources
AGENT_SRC  := $(filter-out agent/daemon/main.c,$(wildcard agent/*/*.c))
BASE_SRC   := $(wildcard agent/base/*.c)
CLIENT_SRC := $(wildcard tools/client/*.c)
CLI_SRC    := $(wildcard tools/wasmcachectl/*.c)
UNIT_SRC   := $(wildcard tests/unit/test_*.c)
FLOW_SRC   := $(wildcard tests/flow/test_*.c)
FLOW_LIB   := $(filter-out $(FLOW_SRC),$(wildcard tests/flow/*.c))
FUZZ_SRC   := $(wildcard tests/fuzz/fuzz_*.c)
BENCH_SRC  := $(wildcard tests/bench/*.c)
CRASH_SRC  := $(wildcard tests/crash/*.c)

obj = $(patsubst %.c,$(B)/%.o,$(1))
AGENT_OBJ  := $(call obj,$(AGENT_SRC))
ALL_SRC    := $(AGENT_SRC) agent/daemon/main.c $(CLIENT_SRC) $(CLI_SRC) $(UNIT_SRC) $(FLOW_SRC) $(FLOW_LIB) $(FUZZ_SRC) $(BENCH_SRC) $(CRASH_SRC) tests/fuzz/replay.c
UNIT_BIN   := $(patsubst %.c,$(B)/%,$(UNIT_SRC))
FLOW_BIN   := $(patsubst %.c,$(B)/%,$(FLOW_SRC))
FUZZ_BIN   := $(patsubst %.c,$(B)/%,$(FUZZ_SRC))
BENCH_BIN  := $(patsubst %.c,$(B)/%,$(BENCH_SRC))
CRASH_BIN  := $(patsubst %.c,$(B)/%,$(CRASH_SRC))

.PHONY: all programs tests test unit flow unit-flow fuzz-replay e2e crash asan tsan valgrind lint bench fuzz coverage coverage-trust mutation install uninstall clean help compile_commands.json print-version interop manuals image
.DELETE_ON_ERROR:
.SECONDARY:

all: programs                   ## daemon, CLI and client library (default)

PROGRAMS := $(if $(wildcard agent/daemon/main.c),$(B)/wasmcached) $(if $(CLI_SRC),$(B)/wasmcachectl) $(if $(CLIENT_SRC),$(B)/libwasmcache.a $(B)/libwasmcache.so $(B)/wasmcache.pc)
programs: $(PROGRAMS)

$(B)/%.o: %.c
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c -o $@ $<

$(B)/libagent.a: $(AGENT_OBJ)
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/libbase.a: $(call obj,$(BASE_SRC))
	$(call say,AR,$@)
	$(Q)rm -f $@ && $(AR) rcs $@ $^

$(B)/wasmcached: $(B)/agent/daemon/main.o $(B)/libagent.a
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(PKG_LIBS)

# The client library carries the few pieces of base that it needs, hidden: only wasmcache_* is visible.
$(B)/libwasmcache.a: $(call obj,$(CLIENT_SRC)) $(call obj,$(BASE_SRC))
	$(call say,AR,$@)
	$(Q)$(LD) -r -o $(B)/wasmcache-all.o $^
	$(Q)objcopy --wildcard --keep-global-symbol='wasmcache_*' $(B)/wasmcache-all.o
	$(Q)rm -f $@ && $(AR) rcs $@ $(B)/wasmcache-all.o

$(B)/libwasmcache.so: $(call obj,$(CLIENT_SRC)) $(call obj,$(BASE_SRC)) tools/client/libwasmcache.map
	$(call say,LD,$@)
	$(Q)$(CC) -shared -Wl,-soname,libwasmcache.so.0 -Wl,--version-script=tools/client/libwasmcache.map -o $@ $(filter %.o,$^) $(filter-out -pie,$(ALL_LDFLAGS)) -ljansson -lyaml -lcrypto

$(B)/wasmcache.pc: tools/client/wasmcache.pc.in Makefile
	@mkdir -p $(@D)
	$(Q)sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' $< > $@

$(B)/wasmcachectl: $(call obj,$(CLI_SRC)) $(call obj,$(CLIENT_SRC)) $(B)/libbase.a
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) -ljansson -lyaml -lcrypto -larchive

# ---- tests
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(B)/libagent.a
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) -lcmocka $(PKG_LIBS)
$(B)/tests/flow/%: $(B)/tests/flow/%.o $(call obj,$(FLOW_LIB)) $(B)/libagent.a
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) -lcmocka $(PKG_LIBS)
ifeq ($(VARIANT),fuzz)
$(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(B)/libagent.a
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) -fsanitize=fuzzer $(PKG_LIBS)
else
$(B)/tests/fuzz/%: $(B)/tests/fuzz/%.o $(B)/tests/fuzz/replay.o $(B)/libagent.a
	$(call say,LD,$@)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(PKG_LIBS)
endif
$(B)/tests/bench/%: $(B)/tests/bench/%.o $(B)/libagent.a
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(PKG_LIBS)
$(B)/tests/crash/%: $(B)/tests/crash/%.o $(B)/libagent.a
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) $(PKG_LIBS)

tests: $(UNIT_BIN) $(FLOW_BIN) $(FUZZ_BIN) $(CRASH_BIN)

# `make test` runs in the variant "test" (fault points, assertions); T=store filters by name.
test:                           ## all tests: lint, unit, flow, fuzz corpus, crash, e2e (T=name filters unit, flow and fuzz)
	$(Q)$(MAKE) --no-print-directory lint
	$(Q)$(MAKE) --no-print-directory VARIANT=test unit-flow fuzz-replay
	$(Q)$(MAKE) --no-print-directory VARIANT=test crash e2e

RUN := tests/run
chosen = $(foreach b,$(1),$(if $(or $(if $(T),,all),$(findstring $(T),$(b))),$(b)))
unit: $(UNIT_BIN)               ## unit tests of VARIANT
	$(Q)$(RUN) $(B) $(call chosen,$(UNIT_BIN))
flow: $(FLOW_BIN) programs      ## flow tests of VARIANT
	$(Q)$(RUN) $(B) $(call chosen,$(FLOW_BIN))
unit-flow: $(UNIT_BIN) $(FLOW_BIN) programs      ## both, side by side
	$(Q)$(RUN) $(B) $(call chosen,$(UNIT_BIN) $(FLOW_BIN))
fuzz-replay: $(FUZZ_BIN)        ## every corpus file through its fuzz target
	$(Q)$(RUN) $(B) --corpus $(call chosen,$(FUZZ_BIN))
e2e: programs                   ## the real daemon and CLI against real servers (PYTEST_ARGS)
	$(Q)WASMCACHED_BUILD=$(abspath $(B)) PYTEST='$(PYTEST)' tests/e2e/run $(PYTEST_ARGS)
crash: $(CRASH_BIN) programs    ## kill -9 at every syscall boundary of commit and eviction
	$(Q)if [ -x tests/crash/run ]; then tests/crash/run $(B); fi
asan:                           ## unit, flow and corpus under ASan and UBSan
	$(Q)$(MAKE) --no-print-directory VARIANT=asan unit-flow fuzz-replay
tsan:                           ## the same under TSan
	$(Q)$(MAKE) --no-print-directory VARIANT=tsan unit-flow
valgrind:                       ## unit tests and flow tests under valgrind
	$(Q)$(MAKE) --no-print-directory VARIANT=test tests programs
	$(Q)VALGRIND=1 $(RUN) $(BUILD)/test $(patsubst %.c,$(BUILD)/test/%,$(UNIT_SRC) $(FLOW_SRC))
lint:                           ## the laws of the house
	$(Q)tests/lint/run
fuzz:                           ## each libFuzzer target for FUZZ_SECONDS (clang)
	$(Q)$(MAKE) --no-print-directory CC='$(CLANG)' VARIANT=fuzz fuzz-run
fuzz-run: $(FUZZ_BIN)
	$(Q)for f in $(FUZZ_BIN); do n=$$(basename $$f); c=tests/fuzz/corpus/$${n#fuzz_}; mkdir -p $(B)/corpus/$$n; \
	  $$f -max_total_time=$(FUZZ_SECONDS) -rss_limit_mb=2048 -timeout=20 -print_final_stats=1 $(B)/corpus/$$n $$c || exit 1; done
bench:                          ## measured figures as ratios (release build)
	$(Q)$(MAKE) --no-print-directory VARIANT=release programs $(patsubst %.c,$(BUILD)/release/%,$(BENCH_SRC))
	$(Q)tests/bench/run $(BUILD)/release
coverage:                       ## line and branch coverage by room
	$(Q)$(MAKE) --no-print-directory VARIANT=coverage unit flow fuzz-replay
	$(Q)tests/coverage $(BUILD)/coverage
# Trust alone, without the other rooms.
TRUST_BIN  := $(patsubst tests/unit/%.c,$(B)/trust/%,$(wildcard tests/unit/test_trust_*.c))
TRUST_OBJ  := $(call obj,$(wildcard agent/trust/*.c))
TRUST_LIBS := $(shell pkg-config --libs libcrypto libsodium jansson yaml-0.1 libzstd)
$(B)/libtrust.a: $(TRUST_OBJ)
	$(Q)rm -f $@ && $(AR) rcs $@ $^
$(B)/trust/%: $(B)/tests/unit/%.o $(B)/libtrust.a $(B)/libbase.a
	@mkdir -p $(@D)
	$(Q)$(CC) -o $@ $^ $(ALL_LDFLAGS) -lcmocka $(TRUST_LIBS)
trust-objects: $(TRUST_BIN) $(TRUST_OBJ) $(B)/libbase.a $(B)/agent/module/seal.o $(B)/tests/unit/test_module_seal.o
trust-covered: $(TRUST_BIN)
	$(Q)rm -f $(B)/agent/trust/*.gcda
	$(Q)$(RUN) $(B) $(TRUST_BIN)
	$(Q)tests/coverage $(B) --least 95 90 trust
coverage-trust:                 ## line and branch coverage of trust by its unit tests; fails below 95 % and 90 %
	$(Q)$(MAKE) --no-print-directory VARIANT=coverage trust-covered
mutation:                       ## takes away each check of trust and its seals, one at a time: some unit test must fail for each (F=name filters files)
	$(Q)$(MAKE) --no-print-directory VARIANT=test trust-objects
	$(Q)$(MAKE) --no-print-directory VARIANT=asan trust-objects
	$(Q)tests/mutation/run '$(CC)' '-D_GNU_SOURCE -Iinclude $(PKG_CFLAGS) -std=gnu17 -DWASMCACHED_FAULTS' '$(TRUST_LIBS)' $(F)
interop:                        ## real peers (needs Go), INTEROP_SLOW=1: signers and a Kubernetes API too, INTEROP_KUBELET=1: a node; installs them first
	$(Q)$(MAKE) --no-print-directory VARIANT=test programs
	$(Q)tests/interop/run $(abspath $(BUILD)/test) $(PYTEST_ARGS)

compile_commands.json:          ## for clangd
	$(Q)tools/compile-commands '$(subst ','\'',$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS))' $(ALL_SRC) > $@

# ---- installation
BASH_COMPLETIONS := $(PREFIX)/share/bash-completion/completions
INSTALL_DIRS := $(addprefix $(PREFIX)/,bin sbin include lib/pkgconfig lib/sysusers.d lib/tmpfiles.d share/man/man1 share/man/man5 share/man/man8 share/doc share/doc/wasmcached) \
                $(UNITDIR) $(BASH_COMPLETIONS)
# Below a DESTDIR, or a PREFIX that is no folder of the system, uninstall takes the folders of install too, where they are empty; no others.
INSTALL_BASE := $(patsubst %/,%,$(or $(filter-out /,$(DESTDIR)),$(filter-out / /usr /usr/ /usr/local /usr/local/,$(PREFIX))))
EMPTIED_DIRS := $(patsubst $(INSTALL_BASE)/%,%,$(filter $(INSTALL_BASE)/%,$(subst //,/,$(addprefix $(DESTDIR),$(INSTALL_DIRS)))))
IMAGE := $(BUILD)/wasmcached-$(VERSION).oci.tar
image:                          ## container image as an OCI layout, without a container engine: build/wasmcached-VERSION.oci.tar
	$(Q)$(MAKE) --no-print-directory VARIANT=release programs
	$(Q)tools/image/build --programs $(BUILD)/release --version $(VERSION) --output $(IMAGE)
manuals: $(B)/wasmcached.yaml.5
$(B)/wasmcached.yaml.5: $(B)/wasmcached
	$(Q)$(B)/wasmcached --print-manual > $@

install: all manuals            ## into $(DESTDIR)$(PREFIX)
	install -d $(addprefix $(DESTDIR),$(INSTALL_DIRS))
	install -m 0755 $(B)/wasmcached $(DESTDIR)$(PREFIX)/sbin/wasmcached
	install -m 0755 $(B)/wasmcachectl $(DESTDIR)$(PREFIX)/bin/wasmcachectl
	install -m 0644 include/wasmcache.h $(DESTDIR)$(PREFIX)/include/wasmcache.h
	install -m 0644 $(B)/libwasmcache.a $(DESTDIR)$(PREFIX)/lib/libwasmcache.a
	install -m 0755 $(B)/libwasmcache.so $(DESTDIR)$(PREFIX)/lib/libwasmcache.so.0
	ln -sf libwasmcache.so.0 $(DESTDIR)$(PREFIX)/lib/libwasmcache.so
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' tools/client/wasmcache.pc.in > $(DESTDIR)$(PREFIX)/lib/pkgconfig/wasmcache.pc
	chmod 0644 $(DESTDIR)$(PREFIX)/lib/pkgconfig/wasmcache.pc
	for u in wasmcached.service wasmcached.socket; do sed 's|@PREFIX@|$(PREFIX)|g' systemd/$$u > $(DESTDIR)$(UNITDIR)/$$u; chmod 0644 $(DESTDIR)$(UNITDIR)/$$u; done
	install -m 0644 systemd/wasmcached.sysusers $(DESTDIR)$(PREFIX)/lib/sysusers.d/wasmcached.conf
	install -m 0644 systemd/wasmcached.tmpfiles $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/wasmcached.conf
	install -m 0644 tools/wasmcachectl/wasmcachectl.1 $(DESTDIR)$(PREFIX)/share/man/man1/wasmcachectl.1
	install -m 0644 agent/daemon/wasmcached.8 $(DESTDIR)$(PREFIX)/share/man/man8/wasmcached.8
	install -m 0644 $(B)/wasmcached.yaml.5 $(DESTDIR)$(PREFIX)/share/man/man5/wasmcached.yaml.5
	install -m 0644 tools/wasmcachectl/wasmcachectl.bash $(DESTDIR)$(BASH_COMPLETIONS)/wasmcachectl
	install -m 0644 README.md LICENSE $(DESTDIR)$(PREFIX)/share/doc/wasmcached/

uninstall:                      ## takes away what install put there
	rm -f $(DESTDIR)$(PREFIX)/sbin/wasmcached $(DESTDIR)$(PREFIX)/bin/wasmcachectl $(DESTDIR)$(PREFIX)/include/wasmcache.h \
	  $(DESTDIR)$(PREFIX)/lib/libwasmcache.a $(DESTDIR)$(PREFIX)/lib/libwasmcache.so.0 $(DESTDIR)$(PREFIX)/lib/libwasmcache.so $(DESTDIR)$(PREFIX)/lib/pkgconfig/wasmcache.pc \
	  $(DESTDIR)$(UNITDIR)/wasmcached.service $(DESTDIR)$(UNITDIR)/wasmcached.socket $(DESTDIR)$(PREFIX)/lib/sysusers.d/wasmcached.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/wasmcached.conf \
	  $(DESTDIR)$(PREFIX)/share/man/man1/wasmcachectl.1 $(DESTDIR)$(PREFIX)/share/man/man8/wasmcached.8 $(DESTDIR)$(PREFIX)/share/man/man5/wasmcached.yaml.5 \
	  $(DESTDIR)$(BASH_COMPLETIONS)/wasmcachectl
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/wasmcached
	$(if $(INSTALL_BASE),cd $(INSTALL_BASE) && rmdir -p --ignore-fail-on-non-empty $(EMPTIED_DIRS) 2>/dev/null || :)

clean:                          ## removes build/
	rm -rf $(BUILD) compile_commands.json

print-version:
	@echo $(VERSION)

help:                           ## this list
	@sed -n 's/^\([a-z0-9_.-]*\):.*## /\1	/p' Makefile | expand -t 24

-include $(patsubst %.c,$(B)/%.d,$(ALL_SRC))
