// Listens to the room `deploys`, and tells it of a deploy: node quickstart.mjs [VERSION]
import { createHub } from '@outspoke/client';

const hub = createHub(`${process.env.HUB ?? 'http://localhost:8080'}/ws?userId=node&username=Node`);
const room = hub.room('deploys');
const events = room.events();
await room.ready();
console.log(`in ${room.name}, members: ${room.info.get().members}`);

if (process.argv[2]) {
  const { offset } = await room.publish('message', { version: process.argv[2] });
  console.log(`published as message ${offset}`);
}

for await (const { type, data, from } of events) {
  if (type === 'message' || type === 'deploy') console.log(`${type} from ${from?.userId ?? 'the server'}: ${data.version}`);
}
