// Runs before the first paint, so that the theme does not flicker; a classic script, because modules wait.
(() => {
  try {
    const theme = localStorage.getItem('outspoke.theme');
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
  } catch { /* The browser forbids it: the system decides. */ }
})();
