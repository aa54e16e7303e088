"""What a run that failed says: a word for the kind, and the reason."""

import dis
import errno
import traceback
from datetime import UTC, datetime
from pathlib import Path

from effml import machine
from effml.models import WeightsUnavailable
from effml.training import Diverged

PACKAGE = Path(machine.__file__).parent

KINDS = {
    WeightsUnavailable: "weights unavailable",
    Diverged: "diverged",
    FileNotFoundError: "data unavailable",
    ValueError: "unsupported",
}


def status_of(error: Exception) -> str:
    """A word for what went wrong. Only what effml itself refuses is final: what numpy, torch or a
    fault of effml brings about may be gone next time."""
    if machine.out_of_memory(error):
        return "out of memory"
    status = next((KINDS[kind] for kind in KINDS if isinstance(error, kind)), "failed")
    return status if _on_purpose(error) else "failed"


def _on_purpose(error: Exception) -> bool:
    """Whether a `raise` of effml brought it about, and no call that failed in a line of effml."""
    at = error.__traceback__
    while at.tb_next:
        at = at.tb_next
    code = at.tb_frame.f_code
    ours = Path(code.co_filename).is_relative_to(PACKAGE)
    return ours and dis.opname[code.co_code[at.tb_lasti]] == "RAISE_VARARGS"


def is_fault(error: Exception, status: str) -> bool:
    """Whether somebody must find out where it happened: not of a full or write-protected disk."""
    of_disk = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EIO)
    return status == "failed" and getattr(error, "errno", None) not in of_disk


def reason_of(error: Exception, status: str) -> str:
    """What was raised and, of a fault, where: the last calls, without this machine's folders."""
    said = f"{type(error).__name__}: {error}"[:1000]
    if not is_fault(error, status):
        return said
    calls = [
        f'  File "{"/".join(Path(call.filename).parts[-3:])}", line {call.lineno}, '
        f"in {call.name}\n    {call.line}"
        for call in traceback.extract_tb(error.__traceback__)[-6:]
    ]
    return "\n".join([said, "Traceback (most recent call last):", *calls])


def now() -> str:
    """ISO 8601, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
