"""Whether the process that runs a trial is still there, as far as this machine can tell."""

import os
from pathlib import Path


def this_process() -> str:
    """A name of this process that no other has, also after a restart of the machine."""
    return f"{_machine()} {os.getpid()} {_begun(os.getpid())}"


def is_child(owner: str, pid: int) -> bool:
    """Whether `owner`, a name from `this_process`, was this machine's process `pid`."""
    return owner.split(" ")[:2] == [_machine(), str(pid)]


def is_gone(owner: str) -> bool:
    """Whether a trial's owner was a process of this machine and no longer is; not known of other machines."""
    machine, _, process = owner.partition(" ")
    if not machine or machine != _machine():
        return False
    pid, begun = process.split(" ")
    return _begun(int(pid)) != begun


def _machine() -> str:
    """This boot of this machine and this view of its processes; empty where the system does not tell."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _begun(pid: int) -> str:
    """When a process of this machine began, in ticks since boot; empty where there is none."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state == "Z" else rest[18]
