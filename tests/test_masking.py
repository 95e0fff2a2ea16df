"""Texts made safe to show."""

from __future__ import annotations

import pytest

from hpo.masking import holds_secret, masked, printable

TOLD = [
    ("https://me:pw@host/x", "https://me:***@host/x"),
    ("postgresql+psycopg://u:p/w@h/d?sslmode=require", "postgresql+psycopg://u:***@h/d?sslmode=require"),
    ("s3://a/b?region=eu&secret_key=S3&X-Amz-Signature=abc", "s3://a/b?region=eu&secret_key=***&X-Amz-Signature=***"),
    ("from 's3://a/b?token=abc' to http://u:p@h", "from 's3://a/b?token=***' to http://u:***@h"),
]


@pytest.mark.parametrize(("text", "told"), TOLD)
def test_a_secret_is_found_and_hidden(text: str, told: str) -> None:
    assert masked(text) == told and holds_secret(text)
    assert not holds_secret(told)


@pytest.mark.parametrize("text", ["", "me@host", "s3://a/b?region=eu", "http://host:8080/x", "no ?key=1", "C:/a@b"])
def test_what_is_no_secret_stays(text: str) -> None:
    assert masked(text) == text and not holds_secret(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J gone", "\ufffd[2J gone"),
        ("a\rb\x7f\x9b1m", "a\ufffdb\ufffd\ufffd1m"),
        ("right\u202eleft", "right\ufffdleft"),
        ("two\nlines\tand a\u00a0tab – 字 é", "two\nlines\tand a\u00a0tab – 字 é"),
    ],
)
def test_what_a_terminal_would_obey_is_replaced(text: str, shown: str) -> None:
    assert printable(text) == shown
