# make test    everything that proves the crate: installs redis-server where it is missing, then runs all tests
# make run     the caching proxy in front of ORIGIN
# make conformance
#              the public HTTP cache test suite against the proxy (needs Node and npm)
# make bench   what the law, a hit and a purge cost, and how it grows (needs redis-server)
# make bench-side-by-side
#              the layer and the proxy beside nginx, Varnish and other caches (Linux; installs them where they are missing)
# make help    this text

ORIGIN ?= http://127.0.0.1:8000
ARGS ?=
CARGO ?= cargo

# root needs no sudo, and where there is none none is used
SUDO := $(shell [ "$$(id -u)" = 0 ] || command -v sudo)

.DEFAULT_GOAL := help
.PHONY: help run test test-cluster conformance bench bench-side-by-side redis-server rivals browser

help:
	@echo 'make test                 install redis-server where it is missing, then run all tests'
	@echo 'make test-cluster         run those about caching on servers that are clusters of one node'
	@echo 'make conformance          run the public HTTP cache test suite against the proxy (needs Node and npm)'
	@echo 'make bench                measure what the law, a hit and a purge cost, and how that grows'
	@echo 'make bench-side-by-side   measure the layer and the proxy beside nginx, Varnish and other caches, for a quarter of an hour'
	@echo "make bench-side-by-side ARGS='--rounds 2 --seconds 1 --only near'"
	@echo '                          ... shorter, or a part of it; --help among them lists all'
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
	$(CARGO) bench --bench growth

# Beside the proxy's own build, as that is one of the programs that are started.
bench-side-by-side: redis-server rivals
	$(CARGO) build --release --example proxy
	$(CARGO) build --release --manifest-path benches/side_by_side/Cargo.toml --target-dir "$${CARGO_TARGET_DIR:-target}"
	PATH="$$PATH:/usr/sbin" "$${CARGO_TARGET_DIR:-target}/release/side-by-side" $(ARGS)

# The last two are for one of the servers only, which is left out without them.
rivals:
	@PATH="$$PATH:/usr/sbin"; missing=; \
	command -v nginx    >/dev/null || missing="$$missing nginx-light"; \
	command -v varnishd >/dev/null || missing="$$missing varnish"; \
	command -v wrk      >/dev/null || missing="$$missing wrk"; \
	command -v taskset  >/dev/null || missing="$$missing util-linux"; \
	[ -e /usr/lib/nginx/modules/ngx_http_lua_module.so ] || missing="$$missing libnginx-mod-http-lua"; \
	[ -e /usr/share/lua/5.1/nginx/redis.lua ]            || missing="$$missing lua-nginx-redis"; \
	if [ -n "$$missing" ] && command -v apt-get >/dev/null; then \
	  echo "these are missing, and are installed:$$missing"; \
	  { $(SUDO) apt-get update -qq || true; } && $(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; \
	fi; \
	for program in nginx varnishd wrk taskset; do \
	  command -v $$program >/dev/null || { echo "$$program is not on the PATH: install it and try again" >&2; exit 1; }; \
	done

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
