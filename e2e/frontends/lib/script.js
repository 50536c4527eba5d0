/** What happens in the mini chat: the same people, commands and messages for every option. */

export const PEOPLE = ['Ann', 'Ben', 'Cleo'].map((name) => ({ id: name.toLowerCase(), name }));

export const COMMANDS = [
  { name: '/me', hint: 'ACTION' },
  { name: '/msg', hint: 'USER TEXT' },
  { name: '/nick', hint: 'NAME' },
  { name: '/topic', hint: 'TEXT' },
];

const TEXTS = [
  'Good morning!', 'Has anybody seen the build from last night?', 'It is green again, the cache was the reason.',
  'Thanks. I would like to merge before noon, if nobody objects, and tag afterwards.', 'Fine with me <b>really</b>',
];

/** A message. @param {string} id @param {{ text?: string }} [parts] */
export function row(id, { text } = {}) {
  const number = Number.parseInt(id.replace(/\D/gu, ''), 10) % 1000;
  return {
    id, from: PEOPLE[number % PEOPLE.length].name, text: text ?? TEXTS[number % TEXTS.length],
    at: `10:${String(number % 60).padStart(2, '0')}`, state: 'sent',
  };
}

/** Many messages. @param {number} count */
export const rows = (count) => Array.from({ length: count }, (_, at) => row(`m${at}`));
