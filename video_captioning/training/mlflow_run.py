"""A run as MLflow keeps it: configuration, tags, metrics and, at the end, what there is to look at."""

from __future__ import annotations

import json
import logging
import os
import re
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from video_captioning.errors import ConfigError
from video_captioning.files import write_whole
from video_captioning.training.configure import leaves
from video_captioning.training.record import RESUME, Row

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

ADDRESS = re.compile(r"(https?|sqlite|postgresql|mysql|mssql)(\+\w+)?://.+")
SQLITE = "sqlite:///"
LONGEST = 500
"""Characters of a parameter that every MLflow server takes."""
SETTINGS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # it would try for minutes, and training waits
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",  # seconds
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""MLflow's own, where the environment does not say otherwise."""


@dataclass
class Connection:
    """What is known of a run while it can be reached."""

    client: MlflowClient
    run: str
    """MLflow's id."""
    there: set[tuple[str, int, float]]
    """Names, steps and values of the metrics that were there before."""
    sent: int = 0
    """Rows that are there by now."""


class MlflowRun:
    """One run, in a database or behind a server.

    It is found again by the id that OUT/mlflow.json keeps for each address. After an error the next message connects
    anew and brings what is missing. Any class of MLflow's, the database's or the network's errors can be raised by
    `send` and `finish`.

    Raises:
        ConfigError: on making it, with an address that is none.
    """

    def __init__(
        self, options: Mapping[str, Any], out: Path, config: dict[str, Any], tags: Mapping[str, str | None]
    ) -> None:
        self.uri = str(options["tracking_uri"])
        if not ADDRESS.fullmatch(self.uri):
            ways = "http://HOST:PORT for a server or sqlite:///FILE"
            raise ConfigError(f"logging.tracking_uri must be like {ways}, not {self.uri}")
        self.experiment = str(options["experiment"])
        self.name = options["run_name"] or out.name
        self.out = out
        self.parameters = {name: str(value)[:LONGEST] for name, value in leaves(config).items()}
        self.tags = {name: value for name, value in tags.items() if value is not None}
        self.connection: Connection | None = None

    def send(self, rows: Sequence[Row]) -> None:
        """Bring the metrics that MLflow lacks: a resumed run measures some steps a second time."""
        from mlflow.entities import Metric

        to, self.connection = self.connection or self.connect(), None  # forgotten, should this fail
        metrics = [
            Metric(name, value, int(row["time"] * 1000), row["step"])
            for row in rows[to.sent :]
            for name, value in row.items()
            if name not in ("step", "time") and value is not None and (name, row["step"], value) not in to.there
        ]
        for some in batches(metrics, 1000):
            to.client.log_batch(to.run, metrics=some)
        to.sent, self.connection = len(rows), to

    def finish(self, rows: Sequence[Row], success: bool, best: str | None) -> None:
        """Bring the rest, with the plots, the page of samples and the name of the best checkpoint."""
        self.send(rows)
        assert self.connection is not None
        client, run = self.connection.client, self.connection.run
        if best:
            client.set_tag(run, "best_checkpoint", best)
        client.set_terminated(run, "FINISHED" if success else "FAILED")
        for path in [*sorted((self.out / "plots").glob("*.png")), self.out / "samples.html"]:
            if path.exists():
                client.log_artifact(run, str(path), "plots" if path.suffix == ".png" else None)

    def connect(self) -> Connection:
        for name, value in SETTINGS.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)  # it tells of the tables that it makes
        if self.uri.startswith(SQLITE):
            prepare(database(self.uri))
        client = MlflowClient(self.uri)
        run = self.find(client) or self.create(client)
        self.describe(client, run)
        histories = [client.get_metric_history(run.info.run_id, name) for name in run.data.metrics]
        there = {(metric.key, metric.step, metric.value) for history in histories for metric in history}
        return Connection(client, run.info.run_id, there)

    def describe(self, client: MlflowClient, run: Run) -> None:
        """Parameters are for ever in MLflow; a run that goes on with other ones says so in tags."""
        from mlflow.entities import Param, RunTag

        known = run.data.params
        new = [Param(name, value) for name, value in self.parameters.items() if name not in known]
        changed = {f"resumed.{name}": v for name, v in self.parameters.items() if known.get(name, v) != v}
        for some in batches(new, 100):
            client.log_batch(run.info.run_id, params=some)
        client.log_batch(run.info.run_id, tags=[RunTag(name, v) for name, v in (self.tags | changed).items()])

    def find(self, client: MlflowClient) -> Run | None:
        """The run of this folder, told that it goes on; None if MLflow has it no more."""
        from mlflow.exceptions import MlflowException

        known = self.ids().get(self.uri)
        if known is None:
            return None
        try:
            run = client.get_run(known)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
        if run.info.lifecycle_stage != "active":
            return None
        client.update_run(known, status="RUNNING")
        return run

    def create(self, client: MlflowClient) -> Run:
        experiment = client.get_experiment_by_name(self.experiment)
        if experiment is not None:
            number = experiment.experiment_id
        else:
            local = self.uri.startswith(SQLITE)  # a server has a place of its own
            place = str(database(self.uri).absolute().with_suffix("")) if local else None
            number = client.create_experiment(self.experiment, artifact_location=place)
        run = client.create_run(number, run_name=self.name)
        write_whole(self.out / "mlflow.json", json.dumps(self.ids() | {self.uri: run.info.run_id}, indent=2), RESUME)
        return run

    def ids(self) -> dict[str, str]:
        path = self.out / "mlflow.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}


def database(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE).partition("?")[0])


def prepare(path: Path) -> None:
    """Make the folder, and fail at once where MLflow would try for minutes. Raises OSError, sqlite3.Error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("BEGIN IMMEDIATE")


def batches(values: list[Any], size: int) -> list[list[Any]]:
    return [values[at : at + size] for at in range(0, len(values), size)]
