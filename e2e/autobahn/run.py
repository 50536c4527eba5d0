#!/usr/bin/env python3
"""Runs the Autobahn test suite against a WebSocket server or client and compares with the committed result.

    run.py server ws://127.0.0.1:9001          the fuzzing client against a running echo server
    run.py client -- COMMAND ARGS... {url}     a fuzzing server for an echo client that is started here

Every case must pass ("OK", or what Autobahn itself labels "NON-STRICT" or "INFORMATIONAL") and must be as good as the
committed `expected-server.json` or `expected-client.json`. The last line says so; the exit code is 1 if not.

The suite needs Python 2.7 (OUTSPOKE_PYTHON2, else python2.7 in PATH, else pyenv's); it is installed once into a virtual
environment in the cache folder. Without a Python 2.7 the run is skipped, said in the last line, with exit code 0.
"""

import argparse
import concurrent.futures
import glob
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
SUITE = "autobahntestsuite==25.10.1"
AGENT = "outspoke"
# The suite takes one case at a time, mostly in its own Python; so groups run side by side, the longest first.
GROUPS = (
    [["12.3.*"], ["13.7.*"], ["13.4.*"], ["13.3.*"], ["12.1.*"], ["13.5.*"], ["13.6.*"], ["12.4.*"], ["13.1.*"]]
    + [["13.2.*"], ["12.2.*"], ["12.5.*"], ["9.*"], ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "10.*"]]
)
RANK = {"OK": 0, "NON-STRICT": 1, "INFORMATIONAL": 1}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="groups of cases side by side")
    parser.add_argument("--cases", help="only these, such as '1.*,9.1.*'; nothing is expected of the others")
    parser.add_argument("--cache", default=os.environ.get("OUTSPOKE_AUTOBAHN_CACHE", "target/autobahn"),
                        help="folder for the virtual environment and the reports")
    parser.add_argument("--bless", action="store_true", help="write the result as the expected one")
    roles = parser.add_subparsers(dest="role", required=True)
    server = roles.add_parser("server", help="test a server")
    server.add_argument("url")
    client = roles.add_parser("client", help="test a client")
    client.add_argument("command", nargs="+", help="the client; {url} stands for the fuzzing server's address")
    arguments = parser.parse_args()

    cache = pathlib.Path(arguments.cache).resolve()
    wstest = install(cache)
    if wstest is None:
        print(f"autobahn {arguments.role}: skipped, no Python 2.7 found")
        return 0
    started = time.monotonic()
    results = run(arguments, wstest, cache / "reports" / arguments.role)
    print(f"{len(results)} cases in {time.monotonic() - started:.0f} s")
    return judge(arguments, results)


def python2():
    """A Python 2.7, or None."""
    candidates = [os.environ.get("OUTSPOKE_PYTHON2"), shutil.which("python2.7"), shutil.which("python2")]
    candidates += sorted(glob.glob(os.path.expanduser("~/.pyenv/versions/2.7*/bin/python")))
    for candidate in filter(None, candidates):
        version = subprocess.run([candidate, "-c", "import sys; print(sys.version_info[:2] == (2, 7))"],
                                 capture_output=True, text=True, check=False)
        if version.stdout.strip() == "True":
            return candidate
    return None


def install(cache):
    """The suite's wstest, installed if need be; None without Python 2.7."""
    wstest = cache / "venv" / "bin" / "wstest"
    if wstest.exists():
        return wstest
    python = python2()
    if python is None:
        return None
    print(f"installing {SUITE} with {python} into {cache}")
    cache.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ, PYTHONWARNINGS="ignore", PIP_DISABLE_PIP_VERSION_CHECK="1")
    log = cache / "install.log"
    with log.open("w") as output:
        def step(*command, **extra):
            subprocess.run(command, check=True, stdout=output, stderr=output, env=dict(environment, **extra))
        try:
            # virtualenv 20.15 is the last one that can make a Python 2.7 environment.
            tools = str(cache / "tools")
            step(python, "-m", "pip", "install", "--quiet", "--target", tools, "virtualenv<20.16")
            step(python, "-m", "virtualenv", str(cache / "venv"), PYTHONPATH=tools)
            step(str(cache / "venv" / "bin" / "pip"), "install", SUITE)
        except subprocess.CalledProcessError as error:
            shutil.rmtree(cache / "venv", ignore_errors=True)
            sys.exit(f"autobahn: {' '.join(map(str, error.cmd))} failed; see {log}")
    return wstest


def run(arguments, wstest, reports):
    """case -> behavior, over all groups."""
    shutil.rmtree(reports, ignore_errors=True)
    groups = [arguments.cases.split(",")] if arguments.cases else GROUPS
    one = run_server_group if arguments.role == "server" else run_client_group
    results = {}
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        tasks = [pool.submit(one, arguments, wstest, reports / str(index), cases)
                 for index, cases in enumerate(groups)]
        for task in concurrent.futures.as_completed(tasks):
            results.update(task.result())
    return results


def write_spec(folder, cases, **role):
    folder.mkdir(parents=True)
    spec = folder / "spec.json"
    spec.write_text(json.dumps({"outdir": str(folder), "cases": cases, "exclude-cases": [],
                                "exclude-agent-cases": {}, **role}))
    return spec


def run_server_group(arguments, wstest, folder, cases):
    spec = write_spec(folder, cases, servers=[{"agent": AGENT, "url": arguments.url}])
    with (folder / "wstest.log").open("w") as log:
        subprocess.run([wstest, "-m", "fuzzingclient", "-s", spec], stdout=log, stderr=log, check=True, cwd=folder)
    return read_index(folder)


def run_client_group(arguments, wstest, folder, cases):
    port = free_port()
    url = f"ws://127.0.0.1:{port}"
    spec = write_spec(folder, cases, url=url)
    with (folder / "wstest.log").open("w") as log, (folder / "client.log").open("w") as client_log:
        server = subprocess.Popen([wstest, "-m", "fuzzingserver", "-s", spec, "-u", "0"], stdout=log, stderr=log,
                                  cwd=folder)
        try:
            wait_for_port(port, server)
            command = [word.replace("{url}", url) for word in arguments.command]
            subprocess.run(command, stdout=client_log, stderr=client_log, check=True)
        finally:
            server.terminate()
            server.wait()
    return read_index(folder)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for_port(port, server):
    for _ in range(600):
        if server.poll() is not None:
            sys.exit("autobahn: the fuzzing server ended; see its wstest.log")
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.05)
    sys.exit("autobahn: the fuzzing server does not listen")


def read_index(folder):
    """case -> the worse of its behavior and its closing behavior."""
    index = json.loads((folder / "index.json").read_text())
    cases = index.get(AGENT, {})
    return {case: max(result["behavior"], result["behaviorClose"], key=rank) for case, result in cases.items()}


def rank(behavior):
    return RANK.get(behavior, 2)


def judge(arguments, results):
    """Prints what is wrong and the closing line; gives the exit code."""
    ordered = dict(sorted(results.items(), key=lambda item: [int(part) for part in item[0].split(".")]))
    path = HERE / f"expected-{arguments.role}.json"
    if arguments.bless:
        lines = [f"  {json.dumps(case)}: {json.dumps(behavior)}" for case, behavior in ordered.items()]
        path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    expected = json.loads(path.read_text())
    if arguments.cases:
        expected = {case: behavior for case, behavior in expected.items() if case in results}
    failed = [case for case, behavior in ordered.items() if rank(behavior) > 1]
    worse = [case for case in expected if rank(ordered.get(case, "MISSING")) > rank(expected[case])]
    for case in sorted(set(failed + worse)):
        print(f"{case}: {ordered.get(case, 'MISSING')}, expected {expected.get(case, 'OK')}")
    print(f"autobahn {arguments.role}: {len(ordered) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed or worse or not ordered else 0


if __name__ == "__main__":
    sys.exit(main())
