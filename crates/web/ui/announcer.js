/**
 * What a screen reader hears of the conversation; the connection has a status region of its own.
 *
 * The message log itself is no live region: logs that are read everything twice and old things anew. This
 * speaks for it, politely: at most once a second, many messages as one sentence, never our own, never history.
 */

/** Texts longer than this are cut when spoken; the log has the whole. */
const SPOKEN_MAX = 200;
const PAUSE_MS = 1_000;

export class Announcer {
  /** @type {{ name: string, text: string }[]} */
  #heard = [];
  /** @type {unknown} */
  #timer = null;
  #spokenAt = -Infinity;

  /**
   * @param {(text: string) => void} speak
   * @param {{ now(): number, setTimeout(run: () => void, ms: number): unknown }} env
   */
  constructor(speak, env) {
    this.speak = speak;
    this.env = env;
  }

  /** Somebody said something. @param {{ name: string, text: string }} what */
  message(what) {
    this.#heard.push(what);
    this.#soon();
  }

  #soon() {
    if (this.#timer !== null) return;
    const wait = Math.max(0, this.#spokenAt + PAUSE_MS - this.env.now());
    this.#timer = this.env.setTimeout(() => {
      this.#timer = null;
      this.#spokenAt = this.env.now();
      this.speak(summary(this.#heard.splice(0)));
    }, wait);
  }
}

/** @param {{ name: string, text: string }[]} heard */
export function summary(heard) {
  const last = heard[heard.length - 1];
  if (!last) return '';
  const text = last.text.length > SPOKEN_MAX ? `${last.text.slice(0, SPOKEN_MAX)} …` : last.text;
  return heard.length === 1 ? `${last.name}: ${text}` : `${heard.length} new messages, the last from ${last.name}: ${text}`;
}
