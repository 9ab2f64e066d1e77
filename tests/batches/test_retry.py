"""What stands, and what is asked for again."""

import json

import pytest

from cohabit.batches.asgi_client import AppResponse
from cohabit.batches.retry import LONGEST_PAUSE, RetryPolicy
from cohabit.core.commands import RejectReason


def said(status: int, code: str | None = None, retry_after: float = 0.0) -> AppResponse:
    return AppResponse(status, "req-1", retry_after, json.dumps({"error": {"code": code}}).encode())


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (200, None),
        (400, "invalid_request"),
        (404, "model_not_found"),
        (502, RejectReason.ENGINE),
        (408, "max_run_exceeded"),
    ],
)
def test_final_answers_are_not_retried(status: int, code: str | None) -> None:
    assert RetryPolicy().pause(said(status, code)) is None


@pytest.mark.parametrize(
    ("status", "code", "tries"),
    [(503, RejectReason.WORKER_DIED, 2), (503, RejectReason.OUT_OF_MEMORY, 3), (500, "internal_error", 2)],
)
def test_suspicious_failures_are_retried_a_few_times(status: int, code: str, tries: int) -> None:
    verdicts = RetryPolicy()
    assert [verdicts.pause(said(status, code)) is not None for _ in range(tries)] == [True] * (tries - 1) + [False]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (429, RejectReason.QUEUE_FULL),
        (429, "rate_limit_exceeded"),
        (503, RejectReason.MODEL_FAILED),
        (503, RejectReason.NEVER_FITS),
        (503, RejectReason.SHUTTING_DOWN),
        (503, None),
        (408, RejectReason.DEADLINE),
    ],
)
def test_server_errors_are_retried_with_backoff(status: int, code: str | None) -> None:
    verdicts = RetryPolicy()
    pauses = [verdicts.pause(said(status, code)) for _ in range(12)]
    assert pauses[:4] == [1.0, 2.0, 4.0, 8.0]
    assert pauses[-1] == LONGEST_PAUSE


def test_retry_after_is_kept() -> None:
    assert RetryPolicy().pause(said(429, "queue_full", 30.0)) == 30.0
    assert RetryPolicy().pause(said(429, "queue_full", 3000.0)) == LONGEST_PAUSE


def test_foreign_error_body_is_final() -> None:
    assert RetryPolicy().pause(AppResponse(503, "", 0.0, b"<html>")) == 1.0
    assert RetryPolicy().pause(AppResponse(418, "", 0.0, b"")) is None


def test_request_that_killed_two_workers_is_not_retried() -> None:
    body = json.dumps({"error": {"code": "worker_died"}}).encode()
    assert RetryPolicy().pause(AppResponse(503, "req-1", 1.0, body, final=True)) is None
    assert RetryPolicy().pause(AppResponse(503, "req-1", 1.0, body)) is not None
