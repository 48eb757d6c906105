"""Locks, semaphores and leases for Celery tasks, and for any Python code beside them."""

from __future__ import annotations

from tasklocks.backends import connect
from tasklocks.celery import LockedTask, locked, rate_limited
from tasklocks.current import current_lease
from tasklocks.errors import (
    BackendUnavailable,
    ConfigurationError,
    LeaseLost,
    LockBusy,
    LockTimeout,
    TaskLocksError,
)
from tasklocks.leases import Lease
from tasklocks.ratelimit import RateLimit, pause, resume
from tasklocks.resizing import Resizable
from tasklocks.semaphore import Lock, Semaphore

__all__ = [
    "BackendUnavailable",
    "ConfigurationError",
    "Lease",
    "LeaseLost",
    "Lock",
    "LockBusy",
    "LockTimeout",
    "LockedTask",
    "RateLimit",
    "Resizable",
    "Semaphore",
    "TaskLocksError",
    "connect",
    "current_lease",
    "locked",
    "pause",
    "rate_limited",
    "resume",
]
