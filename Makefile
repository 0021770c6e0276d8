# make test    everything that proves the crate: installs redis-server where it is missing, then runs all tests
# make run     the caching proxy in front of ORIGIN
# make conformance
#              the public HTTP cache test suite against the proxy (needs Node and npm)
# make bench   what the law, a hit and a purge cost (needs redis-server)
# make help    this text

ORIGIN ?= http://127.0.0.1:8000
ARGS ?=
CARGO ?= cargo

# root needs no sudo, and where there is none none is used
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

.DEFAULT_GOAL := help
.PHONY: help run test test-cluster conformance bench redis-server browser

help:
	@echo 'make test                 install redis-server where it is missing, then run all tests'
	@echo 'make test-cluster         run those about caching on servers that are clusters of one node'
	@echo 'make conformance          run the public HTTP cache test suite against the proxy (needs Node and npm)'
	@echo 'make bench                measure what the law, a hit and a purge cost'
	@echo 'make run                  start the caching proxy on 127.0.0.1:8080 in front of $(ORIGIN)'
	@echo 'make run ORIGIN=URL       ... in front of another origin'
	@echo "make run ARGS='--redis redis://127.0.0.1:6379'"
	@echo '                          ... with more arguments for the proxy; --help among them lists all'

run:
	$(CARGO) run --release --example proxy -- --origin $(ORIGIN) $(ARGS)

test: redis-server
	$(CARGO) test --all-features

# The same tests on servers that refuse what a cluster refuses. They wait more than they work.
test-cluster: redis-server
	TEST_STORE=cluster $(CARGO) test --all-features --test cache --test collapse redis -- --test-threads 16

conformance: redis-server
	$(CARGO) build --all-features --example proxy
	node tests/conformance/run.mjs

bench: redis-server
	$(CARGO) bench --features unstable --bench law
	$(CARGO) bench --bench redis_hit
	$(CARGO) bench --bench purges

redis-server:
	@command -v redis-server >/dev/null || { \
	  echo 'redis-server is missing: installing it'; \
	  if   command -v apt-get >/dev/null; then { $(SUDO) apt-get update -qq || true; } && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq redis-server; \
	  elif command -v dnf     >/dev/null; then $(SUDO) dnf install -y redis || $(SUDO) dnf install -y valkey-compat-redis; \
	  elif command -v yum     >/dev/null; then $(SUDO) yum install -y redis; \
	  elif command -v apk     >/dev/null; then $(SUDO) apk add redis; \
	  elif command -v pacman  >/dev/null; then $(SUDO) pacman -S --noconfirm --needed redis; \
	  elif command -v brew    >/dev/null; then brew install redis; \
	  else echo 'no package manager is known here: install redis-server and try again' >&2; exit 1; \
	  fi; }
	@command -v redis-server >/dev/null || { echo 'redis-server is still not on the PATH' >&2; exit 1; }

# The proxy's page is looked at in a browser. Without one that test says that it has not run.
browser:
	@command -v chromium >/dev/null || { \
	  echo 'chromium is missing: installing it'; \
	  if command -v apt-get >/dev/null; then { $(SUDO) apt-get update -qq || true; } && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; fi; }
	@command -v chromium >/dev/null || echo 'NOT INSTALLED: chromium; the test of the page will not run'
