"""What a run measures is in one file and in MLflow, whatever happens to the run, the server or the network."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hydra import compose, initialize_config_module
from lightning.pytorch.callbacks import Callback

from tests.training.watched import BATCHES, Stop, Watched, fit, heard
from video_captioning.errors import ConfigError, OutputError
from video_captioning.training import tracking
from video_captioning.training.record import read

CONFIG = {"seed": 1, "training": {"max_epochs": 2, "precision": "32-true"}}


class Server(ThreadingHTTPServer):
    """As much of an MLflow server as a run talks to, in memory."""

    daemon_threads = True

    def __init__(self, artifacts: Path, port: int = 0, runs: dict[str, Any] | None = None) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.artifacts = artifacts
        self.runs: dict[str, Any] = {} if runs is None else runs
        self.broken = False
        self.asked = 0
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def stop(self) -> None:
        self.shutdown()
        self.server_close()

    def answer(self, action: str, asked: dict[str, Any]) -> dict[str, Any]:
        run = self.runs.get(asked.get("run_id", ""))
        match action:
            case "experiments/get-by-name":
                return {"experiment": {"experiment_id": "7", "name": "vidcap", "lifecycle_stage": "active"}}
            case "runs/create":
                name = f"run{len(self.runs)}"
                place = str(self.artifacts / name)
                info = {"run_id": name, "status": "RUNNING", "lifecycle_stage": "active", "artifact_uri": place}
                self.runs[name] = {"info": info, "data": {"metrics": [], "params": [], "tags": []}}
                return {"run": self.runs[name]}
            case "runs/get" if run:
                return {"run": run}
            case "runs/update" if run:
                run["info"]["status"] = asked.get("status", run["info"]["status"])
                return {"run_info": run["info"]}
            case "runs/log-batch" if run:
                for kind in ("metrics", "params", "tags"):
                    run["data"][kind] += asked.get(kind, [])
                return {}
            case "runs/set-tag" if run:
                run["data"]["tags"].append({"key": asked["key"], "value": asked["value"]})
                return {}
            case "metrics/get-history" if run:
                return {
                    "metrics": [metric for metric in run["data"]["metrics"] if metric["key"] == asked["metric_key"]]
                }
        raise KeyError(action)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.reply({name: value for name, [value] in parse_qs(urlsplit(self.path).query).items()})

    def do_POST(self) -> None:
        self.reply(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

    def reply(self, asked: dict[str, Any]) -> None:
        self.server.asked += 1
        try:
            answer = self.server.answer(urlsplit(self.path).path.partition("/mlflow/")[2], asked)
            status = 500 if self.server.broken else 200
        except KeyError:
            answer, status = {"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "no such thing"}, 404
        body = b"<h1>out of order</h1>" if status == 500 else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "artifacts")
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "OFTEN", 0.0)
    monkeypatch.setattr(tracking, "PATIENCE", 0.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A database is made once: it takes seconds."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow')}/new/mlflow.db"


def start(
    out: Path, uri: str, *callbacks: Callback, epochs: int = 2, config: dict[str, Any] = CONFIG, name: str | None = None
) -> list[str]:
    """Train in `out`; returns what was said of it. A run that `Stop` stops is no error."""
    options = {"name": "mlflow", "tracking_uri": uri, "experiment": "vidcap", "run_name": name}
    with heard() as said:
        logger = tracking.tracker(options, out, config, {"commit": "0a1b", "data": None})
        try:
            fit(out, logger, *callbacks, epochs=epochs, logger=logger)
        except KeyError as stopped:
            assert stopped.args == ("stopped",)
    return said


def measured(out: Path) -> list[dict[str, Any]]:
    return [{name: value for name, value in row.items() if name != "time"} for row in read(out)]


def points(rows: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(row["step"], row[name]) for row in rows if name in row]


def history(run: dict[str, Any], name: str) -> list[tuple[int, float]]:
    return [(int(one["step"]), one["value"]) for one in run["data"]["metrics"] if one["key"] == name]


@pytest.mark.slow
def test_a_run_in_a_database(tmp_path: Path, store: str) -> None:
    from mlflow import MlflowClient

    out = tmp_path / "mine"
    (out / "plots").mkdir(parents=True)
    (out / "plots" / "loss.png").write_bytes(b"png")
    (out / "samples.html").write_text("page")
    assert start(out, store) == []
    client = MlflowClient(store)
    run = client.get_run(json.loads((out / "mlflow.json").read_text())[store])
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert run.data.params == {"seed": "1", "training.max_epochs": "2", "training.precision": "32-true"}
    assert run.data.tags["commit"] == "0a1b"
    assert "data" not in run.data.tags
    assert run.data.tags["best_checkpoint"] == str(out / "best.ckpt")
    rows = measured(out)
    assert [step for step, _ in points(rows, "loss")] == list(range(2 * BATCHES))
    assert [step for step, _ in points(rows, "val_cider")] == [BATCHES - 1, 2 * BATCHES - 1]
    for name in ("loss", "reward", "val_loss", "val_cider", "lr-SGD"):
        kept = client.get_metric_history(run.info.run_id, name)
        assert [(metric.step, metric.value) for metric in kept] == points(rows, name)
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"plots", "samples.html"}
    assert not list(out.glob("**/*.part"))


@pytest.mark.slow
def test_a_resumed_run_is_the_same_run(tmp_path: Path, store: str, server: Server) -> None:
    from mlflow import MlflowClient

    start(tmp_path / "whole", store, epochs=3)
    out = tmp_path / "stopped"
    start(out, store, Stop(epoch=2, batch=1), epochs=3)
    ids = json.loads((out / "mlflow.json").read_text())
    client = MlflowClient(store)
    assert client.get_run(ids[store]).info.status == "FAILED"
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "lo')  # as a kill leaves it
    assert len(measured(out)) > len([row for row in measured(out) if row["step"] < 2 * BATCHES]), "it was further on"
    start(out, store, epochs=3, config=CONFIG | {"seed": 2, "new": [1]})
    assert measured(out) == measured(tmp_path / "whole")
    assert json.loads((out / "mlflow.json").read_text()) == ids
    run = client.get_run(ids[store])
    assert run.info.status == "FINISHED"
    assert (run.data.params["seed"], run.data.tags["resumed.seed"], run.data.params["new"]) == ("1", "2", "[1]")
    for name in ("loss", "val_loss"):
        kept = client.get_metric_history(ids[store], name)
        assert [(metric.step, metric.value) for metric in kept] == points(measured(out), name), "none twice"
    start(out, server.uri, epochs=4)
    assert history(server.runs["run0"], "loss") == points(measured(out), "loss"), "another server gets all of it"


def test_a_finished_run_that_is_started_again_is_left_alone(tmp_path: Path, server: Server) -> None:
    start(tmp_path, server.uri)
    before, asked = (tmp_path / "metrics.jsonl").read_bytes(), server.asked
    assert asked > 0
    start(tmp_path, server.uri)
    assert (tmp_path / "metrics.jsonl").read_bytes() == before
    assert server.asked == asked


def test_a_server(tmp_path: Path, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    assert start(tmp_path / "mine", server.uri) == []
    assert capfd.readouterr().out == "", "stdout is for results"
    run = server.runs["run0"]
    assert run["info"]["status"] == "FINISHED"
    for name in ("loss", "val_cider"):
        assert history(run, name) == points(measured(tmp_path / "mine"), name)


def test_a_run_that_the_server_has_no_more_is_made_anew(tmp_path: Path, server: Server) -> None:
    start(tmp_path, server.uri, epochs=1)
    server.runs.clear()
    assert start(tmp_path, server.uri, epochs=2) == []
    assert history(server.runs["run0"], "loss") == points(measured(tmp_path), "loss")


def nothing_listens() -> str:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}"


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        (nothing_listens(), "Connection refused"),
        ("http://no such host", ""),
        ("http://vidcap.invalid:8080", ""),
        ("sqlite:///{folder}/text", "file is not a database"),
        ("sqlite:///{folder}/text/mlflow.db", "File exists|Not a directory"),
    ],
)
def test_a_store_that_cannot_be_reached_is_one_warning(tmp_path: Path, uri: str, why: str) -> None:
    (tmp_path / "text").write_text("no database, but long enough to be one" * 10)
    uri = uri.format(folder=tmp_path)
    [warning] = start(tmp_path / "run", uri)
    assert "\n" not in warning
    assert warning.startswith(f"MLflow at {uri} cannot be reached (")
    assert warning.endswith(f"); training goes on, and its metrics are in {tmp_path}/run/metrics.jsonl")
    assert re.search(why, warning)
    assert len(points(measured(tmp_path / "run"), "loss")) == 2 * BATCHES


def test_a_server_that_answers_500(tmp_path: Path, server: Server) -> None:
    server.broken = True
    [warning] = start(tmp_path, server.uri)
    assert "500" in warning
    assert len(points(measured(tmp_path), "loss")) == 2 * BATCHES


def test_a_server_that_never_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 1e9)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        [warning] = start(tmp_path, f"http://127.0.0.1:{silent.getsockname()[1]}")
    assert "timed out" in warning
    assert len(points(measured(tmp_path), "loss")) == 2 * BATCHES


class Outage(Callback):
    """The server is down from the end of the first epoch on, and up again after the third."""

    def __init__(self, server: Server, comes_back: bool) -> None:
        self.servers = [server]
        self.comes_back = comes_back

    def on_train_epoch_end(self, trainer: Any, module: Any) -> None:
        server = self.servers[-1]
        if trainer.current_epoch == 0:
            server.stop()
        if trainer.current_epoch == 2 and self.comes_back:
            self.servers.append(Server(server.artifacts, server.server_port, server.runs))


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_server_that_dies_in_the_middle(tmp_path: Path, comes_back: bool) -> None:
    server = Server(tmp_path / "artifacts")
    outage = Outage(server, comes_back)
    [warning] = start(tmp_path, server.uri, outage, epochs=4)
    assert "Connection refused" in warning
    loss = points(measured(tmp_path), "loss")
    assert len(loss) == 4 * BATCHES
    run = server.runs["run0"]
    if comes_back:
        outage.servers[-1].stop()
        assert history(run, "loss") == loss, "it gets what it missed, and nothing twice"
        assert run["info"]["status"] == "FINISHED"
    else:
        assert history(run, "loss") == loss[:BATCHES]
        assert run["info"]["status"] == "RUNNING"


def test_a_failure_is_not_tried_again_at_once(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "PATIENCE", 1e9)
    server.broken = True
    start(tmp_path, server.uri, epochs=3)
    assert server.asked == 2, "at the first step and at the end"


def test_without_mlflow(tmp_path: Path) -> None:
    with initialize_config_module("video_captioning.configs", version_base="1.3"):
        options = compose("logging/none").logging
    logger = tracking.tracker(options, tmp_path, CONFIG, {})
    fit(tmp_path, logger, logger=logger)
    assert len(points(measured(tmp_path), "loss")) == 2 * BATCHES
    assert not (tmp_path / "mlflow.json").exists()


def test_the_usual_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with initialize_config_module("video_captioning.configs", version_base="1.3"):
        options = compose("logging/mlflow").logging
    assert options.tracking_uri == "sqlite:///runs/mlflow.db"
    monkeypatch.setattr("video_captioning.training.mlflow_run.MlflowRun.send", lambda *_: None)
    assert tracking.tracker(options, tmp_path, CONFIG, {}).name == tmp_path.name


@pytest.mark.parametrize("uri", ["127.0.0.1:8080", "ftp://host", "runs/mlflow.db", ""])
def test_an_address_that_is_none(tmp_path: Path, uri: str) -> None:
    with pytest.raises(ConfigError, match=r"logging\.tracking_uri must be like http://HOST:PORT .*, not"):
        start(tmp_path, uri)


class Diverging(Watched):
    def training_step(self, batch: Any, index: int) -> Any:
        self.log("loss", float("nan") if index else float("inf"))


def test_a_number_that_is_none_is_null(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.training.watched.Watched", Diverging)
    assert start(tmp_path, server.uri, epochs=1) == []
    assert {value for _, value in points(measured(tmp_path), "loss")} == {None}
    assert '"loss": null' in (tmp_path / "metrics.jsonl").read_text()
    assert history(server.runs["run0"], "loss") == []


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(OutputError, match=r"metrics\.jsonl: cannot be written \(Is a directory\); make room"):
        start(tmp_path, nothing_listens())
