"""Everything that knows Celery: the decorator, the task class, the resend, and what a worker checks at its start."""
