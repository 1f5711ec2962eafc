# syntax=docker/dockerfile:1
# One image with the four binaries of production. Build:
# docker build -t threadline-pipeline:0.1.0 --build-arg COMMIT="$(git rev-parse --short=12 HEAD)" .
FROM rust:1.95.0-bookworm AS build
# The image has the pinned toolchain; its formatter and linter are not needed here.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
# publisher/traces,consumer/traces for OpenTelemetry traces.
ARG FEATURES=""
# What `--version` shows: the build sees no repository.
ARG COMMIT=""
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    FEATURES="$FEATURES" AUDIT_COMMIT="$COMMIT" ./scripts/dist \
    && install -D --target-directory=/out target/dist/shipped/publisher target/dist/shipped/consumer target/dist/shipped/threadline \
       target/dist/shipped/threadline-serve

FROM debian:bookworm-slim
# The system's certificates are the trust roots of TLS connections.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --system --gid 65532 pipeline \
    && useradd --system --no-create-home --shell /usr/sbin/nologin --uid 65532 --gid 65532 pipeline
COPY --from=build /out/ /usr/local/bin/
# A number: whoever insists on another user than root cannot tell by a name.
USER 65532:65532
WORKDIR /etc/threadline
# 9464: publisher, 9465: consumer, 4180 and 9466: threadline-serve; on loopback unless the settings say otherwise.
EXPOSE 9464 9465 4180 9466
CMD ["publisher", "--help"]
