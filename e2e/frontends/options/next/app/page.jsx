import { connection } from 'next/server';
import Chat from './chat.jsx';

export default async function Page() {
  // Only a page that is made for each request can have a nonce.
  if (process.env.MODE !== 'export') await connection();
  return <Chat />;
}
