/**
 * Server-sent events over `fetch`, because `EventSource` cannot send a key (WHATWG HTML, section 9.2).
 */

/** Cuts a stream of text into events, however its pieces fall. */
export class Events {
  #rest = '';
  #name = '';
  /** @type {string[]} */
  #data = [];

  /** @param {string} piece @returns {{ event: string, data: string }[]} */
  add(piece) {
    const lines = (this.#rest + piece).split(/\r\n|\n|\r(?!$)/u);
    this.#rest = lines.pop() ?? '';
    /** @type {{ event: string, data: string }[]} */
    const found = [];
    for (const line of lines) {
      if (line !== '') { this.#field(line); continue; }
      if (this.#data.length > 0) found.push({ event: this.#name || 'message', data: this.#data.join('\n') });
      this.#name = '';
      this.#data = [];
    }
    return found;
  }

  /** @param {string} line */
  #field(line) {
    const colon = line.indexOf(':');
    const [name, text] = colon === -1 ? [line, ''] : [line.slice(0, colon), line.slice(colon + 1).replace(/^ /u, '')];
    if (name === 'event') this.#name = text;
    else if (name === 'data') this.#data.push(text);
  }
}

/**
 * Reads events until the stream ends.
 * @param {Response} answer @param {(event: string, data: any) => void} hear
 */
export async function read(answer, hear) {
  const reader = answer.body?.pipeThrough(new TextDecoderStream()).getReader();
  const events = new Events();
  for (;;) {
    const piece = await reader?.read();
    if (!piece || piece.done) return;
    for (const { event, data } of events.add(piece.value)) hear(event, JSON.parse(data));
  }
}
