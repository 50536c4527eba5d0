#!/usr/bin/env python3
"""Uploads with somebody else's client of the tus protocol, tuspy: in parts with checksums, broken off, and gone on with.

    tus.py 127.0.0.1:8080

Run by `run.py`, with the Python of its virtual environment.
"""

import hashlib
import json
import os
import sys
import tempfile
import urllib.request

from tusclient import client

SIZE = 3_000_000
PART = 200_000


def main():
    address = sys.argv[1]
    content = os.urandom(SIZE)
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        tus = client.TusClient(f"http://{address}/files?userId=tuspy")
        metadata = {"filename": "näme.bin"}
        first = tus.uploader(file.name, chunk_size=PART, metadata=metadata, upload_checksum=True)
        for _ in range(5):
            first.upload_chunk()
        if first.offset != 5 * PART:
            return f"at {first.offset} after five parts"
        # As if the program had ended: nothing is known but the address.
        second = tus.uploader(file.name, chunk_size=PART, url=first.url, upload_checksum=True)
        if second.offset != 5 * PART:
            return f"goes on at {second.offset}, not {5 * PART}"
        second.upload()
        identifier = first.url.split("/files/")[1].split("?")[0]
    known = ask(f"http://{address}/files/{identifier}?userId=tuspy")
    wanted = {"name": "näme.bin", "size": SIZE, "sha256": hashlib.sha256(content).hexdigest()}
    if {key: known.get(key) for key in wanted} != wanted:
        return f"known as {known}"
    link = ask(f"http://{address}/files/{identifier}/link?userId=tuspy", method="POST")
    with urllib.request.urlopen(f"http://{address}/{link['url']}", timeout=30) as response:
        if response.read() != content:
            return "the content is another one"
    print(f"tus: {SIZE} bytes uploaded by tuspy in parts of {PART}, broken off and gone on with")
    return 0


def ask(url, method="GET"):
    request = urllib.request.Request(url, method=method, headers={"Content-Length": "0"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.load(response)


if __name__ == "__main__":
    sys.exit(main())
