# Build, with traces --build-arg FEATURES=otlp:
#   docker build -t plu-onboard .
# Run:
#   docker run --rm -v "$PWD:/data" -u "$(id -u):$(id -g)" -e PLU_API_KEY plu-onboard run customers.csv
# A worker: see deploy/.

# The same Debian release as the final stage, and so the same C library.
FROM rust:1.95-slim-bookworm AS builder
# ring and the bundled SQLite need a C compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
ARG FEATURES=""
# Builds the dependencies, which take minutes and change rarely, in a layer of their own with an empty program.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --profile dist --locked --features "$FEATURES" \
    && rm -r src
# The program embeds default.toml.
COPY config config
COPY src src
# Cargo compares modification times, and the copied files are older than the empty program.
RUN find src config -type f -exec touch {} + \
    && cargo build --profile dist --locked --features "$FEATURES" \
    && mkdir -m 0700 /data

# Has glibc, libgcc and root certificates, but no shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
LABEL org.opencontainers.image.title="plu-onboard" \
      org.opencontainers.image.description="Queue-driven batch onboarding for the Plu card partner API" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.documentation="OPERATIONS.md" \
      org.opencontainers.image.base.name="gcr.io/distroless/cc-debian12:nonroot"
COPY --from=builder /build/target/dist/plu-onboard /usr/local/bin/plu-onboard
COPY --from=builder --chown=65532:65532 /data /data
COPY config /etc/plu-onboard
USER 65532:65532
# The root may be read-only. Commands write to /data only, and a worker on RabbitMQ writes nothing.
WORKDIR /data
EXPOSE 9464
# Checks that the process is alive, not that it is ready: a paused worker must not be killed. Needs --listen.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s --retries=3 CMD ["plu-onboard", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["plu-onboard"]
