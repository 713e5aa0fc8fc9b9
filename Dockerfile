# The main job in a container, as an unprivileged user. CLUSTER.md says how to build it for a GPU.
#
#   docker build -t text23d .
#   docker run --rm -v "$PWD:/data" --user "$(id -u):$(id -g)" text23d run prompt="a red car"
#
# BUILD compiles, BASE runs; both bring Python 3.10 or later, or a Debian or Ubuntu to install it from.
ARG BASE=python:3.11-slim
ARG BUILD=${BASE}

FROM ${BUILD} AS build
# Where torch comes from: its builds for CPUs are small. https://pypi.org/simple has those for CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Compute capabilities of the GPUs, where BUILD has CUDA's nvcc.
ARG TEXT23D_CUDA_ARCH="80 86 89 90"
# Optional packages, as in [hub,tensorboard].
ARG EXTRAS=""
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ $(python3 -c "import ensurepip" 2> /dev/null || echo python3 python3-venv) \
    && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/text23d \
    && /opt/text23d/bin/pip install --no-cache-dir --index-url "${TORCH_INDEX}" "torch>=2.11,<2.14"
COPY . /src
RUN /opt/text23d/bin/pip install --no-cache-dir "/src${EXTRAS}"

FROM ${BASE}
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgomp1 $(command -v python3 > /dev/null || echo python3) \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -m 1777 /data /home/text23d
COPY --from=build /opt/text23d /opt/text23d
# Any user may run it: the home can be written to by all, and the name is told where /etc/passwd has none.
ENV PATH=/opt/text23d/bin:${PATH} HOME=/home/text23d USER=text23d OMP_WAIT_POLICY=passive PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /data
VOLUME /data
ENTRYPOINT ["text23d"]
CMD ["--help"]
