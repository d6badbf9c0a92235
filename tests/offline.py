"""Refuse connections that leave this machine, in a test process and in the kernels it starts."""

from __future__ import annotations

import ipaddress
import socket
import sys

LOOKUPS = ("socket.getaddrinfo", "socket.gethostbyname")
CONTACTS = ("socket.connect", "socket.sendto", "socket.sendmsg")


class OutsideConnection(ConnectionError):
    """Code under test wanted to leave the machine."""


def is_local(host: object) -> bool:
    """Whether a host name or address, as `socket` takes it, means this machine."""
    name = host.decode() if isinstance(host, bytes) else host
    if name in (None, "", "localhost", "0.0.0.0", "::", socket.gethostname()):
        return True
    try:
        return ipaddress.ip_address(str(name).partition("%")[0]).is_loopback
    except ValueError:
        return False


def guard(event: str, arguments: tuple) -> None:
    """Audit hook: raise before a name is looked up or an address contacted outside this machine."""
    if event in LOOKUPS:
        host = arguments[0]
    elif event in CONTACTS and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    else:
        return
    if not is_local(host):
        raise OutsideConnection(f"{host}: the tests run without a network; use a local file or server instead")


def block() -> None:
    """Install the guard for the rest of this process; it cannot be taken off."""
    sys.addaudithook(guard)
