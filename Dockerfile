# The image of code location, webserver, daemon, runs and steps. Build it from the project's folder:
#
#   docker build --build-arg VARIANT=cpu --build-arg TORCH_INDEX=<URL> --tag <registry>/views-dagster:<version>-cpu .
#   docker build --build-arg VARIANT=gpu --tag <registry>/views-dagster:<version>-gpu .
#
# TORCH_INDEX is PyTorch's index of CPU builds; without one, torch comes as the default index offers it, on Linux with CUDA.
# PyTorch names further indexes for other releases of CUDA. A build whose torch is not of the variant it asks for fails.
# A GPU's driver comes from the node. To pin the base by digest, pass what `docker buildx imagetools inspect` prints of it:
#   --build-arg BASE=python:3.11.13-slim-bookworm@sha256:<digest>
ARG BASE=python:3.11.13-slim-bookworm

FROM ${BASE} AS packages
ARG TORCH_INDEX=""
ARG VARIANT=cpu
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:${PATH}
WORKDIR /build
COPY pyproject.toml requirements.lock ./
# What the project needs, without its tools of development, at the versions of the lock.
RUN python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['project']['dependencies'], sep='\n')" \
      > needed.txt \
    && PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" pip install --requirement needed.txt --constraint requirements.lock
RUN python -c "import sys, torch; sys.exit(0 if bool(torch.version.cuda) == (sys.argv[1] == 'gpu') else f'torch {torch.__version__} is not of variant {sys.argv[1]}: see TORCH_INDEX')" "${VARIANT}"

FROM ${BASE}
# LightGBM's and scikit-learn's threads, as the base's release of Debian has them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 views \
    && useradd --uid 10001 --gid views --no-create-home --home-dir /tmp --shell /usr/sbin/nologin views
COPY --from=packages /opt/venv /opt/venv
WORKDIR /opt/views
COPY pyproject.toml workspace.yaml ./
COPY views_dagster views_dagster
COPY assets assets
COPY resources resources
ENV PATH=/opt/venv/bin:${PATH} \
    PYTHONPATH=/opt/views \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    GIT_PYTHON_REFRESH=quiet \
    DAGSTER_HOME=/opt/dagster/dagster_home \
    DAGSTER_CLI_ASSET_MATERIALIZE_MODULE_NAME=views_dagster.definitions \
    DAGSTER_CLI_ASSET_LIST_MODULE_NAME=views_dagster.definitions \
    DAGSTER_DISABLE_TELEMETRY=yes \
    MLFLOW_DISABLE_TELEMETRY=true \
    VIEWS_HOME=/var/lib/views \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN python -m compileall -q views_dagster assets resources \
    && mkdir -p "${DAGSTER_HOME}" "${VIEWS_HOME}" \
    && chown views:views "${VIEWS_HOME}"
USER 10001:10001
EXPOSE 4000
CMD ["dagster", "code-server", "start", "-m", "views_dagster.definitions", "-h", "0.0.0.0", "-p", "4000"]
