# `ort_infer` and the libraries it is linked with, on a slim Debian; docs/native.md, "The image", says how to use it.
#   docker build -f docker/runtime.Dockerfile -t slipway-runtime .
# BASE: Debian 12 or later. DEVICE=cuda: with the CUDA libraries, for `--device cuda`.
ARG BASE=debian:trixie-slim

# ONNX Runtime: headers of Debian's package (Debian 12 has none), library of the wheel, checked by its hash.
FROM debian:trixie-slim AS onnxruntime
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates python3-pip
WORKDIR /download
RUN apt-get download -o APT::Sandbox::User=root libonnxruntime-dev && dpkg -x libonnxruntime-dev_*.deb .
COPY requirements/native.txt requirements/native-cuda.txt ./
ARG DEVICE=cpu
# One folder for all libraries: ONNX Runtime looks for its providers beside itself, the linker's cache has the others.
# TensorRT's provider stays behind: TensorRT is not here. METADATA tells scanners of images which wheels they are from.
RUN case $DEVICE in cpu) set=native ;; cuda) set=native-cuda ;; *) echo "DEVICE is cpu or cuda" >&2; exit 2 ;; esac \
    && pip install --root-user-action=ignore --no-cache-dir --no-compile --no-deps --only-binary :all: \
      --require-hashes --target wheels -r $set.txt \
    && cd wheels && mkdir -p /ort/lib /ort/share/doc/onnxruntime \
    && rm -f onnxruntime/capi/libonnxruntime_providers_tensorrt.so \
    && mv $(find . -name 'lib*.so*') /ort/lib/ && ldconfig -n /ort/lib \
    && mv onnxruntime/LICENSE onnxruntime/ThirdPartyNotices.txt /ort/share/doc/onnxruntime/ \
    && for info in $(find . -maxdepth 1 -name 'nvidia_*.dist-info'); do \
         mkdir /ort/share/doc/${info%%-*} && cp $(find $info -iname 'licen*.txt') /ort/share/doc/${info%%-*}/ || exit; \
       done \
    && for info in *.dist-info; do mkdir /ort/share/doc/$info && cp $info/METADATA /ort/share/doc/$info/ || exit; done \
    && mv /download/usr/include /ort/ && rm -rf /download/wheels

FROM ${BASE} AS build
RUN find / -xdev -name 'lib*.so.*' -printf '%f\n' > /base-has
COPY deploy/native/packages.txt /
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive xargs apt-get install -y --no-install-recommends < /packages.txt
COPY --from=onnxruntime /ort/include /ort/include
COPY --from=onnxruntime /ort/lib/libonnxruntime.so.* /ort/lib/
COPY deploy/native /source
RUN cmake -S /source -B /build -DORT_ROOT=/ort --log-level=NOTICE \
    && cmake --build /build --parallel "$(nproc)" \
    && cmake --install /build --strip --prefix /program
COPY docker/libraries.sh /
# The licences of what is compiled in as well, and what dpkg knows.
RUN sh /libraries.sh /build/ort_infer /base-has libonnxruntime.so.1 /linked \
    && for package in libcli11-dev nlohmann-json3-dev; do \
         mkdir /linked/share/doc/$package && cp /usr/share/doc/$package/copyright /linked/share/doc/$package/ \
           && dpkg-query -s $package > /linked/status/$package || exit; \
       done

FROM ${BASE}
RUN useradd --uid 10001 --user-group --no-create-home --no-log-init --home-dir /work --shell /usr/sbin/nologin slipway
WORKDIR /work
# What changes least comes first: a new build of the program replaces its own layer only.
COPY --from=onnxruntime /ort/lib/ /usr/local/lib/
COPY --from=onnxruntime /ort/share/doc/ /usr/local/share/doc/
COPY --from=build /linked/lib/ /usr/local/lib/
COPY --from=build /linked/share/doc/ /usr/local/share/doc/
COPY --from=build /linked/status/ /var/lib/dpkg/status.d/
RUN ldconfig
COPY LICENSE /usr/local/share/doc/ort_infer/
COPY --from=build /program/bin/ort_infer /usr/local/bin/
# The driver's compute part is what NVIDIA's container runtime is asked for; it is of no effect without it.
ENV LANG=C.UTF-8 LC_ALL=C.UTF-8 NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
RUN ["ort_infer", "--version"]
ENTRYPOINT ["ort_infer"]
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="slipway-runtime" \
      org.opencontainers.image.description="ort_infer: predictions from a Slipway bundle, without Python" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}"
