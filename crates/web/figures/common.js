/**
 * What the operators' pages share: parts of the page, questions to the HTTP API, tables.
 *
 * The key stays in its field. Text only ever becomes text nodes.
 */

export const number = new Intl.NumberFormat('en');

/** @template {Element} T @param {string} id @param {{ new (): T }} kind @returns {T} */
export function part(id, kind) {
  const element = document.getElementById(id);
  if (!(element instanceof kind)) throw new Error(`the page has no ${id}`);
  return element;
}

/** What a field says. @param {string} id */
export const field = (id) => part(id, HTMLInputElement).value.trim();

/** A refusal, and the status that it came with. */
export class Refused extends Error {
  /** @param {string} message @param {number} status */
  constructor(message, status) {
    super(message);
    this.status = status;
  }
}

/** @param {string} path @param {{ key: string, tenant?: string, method?: string }} as @returns {Promise<any>} */
export async function ask(path, { key, tenant = '', method = 'GET' }) {
  /** @type {Record<string, string>} */
  const headers = {};
  if (key) headers['Authorization'] = `Bearer ${key}`;
  if (tenant) headers['X-Tenant'] = tenant;
  const answer = await fetch(`api/v1/${path}`, { method, headers, cache: 'no-store', credentials: 'omit' });
  const body = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refused(body?.message ?? `the server answered with status ${answer.status}`, answer.status);
  return body;
}

/** What to tell people of an error. @param {unknown} error */
export function told(error) {
  return error instanceof TypeError ? 'The server cannot be reached.' : /** @type {Error} */ (error).message;
}

/** @param {string} id @param {string} caption @param {string[]} headings @param {(string | number)[][]} rows */
export function table(id, caption, headings, rows) {
  const head = document.createElement('thead');
  head.append(row('th', headings, 'col'));
  const body = document.createElement('tbody');
  body.append(...rows.map((cells) => row('td', cells)));
  const title = document.createElement('caption');
  title.append(caption);
  part(id, HTMLTableElement).replaceChildren(title, head, body);
}

/** @param {'th' | 'td'} tag @param {(string | number)[]} cells @param {string} [scope] */
function row(tag, cells, scope) {
  const line = document.createElement('tr');
  for (const [index, text] of cells.entries()) {
    const cell = document.createElement(tag === 'td' && index === 0 ? 'th' : tag);
    if (cell.tagName === 'TH') cell.setAttribute('scope', scope ?? 'row');
    cell.append(String(text));
    line.append(cell);
  }
  return line;
}

/**
 * As [`table`], for one that is shown again and again: only what has changed is touched, so that whoever is reading, or has
 * selected something, keeps their place.
 * @param {string} id @param {string} caption @param {string[]} headings @param {(string | number)[][]} rows
 */
export function refresh(id, caption, headings, rows) {
  const shown = part(id, HTMLTableElement);
  const body = shown.tBodies[0];
  const same = body && shown.caption?.textContent === caption && shown.tHead?.rows[0]?.cells.length === headings.length;
  if (!same) return table(id, caption, headings, rows);
  for (const [index, cells] of rows.entries()) {
    const line = body.rows[index] ?? body.appendChild(row('td', cells));
    for (const [column, text] of cells.entries()) {
      const cell = /** @type {HTMLTableCellElement} */ (line.cells[column]);
      if (cell.textContent !== String(text)) cell.textContent = String(text);
    }
  }
  while (body.rows.length > rows.length) body.deleteRow(-1);
}

/** @param {string} id @param {[string, string][]} pairs */
export function sums(id, pairs) {
  part(id, HTMLDListElement).replaceChildren(...pairs.map(([name, value]) => {
    const pair = document.createElement('div');
    const term = document.createElement('dt');
    const description = document.createElement('dd');
    term.append(name);
    description.append(value);
    pair.append(term, description);
    return pair;
  }));
}
