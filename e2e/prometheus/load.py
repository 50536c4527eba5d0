"""A little of everything that the metrics tell: members, messages, slow readers, refusals, outages. Standard library only.

Each part runs until it is cancelled, so that what is a state (clients, queues) is there while Prometheus looks.
"""

import asyncio
import base64
import itertools
import json
import os
import signal
import socket
import struct

KEY = "the-monitoring-suites-own-key-0123456789"
API_KEY = "the-monitoring-suites-api-key-0123456789"


class Closed(Exception):
    """The server has ended the connection, or not begun it."""


class Client:
    """A WebSocket client of the native dialect (RFC 6455, as much of it as this needs)."""

    def __init__(self, reader, writer):
        self.reader, self.writer, self.ids = reader, writer, itertools.count(1)

    @classmethod
    async def open(cls, address, device, key=KEY, receive_buffer=None):
        host, port = address.rsplit(":", 1)
        raw = socket.socket()
        if receive_buffer:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        raw.setblocking(False)
        await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
        # A slow client's own buffers are small too: what it does not take waits at the server.
        reader, writer = await asyncio.open_connection(sock=raw, limit=4096 if receive_buffer else 2**20)
        authorization = f"Authorization: Bearer {key}\r\n" if key else ""
        writer.write((f"GET /ws?join=none&device={device} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n"
                      f"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n{authorization}"
                      f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}\r\n\r\n").encode())
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 101 " not in head.split(b"\r\n")[0]:
            writer.close()
            raise Closed(head.decode(errors="replace").splitlines()[0])
        return cls(reader, writer)

    async def send(self, message):
        text = json.dumps(message).encode()
        head = bytes([0x81])
        head += bytes([0x80 | len(text)]) if len(text) < 126 else bytes([0x80 | 126]) + struct.pack("!H", len(text))
        # A mask of zeros is one.
        self.writer.write(head + bytes(4) + text)
        await self.writer.drain()

    async def receive(self):
        """The next message; pings and the like are left out."""
        while True:
            try:
                opcode, length = await self.reader.readexactly(2)
                if length == 126:
                    length, = struct.unpack("!H", await self.reader.readexactly(2))
                elif length == 127:
                    length, = struct.unpack("!Q", await self.reader.readexactly(8))
                payload = await self.reader.readexactly(length)
            except (asyncio.IncompleteReadError, ConnectionError) as error:
                raise Closed(str(error)) from error
            if opcode == 0x88:
                raise Closed(f"{struct.unpack('!H', payload[:2])[0]} {payload[2:].decode()}")
            if opcode == 0x81:
                return json.loads(payload)

    async def find(self, kind, **fields):
        while True:
            message = await self.receive()
            if message["type"] == kind and all(message.get(name) == value for name, value in fields.items()):
                return message

    async def join(self, room, **where):
        await self.send({"type": "subscribe", "room": room, **where})
        return await self.find("subscribed", room=room)

    def close(self):
        self.writer.close()


async def api(address, path, body):
    """One POST to the HTTP API; the status."""
    host, port = address.rsplit(":", 1)
    reader, writer = await asyncio.open_connection(host, int(port))
    text = json.dumps(body).encode()
    writer.write((f"POST /api/v1/{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n"
                  f"Authorization: Bearer {API_KEY}\r\nContent-Length: {len(text)}\r\n\r\n").encode() + text)
    answer = await reader.read()
    writer.close()
    return int(answer.split(b" ", 2)[1])


async def again(act, pause):
    """Does it again and again; connections that end are part of it."""
    while True:
        try:
            await act()
        except (Closed, ConnectionError, asyncio.IncompleteReadError, IndexError, TimeoutError):
            pass
        await asyncio.sleep(pause)


def member(address, device):
    async def act():
        client = await Client.open(address, device)
        await client.join("talk")
        while True:
            await client.receive()
    return act


def publisher(address, device):
    async def act():
        client = await Client.open(address, device)
        await client.join("talk")
        while True:
            number = next(client.ids)
            await client.send({"type": "publish", "id": number, "room": "talk", "data": {"number": number}})
            # During an outage of the store it is an error.
            while (answer := await client.receive()).get("id") != number or answer["type"] not in ("ack", "error"):
                pass
            await asyncio.sleep(0.02)
    return act


def application(address):
    async def act():
        for room in ("talk", "loud", "newest"):
            await api(address, "publish", {"room": room, "type": "news", "data": "x" * 4000})
    return act


def slow(address, room, device):
    """Comes into a room that says much, and reads no more."""
    async def act():
        client = await Client.open(address, device, receive_buffer=4096)
        await client.join(room)
        await asyncio.sleep(4)
        # Some come to their senses: then they are told what they have missed, or that they were closed. (asyncio.timeout, since
        # wait_for of Python 3.11 can lose a cancellation.)
        for _ in range(200):
            async with asyncio.timeout(2):
                await client.receive()
        client.close()
    return act


def wanderer(addresses, device):
    """Comes back to the other server, and has missed something; every third time it was away for too long."""
    places = itertools.cycle(addresses)
    count = itertools.count(1)

    async def act():
        client = await Client.open(next(places), device)
        place = await client.join("talk")
        client.close()
        await asyncio.sleep(0.3)
        back = await Client.open(next(places), device)
        epoch = place["epoch"] if next(count) % 3 else "0123456789abcdef"
        await back.join("talk", epoch=epoch, offset=place["offset"])
        back.close()
        next(places)
    return act


def guesser(address):
    async def act():
        await Client.open(address, "guess", key="not-a-key-of-anybody")
    return act


def stranger(address):
    """Says nothing of who it is until the server has had enough."""
    async def act():
        client = await Client.open(address, "stranger", key=None)
        while True:
            await client.receive()
    return act


def hasty(address, device):
    """Sends more than the rates allow, goes where it may not, and says what nobody understands."""
    async def act():
        client = await Client.open(address, device)
        await client.send({"type": "publish", "room": "elsewhere", "data": 1})
        await client.send({"type": "subscribe", "room": "forbidden"})
        for _ in range(400):
            await client.send({"type": "ping"})
        for _ in range(400):
            async with asyncio.timeout(1):
                await client.receive()
    return act


def rude(address, device):
    """Breaks RFC 6455: a frame without a mask."""
    async def act():
        client = await Client.open(address, device)
        client.writer.write(b"\x81\x02{}")
        while True:
            await client.receive()
    return act


def lost(address):
    """No WebSocket at all."""
    async def act():
        host, port = address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /ws HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n".encode())
        await reader.read()
        writer.close()
    return act


def as_bytes(word):
    return word if isinstance(word, bytes) else word.encode()


class Redis:
    """The bus and the store, to be harmed."""

    def __init__(self, port, pid):
        self.port, self.pid = port, pid

    async def ask(self, *words):
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        for command in (words, ("QUIT",)):
            writer.write(b"*%d\r\n" % len(command) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in map(as_bytes, command)))
        answer = await reader.read()
        writer.close()
        return answer

    async def say_nonsense(self):
        """Somebody else writes to where the servers listen."""
        names = [line for line in (await self.ask("PUBSUB", "CHANNELS", "*")).split(b"\r\n") if b"|" in line]
        for name in names:
            await self.ask("PUBLISH", name, "this is no frame")

    async def interrupt_the_bus(self):
        """Who listens is cut off."""
        await self.ask("CLIENT", "KILL", "TYPE", "pubsub")

    async def pause(self, seconds):
        os.kill(self.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            os.kill(self.pid, signal.SIGCONT)


async def outages(redis):
    while True:
        await asyncio.sleep(2)
        await redis.say_nonsense()
        await asyncio.sleep(2)
        for _ in range(6):
            # What is said until a server listens again does not reach it.
            await redis.interrupt_the_bus()
            await asyncio.sleep(0.5)
        await redis.say_nonsense()
        await asyncio.sleep(1)
        await redis.pause(2.5)
        # Long enough for everything to be well again, and seen to be.
        await asyncio.sleep(20)


def everything(addresses, redis):
    """All of it, as tasks of the running loop."""
    one, two = addresses
    parts = [(member(address, f"member-{number}"), 0.5) for number, address in enumerate([one, two] * 8)]
    parts += [(publisher(address, f"publisher-{number}"), 0.5) for number, address in enumerate([one, two] * 2)]
    parts += [(application(one), 0.01), (application(two), 0.01)]
    parts += [(slow(one, room, f"slow-{room}-{number}"), 0.5) for room in ("loud", "newest") for number in range(2)]
    parts += [(wanderer(addresses, f"wanderer-{number}"), 0.2) for number in range(3)]
    parts += [(guesser(one), 0.2), (stranger(two), 0.1), (hasty(one, "hasty"), 0.5), (rude(two, "rude"), 0.5), (lost(one), 0.5)]
    return [asyncio.create_task(again(*part)) for part in parts] + [asyncio.create_task(outages(redis))]
