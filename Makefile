# The only door. `make help` lists what there is.
SHELL := /bin/sh
CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help demo test faults check fix demo-servers servers clean

# Named places where the tests let a process die. Nothing that is shipped is built with them.
FAULTY := --features common/failpoints

help: ## Lists the targets.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# SERVERS=docker uses a running Docker engine; SOURCE_DATABASE_URL, THREADLINE_DATABASE_URL and NATS_URL, where set,
# name servers to use instead of private ones. DEMO_KEEP=1 leaves everything running until Ctrl-C.
demo: demo-servers ## Runs the whole pipeline on private servers and ends with a verdict.
	@$(CARGO) build --quiet --release --workspace --bins
	@./scripts/demo

test: servers ## Passes all tests, on private servers that they start, kill and restart.
	$(CARGO) build --workspace --bins $(FAULTY)
	$(CARGO) test --workspace $(FAULTY)

faults: servers ## Injects more than 200 faults, for about a quarter of an hour, and writes docs/fault-report.md. FAULTS=name for some only.
	$(CARGO) build --workspace --bins $(FAULTY)
	./target/debug/faults $(if $(FAULTS),--only "$(FAULTS)",--report docs/fault-report.md)

check: ## Formatting, lints, documentation.
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets $(FAULTY) -- --deny warnings
	$(CARGO) clippy --package publisher --package consumer -- --deny warnings
	$(CARGO) clippy --package consumer --no-default-features --all-targets -- --deny warnings
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --workspace --no-deps --document-private-items --quiet
	./scripts/check-house

fix: ## Formats and applies what clippy can mend by itself.
	$(CARGO) fmt --all
	$(CARGO) clippy --workspace --all-targets --fix --allow-dirty

demo-servers:
	@./scripts/ensure-servers --unless-given

servers: ## Makes sure that PostgreSQL's and NATS' binaries are there, with apt where they are missing.
	@./scripts/ensure-servers

clean: ## Removes everything that was built.
	$(CARGO) clean
