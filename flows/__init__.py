"""When things run: Prefect flows over the DVC graph, schedules, promotion."""

import os

# Prefect, DVC and MLflow read these when they are imported; DO_NOT_TRACK alone does not stop Prefect's server.
for _name, _value in {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # Prefect's own 20 s are too few where the machine is busy.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "1",
}.items():
    os.environ.setdefault(_name, _value)
