"""The network guard of the test process; the kernels' is proved in test_nbval.py."""

import socket
import urllib.request

import pytest

from tests.offline import OutsideConnection, is_local


def send_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("192.0.2.1", 53))


@pytest.mark.parametrize(
    "contact",
    [
        lambda: socket.create_connection(("192.0.2.1", 80), timeout=1),
        lambda: socket.create_connection(("example.org", 80), timeout=1),
        lambda: socket.gethostbyname("example.org"),
        send_datagram,
        lambda: urllib.request.build_opener(urllib.request.ProxyHandler({})).open("http://192.0.2.1/", timeout=1),
    ],
)
def test_outside_raises(contact):
    with pytest.raises(OSError) as caught:
        contact()
    assert isinstance(getattr(caught.value, "reason", caught.value), OutsideConnection)


def test_this_machine_answers():
    with socket.create_server(("localhost", 0)) as server:
        host, port = server.getsockname()
        socket.create_connection((host, port), timeout=5).close()
        socket.create_connection(("localhost", port), timeout=5).close()


@pytest.mark.parametrize(
    "host", [None, "", "localhost", b"localhost", "127.0.0.1", "127.8.9.1", "::1", "::1%lo", "0.0.0.0"]
)
def test_local(host):
    assert is_local(host)


@pytest.mark.parametrize(
    "host", ["192.0.2.1", "10.0.0.1", "169.254.1.1", "example.org", "localhost.example.org", "2001:db8::1"]
)
def test_not_local(host):
    assert not is_local(host)
