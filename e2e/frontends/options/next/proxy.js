/** The policy of the web chat, with a nonce for what Next.js writes into its pages; only a running server can make one. */
import { NextResponse } from 'next/server';

export function proxy(request) {
  if (!process.env.POLICY) return NextResponse.next();
  const nonce = Buffer.from(crypto.randomUUID()).toString('base64');
  const policy = process.env.POLICY.replace("script-src 'self'", `script-src 'self' 'nonce-${nonce}'`);
  const headers = new Headers(request.headers);
  headers.set('x-nonce', nonce);
  headers.set('Content-Security-Policy', policy);
  const answer = NextResponse.next({ request: { headers } });
  answer.headers.set('Content-Security-Policy', policy);
  return answer;
}
