"""`mongodb://`, `mongodb+srv://`: limits as documents of MongoDB 5.0 or newer, on a replica set or a single server.

Does not guarantee: anything if the clocks of the members differ by more than a part of ttl at the moment of a failover,
for leases end by the primary's clock (fencing tokens go on growing all the same). A release whose answer was lost and
that was sent again says that it ended nothing. More than 10 000 listening waiters of one limit, or 1000 that are away,
get no place in its line. Word of a release can be lost; then the waiter finds out within three seconds.

One limit is one document, and one step is one `findAndModify` with an update pipeline: atomic on the server, one round
trip, on the primary's clock (`$$NOW`). It is answered when a majority of the members has it, so whatever a caller was
told survives a failover: a lease, a release, a token. A step that was answered by an error may have happened; asking
again is harmless, because the owner gets the lease that it has.

Tokens are the last one plus one or the server's microseconds, whichever is more, so they grow even over a document
that was deleted. Idle documents are deleted by a TTL index, an hour or so after their last use.

Waiters have rows in the document and are granted in order by the step that frees a permit. Whoever did that step then
leaves word in a small capped collection, unacknowledged, which one thread of each waiting process follows. That works
on a single server too, where change streams do not.
"""

from tasklocks.backends.mongodb._backend import MongoBackend

__all__ = ["MongoBackend"]
