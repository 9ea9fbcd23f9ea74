# The front door. Recipes are one-liners; logic lives in xtask/ and scripts/.
.DEFAULT_GOAL := help
CARGO ?= cargo

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Play the loop: a bad change is opened to a few and shuts by itself
	@scripts/require cargo cc && $(CARGO) run --locked --quiet --bin tidegate -- demo

.PHONY: test
test: ## Run every test
	@scripts/require cargo cc python3 node npm prometheus && scripts/test-clients && $(CARGO) test --locked --workspace

.PHONY: check
check: ## Format, lints, documentation, and the house rules
	@scripts/require cargo cc git && $(CARGO) fmt --all --check && $(CARGO) clippy --locked --workspace --all-targets -- -D warnings && $(CARGO) run --locked --quiet -p xtask -- tidy

.PHONY: doc
doc: ## Build the API documentation, with broken links as errors
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --workspace --no-deps

.PHONY: deny
deny: ## Licences, sources and known advisories of dependencies, where cargo-deny is installed
	$(CARGO) deny check

.PHONY: fmt
fmt: ## Format everything
	$(CARGO) fmt --all

.PHONY: bench
bench: ## Measure speed beside peers, ratios printed
	@scripts/require cargo cc && scripts/bench

.PHONY: bench-lake
bench-lake: ## The lake's fixed questions at full scale beside DuckDB and ClickHouse's engine
	@scripts/require cargo cc python3 && BENCH_CHDB=1 scripts/bench-lake 1

.PHONY: bench-rollouts
bench-rollouts: ## False rollbacks and delays in simulation, then end to end on the real server
	@scripts/require cargo cc && scripts/bench-rollouts

.PHONY: nightly
nightly: ## The long runs: more histories, more crashes, the full certificate
	@scripts/require cargo cc && scripts/nightly

.PHONY: acceptance
acceptance: ## Replay the real data sets, where TIDEGATE_DATA_DIR has them
	@scripts/require cargo cc && scripts/acceptance
