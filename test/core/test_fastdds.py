"""The profile that fits into shared memory, what is said where none does, and a domain of one's own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from argus_ros.core import domain, fastdds

MB = 1 << 20
CONFIG = Path(__file__).parent.parent.parent / "config"


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*fastdds.PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS", "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


@pytest.mark.parametrize(
    ("free", "profile", "said"),
    [
        (2048, "fastdds_large_images.xml", ""),
        (192, "fastdds_large_images.xml", ""),
        (191, "fastdds_small_memory.xml", ""),
        (64, "fastdds_small_memory.xml", ""),  # a container's, unless it is told otherwise
        (4, "fastdds_small_memory.xml", "has 4 MB free and .*takes 8 MB.*--shm-size=512m or --ipc=host"),
    ],
)
def test_a_warning_is_given_where_the_segment_does_not_fit(
    memory: pytest.MonkeyPatch, free: int, profile: str, said: str
) -> None:
    memory.setattr(fastdds, "free_memory", lambda: free * MB)
    environment = fastdds.with_large_images({})
    assert {Path(environment[name]).name for name in fastdds.PROFILE_VARIABLES} == {profile}
    trouble = fastdds.short_of_memory(environment)
    assert re.fullmatch(f".*{said}.*" if said else "", trouble)


def test_a_profile_that_was_chosen_stays_and_is_checked(memory: pytest.MonkeyPatch) -> None:
    memory.setattr(fastdds, "free_memory", lambda: 60 * MB)
    chosen = {"FASTRTPS_DEFAULT_PROFILES_FILE": str(CONFIG / "fastdds_large_images.xml")}
    assert fastdds.with_large_images(chosen) == chosen
    assert "takes 64 MB" in fastdds.short_of_memory(chosen)
    assert not fastdds.short_of_memory(chosen | {"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"})
    assert not fastdds.short_of_memory({"FASTRTPS_DEFAULT_PROFILES_FILE": "/nowhere"})


def test_ports_of_other_users_are_found_by_domain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("fastrtps_port29411", "fastdds_port29413", "fastrtps_port29411_el", "fastrtps_8566fee48d"):
        (tmp_path / name).touch()
    assert fastdds.other_users(88, tmp_path) == ()
    own = os.geteuid()
    monkeypatch.setattr(fastdds.os, "geteuid", lambda: own + 1)
    assert fastdds.other_users(88, tmp_path) == (fastdds.user_name(own),)
    assert fastdds.other_users(87, tmp_path) == ()
    assert fastdds.other_users(88, tmp_path / "none") == ()
    assert fastdds.user_name(4_000_000_001) == "uid 4000000001"


def test_the_profiles_differ_in_their_size_alone() -> None:
    large, small = ((CONFIG / name).read_text().split("<profiles>")[1] for name in fastdds.PROFILES)
    names = small.replace("small_shm", "large_shm").replace("small_memory", "large_images")
    assert names.replace(str(8 * MB), str(64 * MB)) == large


def test_a_claimed_domain_is_not_given_twice() -> None:
    claims = [domain.claim() for _ in range(5)]
    assert len({number for _, number in claims}) == 5
    held = ",".join(str(number) for _, number in claims)
    code = f"from argus_ros.core import domain; assert domain.claim()[1] not in [{held}]"
    try:
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    finally:
        for claim, _ in claims:
            claim.close()


def test_a_domain_in_which_a_node_runs_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    claim, number = domain.claim()
    with claim, domain.socket.socket(domain.socket.AF_INET, domain.socket.SOCK_DGRAM) as node:
        node.bind(("", 7410 + 250 * number))  # as the first participant of the domain does
    # both are closed: the domain is free again, and the only one that may be given
    monkeypatch.setattr(domain, "DOMAINS", range(number, number + 1))
    with domain.socket.socket(domain.socket.AF_INET, domain.socket.SOCK_DGRAM) as node:
        node.bind(("", 7410 + 250 * number))
        with pytest.raises(domain.DomainError):
            domain.claim()
    domain.claim()[0].close()
