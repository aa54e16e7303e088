"""`python -m effml.reproduce`: one notebook, in a process of its own; the job is JSON on stdin."""

import json
import signal
import sys

from effml.reproduce.rewrite import without_iri_grammar


def main() -> int:
    without_iri_grammar()
    import papermill

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # papermill then ends the kernel
    job = json.load(sys.stdin)
    try:
        papermill.execute_notebook(**job, stderr_file=sys.stderr)
    except papermill.PapermillExecutionError:
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
