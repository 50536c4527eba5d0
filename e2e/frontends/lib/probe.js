/** What runs in the page before anything else: when a message came, and when what it changes was painted. */

/** @param {{ people: number }} expected */
export function install({ people }) {
  const probe = { arrived: 0, usable: 0, violations: [], done: null };
  window.probe = probe;
  document.addEventListener('securitypolicyviolation', (event) => probe.violations.push(event.effectiveDirective));

  const Plain = window.WebSocket;
  window.WebSocket = class extends Plain {
    constructor(...parts) {
      super(...parts);
      this.addEventListener('message', () => { probe.arrived ||= performance.now(); });
    }
  };

  /** Resolves with the milliseconds from the next message to the paint of what makes `is()` true. */
  probe.watch = (is) => {
    probe.arrived = 0;
    probe.done = new Promise((resolve) => {
      const look = () => {
        if (!is()) return;
        observer.disconnect();
        // After the next frame is drawn.
        requestAnimationFrame(() => {
          const { port1, port2 } = new MessageChannel();
          port1.onmessage = () => resolve(performance.now() - probe.arrived);
          port2.postMessage(0);
        });
      };
      const observer = new MutationObserver(look);
      observer.observe(document, { subtree: true, childList: true, characterData: true, attributes: true });
    });
  };

  const usable = new MutationObserver(() => {
    const text = document.getElementById('text');
    if (!text || text.disabled || document.querySelectorAll('#people li').length !== people) return;
    usable.disconnect();
    probe.usable = performance.now();
  });
  usable.observe(document, { subtree: true, childList: true, attributes: true });
}
