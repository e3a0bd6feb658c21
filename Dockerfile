# The HTTP service on a CPU, its model inside:
#   docker build -t vidcap . && docker run --rm -p 127.0.0.1:8000:8000 vidcap
FROM python:3.12-slim AS build
WORKDIR /source
RUN python -m venv /opt/vidcap
COPY requirements-serve.lock ./
RUN /opt/vidcap/bin/pip install --no-cache-dir --require-hashes -r requirements-serve.lock
COPY pyproject.toml README.md LICENSE NOTICE ./
COPY video_captioning ./video_captioning
RUN /opt/vidcap/bin/pip install --no-cache-dir --no-deps .

FROM python:3.12-slim
COPY --from=build /opt/vidcap /opt/vidcap
RUN useradd --system --no-create-home --uid 10001 vidcap
USER 10001
ENV PATH=/opt/vidcap/bin:$PATH PYTHONDONTWRITEBYTECODE=1
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s \
  CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["vidcap", "serve", "--host", "0.0.0.0"]
