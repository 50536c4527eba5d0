/** What the mini chat needs besides htmx: the banner, and keys in the list of commands. */
const banner = document.getElementById('banner');
const offline = () => { banner.hidden = false; };
const online = () => { banner.hidden = true; };
addEventListener('offline', offline);
addEventListener('online', online);
document.addEventListener('htmx:ws:close', offline);
document.addEventListener('htmx:ws:open', online);

document.addEventListener('submit', () => setTimeout(() => { document.getElementById('text').value = ''; }));
document.addEventListener('keydown', (event) => {
  const options = [...document.querySelectorAll('#commands [role=option]')];
  if (event.target.id !== 'text' || options.length === 0) return;
  const at = options.findIndex((option) => option.ariaSelected === 'true');
  const step = { ArrowDown: 1, ArrowUp: options.length - 1 }[event.key];
  if (step) {
    options[at]?.removeAttribute('aria-selected');
    options[(Math.max(at, step > 1 ? 0 : -1) + step) % options.length].ariaSelected = 'true';
  } else if (event.key === 'Tab') {
    options[Math.max(at, 0)].click();
  } else {
    return;
  }
  event.preventDefault();
});
