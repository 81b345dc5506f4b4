FROM python:3.11-slim AS build
WORKDIR /src
RUN python -m venv /opt/driftline
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN /opt/driftline/bin/pip install --no-cache-dir -r requirements.lock
COPY driftline driftline
COPY streams streams
COPY features features
COPY online_models online_models
COPY infra infra
COPY examples examples
COPY bench bench
RUN /opt/driftline/bin/pip install --no-cache-dir --no-deps .

FROM python:3.11-slim
# Kafka's image has the same user id, so that both may read the secrets that are meant for both
RUN useradd --uid 1000 --create-home driftline && install -d -o driftline -g driftline /data
COPY --from=build /opt/driftline /opt/driftline
ENV PATH=/opt/driftline/bin:$PATH PYTHONUNBUFFERED=1 DRIFTLINE_HOME=/data
# where a case of one's own is put; not in /src, whose folders would shadow what is installed
WORKDIR /app
USER driftline
ENTRYPOINT ["driftline"]
