# Room 1: labelled images → checkpoint. `make images` builds it, `make train-cls RUN=docker` runs in it; docs/containers.md.
#   docker build -f docker/train.Dockerfile -t slipway-train .
# BASE: Debian 12 or 13. CUDA comes with the Python wheels, the driver from NVIDIA's container runtime.
ARG BASE=debian:bookworm-slim

# Packages, from hashed requirements, by the tool that the checkout uses too; neither it nor its caches go into the image.
FROM ${BASE} AS packages
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3-venv
# Certificates as the base has them: those of a company's proxy too.
ENV UV_SYSTEM_CERTS=1
COPY requirements/uv.txt /
RUN python3 -m venv /uv \
    && /uv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes \
      --only-binary :all: -r /uv.txt
COPY requirements/train.txt /
RUN /uv/bin/uv venv --quiet --python /usr/bin/python3 /opt/slipway \
    && /uv/bin/uv pip sync --quiet --no-cache --compile-bytecode --python /opt/slipway/bin/python --require-hashes \
      --only-binary :all: /train.txt
# The checkout's own packages lie in /slipway, whose content comes last: Python is told of the place only.
COPY deploy/runtime/pyproject.toml /slipway/deploy/runtime/
RUN mkdir /slipway/deploy/runtime/slipway_runtime && touch /slipway/deploy/runtime/slipway_runtime/__init__.py \
    && /uv/bin/uv pip install --quiet --no-cache --no-deps --no-build-isolation --python /opt/slipway/bin/python \
      --editable /slipway/deploy/runtime \
    && echo /slipway > "$(echo /opt/slipway/lib/python3*/site-packages)/slipway.pth"

# Everything but the checkout: deploy.Dockerfile begins here too.
FROM ${BASE} AS environment
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3 \
    && rm -rf /var/lib/apt/lists/* /var/cache/apt \
    && useradd --uid 10001 --user-group --no-create-home --no-log-init --home-dir /tmp --shell /usr/sbin/nologin slipway
COPY --from=packages /opt/slipway /opt/slipway
WORKDIR /slipway
# Whoever runs the image has a number and no name, may write to mounts and /tmp only, and asks for the GPU's compute part.
ENV PATH=/opt/slipway/bin:$PATH LANG=C.UTF-8 LC_ALL=C.UTF-8 HOME=/tmp USER=slipway PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
ENTRYPOINT ["python"]

FROM environment
# What changes most comes last.
COPY LICENSE ./
COPY deploy/runtime deploy/runtime
COPY configs configs
COPY train train
RUN ["python", "-m", "train", "--list"]
CMD ["-m", "train", "--help"]
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="slipway-train" \
      org.opencontainers.image.description="Slipway: labelled images to a checkpoint" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
