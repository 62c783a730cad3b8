# Everything that is done with this repository. `make help` lists it; CI runs the same targets.

.DEFAULT_GOAL := help
.PHONY: help run build agents test test-embedded race browser guides lint lint-openapi verify generate bench bench-go cover \
	fuzz fuzz-api ci ci-long clean hooks
MAKEFLAGS += --no-print-directory

# One set of flags for every go command, so that build, run, test and lint share the build
# cache. docs/adr/0006-cold-build.md has the figures behind them:
#   -dwarf=false  no debugger tables (stack traces, pprof and coverage do not need them)
#   -l            no inlining in the two provider SDKs, half of a cold build
# The last pattern that matches a package wins, so the general one comes first.
# To debug with delve, build with plain `go build -gcflags=all='-N -l' ./cmd/stoa`.
ifeq (,$(findstring -gcflags,$(GOFLAGS)))
GOFLAGS := $(strip $(GOFLAGS) -buildvcs=false -gcflags=all=-dwarf=false \
	'-gcflags=github.com/openai/openai-go/v3/...=-l -dwarf=false' \
	'-gcflags=github.com/anthropics/anthropic-sdk-go/...=-l -dwarf=false')
endif
export GOFLAGS
export CGO_ENABLED := 0

# The compiler collects its garbage less often than usual: a fifth less time for a third
# more memory. Only the commands that compile everything get it, never a test or a server.
COMPILE := GOGC=400

# The commit goes into the binary where git can tell it: not in an unpacked archive.
BUILDVCS := $(if $(shell git rev-parse --verify HEAD 2>/dev/null),true,false)
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
LDFLAGS := -s -w -X stoa/internal/app.release=$(VERSION)

# go vet runs in lint, with all of its analyzers, and not once more in every test.
TEST := go test -vet=off -timeout 10m

# Where goroutines meet over shared state, and where the race detector therefore pays.
RACE := ./internal/platform/db/... ./internal/platform/redis/... ./internal/platform/ratelimit/... \
	./internal/platform/events/... ./internal/domain/account/... ./internal/domain/execution/... \
	./internal/domain/runtime/wasm/...

# Percent of the statements that tests must run.
COVERAGE := 90

# Seconds, shared by all fuzz tests.
FUZZ_SECONDS := 60

# Made-up requests for each operation of the API, and the seconds that it goes on with others.
FUZZ_API_EXAMPLES := 20
FUZZ_API_SECONDS := 0

# Each benchmark's length: a time, or 1x for once.
BENCH_TIME := 1s

# The comparison of make bench: rounds of every server in every row, the seconds of each,
# the connections that ask at the same time, and the rows (a list with commas; all when empty).
ROUNDS := 5
SECONDS := 3
CONNECTIONS := 64
ROWS :=
# Further flags of it: --markdown, --json FILE, --packages N, --logins N.
BENCH_FLAGS :=

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' Makefile

run: build ## Build what is missing, and start the server on its embedded defaults
	@exec bin/stoa serve

build: agents ## Build bin/stoa: static, with everything inside
	@$(COMPILE) go build -buildvcs=$(BUILDVCS) -ldflags '$(LDFLAGS)' -o bin/stoa ./cmd/stoa

agents: ## Pack the sample agents that the binary carries
	@$(COMPILE) go run ./examples/agents/pack

test: agents ## Run all tests on SQLite, PostgreSQL and Redis, which are found, or installed on Debian as root
	scripts/with-servers $(TEST) ./...

test-embedded: agents ## Run what needs no server: all tests, on SQLite only
	STOA_TEST_EMBEDDED=1 $(TEST) ./...

race: agents ## Run the tests of concurrent packages with the race detector
	@if command -v "$${CC:-gcc}" >/dev/null || command -v clang >/dev/null; then \
		set -x; CGO_ENABLED=1 scripts/with-servers $(TEST) -race $(RACE); \
	else \
		echo "race: no C compiler here, and the race detector needs one: left out"; \
	fi

browser: agents ## Run the browser tests in Chromium, which is found, or installed on Debian as root
	scripts/with-browser $(TEST) -tags browser -run Browser $$(scripts/packages-with '^//go:build browser')

guides: agents ## Execute every code block of docs/guides; Node and Python are found, or installed on Debian as root
	scripts/with-python scripts/with-node $(TEST) -tags guides -run Guides ./cmd/stoa

lint: bin/golangci-lint ## Check the code's rules; .golangci.yml gives the reason of each
	bin/golangci-lint run
	@cd bench && ../bin/golangci-lint run

lint-openapi: ## Check openapi.json with a linter; .redocly.yaml gives the reason of each rule that differs
	scripts/with-node redocly lint --config .redocly.yaml openapi.json

bin/golangci-lint: tools/go.mod
	$(COMPILE) go build -C tools -ldflags '-s -w' -o ../bin/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint

generate: build ## Write the files that are made from the code
	scripts/generate .

verify: build ## Check that generated files are what the code makes, and modules what go.sum says
	scripts/generate --check
	go mod verify

bench: build ## Compare with net/http and FastAPI; ROUNDS=1 SECONDS=1 for a try, ROWS=list,login for a part
	@go build -C bench -o ../bin/ ./...
	@bin/bench -rounds $(ROUNDS) -seconds $(SECONDS) -connections $(CONNECTIONS) -rows '$(ROWS)' $(BENCH_FLAGS)

bench-go: agents ## Run the Go benchmarks, each once with BENCH_TIME=1x, and test the comparison's own arithmetic
	scripts/with-servers $(TEST) -timeout 1h -run '^$$' -bench . -benchmem -benchtime $(BENCH_TIME) $$(scripts/packages-with '^func Benchmark')
	go -C bench test -vet=off ./...

cover: agents ## Run all tests and fail when less than 90 % of the code is covered
	@mkdir -p coverage
	scripts/with-servers $(TEST) -shuffle on -coverpkg ./... -coverprofile coverage/profile ./...
	@scripts/coverage $(COVERAGE) coverage/profile

fuzz: agents ## Run every fuzz test, FUZZ_SECONDS=60 in all
	scripts/fuzz $(FUZZ_SECONDS)

fuzz-api: build ## Send a server what openapi.json allows and forbids; FUZZ_API_SECONDS=600 goes on
	scripts/with-python scripts/fuzz-api $(FUZZ_API_EXAMPLES) $(FUZZ_API_SECONDS)

ci: ## All that CI checks; cover is its test run
	@scripts/with-servers scripts/steps lint lint-openapi verify build guides fuzz-api race browser fuzz bench-go cover BENCH_TIME=1x

ci-long: ## The same with long fuzzing, everything under the race detector, 1000 sign-ins at once, a short comparison
	@STOA_TEST_LOGINS=1000 $(MAKE) ci FUZZ_SECONDS=1200 FUZZ_API_EXAMPLES=100 FUZZ_API_SECONDS=600 RACE=./...
	@$(MAKE) bench ROUNDS=1 SECONDS=1

clean: ## Remove what was built; the server's data in stoa-data stays
	rm -rf bin coverage tools/node/node_modules tools/node/runtime-* tools/python/venv bench/fastapi/.venv examples/agents/dist/*.tar.gz

hooks: ## Install the git hook that lints and verifies before each commit
	@if command -v pre-commit >/dev/null; then \
		pre-commit install; \
	else \
		hook="$$(git rev-parse --git-path hooks)/pre-commit"; \
		printf '#!/bin/sh\nexec make lint verify\n' >"$$hook" && chmod +x "$$hook" && echo "installed $$hook"; \
	fi
