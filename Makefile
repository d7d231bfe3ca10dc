# A thin front for people; meson.build and tools/ do the work. `make help` lists the targets.

PREFIX ?= /usr/local
DESTDIR ?=
BINDIR = $(DESTDIR)$(PREFIX)/bin
LIBEXECDIR = $(DESTDIR)$(PREFIX)/libexec/banger
DATADIR = $(DESTDIR)$(PREFIX)/share
SYSTEM_UNIT_DIR ?= $(PREFIX)/lib/systemd/system
USER_UNIT_DIR ?= $(PREFIX)/lib/systemd/user
SYSTEM_UNITS = $(DESTDIR)$(SYSTEM_UNIT_DIR)
USER_UNITS = $(DESTDIR)$(USER_UNIT_DIR)

# Installed where they exist: a build makes the programs that its sources have.
BIN_PROGRAMS = banger bangerd
LIBEXEC_PROGRAMS = banger-agent banger-mkroot banger-launch banger-helper
MAN_PAGES = man1/banger.1 man5/banger.toml.5 man8/bangerd.8
# SHELL:FILE, as `banger completion SHELL` prints it.
COMPLETIONS = bash:bash-completion/completions/banger zsh:zsh/site-functions/_banger \
    fish:fish/vendor_completions.d/banger.fish

all: ## build the programs into build/ (the default)
	@tools/build.sh build

try: ## two-minute tour: packages, build, kernel, image, and a command in a first VM
	@tools/try.sh

test: deps-test ## every test this machine can run; the last line is the count
	@tools/run-tests.py

test-full: deps-test ## as test, and all system tests under sanitizers, and longer fuzzing
	@tools/run-tests.py --full

soak: deps-test all ## the model of VMs, 100,000 steps (SOAK_STEPS)
	@BANGER_MODEL_STEPS=$${SOAK_STEPS:-100000} /usr/bin/python3 -m pytest -q tests/system/test_model.py

lint: deps-test ## only the checks of the sources
	@tools/run-tests.py --only lint

fuzz: deps-test ## fuzz every target for FUZZ_SECONDS (60) each
	@tools/run-tests.py --only fuzzing --fuzz-seconds $${FUZZ_SECONDS:-60}

bench: deps-test all ## measure speed against floors, as ratios in one run
	@/usr/bin/python3 tests/bench/bench.py

format: ## lay out the sources with clang-format
	@find src tests -name '*.[ch]' -print0 | xargs -0 clang-format-19 -i

install: all ## install below PREFIX (/usr/local), staged below DESTDIR
	@mkdir -p "$(BINDIR)" "$(LIBEXECDIR)"
	@for p in $(BIN_PROGRAMS); do \
	    if [ -e build/$$p ]; then install -v -m 755 build/$$p "$(BINDIR)/$$p" || exit 1; fi; done
	@for p in $(LIBEXEC_PROGRAMS); do \
	    if [ -e build/$$p ]; then install -v -m 755 build/$$p "$(LIBEXECDIR)/$$p" || exit 1; fi; done
	@for m in $(MAN_PAGES); do \
	    install -v -D -m 644 "build/$${m#*/}" "$(DATADIR)/man/$$m" || exit 1; done
	@for c in $(COMPLETIONS); do \
	    build/banger completion "$${c%%:*}" >build/completion.tmp && \
	    install -v -D -m 644 build/completion.tmp "$(DATADIR)/$${c#*:}" || exit 1; done
	@rm -f build/completion.tmp
	@for kind in system user; do \
	    if [ $$kind = system ]; then to="$(SYSTEM_UNITS)"; else to="$(USER_UNITS)"; fi; \
	    install -v -D -m 644 packaging/systemd/$$kind/banger.socket "$$to/banger.socket" && \
	    sed 's|@bindir@|$(PREFIX)/bin|' packaging/systemd/$$kind/banger.service.in >build/unit.tmp && \
	    install -v -D -m 644 build/unit.tmp "$$to/banger.service" || exit 1; done
	@rm -f build/unit.tmp

uninstall: ## remove what install put there
	@for p in $(BIN_PROGRAMS); do rm -fv "$(BINDIR)/$$p"; done
	@for p in $(LIBEXEC_PROGRAMS); do rm -fv "$(LIBEXECDIR)/$$p"; done
	@for m in $(MAN_PAGES); do rm -fv "$(DATADIR)/man/$$m"; done
	@for c in $(COMPLETIONS); do rm -fv "$(DATADIR)/$${c#*:}"; done
	@for dir in "$(SYSTEM_UNITS)" "$(USER_UNITS)"; do \
	    rm -fv "$$dir/banger.service" "$$dir/banger.socket"; done
	@if [ -d "$(LIBEXECDIR)" ]; then rmdir --ignore-fail-on-non-empty "$(LIBEXECDIR)"; fi

deb: deps-deb all ## build a Debian package into build/deb/
	@tools/build-deb.sh

deps-deb: ## install the packages that making the Debian package needs
	@tools/deps.sh build deb

deps: ## install the packages that building, running and the default image need
	@tools/deps.sh build run image

deps-test: ## install those and what the tests need
	@tools/deps.sh build run image deb test

clean: ## remove all build directories; downloads in .cache/ stay
	rm -rf build build-*

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

.PHONY: all try test test-full soak lint fuzz bench format install uninstall deb deps-deb deps deps-test clean help
