// A publish/subscribe server on Bun (uWebSockets inside): the peer that `outspoke bench compare` measures.
//
//   bun e2e/bench/bun-server.js        prints "listening on 127.0.0.1:PORT"; PORT=0 takes a free one
//
// It speaks the driver's raw protocol: a connection to /room/NAME is a member of that room, and its text goes
// to all members, itself included; any other path answers with the same text. With FRAME_BYTES a room's frames
// are padded to that length on the wire: what is compared is the server, not the length of the envelope that an
// application on it would write.

const frameBytes = Number(process.env.FRAME_BYTES ?? 0);
const textBytes = frameBytes - (frameBytes > 129 ? 4 : 2);

const server = Bun.serve({
  hostname: "127.0.0.1",
  port: Number(process.env.PORT ?? 0),
  fetch(request, server) {
    const { pathname } = new URL(request.url);
    const room = pathname.startsWith("/room/") ? pathname : null;
    if (server.upgrade(request, { data: { room } })) return;
    return new Response("a WebSocket upgrade is expected\n", { status: 426 });
  },
  websocket: {
    perMessageDeflate: false,
    publishToSelf: true,
    idleTimeout: 0,
    open(ws) {
      if (ws.data.room) ws.subscribe(ws.data.room);
    },
    message(ws, text) {
      if (ws.data.room) server.publish(ws.data.room, text.padEnd(textBytes));
      else ws.send(text);
    },
  },
});

console.log(`listening on ${server.hostname}:${server.port}`);
