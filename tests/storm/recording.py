"""A backend that notes in a journal what its user is told about leases, and passes everything on."""

from __future__ import annotations

from collections.abc import Sequence

from tasklocks import clock
from tasklocks.backends.base import Backend, Listener
from tasklocks.types import AcquireRequest, Busy, Grant, LimitState
from tests.storm.records import Journal

__all__ = ["Recording"]


class Recording:
    """`backend`, with a journal of its leases."""

    def __init__(self, backend: Backend, journal: Journal) -> None:
        self.capabilities = backend.capabilities
        self._backend = backend
        self._journal = journal
        self._asked: dict[str, float] = {}

    def acquire(self, request: AcquireRequest) -> Grant | Busy:
        self._asked.setdefault(request.owner, clock.now())
        answer = self._backend.acquire(request)
        if isinstance(answer, Grant):
            self.granted(answer)
        return answer

    def granted(self, grant: Grant) -> None:
        self._journal.note("granted", grant, self._asked[grant.owner])

    def renew(self, grants: Sequence[Grant]) -> Sequence[Grant | None]:
        answers = self._backend.renew(grants)
        for grant, answer in zip(grants, answers, strict=True):
            self._journal.note(*(("told", grant) if answer is None else ("renewed", answer)))
        return answers

    def release(self, name: str, owner: str, keep: float = 0.0) -> bool:
        # Before it is sent: from then on somebody else may have it.
        self._journal.released(name, owner)
        self._asked.pop(owner, None)
        return self._backend.release(name, owner, keep)

    def force_release(self, name: str, owner: str | None = None) -> int:
        return self._backend.force_release(name, owner)

    def inspect(self, name: str) -> LimitState:
        return self._backend.inspect(name)

    def listen(self, owner: str) -> Listener:
        return _Ear(self._backend.listen(owner), self)

    @property
    def listening(self) -> bool:
        return self._backend.listening

    def close(self) -> None:
        self._backend.close()


class _Ear:
    def __init__(self, ear: Listener, heard_by: Recording) -> None:
        self.address = ear.address
        self._ear = ear
        self._heard_by = heard_by

    def wait(self, timeout: float, since: Busy) -> Grant | None:
        grant = self._ear.wait(timeout, since)
        if grant is not None:
            self._heard_by.granted(grant)
        return grant

    def close(self) -> None:
        self._ear.close()
