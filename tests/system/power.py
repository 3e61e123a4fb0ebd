"""Power cuts: a file system in an image file, and copies of that file, each
taken in one moment.  What the file system has not written to its disk is not
in a copy.

The images lie on an XFS of their own, whose reflinks copy a file at once while
it is being written: no write of the inner file system is in a copy by half,
none is missing that came before one that is there.  All mounts are in a mount
namespace of this process: whatever becomes of it, they go with it.
"""
import ctypes
import fcntl
import os
import subprocess
from pathlib import Path

import pytest

from process import give, new_folder, tool

FICLONE = 0x40049409  # ioctl_ficlonerange(2)
CLONE_NEWNS = 0x20000
OUTER, INNER = 16 << 30, 320 << 20  # sparse; XFS wants 300 MiB

# How to make each, and how to mount it so that it writes nothing by itself for
# as long as a test may take.
KINDS = {"ext4": (["mkfs.ext4", "-q", "-F"], "commit=300"),
         "xfs": (["mkfs.xfs", "-q", "-m", "reflink=1"], "nouuid"),
         "btrfs": (["mkfs.btrfs", "-q"], "commit=300")}


def command(*args):
    done = subprocess.run([tool(args[0]) or args[0], *map(str, args[1:])],
                          capture_output=True, text=True)
    assert done.returncode == 0, f"{args}: {done.stdout}{done.stderr}"


def require_root():
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")


def require(*kinds):
    """Skips where this machine cannot mount images."""
    require_root()
    if not Path("/dev/loop-control").exists():
        pytest.skip("no loop devices")
    for kind in kinds:
        if not tool(f"mkfs.{kind}"):
            pytest.skip(f"mkfs.{kind} is not installed")


def enter_namespace():
    """Mounts from now on are seen by this process and its children alone."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        pytest.skip(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
    command("mount", "--make-rprivate", "/")


class Mounts:
    """Mounts that end with the block."""

    def __init__(self):
        self.folders = []

    def mount(self, what, folder, *options):
        command("mount", *options, what, folder)
        self.folders.append(folder)

    def unmount(self, folder):
        command("umount", folder)
        self.folders.remove(folder)

    def __enter__(self):
        require_root()
        enter_namespace()
        return self

    def __exit__(self, *_):
        for folder in reversed(self.folders):
            subprocess.run([tool("umount"), "-l", folder], check=False, capture_output=True)
        self.folders = []


class Disk(Mounts):
    """A file system of one kind; folder is in it, and of the plain user."""

    def __init__(self, parent, kind, size=INNER):
        super().__init__()
        require("xfs", kind)
        self.kind, self.size, self.cuts = kind, size, 0
        self.top = new_folder(parent, "disk")
        self.top.chmod(0o755)
        self.outer, self.inner = self.top / "images", self.top / "fs"
        self.image, self.folder = self.outer / "image", self.inner / "f"

    def __enter__(self):
        super().__enter__()
        try:
            self.make()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        super().__exit__()
        (self.top / "outer").unlink(missing_ok=True)

    def make(self):
        for folder in (self.outer, self.inner):
            folder.mkdir(mode=0o755)
        self.make_image(self.top / "outer", OUTER, "xfs")
        self.mount(self.top / "outer", self.outer, "-o", "loop")
        self.make_image(self.image, self.size, self.kind)
        self.insert(self.image)
        self.folder.mkdir()
        give(self.folder)
        self.folder.chmod(0o700)
        self.sync()

    @staticmethod
    def make_image(image, size, kind):
        with open(image, "wb") as f:
            f.truncate(size)
        command(*KINDS[kind][0], image)

    def sync(self):
        command("sync", "-f", self.folder)

    def cut(self):
        """The power goes: an image as the disk now is."""
        self.cuts += 1
        copy = self.outer / f"cut-{self.cuts}"
        with open(self.image, "rb") as source, open(copy, "wb") as target:
            fcntl.ioctl(target, FICLONE, source.fileno())
        return copy

    def insert(self, image):
        """The power is back: the image is mounted in place of what is there,
        which nobody may be using any more."""
        if self.inner in self.folders:
            self.unmount(self.inner)
        if self.kind == "btrfs":  # else it takes the copy for the first one
            subprocess.run([tool("btrfs"), "device", "scan", "--forget"], capture_output=True)
        self.mount(image, self.inner, "-o", f"loop,{KINDS[self.kind][1]}")
