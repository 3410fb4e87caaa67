# Builds with: docker build -t plu-onboard .        (traces: --build-arg FEATURES=otlp)
# Runs with:   docker run --rm -v "$PWD:/data" -u "$(id -u):$(id -g)" -e PLU_API_KEY plu-onboard run customers.csv --listen 127.0.0.1:9464
# A worker:    see deploy/.

# The same Debian as the final stage, so that the program meets the C library it was linked with.
FROM rust:1.95-slim-bookworm AS builder
# ring and the built-in SQLite are compiled with a C compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
ARG FEATURES=""
# The dependencies take minutes and change seldom: a layer of their own, with an empty program.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --profile dist --locked --features "$FEATURES" \
    && rm -r src
# default.toml is built into the program.
COPY config config
COPY src src
# Cargo goes by the time of a file, and the copied ones are older than the empty program.
RUN find src config -type f -exec touch {} + \
    && cargo build --profile dist --locked --features "$FEATURES" \
    && mkdir -m 0700 /data

# glibc, libgcc and root certificates, and no shell or package manager.
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
# A read-only root is fine: this is the only place that is written to, beside temporary files in /tmp (a long user list), and
# by a worker on RabbitMQ not even this.
WORKDIR /data
EXPOSE 9464
# Alive, not ready: a worker that is paused must not be killed for it. Needs --listen.
HEALTHCHECK --interval=15s --timeout=5s --start-period=15s --retries=3 CMD ["plu-onboard", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["plu-onboard"]
