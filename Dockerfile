FROM python:3.11-slim
WORKDIR /app
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
ENTRYPOINT ["driftline"]
