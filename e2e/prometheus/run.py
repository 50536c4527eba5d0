#!/usr/bin/env python3
"""Asks a real Prometheus every query of the dashboard and of the alerts, while two real servers are under load and in trouble.

    run.py --outspoke target/release/outspoke

Starts Redis, two servers of a cluster over it, and Prometheus twice: once with native histograms, once without, since dashboard
and alerts promise to work with either. Then `load.py` does a little of everything. In the end each query of each panel must have an
answer, with data, and above zero unless MAY_BE_ZERO says why not; each alert must be evaluated without an error, and everything
that it selects must exist. The last line says how many cases passed; the exit code is 1 if one did not.

Only programs of Debian and the Python 3 standard library are needed.
"""

import argparse
import asyncio
import contextlib
import hashlib
import json
import math
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request

sys.dont_write_bytecode = True
import load  # noqa: E402, the line before concerns it

ROOT = pathlib.Path(__file__).resolve().parents[2]
DASHBOARD = ROOT / "deploy/grafana/outspoke.json"
RULES = ROOT / "deploy/prometheus/alerts.yml"
PAGE = ROOT / "docs/operating/metrics.md"

# What must not happen here, or cannot be brought about without harming the rest. All of it must be there, as a zero.
MAY_BE_ZERO = {
    "outspoke_panics_total": "there must be none",
    "outspoke_store_gaps_total": "nothing that was stored is lost",
    "outspoke_congested": "a shard would have to be behind by 64 MiB",
    "outspoke_publishers_throttled_total": "as before",
    "outspoke_bus_unsent_total": "the bus would have to be away for 10 s",
    "outspoke_shard_inbox_bytes": "is empty again within a turn: seen only if a look falls into one",
    "outspoke_bus_queue_bytes": "as before",
}
# Alerts that this load must raise, at least as pending.
PROVOKED = ["OutspokeStoreRefuses", "OutspokeBusStrangers"]
# How long the load runs before the first question.
LOAD_SECONDS = 26
# What Grafana puts in; the scrape interval here is a second.
VARIABLES = {"$__rate_interval": "10s", "$__range": "60s", "$__interval": "1s", "$job": "hub", "$instance": ".*"}


class Prometheus:
    """A real one, with a port and a folder of its own."""

    def __init__(self, name, folder, targets, flags):
        self.name, self.port = name, free_port()
        self.folder = folder / name
        self.folder.mkdir()
        shutil.copy(RULES, self.folder / "alerts.yml")
        (self.folder / "prometheus.yml").write_text(
            "global: { scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s }\n"
            "rule_files: [alerts.yml]\n"
            "scrape_configs:\n  - job_name: hub\n    static_configs:\n"
            f"      - targets: {json.dumps(targets)}\n")
        self.process = start(folder / f"{name}.log", [
            "prometheus", f"--config.file={self.folder}/prometheus.yml", f"--storage.tsdb.path={self.folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}", "--query.lookback-delta=10s", *flags])

    def ask(self, what, **parameters):
        """An answer of the HTTP API, or the error in its words."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/api/v1/{what}?{query}", timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error).get("error", str(error))) from error

    async def ready(self):
        for _ in range(200):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5).close()
                return
            except OSError:
                await asyncio.sleep(0.1)
        sys.exit(f"prometheus: {self.name} does not become ready")


class Judge:
    """Counts, and says what failed."""

    def __init__(self):
        self.passed, self.failed = 0, 0

    def case(self, name, complaint):
        if complaint:
            self.failed += 1
            print(f"FAILED {name}: {complaint}", flush=True)
        else:
            self.passed += 1


def start(log, command, **more):
    with open(log, "wb") as output:
        return subprocess.Popen([str(part) for part in command], stdin=subprocess.DEVNULL, stdout=output, stderr=output, **more)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


async def listening(port):
    for _ in range(200):
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.05)
    sys.exit(f"prometheus: nobody listens at port {port}")


def write_config(folder, number, redis_port):
    """What a server is told: a stored room for talking, rooms for slow readers, keys, rates that can be met."""
    hashed = hashlib.sha256(load.KEY.encode()).hexdigest()
    path = folder / f"hub-{number}.yaml"
    path.write_text(f"""
server: {{ addr: "127.0.0.1:0", page: false, tcp_send_buffer: 4KiB, shards: 2 }}
metrics: {{ addr: "127.0.0.1:0" }}
log: {{ format: json }}
data: {{ dir: "{folder}/data-{number}" }}
cluster:
  enabled: true
  bus: redis
  name: hub-{number}
  secret: the-monitoring-suites-own-secret
  heartbeat: 1s
  redis: {{ url: "redis://127.0.0.1:{redis_port}" }}
store: {{ backend: redis, timeout: 1s, redis: {{ url: "redis://127.0.0.1:{redis_port}", timeout: 1s }} }}
rooms:
  default: ""
  classes:
    - {{ pattern: loud, durability: none, slow_client: disconnect }}
    - {{ pattern: newest, durability: none, slow_client: drop_oldest }}
    - {{ pattern: "*", durability: stored, history_messages: 10_000 }}
limits: {{ outbox_bytes_max: 64KiB, connections_per_user_max: 0 }}
rate: {{ exempt: [], connection: "100/s burst 200", user: 0, auth_failures: "20/s burst 20", actions: {{ membership: 0 }} }}
api: {{ keys: ["{load.API_KEY}"] }}
auth:
  first_message: true
  timeout: 1s
  keys:
    - {{ name: suite, user: suite, hash: "sha256:{hashed}", join: [talk, loud, newest], publish: [talk, elsewhere] }}
""")
    return path


async def addresses(log, process):
    """Where a server listens, and where it tells its metrics: from its log."""
    found = {}
    for _ in range(300):
        for line in log.read_text().splitlines():
            with contextlib.suppress(ValueError):
                event = json.loads(line)
                if event.get("message") in ("ready", "metrics are at /metrics"):
                    found[event["message"]] = event["address"]
        if len(found) == 2:
            return found["ready"], found["metrics are at /metrics"]
        if process.poll() is not None:
            break
        await asyncio.sleep(0.1)
    sys.exit(f"prometheus: a server does not start\n{log.read_text()[-2000:]}")


def panels():
    """Every query of the dashboard: its name, its expression, whether it is asked for one moment."""
    dashboard = json.loads(DASHBOARD.read_text())
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            yield f'{panel["title"]} / {target["legendFormat"]}', fill_in(target["expr"]), target["instant"]
    for annotation in dashboard["annotations"]["list"]:
        yield f'annotation {annotation["name"]}', fill_in(annotation["expr"]), None


def fill_in(expression):
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return expression


def numbers(data):
    """Every number of an answer, however it is shaped."""
    for series in data["result"]:
        for _, value in series.get("values", [series["value"]] if "value" in series else []):
            if not math.isnan(float(value)):
                yield float(value)


def ask_panel(prometheus, expression, instant):
    """What is wrong with the answer to a panel's query; nothing if all is well."""
    now = time.time()
    try:
        if instant:
            data = prometheus.ask("query", query=expression, time=now)
        else:
            data = prometheus.ask("query_range", query=expression, start=now - LOAD_SECONDS, end=now, step=1)
    except ValueError as error:
        return f"{error}\n  {expression}"
    if instant is None:
        # An annotation marks what happens seldom; that it can be asked is enough.
        return None
    values = list(numbers(data))
    if not values:
        return f"no data\n  {expression}"
    if max(values) <= 0 and not any(name in expression for name in MAY_BE_ZERO):
        return f"nothing above zero\n  {expression}"
    return None


def selectors(expression):
    """Everything that an expression selects, with its labels."""
    pattern = r"\b((?:outspoke[_:]|process_)[\w:]+|up\b)(\{[^}]*\})?"
    return {name + (labels or "") for name, labels in re.findall(pattern, expression)}


def exists(prometheus, selector):
    return bool(prometheus.ask("query", query=f"count(last_over_time({selector}[1m]))")["result"])


def judge_alerts(judge, both):
    for prometheus in both:
        groups = prometheus.ask("rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        judge.case(f"{prometheus.name}: rules are there", None if len(rules) > 20 else f"only {len(rules)}")
        for rule in rules:
            name = f'{prometheus.name}: {rule["name"]}'
            judge.case(name, None if rule["health"] == "ok" else f'{rule["health"]}: {rule.get("lastError")}')
            try:
                prometheus.ask("query", query=rule["query"])
                missing = [selector for selector in selectors(rule["query"])
                           if not any(exists(each, selector) for each in both)]
                complaint = f"selects what does not exist: {missing}" if missing else None
            except ValueError as error:
                complaint = str(error)
            judge.case(f"{name}, asked", complaint)
            if rule["type"] == "recording":
                judge.case(f"{name}, recorded", None if exists(prometheus, rule["name"]) else "no data")
        raised = prometheus.ask("query", query="count by (alertname) (last_over_time(ALERTS[1m]))")["result"]
        raised = {series["metric"]["alertname"] for series in raised}
        for name in PROVOKED:
            judge.case(f"{prometheus.name}: {name} was raised", None if name in raised else f"only {sorted(raised)}")


def judge_names(judge, native, classic):
    """What the page documents is what Prometheus has, in both forms."""
    documented = dict(re.findall(r"^\| `((?:outspoke|process)_\w+)` \| (\w+) \|", PAGE.read_text(), re.MULTILINE))
    judge.case("the page lists metrics", None if len(documented) > 40 else f"only {len(documented)}")
    for prometheus in (native, classic):
        there = set(prometheus.ask("label/__name__/values"))
        there = {name for name in there if name.startswith(("outspoke_", "process_"))}
        wanted = set()
        for name, kind in documented.items():
            parts = ["_bucket", "_count", "_sum"] if kind == "histogram" and prometheus is classic else [""]
            wanted.update(name + part for part in parts)
        complaint = None if there == wanted else f"not there: {sorted(wanted - there)}; not documented: {sorted(there - wanted)}"
        judge.case(f"{prometheus.name}: the page has every metric", complaint)


async def run(arguments, folder, processes):
    redis_port = free_port()
    redis = start(folder / "redis.log", [arguments.redis, "--port", redis_port, "--bind", "127.0.0.1", "--save", "",
                                         "--dir", folder, "--appendonly", "no"])
    processes.append(redis)
    await listening(redis_port)
    servers = []
    for number in (1, 2):
        log = folder / f"hub-{number}.log"
        config = write_config(folder, number, redis_port)
        process = start(log, [arguments.outspoke, "serve", "--config", config], cwd=folder)
        processes.append(process)
        servers.append((log, process))
    found = [await addresses(*server) for server in servers]
    targets = [metrics for _, metrics in found]
    native = Prometheus("native", folder, targets, ["--enable-feature=native-histograms"])
    processes.append(native.process)
    classic = Prometheus("classic", folder, targets, [])
    processes.append(classic.process)
    await asyncio.gather(native.ready(), classic.ready())

    tasks = load.everything([address for address, _ in found], load.Redis(redis_port, redis.pid))
    await asyncio.sleep(LOAD_SECONDS)
    print("the load has run; asking", flush=True)
    judge = Judge()
    for task in tasks:
        judge.case("a part of the load", repr(task.exception()) if task.done() else None)
    questions = list(panels())
    for prometheus in (native, classic):
        for name, expression, instant in questions:
            judge.case(f"{prometheus.name}: {name}", await asyncio.to_thread(ask_panel, prometheus, expression, instant))
    await asyncio.to_thread(judge_alerts, judge, [native, classic])
    judge_names(judge, native, classic)
    print("asked; ending", flush=True)
    for task in tasks:
        task.cancel()
    _, going_on = await asyncio.wait(tasks, timeout=10)
    judge.case("the load ends", f"{len(going_on)} parts do not" if going_on else None)
    return judge


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outspoke", required=True, type=pathlib.Path, help="the server's program")
    parser.add_argument("--redis", default="redis-server", help="Redis' program")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for logs; by default they go with the rest")
    arguments = parser.parse_args()
    arguments.outspoke = arguments.outspoke.resolve()
    processes = []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        try:
            judge = asyncio.run(run(arguments, folder, processes))
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                process.kill()
                process.wait()
            if arguments.keep:
                arguments.keep.mkdir(parents=True, exist_ok=True)
                for log in [*folder.glob("*.log"), *folder.glob("*.yaml")]:
                    shutil.copy(log, arguments.keep)
    print(f"prometheus: {judge.passed} passed, {judge.failed} failed")
    return 1 if judge.failed else 0


if __name__ == "__main__":
    sys.exit(main())
