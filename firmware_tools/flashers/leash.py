"""Runs one tool, and sees that nothing of it outlives the tool, or us.

``child.py`` starts this file as a program of its own: a daemon that is killed can't kill anybody any more, and a tool
that is left behind keeps the port of its slot. The leash is the leader of a process group, and holds one end of a
socket whose other end is ours. When the tool has ended it says so there, and kills the group, so that no child of the
tool stays; when the socket is closed it kills the group, tool and all. No memory of the tool is ever dumped to a disk:
it may hold secrets of a unit.

Imports nothing of ours: it starts in a few milliseconds, once a run of a tool.
"""

import os
import resource
import select
import signal
import socket
import sys


def main(descriptor: int, command: list[str]) -> None:
    """Run a command; ends by killing its own process group.

    Args:
        descriptor: of the socket; gets the status, as ``subprocess.Popen.returncode`` has it, in decimal.
        command: program and arguments.
    """
    os.set_inheritable(descriptor, False)
    ours = socket.socket(fileno=descriptor)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        tool = os.posix_spawnp(command[0], command, os.environ)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", flush=True)  # noqa: T201 - as the tool itself would
        ours.send(b"127")
    else:
        ended = os.pidfd_open(tool)
        ready, _, _ = select.select([descriptor, ended], [], [])
        if ended in ready:
            ours.send(b"%d" % os.waitstatus_to_exitcode(os.waitpid(tool, 0)[1]))
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
