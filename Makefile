# The entry point for development. `make help` lists all targets.
SHELL := /bin/sh
CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help demo test matrix faults bench soak dist check fix demo-servers servers clean

# A run of the tests that has not ended after so many seconds is ended: what hangs is a failure with a name.
TEST_LIMIT ?= 2100
LIMITED = timeout --foreground --kill-after=30 $(TEST_LIMIT)

# Most tests wait for servers, not for a processor.
export RUST_TEST_THREADS ?= $(shell echo $$(( $$(nproc) * 3 )))

# Named places where the tests let a process die, which nothing that is shipped is built with; and what is optional.
FAULTY := --workspace --exclude bench --features common/failpoints,common/traces,threadline/tower,threadline/parquet,threadline/s3,threadline/metrics

# What depends most on the version of a server is always tested on the oldest and the newest. The rest is for `make matrix`: the timeline on
# every version, the whole pipeline on the newest broker and through PgBouncer.
CAPTURING := --test outbox --test store --test capture
TIMELINE := $(CAPTURING) --test query --test retention --test erasure --test evidence --test handover --test jobs --test doctor --test receipts --test telemetry
POOLED := backfill:: guarantees:: outages:: packs:: pooler:: projection:: regressions:: rights:: source_rows:: source_table::
BROKER := broker dead_letters:: faults:: guarantees:: loss:: outages:: packs poison:: replay:: restore:: skipping::

help: ## Lists the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# SERVERS=docker uses a running Docker engine; SOURCE_DATABASE_URL, THREADLINE_DATABASE_URL and NATS_URL, where set,
# name servers to use instead of private ones. DEMO_KEEP=1 leaves everything running until Ctrl-C.
demo: demo-servers ## Runs the whole pipeline on private servers and ends with a verdict.
	@echo "Compiling the four binaries and the sandbox; the first time takes minutes."
	@$(CARGO) build --profile demo --package publisher --package consumer --package threadline --package operator --package sandbox --bins
	@./scripts/demo

test: servers ## Passes all tests, on private servers that they start, kill and restart: Debian's; the decisive ones on other versions.
	$(CARGO) test $(FAULTY) --no-run
	$(LIMITED) $(CARGO) test $(FAULTY)
	THROUGH_POOLER=1 $(LIMITED) $(CARGO) test $(FAULTY) --test pipeline -- $(POOLED)
	PARTITIONED=1 $(LIMITED) $(CARGO) test $(FAULTY) --test capture --test retention -- --skip plans
	$(LIMITED) ./scripts/test-on 18 $(CARGO) test $(FAULTY) $(CAPTURING) --test stream_worker
	$(LIMITED) ./scripts/test-on 18 $(CARGO) test $(FAULTY) --test pipeline -- $(BROKER)
	$(LIMITED) ./scripts/test-on 14 $(CARGO) test $(FAULTY) $(CAPTURING) --test query

matrix: servers ## Passes the tests of the timeline on every supported PostgreSQL, and all of the pipeline on the newest and through PgBouncer; over an hour beside `make test`.
	$(CARGO) test $(FAULTY) --no-run
	THROUGH_POOLER=1 $(LIMITED) $(CARGO) test $(FAULTY) --test pipeline
	$(LIMITED) ./scripts/test-on 18 $(CARGO) test $(FAULTY) $(TIMELINE) --test surface --test pipeline
	for version in 14 16 17; do $(LIMITED) ./scripts/test-on $$version $(CARGO) test $(FAULTY) $(TIMELINE) || exit 1; done

faults: servers ## Injects more than 200 faults, for about a quarter of an hour, and writes docs/fault-report.md. FAULTS=name for some only.
	$(CARGO) build --bins $(FAULTY)
	./target/debug/faults $(if $(FAULTS),--only "$(FAULTS)",--report docs/fault-report.md)

# The binaries as they are shipped, in a build of their own: what the bench compares with would change their features.
bench: servers ## Measures the pipeline next to its limits and its peers, in a few minutes; FULL=1 for an hour and docs/benchmarks. BENCH=options for more.
	$(CARGO) build --release --bins
	$(CARGO) build --release --package bench
	./target/release/bench run $(if $(FULL),--full --report docs/benchmarks) $(BENCH)

soak: servers ## Half an hour of steady load: what grows. MINUTES=n for another time.
	$(CARGO) build --release --bins
	$(CARGO) build --release --package bench
	./target/release/bench soak --minutes $(or $(MINUTES),30)

dist: ## The binaries as they are shipped, in target/dist: optimised, stripped, debug information in files of its own. FEATURES=… for more.
	./scripts/dist

check: ## Formatting, lints, documentation, what others build from it.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --all-targets $(FAULTY) -- --deny warnings
	$(CARGO) clippy --package publisher --package consumer -- --deny warnings
	$(CARGO) clippy --package consumer --no-default-features --all-targets -- --deny warnings
	$(CARGO) clippy --package bench --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --workspace --no-deps --document-private-items --quiet
	./scripts/check-house
	./scripts/check-outside

fix: ## Formats and applies what clippy can fix by itself.
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty

demo-servers:
	@./scripts/ensure-servers --unless-given

servers: ## Makes sure that PostgreSQL's and NATS' binaries are there, with apt where they are missing.
	@./scripts/ensure-servers

clean: ## Removes everything that was built.
	$(CARGO) clean
