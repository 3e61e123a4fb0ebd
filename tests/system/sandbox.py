"""Runs a program under the restrictions of a systemd service, where no systemd is.

	sandbox.py FILE COMMAND...

FILE is JSON that unit() has made of the unit: system calls, address families,
what may be written to.  Capabilities, namespaces and limits are those of the
unit as well; what is left out is what needs a control group (IPAddressDeny=,
MemoryMax=, DevicePolicy=) and folders of its own (PrivateTmp= and the like)."""
import ctypes
import json
import os
import resource
import socket
import subprocess
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
MOUNT_SETATTR, AT_FDCWD, AT_RECURSIVE, MOUNT_ATTR_RDONLY = 442, -100, 0x8000, 1
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
PROT_WRITE, PROT_EXEC, SHM_EXEC = 2, 4, 0o100000
NEW = 0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000


# ------------------------------------------------------------------ the unit

def settings(path):
    """{name: [value, ...]} of all sections of a unit."""
    found = {}
    for line in path.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and line[0] not in "#;[":
            found.setdefault(name, []).append(value)
    return found


def calls_of(name):
    """The system calls of a @set, with those of the sets in it."""
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True,
                            stdout=subprocess.PIPE, universal_newlines=True).stdout
    found = set()
    for line in listed.splitlines():
        word = line.strip()
        if line[:1].isspace() and word and not word.startswith("#"):
            found |= calls_of(word)
    return found


def unit(path, writable, without=(), kill=False):
    """What this module needs to know of a unit whose StateDirectory= is writable.
    kill: a call that is not allowed ends the process, in place of its error."""
    s = settings(path)
    calls = calls_of("@default")  # always allowed, as systemd.exec(5) says
    for value in s["SystemCallFilter"]:
        for name in value.lstrip("~").split():
            calls = calls - calls_of(name) if value[0] == "~" else calls | calls_of(name)
    for name, value in {"NoNewPrivileges": "yes", "CapabilityBoundingSet": "",
                        "PrivateUsers": "yes", "ProtectSystem": "strict",
                        "MemoryDenyWriteExecute": "yes", "RestrictNamespaces": "yes",
                        "SystemCallErrorNumber": "EPERM", "SystemCallArchitectures": "native",
                        "LimitCORE": "0"}.items():
        assert s[name] == [value], name  # what run() does
    return {"calls": sorted(calls - set(without)), "kill": kill, "writable": str(writable),
            "families": [getattr(socket, f) for f in s["RestrictAddressFamilies"][0].split()],
            "files": int(s["LimitNOFILE"][0]), "umask": int(s["UMask"][0], 8)}


# ------------------------------------------------------------- the process

def must(result):
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def set_readonly(path, is_readonly, flags):
    """mount_setattr(2)."""
    attributes = (ctypes.c_uint64 * 4)(*((MOUNT_ATTR_RDONLY, 0) if is_readonly
                                         else (0, MOUNT_ATTR_RDONLY)), 0, 0)
    must(LIBC.syscall(MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, attributes, 32))


def enter_namespaces(writable):
    """PrivateUsers=, ProtectSystem=strict and StateDirectory=."""
    user, group = os.getuid(), os.getgid()
    must(LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNS))
    for name, text in (("uid_map", f"{user} {user} 1"), ("setgroups", "deny"),
                       ("gid_map", f"{group} {group} 1")):
        with open(f"/proc/self/{name}", "w") as f:
            f.write(text)
    must(LIBC.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))
    must(LIBC.mount(writable.encode(), writable.encode(), None, MS_BIND, None))
    set_readonly("/", True, AT_RECURSIVE)
    set_readonly(writable, False, 0)


def drop_privileges():
    """They would go with exec, as the user is not root; and never come again."""
    number = 0
    while LIBC.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1
    must(LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def filter_arguments(families):
    """RestrictAddressFamilies=, MemoryDenyWriteExecute= and RestrictNamespaces=."""
    import seccomp as sc
    f = sc.SyscallFilter(sc.ALLOW)
    f.add_rule(sc.ERRNO(38), "clone3")  # its flags cannot be seen; glibc takes clone
    f.add_rule(sc.ERRNO(1), "setns")
    for flag in NEW:
        for name in ("clone", "unshare"):
            f.add_rule(sc.ERRNO(1), name, sc.Arg(0, sc.MASKED_EQ, flag, flag))
    both = PROT_WRITE | PROT_EXEC
    f.add_rule(sc.ERRNO(1), "mmap", sc.Arg(2, sc.MASKED_EQ, both, both))
    for name in ("mprotect", "pkey_mprotect"):
        f.add_rule(sc.ERRNO(1), name, sc.Arg(2, sc.MASKED_EQ, PROT_EXEC, PROT_EXEC))
    f.add_rule(sc.ERRNO(1), "shmat", sc.Arg(2, sc.MASKED_EQ, SHM_EXEC, SHM_EXEC))
    f.add_rule(sc.ERRNO(97), "socket", sc.Arg(0, sc.GT, max(families)))
    for family in set(range(max(families))) - set(families):
        f.add_rule(sc.ERRNO(97), "socket", sc.Arg(0, sc.EQ, family))
    f.load()


def filter_calls(calls, kill):
    import seccomp as sc
    f = sc.SyscallFilter(sc.KILL_PROCESS if kill else sc.ERRNO(1))
    for name in calls:
        try:
            f.add_rule(sc.ALLOW, name)
        except RuntimeError:
            pass  # of another architecture, or newer than libseccomp
    f.load()


def run(what, command):
    enter_namespaces(what["writable"])
    os.umask(what["umask"])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (what["files"],) * 2)
    drop_privileges()
    filter_arguments(what["families"])
    filter_calls(what["calls"], what["kill"])
    os.execv(command[0], command)


if __name__ == "__main__":
    with open(sys.argv[1]) as opened:
        unit_text = json.load(opened)
    run(unit_text, sys.argv[2:])
