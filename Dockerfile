# Builds with: docker build -t plu-onboard .
# Runs with:   docker run --rm -v "$PWD:/data" -u "$(id -u):$(id -g)" -e PLU_API_KEY plu-onboard run customers.csv

FROM rust:1.95-slim-bookworm AS builder
# ring and the built-in SQLite are compiled with a C compiler.
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY Cargo.toml Cargo.lock ./
# default.toml is built into the program.
COPY config config
COPY src src
RUN cargo build --release --locked

FROM debian:bookworm-slim
# The program trusts the system's root certificates; the image has none of its own.
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && mkdir -m 0700 /data \
    && chown 10001:10001 /data
COPY --from=builder /build/target/release/plu-onboard /usr/local/bin/plu-onboard
COPY config /etc/plu-onboard
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["plu-onboard"]
