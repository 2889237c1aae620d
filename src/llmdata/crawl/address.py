"""Which network addresses a crawl may connect to.

A page on the web may link to, redirect to, or have a name that resolves to the router, the cloud's metadata service or
a database next door. Names are resolved here, every answer is checked, and the address that was checked is the one
connected to, so that a name cannot change its mind in between.
"""

from __future__ import annotations

import ipaddress
import socket
from dataclasses import dataclass

_TUNNELS = tuple(
    ipaddress.ip_network(network)
    for network in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")  # NAT64, 6to4, Teredo, mapped
)


class ForbiddenAddressError(OSError):
    """The name resolves to an address inside this machine or network."""


def is_public(address: str) -> bool:
    """Whether `address` (IPv4 or IPv6, with or without zone) is on the open internet."""
    ip = ipaddress.ip_address(address.split("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif any(ip in network for network in _TUNNELS) or ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def is_loopback_name(host: str) -> bool:
    """Whether a URL's host names this machine by itself: `localhost`, 127.0.0.0/8 or ::1."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class AddressPolicy:
    """`loopback` holds the host and port of each seed on this machine: there, and only there, loopback is fine."""

    allow_private: bool = False
    loopback: frozenset[tuple[str, int]] = frozenset()

    def resolve(self, host: str, port: int) -> str:
        """The address to connect to. Raises ForbiddenAddressError, or socket.gaierror if there is no such name."""
        try:
            found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except UnicodeError as error:  # a label that DNS cannot carry
            raise socket.gaierror(socket.EAI_NONAME, str(error)) from None
        addresses = [str(entry[4][0]) for entry in found]
        for address in addresses:
            inner = ipaddress.ip_address(address.split("%")[0])
            fine = self.allow_private or is_public(address) or (inner.is_loopback and (host, port) in self.loopback)
            if not fine:
                raise ForbiddenAddressError(f"{host} resolves to {address}, which is not on the open internet")
        # IPv4 first: a machine without an IPv6 route would fail on every second host.
        return min(addresses, key=lambda address: ":" in address)
