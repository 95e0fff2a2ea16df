"""The address of a Ray cluster, looked at before anything is written. Knows no Ray."""

from __future__ import annotations

import socket

from hpo.errors import UserError

_ANSWER_S = 5.0


def check(address: str) -> None:
    """Refuse an address that cannot be one, or where nobody listens (Ray itself would try for minutes).

    Raises:
        UserError: it is neither ``auto`` nor HOST:PORT, or nobody listens there.
    """
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise UserError(
            f"--ray-address {address}: trials do not run through Ray Client. Start hpo on a machine of the cluster, "
            "with the address of its head, HOST:PORT, or auto."
        )
    host, colon, port = address.rpartition(":")
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(f"--ray-address must be HOST:PORT, such as 10.0.0.5:6379, or auto; got {address!r}.")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_S).close()
    except OSError as error:
        raise UserError(
            f"--ray-address {address}: nobody listens there ({error}). 'ray status' on the head shows its address."
        ) from error
