"""One limit in SQLite, inside a transaction that holds the write lock: what a step reads of it and does to it.

Permits are rows of `tasklocks_leases`; nothing is counted anywhere else. All times in the database are on the host's
`tasklocks.clock` and are shown on the wall clock, so that setting the wall clock ends no lease.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from sqlite3 import Cursor

from tasklocks.backends import _sqlite_line as line
from tasklocks.backends._sqlite_texts import end_of
from tasklocks.backends.base import GRANT_TTL, RETENTION, moving_average
from tasklocks.types import Holder, LimitState, Waiter

__all__ = ["SCHEMA", "Knock", "Limit", "holders", "inspect", "inspect_behind", "look", "prune"]


@dataclass(frozen=True, slots=True)
class Knock:
    """A waiter that was granted a lease, which ends at `expires` unless it is claimed, and where the waiter listens."""

    key: str
    owner: str
    token: int
    expires: float
    address: str | None


SCHEMA = """
CREATE TABLE tasklocks_meta (version INTEGER NOT NULL, boot TEXT NOT NULL);
CREATE TABLE tasklocks_limits (
    name TEXT PRIMARY KEY, capacity INTEGER NOT NULL, token INTEGER NOT NULL, usual_hold REAL, used_at REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE tasklocks_leases (
    name TEXT, owner TEXT, permits INTEGER NOT NULL, token INTEGER NOT NULL, granted REAL NOT NULL,
    expires REAL NOT NULL, closed INTEGER NOT NULL, info TEXT NOT NULL, PRIMARY KEY (name, owner)
) WITHOUT ROWID;
CREATE TABLE tasklocks_waiters (
    name TEXT, away INTEGER, since REAL, seq INTEGER, ticket TEXT NOT NULL, owner TEXT NOT NULL,
    permits INTEGER NOT NULL, ttl REAL NOT NULL, until REAL NOT NULL, address TEXT, info TEXT NOT NULL,
    PRIMARY KEY (name, away, since, seq)
) WITHOUT ROWID;
CREATE UNIQUE INDEX tasklocks_waiters_ticket ON tasklocks_waiters (name, ticket, away);
CREATE INDEX tasklocks_waiters_until ON tasklocks_waiters (name, until);
CREATE TABLE tasklocks_texts (name TEXT PRIMARY KEY, text TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX tasklocks_texts_until ON tasklocks_texts (until);
"""

# One SELECT reads all that a step needs: the limit, when the first place in line lapses (None: nobody waits), the
# sum of its leases, and what the owner itself has. The columns are the fields of Limit, in order. The last token is
# that of a lease, or the limit's, which is written when a lease goes: so an acquire writes one row.
_LOOK = """
SELECT COALESCE(l.capacity, 0), MAX(COALESCE(l.token, 0), COALESCE(MAX(h.token), 0)), l.usual_hold,
       (SELECT MIN(until) FROM tasklocks_waiters WHERE name = ?1),
       COALESCE(SUM(h.permits), 0), MIN(h.expires),
       COALESCE(m.permits, 0), COALESCE(m.token, 0), COALESCE(m.granted, ?3), COALESCE(m.expires, ?3), m.closed
FROM tasklocks_limits l
LEFT JOIN tasklocks_leases m ON m.name = ?1 AND m.owner = ?2 AND m.expires > ?3
LEFT JOIN tasklocks_leases h ON h.name = ?1
WHERE l.name = ?1"""

_STATE_CAPACITY = """
INSERT INTO tasklocks_limits (name, capacity, token, used_at) VALUES (?, ?, 0, ?)
ON CONFLICT (name) DO UPDATE SET capacity = excluded.capacity"""

_HOLDERS = """
SELECT owner, permits, token, granted, expires, info FROM tasklocks_leases
WHERE name = ? AND expires > ? ORDER BY token LIMIT ?"""

_WAITERS = """
SELECT ticket, permits, since, away, info FROM tasklocks_waiters
WHERE name = ? AND until > ? ORDER BY away, since, seq"""

_BEHIND = "SELECT name FROM tasklocks_limits WHERE name > ? AND name < ? ORDER BY name LIMIT ?"

_PRUNED_AT_ONCE = 1000

_SOME_LIMITS = """
SELECT l.name, used_at < ?3
   AND NOT EXISTS (SELECT 1 FROM tasklocks_leases WHERE name = l.name AND expires > ?4)
   AND NOT EXISTS (SELECT 1 FROM tasklocks_waiters WHERE name = l.name AND until > ?4)
FROM tasklocks_limits l WHERE l.name > ?1 ORDER BY l.name LIMIT ?2"""


@dataclass(slots=True)
class Limit:
    """One limit, as one owner sees it in one step; `mine_…` is the owner's own live lease.

    `mine_closed` is None without one, 1 if it is released and only its permits stay taken for a while.
    """

    db: Cursor
    key: str
    owner: str
    now: float
    capacity: int
    token: int
    usual_hold: float | None
    first_lapses: float | None
    used: int
    first_ends: float | None
    mine_permits: int
    mine_token: int
    mine_granted: float
    mine_expires: float
    mine_closed: int | None

    @property
    def is_mine(self) -> bool:
        """Whether the owner has a lease that it can use."""
        return self.mine_closed == 0

    @property
    def free(self) -> int:
        """How many permits nobody has."""
        return self.capacity - self.used

    def state_capacity(self, capacity: int) -> int | None:
        """Let `capacity` count from now on; return the one that it replaced, if it differed."""
        was = self.capacity
        if was == capacity:
            return None
        self.db.execute(_STATE_CAPACITY, (self.key, capacity, self.now))
        self.capacity = capacity
        return was or None

    def settled(self) -> tuple[Limit, list[Knock]]:
        """Drop what is over and grant to the head of the line; return the limit as it is then and who was granted."""
        over = self.first_ends is not None and self.first_ends <= self.now
        if self.first_lapses is None and not over:
            return self, []
        if over:
            self.db.execute("DELETE FROM tasklocks_leases WHERE name = ? AND expires <= ?", (self.key, self.now))
            self._remember()
        if self.first_lapses is not None and self.first_lapses <= self.now:
            line.drop_lapsed(self.db, self.key, self.now)
        limit = look(self.db, self.key, self.owner, self.now) if over else self
        return limit, limit._serve()

    def is_behind(self, since: float | None) -> bool:
        """Return whether anyone listens in front of the owner, who waits since then (wall clock; None: since now)."""
        return self.first_lapses is not None and line.is_behind(self.db, self.key, self.owner, since, self.now)

    def grant(self, owner: str, permits: int, ttl: float, info: str) -> None:
        """Make a lease for `owner`."""
        # The host's time keeps tokens growing even if the database was deleted meanwhile.
        token = max(self.token + 1, time.time_ns() // 1000)
        self.db.execute(
            "INSERT OR REPLACE INTO tasklocks_leases (name, owner, permits, token, granted, expires, closed, info) "
            "VALUES (?, ?, ?, ?, ?, ?, 0, ?)",
            (self.key, owner, permits, token, self.now, self.now + ttl, info),
        )
        self._note(owner, permits, ttl, token)

    def extend(self, ttl: float) -> None:
        """Let the owner's lease end `ttl` seconds from now."""
        self.mine_expires = self.now + ttl
        self.db.execute(
            "UPDATE tasklocks_leases SET expires = ? WHERE name = ? AND owner = ?",
            (self.mine_expires, self.key, self.owner),
        )

    def end(self, keep: float) -> None:
        """End the owner's lease; its permits stay taken for `keep` seconds."""
        lease = (self.key, self.owner)
        if keep > 0:
            close = "UPDATE tasklocks_leases SET closed = 1, expires = ? WHERE name = ? AND owner = ?"
            self.db.execute(close, (self.now + keep, *lease))
        else:
            self.db.execute("DELETE FROM tasklocks_leases WHERE name = ? AND owner = ?", lease)
            self.used -= self.mine_permits
        self.usual_hold = moving_average(self.usual_hold, self.now - self.mine_granted)
        self._remember()

    def take_away(self, owner: str | None) -> int:
        """End the lease of `owner`, or all leases; return how many there were."""
        doomed = "DELETE FROM tasklocks_leases WHERE name = ?1 AND (?2 IS NULL OR owner = ?2)"
        ended = self.db.execute(doomed, (self.key, owner)).rowcount
        self._remember()
        return ended

    def take_back(self, knock: Knock) -> None:
        """End the lease that `knock` is about, unless its owner has claimed it.

        A claim always moves the end of the lease: it is later than the grant and gives the lease no less time.
        """
        self.db.execute(
            "DELETE FROM tasklocks_leases WHERE name = ? AND owner = ? AND token = ? AND expires = ?",
            (knock.key, knock.owner, knock.token, knock.expires),
        )
        self._remember()

    def _serve(self) -> list[Knock]:
        knocks: list[Knock] = []
        while self.free > 0 and (head := line.head(self.db, self.key)):
            owner, permits, ttl, address, info = head
            if permits > self.free:
                break
            line.leave(self.db, self.key, owner)
            ttl = min(ttl, GRANT_TTL)
            self.grant(owner, permits, ttl, info)
            knocks.append(Knock(self.key, owner, self.token, self.now + ttl, address))
        return knocks

    def _note(self, owner: str, permits: int, ttl: float, token: int) -> None:
        ends = self.now + ttl
        self.token, self.used = token, self.used + permits
        self.first_ends = ends if self.first_ends is None else min(self.first_ends, ends)
        if owner == self.owner:
            self.mine_permits, self.mine_token, self.mine_closed = permits, token, 0
            self.mine_granted, self.mine_expires = self.now, ends

    def _remember(self) -> None:
        """Keep what leases leave behind when they go: the largest token, above all."""
        self.db.execute(
            "UPDATE tasklocks_limits SET token = ?, usual_hold = ?, used_at = ? WHERE name = ?",
            (self.token, self.usual_hold, self.now, self.key),
        )


def look(db: Cursor, key: str, owner: str, now: float) -> Limit:
    """Return the limit as it stands, with what is over still in it."""
    return Limit(db, key, owner, now, *db.execute(_LOOK, (key, owner, now)).fetchone())


def holders(db: Cursor, key: str, now: float, most: int = -1) -> tuple[Holder, ...]:
    """Return the live leases, oldest first; `most` of them, -1 for all."""
    wall = time.time() - now
    rows = db.execute(_HOLDERS, (key, now, most))
    return tuple(
        Holder(owner, permits, token, granted + wall, expires - now, info)
        for owner, permits, token, granted, expires, info in rows
    )


def inspect(db: Cursor, key: str, name: str, now: float) -> LimitState:
    """See `Backend.inspect`."""
    limit = look(db, key, "", now)
    wall = time.time() - now
    waiters = tuple(
        Waiter(ticket, permits, since + wall, not away, info)
        for ticket, permits, since, away, info in db.execute(_WAITERS, (key, now))
    )
    return LimitState(name, limit.capacity, holders(db, key, now), waiters, limit.usual_hold)


def inspect_behind(db: Cursor, prefix: str, name: str, most: int, now: float) -> list[LimitState]:
    """Return the first limits behind `name`."""
    keys = [key for (key,) in db.execute(_BEHIND, (prefix + name, end_of(prefix), most)).fetchall()]
    return [inspect(db, key, key[len(prefix) :], now) for key in keys]


def prune(db: Cursor, after: str, now: float) -> str:
    """Forget limits that were idle for RETENTION, among a bounded number of names behind `after`.

    Returns:
        The name to go on from next time; empty when the end was reached.
    """
    seen = db.execute(_SOME_LIMITS, (after, _PRUNED_AT_ONCE, now - RETENTION, now)).fetchall()
    for name, idle in seen:
        if idle:
            db.execute("DELETE FROM tasklocks_leases WHERE name = ?", (name,))
            db.execute("DELETE FROM tasklocks_waiters WHERE name = ?", (name,))
            db.execute("DELETE FROM tasklocks_limits WHERE name = ?", (name,))
    return seen[-1][0] if len(seen) == _PRUNED_AT_ONCE else ""
