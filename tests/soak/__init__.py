"""The reliability suite, outside `make test`: `make soak`, or `python -m tests.soak PART`."""
