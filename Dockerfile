# One image for migrate, relay, worker and flower. Machines of your own: build FROM it, copy them to /app, and name them
# in FSM_MACHINES.

FROM python:3.13-slim AS build
WORKDIR /src
RUN python -m venv /opt/fsm
# Before the source, so that a change of the source does not install everything anew.
COPY requirements.prod.lock ./
RUN /opt/fsm/bin/pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.prod.lock
COPY pyproject.toml README.md LICENSE ./
COPY fsm_core ./fsm_core
COPY workers ./workers
COPY migrations ./migrations
RUN /opt/fsm/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation .

FROM python:3.13-slim
RUN useradd --system --uid 10001 --user-group --no-create-home --home-dir /app fsm
WORKDIR /app
COPY --from=build /opt/fsm /opt/fsm
COPY celeryconfig.py ./
COPY examples ./examples
ENV PATH=/opt/fsm/bin:$PATH \
    PYTHONPATH=/app \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER fsm
CMD ["fsm", "--help"]
