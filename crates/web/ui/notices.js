/**
 * Notifications of the browser, for who wants them: of what is meant for us, while the page is not looked at.
 *
 * Loaded when they are on, or when somebody looks at the settings, where they can be switched on.
 */
/** @import { Chat } from './chat.js' */
/** @typedef {ReturnType<typeof notifications>} Notices */

/** @param {Chat} chat @param {import('./view.js').Memory} browser */
export function notifications(chat, browser) {
  const possible = 'Notification' in window && isSecureContext;
  const notices = {
    possible,
    get on() { return possible && Notification.permission === 'granted' && browser('notify') === '1'; },
    /** @param {boolean} on */
    async set(on) {
      browser('notify', on ? '1' : null);
      if (!on) return 'Notifications are off.';
      if (await Notification.requestPermission() === 'granted') return 'Notifications are on.';
      browser('notify', null);
      return 'The browser does not let this page notify you. You can change that in the browser\u2019s settings for this page.';
    },
    /** @param {{ room: string, name: string, text: string, mentioned: boolean, direct: boolean }} what */
    notify({ room, name, text, mentioned, direct }) {
      if (!notices.on || !(mentioned || direct) || (!document.hidden && document.hasFocus())) return;
      try {
        const notification = new Notification(direct ? name : `${name} in #${room}`, { body: text.slice(0, 200), tag: room });
        notification.onclick = () => {
          window.focus();
          chat.open(room);
          notification.close();
        };
      } catch { /* some browsers allow it to service workers only */ }
    },
  };
  return notices;
}
