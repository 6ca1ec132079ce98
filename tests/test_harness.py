"""The promises of conftest.py: they hold for every other test."""

import os
import socket

import pytest


@pytest.mark.parametrize("method", ["connect", "connect_ex"])
def test_network_is_refused(method):
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as inet,
        pytest.raises(pytest.fail.Exception, match="reach the network"),
    ):
        getattr(inet, method)(("127.0.0.1", 9))


def test_datagrams_are_refused():
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as inet,
        pytest.raises(pytest.fail.Exception, match="reach the network"),
    ):
        inet.sendto(b"", ("127.0.0.1", 9))


def test_names_are_not_looked_up():
    with pytest.raises(pytest.fail.Exception, match="look up a host"):
        socket.getaddrinfo("localhost", 80)


def test_sockets_of_this_machine_still_work():
    left, right = socket.socketpair()
    with left, right:
        left.sendall(b"x")
        assert right.recv(1) == b"x"


def test_environment_is_scrubbed():
    ours = {name: value for name, value in os.environ.items() if name.startswith(("SEMS", "HF_"))}
    own = ["HF_HOME", "HF_HUB_OFFLINE", "SEMSEARCH_CACHE", "SEMSEARCH_MIN_FREE"]
    assert sorted(ours) == own
    assert ours["HF_HUB_OFFLINE"] == "1"
    assert ours["SEMSEARCH_MIN_FREE"] == "0"
    assert os.environ["NO_COLOR"] == "1"
    assert "semsearch-tests-" in ours["SEMSEARCH_CACHE"]
