# The image of docker-compose.yaml: Airflow, the provider's built wheel, the sandbox; every package from the hashed lock.
FROM python:3.12-slim-bookworm AS wheel
WORKDIR /src
COPY requirements/bootstrap.txt requirements/fleet.txt requirements/
RUN pip install --no-cache-dir --require-hashes -r requirements/bootstrap.txt \
    && uv venv /opt/venv \
    && uv pip install --no-cache --python /opt/venv/bin/python --require-hashes -r requirements/fleet.txt
COPY pyproject.toml README.md LICENSE ./
COPY airflow_provider_redox airflow_provider_redox
RUN uv build --wheel --no-build-isolation --python /opt/venv/bin/python --out-dir /dist \
    && uv pip install --no-cache --python /opt/venv/bin/python --no-deps /dist/*.whl

FROM python:3.12-slim-bookworm
COPY --from=wheel /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH AIRFLOW_HOME=/opt/airflow PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
RUN useradd --uid 50000 --gid 0 --home-dir /opt/airflow airflow \
    && mkdir -p /opt/airflow/dags /opt/airflow/logs \
    && chown -R airflow:0 /opt/airflow
USER 50000:0
WORKDIR /opt/airflow
CMD ["airflow", "version"]
