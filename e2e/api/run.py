#!/usr/bin/env python3
"""Runs schemathesis against a running server: every operation of the API's own description, with what fits it and what does not.

    run.py 127.0.0.1:8080 --key KEY

All checks are on, examples are bounded, the seed is fixed. A client is kept connected meanwhile, so that messages to a
client and to a user have somewhere to go. The last line says how many cases passed; the exit code is 1 if one did not.

schemathesis is installed once, as `requirements.txt` pins it, into a virtual environment in the cache folder. Only the
Python 3 standard library is needed to run this script itself.
"""

import argparse
import base64
import hashlib
import json
import os
import pathlib
import re
import socket
import subprocess
import sys
import threading
import urllib.request
import venv

HERE = pathlib.Path(__file__).resolve().parent
USER = "schemathesis"
TENANT = "tested"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="host:port of the server; it must have tenants.enabled")
    parser.add_argument("--key", required=True, help="one of the server's api.keys")
    parser.add_argument("--examples", type=int, default=30, help="generated cases for each operation and phase")
    parser.add_argument("--seed", type=int, default=20260131)
    parser.add_argument("--cache", default=os.environ.get("OUTSPOKE_SCHEMATHESIS_CACHE", "target/schemathesis"),
                        help="folder for the virtual environment and the log")
    arguments = parser.parse_args()
    cache = pathlib.Path(arguments.cache).resolve()
    tool = install(cache)
    make_tenant(arguments)
    with Client(arguments.address) as client:
        config = write_config(cache, client.id)
        output = run(tool, config, arguments)
    (cache / "schemathesis.log").write_text(output)
    print(output)
    uploaded = upload(cache, arguments.address)
    return judge(output, uploaded)


def install(cache):
    """schemathesis, installed if need be."""
    wanted = (HERE / "requirements.txt").read_text()
    stamp = cache / "venv" / hashlib.sha256(wanted.encode()).hexdigest()
    tool = cache / "venv" / "bin" / "schemathesis"
    if stamp.exists():
        return tool
    print(f"installing schemathesis into {cache}", flush=True)
    venv.create(cache / "venv", with_pip=True, clear=True)
    command = [cache / "venv" / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check",
               "--requirement", HERE / "requirements.txt"]
    installed = subprocess.run(command, capture_output=True, text=True, check=False)
    if installed.returncode != 0:
        sys.stderr.write(installed.stderr)
        sys.exit("api: schemathesis could not be installed from PyPI (see above); this suite needs the network once, or a "
                 "mirror that pip is configured for (PIP_INDEX_URL), and keeps what it has installed")
    stamp.touch()
    return tool


def make_tenant(arguments):
    """The tenant that everything happens in."""
    request = urllib.request.Request(
        f"http://{arguments.address}/api/v1/tenants/{TENANT}", data=b"{}", method="PUT",
        headers={"Authorization": f"Bearer {arguments.key}", "Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=10).close()


class Client:
    """A WebSocket client that is there, and reads whatever comes."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=10)
        key = base64.b64encode(os.urandom(16)).decode()
        path = f"/t/{TENANT}/ws?userId={USER}&username={USER}&join=none"
        request = (f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                   f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n")
        self.socket.sendall(request.encode())
        received = b""
        while b"clientId" not in received or not received.endswith(b"}"):
            more = self.socket.recv(65536)
            if not more:
                sys.exit(f"api: the server does not let a client in: {received.decode(errors='replace')}")
            received += more
        self.id = re.search(rb'"clientId":"([^"]+)"', received)[1].decode()
        self.socket.settimeout(None)
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            while self.socket.recv(65536):
                pass
        except OSError:
            pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def write_config(cache, client):
    """Names that exist: a tenant for all operations, a client and a user for the two that need one."""
    config = cache / "schemathesis.toml"
    config.write_text(f"""
[parameters]
"header.X-Tenant" = "{TENANT}"

[[operations]]
include-path = "/clients/{{client}}/messages"
parameters = {{ "path.client" = {json.dumps(client)} }}

[[operations]]
include-path = "/users/{{user}}/messages"
parameters = {{ "path.user" = "{USER}" }}

# Which message is meant is said in one of two ways, and OpenAPI has no words for that.
[[operations]]
include-path = "/explain"
checks = {{ positive_data_acceptance = {{ expected-statuses = ["2xx", "400", "401", "403", "404"] }} }}

# It has no end.
[[operations]]
include-path = "/follow"
enabled = false
""")
    return config


def run(tool, config, arguments):
    command = [tool, f"--config-file={config}", "run", f"http://{arguments.address}/api/v1/openapi.json",
               "--header", f"Authorization: Bearer {arguments.key}", "--checks=all", "--mode=all",
               f"--max-examples={arguments.examples}", f"--seed={arguments.seed}", "--generation-database=none",
               "--no-color", "--workers=1", "--continue-on-failure"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=config.parent)
    return ended.stdout + ended.stderr


def upload(cache, address):
    """Whether another's client of the tus protocol gets a file through."""
    command = [cache / "venv" / "bin" / "python", HERE / "tus.py", address]
    return subprocess.run(command, check=False, timeout=300).returncode == 0


def judge(output, uploaded):
    """The counts, in one line; the upload is one case."""
    cases = re.search(r"(\d+) generated(?:, \d+ found (\d+) unique failures)?(?:, (\d+) passed)?", output)
    errors = re.search(r"(\d+) errors?\b.* in [\d.]+s", output)
    if cases is None:
        print("api: 0 passed, 1 failed")
        return 1
    failed = int(cases[2] or 0) + (int(errors[1]) if errors else 0)
    passed = int(cases[3] or int(cases[1]) - failed) + uploaded
    failed += not uploaded
    # A case that cannot be made, such as a wrong value where every value is right, is no case.
    print(f"api: {passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
