# Two commands matter: `go run ./cmd/stile demo` and `make test`.

GO    ?= go
LINT  := bin/golangci-lint

.PHONY: build test unit race interop fuzz mutants lint docs setup clean

build:
	$(GO) build -o bin/stile ./cmd/stile

# Everything: all Go tests, then the third-party clients, servers and suites.
test: unit interop

unit: setup
	$(GO) vet ./...
	$(GO) test $$($(GO) list ./... | grep -v /interop)

# Python's JSON reader is one of those that message is held against.
setup:
	@command -v python3 >/dev/null || { apt-get update -q && apt-get install -y -q python3; }

# What drives other programs is left out: -race does not look into those.
race: setup
	$(GO) test -race $$($(GO) list ./... | grep -v -e /interop -e /attack/faults)

# Real npm clients, a foreign authorization server, the conformance suite, and the
# pages in Debian's Chromium, a login in Debian's GNOME keyring.
interop: interop/node_modules/.package-lock.json
	@command -v chromium >/dev/null || { apt-get update -q && apt-get install -y -q chromium; }
	@command -v gnome-keyring-daemon >/dev/null || { apt-get update -q && apt-get install -y -q dbus gnome-keyring; }
	$(GO) test -count=1 -timeout 15m ./interop/...

# Every fuzz target, FUZZTIME each; FUZZ picks some: make fuzz FUZZ='/message Fuzz'.
FUZZTIME ?= 20s
FUZZ     ?= .
fuzz:
	.ci/fuzz $(FUZZTIME) '$(FUZZ)'

# Takes each defence of docs/threats.md out once and wants its test to fail.
mutants:
	$(GO) run ./attack/mutants $(THREATS)

interop/node_modules/.package-lock.json: interop/package-lock.json interop/package.json
	cd interop && npm ci --no-audit --no-fund
	touch $@

# What Stile costs beside a bare reverse proxy, as ratios (docs/performance.md).
bench:
	$(GO) run ./bench

lint: $(LINT)
	$(LINT) run ./...

# The linter has a module of its own, so that its dependencies stay out of ours.
$(LINT): tools/go.mod tools/go.sum
	cd tools && $(GO) build -o ../$(LINT) github.com/golangci/golangci-lint/v2/cmd/golangci-lint

# Documents that are generated from the code.
docs:
	$(GO) generate ./...

clean:
	rm -rf bin interop/node_modules
