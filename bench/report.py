"""From raw figures: the table, CSV and plots; and what they were measured on."""
import csv
import json
import os
import platform
import subprocess
from pathlib import Path

from contenders import BUILD, CONTENDERS, POSTGRES, Missing, packages
from figures import BATCHES, CONNECTIONS
from process import tool


# ------------------------------------------------------------- the machine

def first_line(*args):
    """Of what a program says of its version."""
    if not tool(args[0]) and not Path(args[0]).exists():
        return "not installed"
    done = subprocess.run([tool(args[0]) or args[0], *args[1:]], capture_output=True, text=True,
                          timeout=30, check=False)
    return ((done.stdout + done.stderr).strip() or "unknown").split("\n")[0]


def field(path, name, sign=":"):
    for line in Path(path).read_text().splitlines():
        if line.startswith(name):
            return line.partition(sign)[2].strip()
    return "unknown"


def npm_versions():
    try:
        folder = packages() / "node_modules"
    except Missing:
        return "not installed"
    return ", ".join(f"{p} {json.loads((folder / p / 'package.json').read_text())['version']}"
                     for p in ("fastify", "pg"))


def filesystem(folder):
    line = subprocess.run(["df", "-T", folder], capture_output=True, text=True, check=True).stdout
    return line.splitlines()[1].split()[1]


def machine(folder, programs, names):
    """[(what, value)] of what all runs on."""
    memory = int(field("/proc/meminfo", "MemTotal").split()[0]) / 2**20
    system = field("/etc/os-release", "PRETTY_NAME", "=").strip('"')
    facts = [
        ("processor", field("/proc/cpuinfo", "model name")),
        ("cores", len(os.sched_getaffinity(0))),
        ("memory", f"{memory:.1f} GiB"),
        ("system", f"{system}, Linux {platform.release()}"),
        ("filesystem", filesystem(folder)),
        ("load before", Path("/proc/loadavg").read_text().split()[0]),
        ("smshook", first_line(str(BUILD / "smshook"), "--version")),
        ("PostgreSQL", first_line(f"{programs}/postgres", "--version")),
        ("its settings", ", ".join(f"{k} = {v}" for k, v in POSTGRES.items())),
        ("nginx", first_line("nginx", "-v")),
        ("wrk", first_line("wrk", "-v")),
    ]
    if {"php_fpm", "php_cgi"} & set(names):
        facts.append(("PHP", first_line("php-cgi", "-v")))
    if "node" in names:
        facts.append(("Node", f"{first_line('node', '--version')}, {npm_versions()}"))
    if "webhook" in names:
        facts.append(("webhook", first_line("webhook", "-version")))
    return facts


# --------------------------------------------------------------- the table

def ratio(a, b):
    return a / b if a is not None and b else None


def targets(rec, ours="smshook", our_cgi="smshook_cgi"):
    """[(figure, measured, unit, sign, to reach)]; measured None: it was not."""
    def rate(who):
        return rec.median("rates", who, 64, "rate")

    def p99(who):
        return rec.median("rates", who, 64, "p99_ms")

    def cpu(who):
        return rec.median("rates", who, 64, "cpu_us")
    one, bare = (rec.median("rates", w, 1, "p50_ms") for w in (ours, "commit"))
    php, php_pooled = (rec.median("cgi", "php_cgi", s, "p50_ms") for s in ("postgresql", "pgbouncer"))
    pooled = rec.median("cgi", our_cgi, "pgbouncer", "p50_ms")
    stored, spooled = (rec.median("cgi", our_cgi, s, "p50_ms") for s in ("postgresql", "spool"))
    return [
        ("events/s at 64 connections, as a multiple of PHP-FPM",
         ratio(rate(ours), rate("php_fpm")), "", ">=", 7),
        ("the same of Node", ratio(rate(ours), rate("node")), "", ">=", 6),
        ("share of the empty handler's rate at 64 connections",
         ratio(rate(ours), rate("empty")), "", ">=", 0.7),
        ("slowest percent at 64 connections, of PHP-FPM's",
         ratio(p99(ours), p99("php_fpm")), "", "<=", 0.3),
        ("one connection: time of a request beyond a bare commit",
         one - bare if one and bare else None, "ms", "<=", 0.25),
        ("processor time an event (receiver and PostgreSQL), of Node's",
         ratio(cpu(ours), cpu("node")), "", "<=", 0.25),
        ("CGI, into PostgreSQL: time of a request, of php-cgi's", ratio(stored, php), "", "<=", 0.4),
        ("the same, both through pgbouncer", ratio(pooled, php_pooled), "", "<=", 0.4),
        ("CGI, into the spool: time of a request, of php-cgi's", ratio(spooled, php), "", "<=", 0.1),
        ("memory of the receiver at 64 threads under full load",
         rec.median("memory", "smshook", 64, "rss_mib"), "MiB", "<=", 12),
        (f"rate at {rec.events:,} events, of the empty table's",
         ratio(rec.median("table", "large_table", rec.events, "rate"),
               rec.median("table", "empty_table", 0, "rate")), "", ">=", 0.95),
        ("drain of the spool", rec.median("drain", "smshook", "alone", "rate"), "events/s", ">=",
         30000),
        ("from POST to a LISTENer's wake-up, one connection, half of them",
         rec.median("listen", "smshook", 1, "p50_ms"), "ms", "<=", 2),
        ("`./configure && make -j2` from clean", rec.median("build", "smshook", "clean", "s"), "s",
         "<=", 15),
    ]


def number(x):
    if x is None:
        return "-"
    return f"{x:,.0f}" if abs(x) >= 1000 else f"{x:.3g}"


def columns(head, rows):
    """A table in markdown, aligned."""
    rows = [[str(c) for c in row] for row in [head, *rows]]
    width = [max(len(row[i]) for row in rows) for i in range(len(head))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, width)) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in width) + "|", *lines[1:]])


def target_table(rec):
    """Beside each figure the same of the floor, where that was measured."""
    rows = []
    for (what, value, unit, sign, limit), floor in zip(targets(rec), targets(rec, "floor", "floor_cgi")):
        if value is not None:
            reached = value >= limit if sign == ">=" else value <= limit
            other = floor[1] not in (None, value)
            rows.append((what, f"{number(value)} {unit}".strip(), f"{sign} {limit:,} {unit}".strip(),
                         "yes" if reached else "no", f"{number(floor[1])} {unit}".strip() if other else ""))
    return columns(("figure", "measured", "to reach", "reached", "the floor"), rows) if rows else ""


def rate_table(rec):
    head = ["server"] + [f"{m} at {n}" for m in ("events/s", "99 % ms") for n in CONNECTIONS]
    head += ["half ms at 1", "processor us an event at 64"]
    rows = []
    for who in CONTENDERS:
        cells = [rec.median("rates", who, n, m) for m in ("rate", "p99_ms") for n in CONNECTIONS]
        cells += [rec.median("rates", who, 1, "p50_ms"), rec.median("rates", who, 64, "cpu_us")]
        if any(cells):
            rows.append([who, *map(number, cells)])
    return columns(head, rows) if rows else ""


def others(rec):
    """Medians of all that is in neither table."""
    keys = dict.fromkeys(row[:4] for row in rec.rows
                         if row[0] not in ("rates", "cgi", "build", "listen")
                         and row[3] not in ("max_ms", "pages"))
    rows = [(p, who, setting, measure, number(rec.median(p, who, setting, measure)))
            for p, who, setting, measure in keys
            if measure != "bad" or rec.median(p, who, setting, measure)]
    return columns(("part", "what", "setting", "measure", "median"), rows) if rows else ""


def markdown(rec, facts):
    texts = [columns(("on", "what"), facts), f"{rec.rounds} rounds of {rec.seconds:g} s; medians."]
    texts += [t for t in (target_table(rec), rate_table(rec), others(rec)) if t]
    bad = sum(row[5] for row in rec.rows if row[3] == "bad" and row[0] != "flood")
    return "\n\n".join(texts + [f"Answers that were not 2xx, in all: {bad}.", ""])


# ------------------------------------------------------------------- plots

GNUPLOT = """set terminal svg size 900,420 font 'sans-serif,13' background 'white'
set output '{output}'
set title '{title}'
set ylabel '{ylabel}'
set xlabel '{xlabel}'
set grid ytics
set key outside right
{style}
$data << EOD
{data}
EOD
plot {plots}
"""
BARS = "set style data histograms\nset style fill solid 0.8\nset boxwidth 0.9\nset logscale y"


def plot(folder, name, title, xlabel, ylabel, head, rows):
    """head: names of the series; rows: [(x, values)].  Bars, by a logarithmic scale."""
    rows = [(x, values) for x, values in rows if any(v is not None for v in values)]
    if not rows:
        return
    kept = [i for i in range(len(head)) if any(v[i] is not None for _, v in rows)]
    data = "\n".join(" ".join([f'"{x}"', *(str(v[i]) if v[i] is not None else "?" for i in kept)])
                     for x, v in rows)
    style = "set datafile missing '?'\n" + (BARS if len(kept) > 1 else BARS.replace(
        "\nset logscale y", "") + "\nset key off\nset yrange [0:*]")
    plots = ", ".join(f"$data using {n + 2}:xtic(1) title '{head[i]}' noenhanced"
                      for n, i in enumerate(kept))
    text = GNUPLOT.format(output=folder / f"{name}.svg", title=title, xlabel=xlabel, ylabel=ylabel,
                          style=style, data=data, plots=plots)
    done = subprocess.run([tool("gnuplot"), "-"], input=text, text=True,
                          capture_output=True, timeout=60, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr)


def plots(rec, folder):
    names = list(CONTENDERS)
    for measure, name, title, unit in (
            ("rate", "rates", "Events committed a second", "events/s"),
            ("p99_ms", "p99", "Slowest percent", "ms")):
        plot(folder, name, f"{title}, by connections", "connections", unit, names,
             [(n, [rec.median("rates", who, n, measure) for who in names]) for n in CONNECTIONS])
    plot(folder, "batches", "sms.ingest from one connection", "events in a batch", "events/s",
         ["rate"], [(n, [rec.median("batches", "postgresql", n, "rate")]) for n in BATCHES])
    plot(folder, "table", "Rate at 64 connections, by size of the table", "events there before",
         "events/s", ["rate"], [
             ("none", [rec.median("table", "empty_table", 0, "rate")]),
             (f"{rec.events:,}", [rec.median("table", "large_table", rec.events, "rate")])])


def write_csv(rec, folder):
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "results.csv", "w", newline="") as out:
        w = csv.writer(out)
        w.writerow(("part", "what", "setting", "measure", "round", "value"))
        w.writerows(rec.rows)


def write_all(rec, facts, folder):
    """The tables and the plots; the text of the tables."""
    for old in folder.glob("*.svg"):
        old.unlink()
    text = markdown(rec, facts)
    (folder / "results.md").write_text(text)
    if tool("gnuplot"):
        plots(rec, folder)
    return text
