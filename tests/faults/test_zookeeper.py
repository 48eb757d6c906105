"""What happens to ZooKeeper only: the answer to a step that is not sent again is lost."""

from __future__ import annotations

import pytest

from tasklocks import BackendUnavailable
from tests.faults.stores import with_option
from tests.faults.using import answers, turn
from tests.line import NAME, taken
from tests.processes import eventually
from tests.relay import relayed

pytestmark = pytest.mark.parametrize("kind", ["zookeeper"], indirect=True)


def test_a_lease_whose_answer_was_lost_is_not_kept_from_others(server, opened):
    near = opened(server.url)
    turn(near, "somebody")
    with relayed(server.url) as (relay, url):
        far = opened(with_option(url, "timeout=0.5"))
        taken(far, "somebody", "warm too")
        relay.hold()
        with pytest.raises(BackendUnavailable):
            taken(far, "nobody")
        relay.let_go()
        # What was on its way arrives now; the next step of the one who sent it takes it back.
        assert eventually(lambda: near.inspect(NAME).holders, within=10)
        assert eventually(lambda: answers(far), within=20)
        assert eventually(lambda: not near.inspect(NAME).holders, within=5)
        far.close()
