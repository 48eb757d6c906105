"""A fencing token guards a MongoDB document against a holder that was frozen and does not know that its lease is gone.

Needs a MongoDB: the first argument or TASKLOCKS_URL names it, for example mongodb://localhost/shop. The document keeps
the largest token that it has seen, and each write says in its own filter that it must not be smaller.
"""

import os
import sys

from tasklocks import Lock, connect

url = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("TASKLOCKS_URL", "")
if not url.startswith("mongodb"):
    print("nothing to show: name a MongoDB, as in `fencing_mongodb.py mongodb://localhost/shop`")
    sys.exit()

from pymongo import MongoClient  # noqa: E402 - without a MongoDB the client need not be installed
from pymongo.errors import DuplicateKeyError  # noqa: E402


def write(reports, body, token):
    """Write in one step, unless somebody with a larger token was there; return whether it was written."""
    not_overtaken = {"_id": "report", "token": {"$lte": token}}
    try:
        reports.update_one(not_overtaken, {"$set": {"body": body, "token": token}}, upsert=True)
    except DuplicateKeyError:
        # The filter found nothing, so MongoDB tried to insert; but the document is there, with a larger token.
        return False
    return True


with MongoClient(url) as client:
    reports = client.get_default_database("tasklocks_example")["reports"]
    reports.delete_many({})
    backend = connect("memory://")
    # What happens to a frozen holder and its successor is told in fencing.py.
    frozen = Lock("report", backend=backend).acquire()
    backend.force_release("report")
    with Lock("report", backend=backend) as successor:
        print("the successor's write is accepted:", write(reports, "by the second", successor.fencing_token))
    print("the write of the frozen one, which wakes up, is accepted:", write(reports, "late", frozen.fencing_token))
    print("the report says:", reports.find_one()["body"])

    assert reports.find_one()["body"] == "by the second"
    frozen.release()
    reports.drop()
