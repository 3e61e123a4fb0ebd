"""Real web servers with the files that smshook ships, on free ports."""
import os
import signal
import socket
from pathlib import Path

import pytest

from process import Process, give, new_folder, run, tool, wait_for, write

SOURCE = Path(os.environ.get("SMSHOOK_SRC", Path(__file__).parents[2]))
SANITIZERS = ("ASAN_OPTIONS", "UBSAN_OPTIONS", "TSAN_OPTIONS", "LSAN_OPTIONS")


def environment(directive):
    """Apache's programs get the options of the sanitizers, and no more."""
    return "".join(f'{directive} {n} "{os.environ[n]}"\n'
                   for n in SANITIZERS if n in os.environ)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def shipped(name, replace):
    """The text of a shipped file with other paths, each of which it must hold."""
    text = (SOURCE / name).read_text()
    for old, new in replace.items():
        assert old in text, f"{name} has no {old}"
        text = text.replace(old, str(new))
    return text


class Server:
    """Started by __init__, on another port when the first was taken."""

    program = None
    stop_signal = signal.SIGTERM

    def __init__(self, parent, socket_path=None, program=None, config=None):
        self.socket_path, self.receiver, self.config = socket_path, program, config
        if not tool(self.program):
            pytest.skip(f"{self.program} is not installed")
        self.folder = new_folder(parent, type(self).__name__.lower())
        self.error_log = self.folder / "error.log"
        for _ in range(5):
            self.port = free_port()
            self.write()
            self.process = Process(self.command(), self.folder / "output.log")
            if wait_for(self.program, self.state) == "ready":
                break
        else:
            raise RuntimeError(f"{self.program} does not start: {self.errors()}")

    def state(self):
        if not self.process.running():
            return "ended"
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
            return "ready"
        except OSError:
            return None

    def errors(self):
        log = self.error_log
        return self.process.text() + (log.read_text(errors="replace")
                                      if log.exists() else "")

    def access_logs(self):
        return "".join(p.read_text(errors="replace")
                       for p in sorted(self.folder.glob("*access.log")))

    def stop(self):
        self.process.stop(self.stop_signal)


class Nginx(Server):
    program = "nginx"
    stop_signal = signal.SIGQUIT

    def write(self):
        d = self.folder
        write(d / "fastcgi_params", Path("/etc/nginx/fastcgi_params").read_text())
        write(d / "smshook-http.conf", shipped("nginx/smshook-http.conf", {
            "/run/smshook/smshook.sock": self.socket_path}))
        write(d / "smshook.conf", shipped("nginx/smshook.conf", {
            "/var/log/nginx": d}))
        write(d / "nginx.conf", f"""
pid {d}/pid;
error_log {d}/error.log;
worker_processes 2;
events {{ worker_connections 512; }}
http {{
	client_body_temp_path {d}/body;
	proxy_temp_path {d}/proxy;
	fastcgi_temp_path {d}/fastcgi;
	uwsgi_temp_path {d}/uwsgi;
	scgi_temp_path {d}/scgi;
	include smshook-http.conf;
	access_log {d}/access.log combined if=$smshook_other;
	server {{
		listen 127.0.0.1:{self.port};
		location / {{ return 404; }}
		include smshook.conf;
	}}
}}
""")

    def command(self):
        d = self.folder
        # Before 1.19.5 it writes to its own log until it has read its file.
        log = ["-e", d / "error.log"] if b"[-e" in run([tool("nginx"), "-h"]).stderr else []
        return [tool("nginx"), "-p", d, *log, "-c", d / "nginx.conf", "-g", "daemon off;"]


# What apache/*.conf say to add to other logs.
OTHERS = '"expr=-z reqenv(\'smshook\') && %{THE_REQUEST} !~ /smshook/"'


class Apache(Server):
    program = "apache2"
    stop_signal = signal.SIGTERM
    modules = ["mpm_event", "authn_core", "authz_core", "authz_host", "alias",
               "env", "setenvif", "mime", "reqtimeout"]
    extra = []
    shipped_name = None
    more = ""
    set_environment = "SetEnv"

    def module_folder(self):
        for folder in ("/usr/lib/apache2/modules", "/usr/lib64/httpd/modules",
                       "/usr/lib/httpd/modules"):
            if Path(folder, "mod_mpm_event.so").exists():
                return Path(folder)
        pytest.skip("Apache's modules are not where they are looked for")

    def load(self):
        folder = self.module_folder()
        for name in self.modules + self.extra:
            if not (folder / f"mod_{name}.so").exists():
                pytest.skip(f"Apache's mod_{name} is not installed")
        return "\n".join(f"LoadModule {m}_module {folder}/mod_{m}.so"
                         for m in self.modules + self.extra)

    def write(self):
        d = self.folder
        (d / "www").mkdir(exist_ok=True)
        write(d / "httpd.conf", f"""
{self.load()}
ServerRoot {d}
DefaultRuntimeDir {d}
PidFile {d}/pid
Mutex file:{d} default
ServerName localhost
Listen 127.0.0.1:{self.port}
DocumentRoot {d}/www
TypesConfig /dev/null
ErrorLog {d}/error.log
LogLevel warn
RequestReadTimeout header=20-40,minrate=500 body=10,minrate=500
<Directory />
	Options FollowSymLinks
	AllowOverride None
	Require all denied
</Directory>
LogFormat "%h %l %u %t \\"%r\\" %>s %O \\"%{{Referer}}i\\"" combined
{self.more.format(d=d)}
{environment(self.set_environment)}
<VirtualHost *>
	CustomLog {d}/access.log combined {OTHERS}
	Include {d}/smshook.conf
</VirtualHost>
""")
        self.write_shipped()

    def write_shipped(self):
        write(self.folder / "smshook.conf", shipped(self.shipped_name, {
            **self.paths(), "/var/log/apache2": self.folder}))

    def program_paths(self):
        return {"/usr/lib/smshook/smshook.fcgi": self.receiver,
                '"/usr/lib/smshook"': f'"{self.receiver.parent}"',
                "/etc/smshook/smshook.conf": self.config}

    def command(self):
        return [tool("apache2"), "-d", self.folder, "-f",
                self.folder / "httpd.conf", "-DFOREGROUND"]


class ApacheProxy(Apache):
    extra = ["proxy", "proxy_fcgi"]
    shipped_name = "apache/smshook-proxy.conf"

    def paths(self):
        return {"/run/smshook/smshook.sock": self.socket_path}


class ApacheFcgid(Apache):
    extra = ["fcgid"]
    shipped_name = "apache/smshook-fcgid.conf"
    more = ("AddHandler fcgid-script .fcgi\nFcgidIPCDir {d}/fcgid\n"
            "FcgidProcessTableFile {d}/fcgid_shm\n")
    set_environment = "FcgidInitialEnv"

    def paths(self):
        return self.program_paths()


class ApacheCgid(Apache):
    # With Debian's handler of mod_fcgid, which wants every *.fcgi.
    extra = ["cgid", "fcgid"]
    shipped_name = "apache/smshook-cgi.conf"
    more = ("AddHandler fcgid-script .fcgi\nScriptSock {d}/cgisock\n"
            "FcgidIPCDir {d}/fcgid\nFcgidProcessTableFile {d}/fcgid_shm\n")

    def paths(self):
        return self.program_paths()


class Lighttpd(Server):
    program = "lighttpd"
    stop_signal = signal.SIGTERM

    def write(self):
        d = self.folder
        for name in ("www", "uploads"):
            (d / name).mkdir(exist_ok=True)
            give(d / name)
        write(d / "smshook.conf", shipped("lighttpd/smshook.conf", {
            "/run/smshook/smshook.sock": self.socket_path}))
        write(d / "lighttpd.conf", f"""
server.modules = ( "mod_access", "mod_accesslog" )
server.document-root = "{d}/www"
server.upload-dirs = ( "{d}/uploads" )
server.errorlog = "{d}/error.log"
server.bind = "127.0.0.1"
server.port = {self.port}
server.http-parseopts = (
	"url-normalize-unreserved" => "enable",
	"url-normalize-required" => "enable",
	"url-ctrls-reject" => "enable",
	"url-path-2f-decode" => "enable",
	"url-path-dotseg-remove" => "enable"
)
accesslog.filename = "{d}/access.log"
include "{d}/smshook.conf"
""")

    def command(self):
        return [tool("lighttpd"), "-D", "-f", self.folder / "lighttpd.conf"]
