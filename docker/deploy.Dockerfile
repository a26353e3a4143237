# Rooms 2 and 3: checkpoint → bundle and engines → numbers, in the environment of room 1 and a little more.
#   docker build -f docker/train.Dockerfile --target environment -t slipway-environment .
#   docker build -f docker/deploy.Dockerfile -t slipway-deploy .
# ENVIRONMENT: the image of the first line, whose layers are shared. TENSORRT: a version that was collected before, with ONNX
# Runtime for CUDA, by `make wheels OUT=wheels TENSORRT=10.16.1.11 FOR=3.11`; without, this image exports and computes on CPUs.
ARG BASE=debian:bookworm-slim
ARG ENVIRONMENT=slipway-environment

FROM ${BASE} AS uv
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3-venv
COPY requirements/uv.txt /
RUN python3 -m venv /uv \
    && /uv/bin/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --require-hashes \
      --only-binary :all: -r /uv.txt

# What deploying needs more than training, apart: the files that these packages add or change.
FROM ${ENVIRONMENT} AS packages
USER 0:0
ENV UV_SYSTEM_CERTS=1
COPY --from=uv /uv /uv
ARG TENSORRT=none
COPY requirements/deploy.txt wheel[s] /wheels/
RUN touch /before && sleep 1 \
    && case $TENSORRT in \
      none) set -- -r /wheels/deploy.txt ;; \
      *) grep -qs "^tensorrt.*==$TENSORRT" /wheels/requirements.txt \
        || { echo "no TensorRT $TENSORRT in the folder wheels: make wheels OUT=wheels TENSORRT=$TENSORRT FOR=3.11" >&2; exit 4; }; \
        set -- --no-index --find-links /wheels -r /wheels/requirements.txt ;; \
    esac \
    && /uv/bin/uv pip install --quiet --no-cache --no-deps --compile-bytecode --python /opt/slipway/bin/python --require-hashes \
      --only-binary :all: "$@" \
    && mkdir /more && cd / && find opt/slipway -cnewer /before \( -type f -o -type l \) -print0 > /files \
    && tar --create --null --files-from /files | tar --extract --directory /more

FROM ${ENVIRONMENT}
COPY --from=packages /more/ /
# onnxruntime-gpu has taken the files of onnxruntime, which comes with the environment: only one is there.
USER 0:0
RUN cd /opt/slipway/lib/python3*/site-packages && if [ -d onnxruntime_gpu-*.dist-info ]; then rm -r onnxruntime-*.dist-info; fi
USER 10001:10001
COPY LICENSE ./
COPY deploy deploy
COPY configs configs
COPY train train
COPY benchmarks benchmarks
RUN ["python", "-m", "deploy", "--help"]
CMD ["-m", "deploy", "--help"]
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="slipway-deploy" \
      org.opencontainers.image.description="Slipway: a checkpoint to a verified bundle, engines and measurements" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
