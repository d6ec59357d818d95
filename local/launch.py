"""Become another program, tied to the life of the process that started us.

Run as a file (`python -I -S launch.py SIGNAL PARENT UID GID -- COMMAND...`), never imported: between fork and
exec of a process with threads nothing may run safely, so this small program makes the preparations.

* the kernel sends SIGNAL to the command when PARENT dies (Linux; elsewhere nothing, `down` clears up);
* as root, the command runs as UID and GID (`-` keeps ours), which PostgreSQL insists on.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main(argv: list[str]) -> None:
    """Drop privileges, ask for the signal, become the command; exits 1 when the parent is already gone."""
    death_signal, parent, uid, gid, _, *command = argv
    if uid != "-":
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    # After setuid: a change of credentials clears the setting.
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606  the command is the supervisor's own


if __name__ == "__main__":
    main(sys.argv[1:])
