"""When a call is made again: what servers say in Retry-After, and the pauses between calls."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from marginalia.schemas.retries import RETRIED_STATUSES, RetryPolicy, retry_after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "0.25"}, 0.25),
        ({"retry-after-ms": "1500", "retry-after": "9"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after-ms": "nan", "retry-after": "9"}, 9.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after": "Mon, 01 Jan 2001 00:00:00 GMT"}, 0.0),
        ({"retry-after": "9" * 400}, 365 * 86400.0),
        ({"retry-after": "inf"}, 365 * 86400.0),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": "Mon, 99 Jan 2001 00:00:00 GMT"}, None),
        ({"retry-after": ""}, None),
        ({}, None),
    ],
)
def test_what_a_server_asks_for(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers) == seconds


@pytest.mark.parametrize("zone", ["GMT", "-0000"])
def test_a_date(zone: str) -> None:
    date = formatdate(time.time() + 60, usegmt=True).replace("GMT", zone)
    named = retry_after({"retry-after": date})
    assert named is not None and 50 < named <= 60


def test_pauses_grow_to_the_longest() -> None:
    policy = RetryPolicy(first_backoff=0.5, factor=4.0, longest_backoff=5.0)
    for retry, longest in enumerate((0.5, 2.0, 5.0, 5.0)):
        pauses = [policy.backoff(retry) for _ in range(200)]
        assert longest / 2 <= min(pauses) < max(pauses) <= longest


def test_statuses_after_which_a_call_is_made_again() -> None:
    assert {408, 409, 425, 429, 500, 502, 503, 504, 529} <= RETRIED_STATUSES
    assert not RETRIED_STATUSES & {200, 301, 400, 401, 403, 404, 422, 501}
