# syntax=docker/dockerfile:1
# One node of Outspoke: a static binary and nothing else. docs/operating/container.md.
#
#   docker build -t outspoke .
#   docker run --rm -p 8080:8080 -v outspoke-data:/data outspoke

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# `crt-static` puts the C library into the binary, so that the image needs none. The target is named because the flag
# must not reach build scripts and procedural macros, which are loaded dynamically.
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    host="$(rustc -vV | sed -n 's/^host: //p')" \
    && RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --package outspoke --target "$host" \
    && mkdir -p /image/data /image/etc/ssl/certs \
    && strip --strip-debug -o /image/outspoke "target/$host/release/outspoke" \
    # For builds with the feature dynamodb or acme, which ask the system for roots; everything else brings its own.
    && cp /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ \
    && chown -R 65532:65532 /image/data

FROM scratch
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="outspoke" \
      org.opencontainers.image.description="A self-hosted real-time messaging hub over WebSocket" \
      org.opencontainers.image.source="https://github.com/outspoke/outspoke" \
      org.opencontainers.image.documentation="https://github.com/outspoke/outspoke/tree/main/docs" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
COPY --from=build /image/ /
# Any number but 0: the server needs no right but its port and its data folder.
USER 65532:65532
ENV OUTSPOKE_DATA__DIR=/data
VOLUME /data
EXPOSE 8080
# Drains: the server tells and closes every client. Give it its 30 s (`docker stop --time 35`).
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=4s --start-period=5s --retries=3 CMD ["/outspoke", "healthcheck"]
ENTRYPOINT ["/outspoke"]
CMD ["serve"]
