FROM python:3.13-slim AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY oipserver oipserver
COPY runtimes runtimes

# The environment has no pip of its own, and all modules are compiled here: at run time nothing is written.
RUN pip wheel --no-deps --wheel-dir /dist . \
    && python -m venv --without-pip /opt/oipserver \
    && pip --python /opt/oipserver/bin/python install "$(echo /dist/*.whl)[all]"


FROM python:3.13-slim

COPY --from=build /opt/oipserver /opt/oipserver

# HOME is the one directory that is writable for every user when /tmp is mounted, and nothing needs it.
ENV PATH=/opt/oipserver/bin:$PATH \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    OIPSERVER_HOST=0.0.0.0

# A number, because `runAsNonRoot` cannot check a name; any other user works as well.
USER 65532:65532
EXPOSE 8080 8081
STOPSIGNAL SIGTERM

# Without a proxy, whatever the environment says: the question is about this container.
HEALTHCHECK --interval=10s --timeout=3s --start-period=30s CMD ["python", "-c", "import os, urllib.request as r; r.build_opener(r.ProxyHandler({})).open('http://127.0.0.1:' + os.environ.get('OIPSERVER_HTTP_PORT', '8080') + '/v2/health/live', timeout=2)"]

ENTRYPOINT ["oipserver"]
