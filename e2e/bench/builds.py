#!/usr/bin/env python3
"""Compares builds of the server on the fan-out, in rounds that alternate, so that what else the machine does hits all alike.

    builds.py before=path/to/outspoke after=path/to/outspoke [--rounds 9] [--scrape after] [-- --members 1000 --size 128]

Each round starts each build once, on a core of its own, and drives it with `outspoke bench fanout` of the last build named, on
another; every second round goes the other way round. With --scrape, that build's metrics are asked for every second meanwhile, as
Prometheus would. What counts is the median of the ratios within rounds, not the two medians. Arguments after -- are the driver's.

What metrics cost, for example, is the commit that brought them against the one before:

    M=$(git log --format=%h --diff-filter=A -- crates/hub/src/stats/histogram.rs)
    for commit in $M^ $M; do
      git worktree add ../build-$commit $commit && (cd ../build-$commit && cargo build --release --package outspoke)
    done
    e2e/bench/builds.py before=../build-$M^/target/release/outspoke after=../build-$M/target/release/outspoke --scrape after

Python 3's standard library only; Linux.
"""

import argparse
import contextlib
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import threading
import urllib.request


def main():
    ours, driver = sys.argv[1:], []
    if "--" in ours:
        at = ours.index("--")
        ours, driver = ours[:at], ours[at + 1:]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("builds", nargs="+", metavar="NAME=PATH")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--scrape", metavar="NAME", help="the build that is scraped meanwhile")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--driver-core", type=int, default=1)
    arguments = parser.parse_args(ours)
    builds = [build.split("=", 1) for build in arguments.builds]
    results = {name: [] for name, _ in builds}
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.rounds):
            for name, path in builds if number % 2 == 0 else reversed(builds):
                result = measure(arguments, driver, folder, name, path, builds[-1][1])
                results[name].append(result)
                print(f"round {number + 1} {name}: {result:,.0f}/s", flush=True)
    first = builds[0][0]
    for name, values in results.items():
        ratios = [value / base for value, base in zip(values, results[first])]
        print(f"{name}: median {statistics.median(values):,.0f}/s, to {first} {statistics.median(ratios):.3f} "
              f"({min(ratios):.3f} to {max(ratios):.3f})")


def measure(arguments, driver, folder, name, path, driving):
    """Deliveries per second of one build."""
    command = [str(pathlib.Path(path).resolve()), "serve", "--no-config", "--addr=127.0.0.1:0", "--set=log.format=json",
               "--set=rate.enabled=false", "--set=server.shards=1", "--set=store.backend=memory"]
    if name == arguments.scrape:
        command.append("--set=metrics.addr=127.0.0.1:0")
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                          preexec_fn=lambda: os.sched_setaffinity(0, {arguments.server_core})) as server:
        done = threading.Event()
        try:
            metrics, address = None, None
            for line in server.stderr:
                event = json.loads(line)
                if event.get("message") == "metrics are at /metrics":
                    metrics = event["address"]
                if event.get("message", "").startswith("ready"):
                    address = event["address"]
                    break
            if address is None:
                sys.exit(f"{name} does not start")
            threading.Thread(target=lambda: server.stderr.read(), daemon=True).start()
            if metrics:
                threading.Thread(target=scrape, args=(metrics, done), daemon=True).start()
            bench = [driving, "bench", "fanout", "--url", f"ws://{address}", "--server-pid", str(server.pid), "--json",
                     "--pin", str(arguments.driver_core), *driver]
            output = subprocess.run(bench, check=True, capture_output=True, text=True, timeout=120).stdout
        finally:
            done.set()
            server.terminate()
    return json.loads(output)["load"]["deliveries_per_s"]


def scrape(address, done):
    form = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"
    while not done.wait(1):
        with contextlib.suppress(OSError):
            urllib.request.urlopen(urllib.request.Request(f"http://{address}/metrics", headers={"Accept": form}), timeout=5).read()


if __name__ == "__main__":
    main()
