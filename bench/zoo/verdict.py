"""One word for each question about a network, from the record of its examination."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOLERANCE = 1e-4
"""The largest error that counts as right, as a share of the output's scale."""

Found = Mapping[str, Any]

RIGHT = "right"
FLIPS = "right, gates flip"
WRONG = "wrong"
REFUSED = "refused"
BROKEN = "traceback"
NOT_REACHED = "not reached"
NOTHING = "nothing to gate"
"""No convolution, or each with a reason in ``find_convolutions`` why it gets no gate."""
NONE = "none"

EMULATED = ("dense_rpi4", "half_rpi4")
COMPILED = ("dense", "half", "steady", *EMULATED)


def exceeds(error: float | None) -> bool:
    """Whether an error is more than rounding; None stands for a NaN or an infinity."""
    return error is None or error > TOLERANCE


def at_one(record: Found) -> str:
    """Whether gates at density 1 leave the network what it was, and the user's own untouched."""
    if "gate_fault" in record:
        ours = record["gate_fault"]["ours"]
        return NOTHING if ours and record.get("gateable") == 0 else _fault(record["gate_fault"])
    if "gates_used" not in record:
        return NOT_REACHED
    changed = exceeds(record["at_one"]) or exceeds(record["changed_by_gate"])
    return WRONG if changed or record["gates_used"] < record["gated"] else RIGHT


def dense(record: Found) -> str:
    """Whether the compiled network computes what PyTorch does."""
    return _compiled(record.get("dense"))


def half(record: Found) -> str:
    """The same for the network with gates at half density."""
    if "gate_fault" in record:
        return NONE
    found = _compiled(record.get("half"))
    return FLIPS if found == WRONG and flips(record) else found


def flips(record: Found) -> bool:
    """Whether an error is that of a gate near its threshold.

    PyTorch moves as far from itself, and the network is right with gates that cannot flip.
    """
    moved = any(exceeds(one) for one in record.get("itself", {}).values())
    return moved and _compiled(record.get("steady")) == RIGHT


def emulated(record: Found, key: str) -> str:
    """What ``dense_rpi4`` or ``half_rpi4`` came to."""
    return _compiled(record.get(key))


def faults(record: Found) -> dict[str, str]:
    """By stage, what was refused or broke: the message's first line."""
    stages = {} if at_one(record) == NOTHING else {"gate": record.get("gate_fault")}
    stages |= {key: record.get(key, {}).get("fault") for key in COMPILED}
    found = {stage: _line(one["message"]) for stage, one in stages.items() if one}
    for key in COMPILED:
        if "wrong_result" in record.get(key, {}):
            found[key] = _line(record[key]["wrong_result"])
    if record.get("end"):
        found[record.get("stage", "build")] = _line(record["end"])
    return found


def _compiled(found: Found | None) -> str:
    if found is None:
        return NOT_REACHED
    if "fault" in found:
        return _fault(found["fault"])
    return WRONG if "wrong_result" in found or exceeds(found["error"]) else RIGHT


def _fault(found: Found) -> str:
    return REFUSED if found["ours"] else BROKEN


def _line(message: str) -> str:
    return (message.strip().splitlines() or ["no message"])[0]
