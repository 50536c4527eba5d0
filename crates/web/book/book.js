// What the documentation's pages can do beyond being read: search, and a list of pages that is out of the way on small screens.

const root = document.body.dataset.root ?? '';
const search = document.getElementById('search');
const input = document.getElementById('words');
const found = document.getElementById('found');
const count = document.getElementById('count');
const SHOWN = 12;

let index;
let asked = 0;

/** The sections, fetched at the first look. */
async function sections() {
  index ??= fetch(`${root}search.json`).then((answer) => answer.json()).catch(() => { index = undefined; return []; });
  return index;
}

/** How well a section fits: 0 if a word is missing, more for words in its heading. */
function rank([, title, heading, text], words) {
  const head = `${title} ${heading}`.toLowerCase();
  const body = text.toLowerCase();
  let sum = 0;
  for (const word of words) {
    if (head.includes(word)) sum += 10;
    else if (body.includes(word)) sum += 1;
    else return 0;
  }
  return sum;
}

function line([address, title, heading, text]) {
  const item = document.createElement('li');
  const link = document.createElement('a');
  link.href = root + address;
  link.textContent = heading === title ? title : `${title}: ${heading}`;
  const says = document.createElement('p');
  says.textContent = text.slice(0, 140);
  item.append(link, says);
  return item;
}

async function look() {
  const mine = ++asked;
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  const all = words.length > 0 ? await sections() : [];
  if (mine !== asked) return;
  const ranked = all.map((section) => [rank(section, words), section]).filter(([sum]) => sum > 0).sort((a, b) => b[0] - a[0]);
  found.replaceChildren(...ranked.slice(0, SHOWN).map(([, section]) => line(section)));
  count.textContent = words.length === 0 ? '' : ranked.length === 1 ? '1 section' : `${ranked.length} sections`;
}

search.hidden = false;
input.addEventListener('input', look);
input.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape') return;
  input.value = '';
  look();
});
if (matchMedia('(max-width: 52rem)').matches) document.querySelector('.columns > nav details').open = false;
