"""What both kinds of network need: checked names and addresses, and releases that always go on."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterable, Sequence
from ipaddress import AddressValueError, IPv4Address, IPv4Interface
from socket import AF_INET, inet_pton

from ._contract import NetworkError

_INSTANCE = re.compile(r"[a-z0-9]{1,6}")  # `syn`, it, `-` and five digits fill the 15 characters of a name


def check_instance(instance: str) -> str:
    """The id under which an instance names what it makes in the kernel; raises NetworkError if unfit."""
    if not _INSTANCE.fullmatch(instance):
        raise NetworkError(f"instance {instance!r}: must be 1 to 6 characters of a-z and 0-9")
    return instance


def check_addresses(addresses: Sequence[str]) -> list[str]:
    """The addresses as the kernel writes them; raises NetworkError for what is no IPv4 address."""
    try:
        return [str(IPv4Address(address)) for address in addresses]
    except AddressValueError as error:
        raise NetworkError(f"not an IPv4 address: {error}", errno.EINVAL) from error


def packed_addresses(addresses: Iterable[str]) -> list[bytes]:
    """The addresses as a set's elements, without repeats; raises NetworkError for what is no IPv4 address."""
    packed = []
    for address in dict.fromkeys(addresses):
        try:
            packed.append(inet_pton(AF_INET, address))
        except (OSError, ValueError) as error:  # ValueError: a zero byte in it
            raise NetworkError(f"not an IPv4 address: {address!r}", errno.EINVAL) from error
    return packed


def check_interface(address: str, prefix_length: int) -> IPv4Interface:
    """An address with the length of its network's prefix; raises NetworkError if they do not fit."""
    try:
        return IPv4Interface((address, prefix_length))
    except ValueError as error:
        raise NetworkError(f"not an address with a prefix length: {error}", errno.EINVAL) from error


class Releases:
    """Things to release, tried one after the other whatever becomes of each; the first error is raised."""

    def __init__(self) -> None:
        self._errors: list[NetworkError] = []

    def attempt(self, release: Callable[[], None], *gone: int) -> None:
        """Release one thing; an errno in `gone` says that it was not there, which is as good."""
        try:
            release()
        except NetworkError as error:
            if error.code not in gone:
                self._errors.append(error)

    def finish(self) -> None:
        """Raise what went wrong first, if anything did."""
        if self._errors:
            raise self._errors[0]
