"""A lock of the kernel's on an open file or folder, which ends with its process."""

import sys

__all__ = ["try_lock"]


def try_lock(descriptor: int) -> bool:
    """Lock what is open until it is closed or the process ends, without waiting (`flock`).

    Returns
    -------
    bool
        False where somebody else has it.

    Raises
    ------
    OSError
        If its file system, or this one's operating system, knows no such locks.
    """
    if sys.platform == "win32":
        raise OSError("no file can be locked like this here")
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
