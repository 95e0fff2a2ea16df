"""Addresses of clusters, as people mistype them."""

from __future__ import annotations

import socket

import pytest

from hpo.errors import UserError
from hpo.runners import address


@pytest.mark.parametrize("given", ["", "nonsense", ":6379", "host:", "host:port", "host:0", "host:70000", "http://a/b"])
def test_what_is_no_address_is_refused_with_the_form(given: str) -> None:
    with pytest.raises(UserError, match="HOST:PORT, such as"):
        address.check(given)


def test_ray_client_is_refused_with_what_to_do() -> None:
    with pytest.raises(UserError, match="Start hpo on a machine of the cluster"):
        address.check("ray://head:10001")


def test_an_address_where_nobody_listens_is_refused_at_once() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, and not listening
        with pytest.raises(UserError, match="nobody listens there"):
            address.check(f"127.0.0.1:{taken.getsockname()[1]}")


def test_an_address_where_somebody_listens_and_auto_are_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address.check(f"127.0.0.1:{server.getsockname()[1]}")
    address.check("auto")
