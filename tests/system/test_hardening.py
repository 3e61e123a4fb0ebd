"""The programs are built and installed as they should be."""
import os
import platform
import re
import stat
import subprocess

import pytest

import receiver as rx
from process import new_folder, tool


def variable(name):
    """Of the build's Makefile."""
    makefile = rx.BUILD / "Makefile"
    if not makefile.exists():
        pytest.skip("the build has no Makefile")
    return re.search(rf"^{name} = ?(.*)$", makefile.read_text(), re.M)[1]


def readelf(option, path):
    if not tool("readelf"):
        pytest.skip("readelf is not installed")
    return subprocess.run([tool("readelf"), "-W", option, path], check=True,
                          stdout=subprocess.PIPE, text=True).stdout


@pytest.fixture(scope="module", params=["smshook.fcgi", "smshook"])
def elf(request):
    """elf(option) is what readelf says of a program."""
    if "_FORTIFY_SOURCE" not in variable("our_cppflags"):
        pytest.skip("built without hardening")
    return lambda option: readelf(option, rx.BUILD / request.param)


def test_position_independent(elf):
    assert re.search(r"Type:\s+DYN", elf("--file-header"))


def test_relocations_are_read_only(elf):
    """All of them, for all are resolved at the start."""
    assert "GNU_RELRO" in elf("--program-headers")
    assert re.search(r"\(FLAGS(_1)?\).*NOW", elf("--dynamic"))


def test_no_memory_is_written_and_executed(elf):
    headers = elf("--program-headers")
    stack = re.search(r"GNU_STACK.* ([RWE ]{3}) ", headers)[1]
    assert stack == "RW "
    assert "RWE" not in headers
    assert "TEXTREL" not in elf("--dynamic")


def test_no_library_is_looked_for_in_other_folders(elf):
    assert not re.search("RPATH|RUNPATH", elf("--dynamic"))


def test_stack_protector_and_checked_functions(elf):
    undefined = set(re.findall(r"UND (\w+)", elf("--dyn-syms")))
    assert "__stack_chk_fail" in undefined
    if "-O0" in variable("CFLAGS"):
        pytest.skip("without optimisation nothing is checked")
    assert {"__vsnprintf_chk", "__snprintf_chk"} & undefined


def test_control_flow_protection():
    """In all that is ours: Debian's start files have no such note, so that a whole
    program has none either."""
    if "-fcf-protection" not in variable("our_cflags") or platform.machine() != "x86_64":
        pytest.skip("not built for it")
    objects = [o for d in ("src", "cgi") for o in sorted((rx.BUILD / d).glob("*.o"))]
    assert objects
    for o in objects:
        assert re.search("x86 feature:.*IBT.*SHSTK", readelf("--notes", o)), o


def test_nothing_installed_is_open_to_others(top):
    """No bit of setuid or setgid, no file that others may write, no folder either."""
    variable("prefix")  # there is a Makefile
    folder = new_folder(top, "installed")
    folder.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    old = os.umask(0o022)
    try:
        done = subprocess.run(["make", "-s", "install", f"DESTDIR={folder}"], cwd=rx.BUILD,
                              env=environment, capture_output=True, text=True)
    finally:
        os.umask(old)
    assert done.returncode == 0, done.stderr
    found = list(folder.rglob("*"))
    assert {"smshook.fcgi", "smshook", "roles.sql", "smshook.conf.5"} <= {p.name for p in found}
    for path in found:
        mode = path.lstat().st_mode
        assert not mode & (stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH), path
    assert sorted(p.name for p in found if p.is_file() and p.stat().st_mode & 0o111) == [
        "smshook", "smshook.fcgi"]
