"""Power cut at every mutating call of an install, an upgrade, a rollback and a clean-up: `python -m tests.powercut`."""
