"""`vidcap serve` under load, against the same captioner in this process.

Server, clients and the captioner share the same cores: what the clients need counts against the service.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection, HTTPException
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from benchmarks.caption import videos, whole
from benchmarks.report import Report, machine
from benchmarks.timing import confine, median_ratio
from video_captioning.captioner import Captioner
from video_captioning.errors import VidcapError

BARS = {"latency": 1.15, "throughput": 0.85, "memory": 1.1}
_BOUNDARY = "vidcap-benchmark"
_SECONDS = 300.0  # for one request


@dataclass(frozen=True)
class Server:
    """A running `vidcap serve`."""

    address: str
    process: int
    folder: Path
    """Where its uploads go."""

    def memory(self) -> float:
        """Resident, of the server and its decoders, 10⁶ bytes."""
        lists = Path(f"/proc/{self.process}/task").glob("*/children")  # one a thread that starts processes
        children = [child for children in lists for child in children.read_text().split()]
        return sum(resident(process) for process in (str(self.process), *children)) / 1e6

    def files(self) -> int:
        return sum(path.is_file() for path in self.folder.glob("vidcap-serve-*/*"))


@dataclass
class Load:
    """What many uploads found."""

    seconds: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    texts: list[str | None] = field(default_factory=list)
    """In the order of the uploads; None where there is no caption."""


def measure(folder: Path, model: str, threads: int, repeat: int, clients: int, uploads: int) -> Report:
    """Raises MediaError for a clip that cannot be captioned, VidcapError for a server that does not start."""
    paths = videos(folder)
    confine(threads)
    captioner = Captioner(model, threads=threads)
    bodies = [body(path) for path in paths]
    wanted = [caption.text for caption in whole(captioner.captions(paths))]
    with serving(model, threads) as server:
        load(server, list(islice(cycle(bodies), 4 * clients)), clients)  # warms up, to the largest batches
        single = latency(server, captioner, paths, bodies, repeat)
        crowd = throughput(server, captioner, paths, bodies, repeat, clients)
        before = server.memory()
        found = load(server, list(islice(cycle(bodies), uploads)), clients)
        after, left = server.memory(), server.files()
    differing = sum(text is not None and text != own for text, own in zip(found.texts, cycle(wanted), strict=False))
    busy = found.statuses[429] + found.statuses[503]
    row = {
        "clients": clients,
        "uploads": uploads,
        "captions": found.statuses[200],
        "differing": differing,
        "429 or 503": busy,
        "other answers": uploads - found.statuses[200] - busy,
        "MB before": before,
        "MB after": after,
        "ratio": after / before,
        "bar": BARS["memory"],
        "files left": left,
    }
    setting = {"clips": len(paths), "threads": threads, "rounds": repeat, "model": captioner.bundle.name, **machine()}
    return Report("serve", setting, ([single], [crowd], [row]))


def latency(
    server: Server, captioner: Captioner, paths: Sequence[Path], bodies: Sequence[bytes], repeat: int
) -> dict[str, Any]:
    """One client: each clip over HTTP and in this process, in turns."""
    service, local = [], []
    for _ in range(repeat):
        for path, content in zip(paths, bodies, strict=True):
            start = perf_counter()
            load(server, [content], 1)
            between = perf_counter()
            captioner(path)
            service.append(between - start)
            local.append(perf_counter() - between)
    return {
        "one clip, ms": "median",
        "service": 1000 * median(service),
        "in process": 1000 * median(local),
        "ratio": median_ratio(service, local),
        "bar": BARS["latency"],
    }


def throughput(
    server: Server, captioner: Captioner, paths: Sequence[Path], bodies: Sequence[bytes], repeat: int, clients: int
) -> dict[str, Any]:
    """All clips, over and over, by many clients and by `Captioner.captions`, in turns."""
    service, local = [], []
    rounds = -(-4 * clients // len(paths))  # long enough that beginning and end do not count
    for _ in range(repeat):
        service.append(load(server, [*bodies] * rounds, clients).seconds)
        start = perf_counter()
        list(whole(captioner.captions([*paths] * rounds)))
        local.append(perf_counter() - start)
    return {
        "clips/s": "median",
        "service": rounds * len(paths) / median(service),
        "in process": rounds * len(paths) / median(local),
        "ratio": median_ratio(local, service),
        "bar": BARS["throughput"],
    }


def body(path: Path) -> bytes:
    head = f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="{path.name}"\r\n\r\n'
    return head.encode() + path.read_bytes() + f"\r\n--{_BOUNDARY}--\r\n".encode()


def load(server: Server, bodies: Sequence[bytes], clients: int) -> Load:
    """Upload all, each client over a connection of its own, as fast as answers come."""
    found = Load()
    shares = [range(first, len(bodies), clients) for first in range(min(clients, len(bodies)))]
    start = perf_counter()
    with ThreadPoolExecutor(len(shares)) as pool:
        answered = dict(pair for pairs in pool.map(partial(upload, server, bodies), shares) for pair in pairs)
    found.seconds = perf_counter() - start
    for _, (status, text) in sorted(answered.items()):
        found.statuses[status] += 1
        found.texts.append(text)
    return found


def upload(server: Server, bodies: Sequence[bytes], share: Sequence[int]) -> list[tuple[int, tuple[int, str | None]]]:
    """(number, (status, text)) of each; status 0 for no answer at all."""
    headers = {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"}
    connection = HTTPConnection(urlsplit(server.address).netloc, timeout=_SECONDS)
    answers: list[tuple[int, tuple[int, str | None]]] = []
    for number in share:
        try:
            connection.request("POST", "/v1/captions", bodies[number], headers)
            response = connection.getresponse()
            content = json.loads(response.read())
            answers.append((number, (response.status, content.get("text"))))
        except (OSError, HTTPException, ValueError):
            connection.close()
            answers.append((number, (0, None)))
    connection.close()
    return answers


@contextmanager
def serving(model: str, threads: int) -> Iterator[Server]:
    """A server on a free port, with a folder of its own for uploads. Raises VidcapError where it does not start."""
    command = [sys.executable, "-m", "video_captioning", "serve", "--port", "0", "--model", model]
    with TemporaryDirectory() as folder:
        environment = {**os.environ, "TMPDIR": folder}
        process = subprocess.Popen(
            [*command, "--threads", str(threads)], stderr=subprocess.PIPE, env=environment, text=True
        )
        assert process.stderr
        try:
            address = next((json.loads(line)["address"] for line in process.stderr if '"address"' in line), None)
            if not address:
                raise VidcapError("vidcap serve does not start; try it by hand")
            with ThreadPoolExecutor(1) as reader:
                reader.submit(process.stderr.read)  # so that its log does not fill the pipe
                try:
                    yield Server(address, process.pid, Path(folder))
                finally:
                    process.terminate()
        finally:
            process.kill()
            process.wait()


def resident(process: str) -> int:
    """Bytes."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
