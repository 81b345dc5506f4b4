FROM python:3.11-slim
WORKDIR /src
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN pip install --no-cache-dir -r requirements.lock
COPY driftline driftline
COPY streams streams
COPY features features
COPY online_models online_models
COPY infra infra
COPY examples examples
COPY bench bench
RUN pip install --no-cache-dir --no-deps .
# where a case of one's own is put; not in /src, whose folders would shadow what is installed
WORKDIR /app
ENTRYPOINT ["driftline"]
