// Runs before the first paint, so that neither the theme nor the view flickers; a classic script, because
// modules wait. Everything else is in `main.js`.
(() => {
  const root = document.documentElement;
  try {
    const theme = localStorage.getItem('outspoke.theme');
    if (theme === 'light' || theme === 'dark') root.dataset.theme = theme;
    root.dataset.view = sessionStorage.getItem('outspoke.joined') ? 'chat' : 'join';
  } catch {
    root.dataset.view = 'join';
  }
})();
