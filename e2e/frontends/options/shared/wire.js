/** The mini chat's connection, the same for every option that runs JavaScript of its own: JSON in, text out. */

/**
 * Opens the connection, and opens it again when it ends.
 * @param {Record<string, (message: any) => void>} on one function per type of message, and `online`
 * @returns {(text: string) => void} says something
 */
export function connect(on) {
  let socket;
  const open = () => {
    socket = new WebSocket(new URL('/ws', location.href.replace('http', 'ws')));
    socket.onopen = () => on.online(true);
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      on[message.type]?.(message);
    };
    socket.onclose = () => {
      on.online(false);
      setTimeout(open, 1000);
    };
  };
  open();
  addEventListener('offline', () => on.online(false));
  addEventListener('online', () => on.online(socket.readyState === WebSocket.OPEN));
  return (text) => socket.send(JSON.stringify({ type: 'say', text }));
}
