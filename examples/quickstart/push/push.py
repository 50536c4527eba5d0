"""Tells everybody in the room `deploys` of a new version: python3 push.py VERSION"""

import json
import os
import sys
import urllib.request

HUB = os.environ.get("HUB", "http://localhost:8080")
KEY = os.environ["KEY"]


def publish(room: str, event: str, data: object, once: str) -> dict:
    """Publishes `data`; with the same `once` again, nothing is published twice."""
    message = {"room": room, "type": event, "data": data, "idempotencyKey": once}
    request = urllib.request.Request(
        f"{HUB}/api/v1/publish",
        data=json.dumps(message).encode(),
        headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.load(answer)


version = sys.argv[1]
placed = publish("deploys", "deploy", {"version": version}, once=f"deploy-{version}")
known = ", which was there already" if placed["duplicate"] else ""
print(f"{version} is message {placed['offset']}{known}; members: {placed['members']}")
