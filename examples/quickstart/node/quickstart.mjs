// Listens to the room `deploys`, and tells it of a deploy: node quickstart.mjs [VERSION]
const hub = process.env.HUB ?? 'http://localhost:8080';
const socket = new WebSocket(`${hub.replace('http', 'ws')}/ws?userId=node&join=none`);
const send = (message) => socket.send(JSON.stringify(message));

socket.onopen = () => send({ type: 'subscribe', room: 'deploys' });
socket.onmessage = ({ data }) => {
  const message = JSON.parse(data);
  switch (message.type) {
    case 'subscribed':
      console.log(`in ${message.room}, members: ${message.members}`);
      if (process.argv[2]) send({ type: 'publish', id: 1, room: 'deploys', data: { version: process.argv[2] } });
      break;
    case 'ack':
      console.log(`published as message ${message.offset}`);
      break;
    case 'message':
    case 'deploy':
      console.log(`${message.type} from ${message.userId ?? 'the server'}: ${message.data.version}`);
      break;
    case 'error':
      console.error(message.message);
      break;
  }
};
