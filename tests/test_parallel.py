"""How many cores may be used."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from video_captioning.parallel import available_cores, quota


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    ("files", "membership", "expected"),
    [
        ({"cpu.max": "200000 100000"}, "0::/", 2.0),
        ({"cpu.max": "max 100000"}, "0::/", math.inf),
        ({"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b", 0.5),
        ({"a/cpu.max": "400000 100000", "a/b/cpu.max": "150000 100000"}, "0::/a/b", 1.5),
        ({"cpu/cpu.cfs_quota_us": "300000", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/\n0::/", 3.0),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, "3:cpu,cpuacct:/", math.inf),
        ({"cpuset/cpu.cfs_quota_us": "1", "cpuset/cpu.cfs_period_us": "1"}, "3:cpuset:/", math.inf),
        ({"cpu.max": "damaged"}, "0::/", math.inf),
        ({}, "nothing that is known", math.inf),
    ],
)
def test_the_least_quota_of_all_groups(files: dict[str, str], membership: str, expected: float, tmp_path: Path) -> None:
    root = tmp_path / "cgroup"
    for name, text in files.items():
        write(root / name, text + "\n")
    write(tmp_path / "membership", membership + "\n")
    assert quota(tmp_path / "membership", root) == expected


def test_no_groups_no_quota(tmp_path: Path) -> None:
    assert quota(tmp_path / "missing", tmp_path) == math.inf
    assert available_cores() >= 1
